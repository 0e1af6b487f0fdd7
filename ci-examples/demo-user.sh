#!/usr/bin/env bash
# The part of the demo that runs as an ordinary user: demo.sh calls it with a
# directory that holds the binaries and the workspace.
set -euo pipefail

work=$1
cache=$HOME/.cache/coracle-demo
state=$HOME/.local/share/coracle
failures=0
. "$work/loopback.sh"

main() {
    trap clean_up EXIT
    mkdir -p "$work/checks"
    say "base images: debian:bookworm from Debian packages, busybox"
    base_layout "$cache" debian
    base_layout "$cache" busybox
    serve_bases
    build_and_push
    look_at_it
    say "stopping the registry"
    stop_registry
    check "builds/ of the state directory is empty" test -z "$(ls -A "$state/builds" 2>/dev/null)"
    finish
}

serve_bases() {
    port=$(free_port)
    host=127.0.0.1:$port
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    say "registry with a password on $host"
    printf '%s' "$password" | htpasswd -niB ci >"$work/htpasswd"
    start_registry "$work/registry" "$port" "$work/htpasswd"
    (umask 077 && printf '{"auths":{"%s":{"auth":"%s"}}}' "$host" \
        "$(printf 'ci:%s' "$password" | base64 -w0)" >"$work/auth.json")
    put debian library/debian:bookworm
    put busybox library/busybox:latest
}

# put LAYOUT REPOSITORY:TAG
put() {
    skopeo copy --quiet --insecure-policy --dest-tls-verify=false --dest-authfile "$work/auth.json" \
        "oci:$cache/$1:latest" "docker://$host/$2"
}

# What Drone and Woodpecker do: settings as variables, the workspace as working
# directory, nothing else.
build_and_push() {
    say "plugin: PLUGIN_* in, pushed image out"
    list_home >"$work/checks/before"
    (umask 077 && cat >"$work/plugin.env") <<SETTINGS
PLUGIN_REGISTRY='$host'
PLUGIN_REPO='$host/team/hello'
PLUGIN_TAGS='1.2.3,1.2,latest'
PLUGIN_USERNAME='ci'
PLUGIN_PASSWORD='$password'
PLUGIN_CONTEXT='app'
PLUGIN_DOCKERFILE='app/Dockerfile'
PLUGIN_TARGET='app'
PLUGIN_BUILD_ARGS='VERSION=1.2.3,BUILD_BASE=$host/library/debian:bookworm,RUN_BASE=$host/library/busybox:latest'
# A runner keeps the state directory on a volume; here it is told to stay.
PLUGIN_PURGE='false'
PLUGIN_LABELS='org.opencontainers.image.vendor=coracle demo,org.opencontainers.image.url=https://example.com/hello'
SETTINGS
    local started ended
    started=$(date +%s.%N)
    (cd "$work/workspace" && env -i HOME="$HOME" PATH="$PATH" bash -c \
        'set -a; . "$1"; set +a; exec "$2"' plugin "$work/plugin.env" "$work/coracle-plugin") \
        >"$work/checks/stdout"
    ended=$(date +%s.%N)
    digest=$(grep -oE 'sha256:[0-9a-f]{64}' "$work/checks/stdout" | tail -n 1 || true)
    list_home >"$work/checks/after"
    say "built and pushed $digest in $(awk "BEGIN { printf \"%.1f\", $ended - $started }") s"
}

look_at_it() {
    local tag
    check "the digest is on stdout" test -n "$digest"
    check "nothing new in the home directory but the state directory" only_state_is_new
    for tag in 1.2.3 1.2 latest; do
        check "skopeo inspect: $tag is $digest" test "$(remote_digest "$tag")" = "$digest"
    done
    skopeo_config
    unpack_with_umoci
    owners_of_parents
    run_with_podman
}

# Unpacked trees hold directories that only a RUN's root may read.
list_home() {
    { find "$HOME" -xdev 2>/dev/null || true; } | sort
}

only_state_is_new() {
    ! comm -13 "$work/checks/before" "$work/checks/after" | grep -vE "^$HOME/\.local(/share(/coracle(/.*)?)?)?$"
}

remote_digest() {
    skopeo inspect --tls-verify=false --authfile "$work/auth.json" --format '{{.Digest}}' \
        "docker://$host/team/hello:$1"
}

skopeo_config() {
    skopeo inspect --config --tls-verify=false --authfile "$work/auth.json" \
        "docker://$host/team/hello:1.2.3" >"$work/checks/config.json"
    local part
    for part in '"User": *"1000:1000"' '"WorkingDir": *"/home/app"' 'GREETING=hello from a coracle' \
        '"org.opencontainers.image.version": *"1.2.3"' '"org.opencontainers.image.vendor": *"coracle demo"' \
        '/usr/local/bin/hello'; do
        check "config has $part" grep -q "$part" "$work/checks/config.json"
    done
}

unpack_with_umoci() {
    skopeo copy --quiet --insecure-policy --src-tls-verify=false --src-authfile "$work/auth.json" \
        "docker://$host/team/hello:1.2.3" "oci:$work/checks/layout:demo"
    check "umoci unpack" umoci unpack --rootless --image "$work/checks/layout:demo" "$work/checks/bundle"
    local root=$work/checks/bundle/rootfs
    check "umoci: the program is there" test -x "$root/usr/local/bin/hello"
    check "umoci: /lib is still a link" test "$(readlink "$root/lib")" = usr/lib
    check "umoci: the file behind it" test -f "$root/usr/lib/hello/note.txt"
}

# The layers say what every runtime will see: the last entry of a path counts.
owners_of_parents() {
    local layer
    python3 - "$work/checks/layout" >"$work/checks/layers" <<'LAYERS'
import json, os, sys
layout = sys.argv[1]
blob = lambda digest: os.path.join(layout, "blobs", *digest.split(":"))
index = json.load(open(os.path.join(layout, "index.json")))
for layer in json.load(open(blob(index["manifests"][0]["digest"])))["layers"]:
    print(blob(layer["digest"]))
LAYERS
    while read -r layer; do
        tar --numeric-owner -tvzf "$layer" | sed -E 's# \./# #; s#/$##; s#/ *$##'
    done <"$work/checks/layers" >"$work/checks/entries"
    check "/tmp is still drwxrwxrwt 0/0" entry_is tmp 'drwxrwxrwt 0/0'
    check "/home/app is still drwxr-x--- 1000/1000" entry_is home/app 'drwxr-x--- 1000/1000'
    check "/lib is still a link" entry_is 'lib -> usr/lib' 'lrwxrwxrwx 0/0'
    check "/home/app/note.txt belongs to 1000" entry_is home/app/note.txt '-rw-r--r-- 1000/1000'
}

# entry_is PATH 'MODE OWNER': the last mention of PATH in any layer.
entry_is() {
    awk -v path="$1" -v expected="$2" '
        { name = ""; for (i = 6; i <= NF; i++) name = name (i > 6 ? " " : "") $i }
        name == path { found = $1 " " $2 }
        END { if (found != expected) { print "found: " found; exit 1 } }' "$work/checks/entries"
}

run_with_podman() {
    export XDG_RUNTIME_DIR=$work/xdg
    mkdir -p -m 700 "$XDG_RUNTIME_DIR" "$work/podman-home"
    # A home of its own: podman leaves settings and caches there.
    podman=(env HOME="$work/podman-home" podman --root "$work/podman" --runroot "$work/podman-run" --storage-driver vfs
        --cgroup-manager cgroupfs --events-backend none --log-level error)
    check "podman pull" "${podman[@]}" pull --quiet --tls-verify=false --authfile "$work/auth.json" \
        "$host/team/hello:1.2.3"
    local run=(run --rm --network=host --pull=never --ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
    # runc needs no cgroup of its own; crun is for hosts where runc is refused one.
    if "${podman[@]}" "${run[@]}" --runtime runc "$host/team/hello:1.2.3" >/dev/null 2>&1; then
        run+=(--runtime runc)
    else
        run+=(--runtime crun --cgroups=disabled)
    fi
    check "podman run" "${podman[@]}" "${run[@]}" "$host/team/hello:1.2.3" demo
    check "podman: it says who and where it is" grep -q 'uid 1000 gid 1000 in /home/app' "$work/checks/output"
    check "podman: the environment arrived" grep -q 'hello from a coracle, demo (version 1.2.3)' "$work/checks/output"
    check "podman: parents unchanged" "${podman[@]}" "${run[@]}" --entrypoint /bin/sh --user 0 \
        "$host/team/hello:1.2.3" -c '
            test "$(stat -c "%a %u:%g" /tmp)" = "1777 0:0" &&
            test "$(stat -c "%a %u:%g" /home/app)" = "750 1000:1000" &&
            test "$(readlink /lib)" = usr/lib && test -s /lib/hello/note.txt'
}

# check WHAT COMMAND…: runs it, keeps what it printed, counts a failure.
check() {
    local what=$1
    shift
    if "$@" >"$work/checks/last" 2>&1; then
        printf '   ok    %s\n' "$what" >&2
    else
        printf '   FAIL  %s\n' "$what" >&2
        sed 's/^/         /' "$work/checks/last" >&2
        failures=$((failures + 1))
    fi
    case $what in "podman run") cp "$work/checks/last" "$work/checks/output" ;; esac
}

finish() {
    if [ "$failures" != 0 ]; then
        say "$failures checks failed"
        exit 1
    fi
    say "everything is as it should be; the state directory is $state"
    echo "$digest"
}

say() {
    printf '\n== %s\n' "$*" >&2
}

stop_registry() {
    if [ -n "${REGISTRY_PID:-}" ]; then
        kill "$REGISTRY_PID" 2>/dev/null || true
        wait "$REGISTRY_PID" 2>/dev/null || true
        REGISTRY_PID=
    fi
}

clean_up() {
    stop_registry
    # podman's files belong to subordinate ids, and its pause process keeps the
    # user namespace they are reached through.
    if [ -d "$work/podman" ]; then
        "${podman[@]}" unshare rm -rf "$work/podman" "$work/podman-run" 2>/dev/null || true
        "${podman[@]}" system migrate >/dev/null 2>&1 || true
    fi
    rm -rf "$work/podman" "$work/podman-run" "$work/podman-home" "$work/checks" "$work/registry"
}

main
