#!/usr/bin/env bash
# The main job on this machine, with real parts: bases made from Debian
# packages, Debian's docker-registry with a password on loopback, and the plugin
# run as an ordinary user with the PLUGIN_* variables a CI would set. Afterwards
# skopeo, umoci and podman look at what was pushed.
#
# What stays: the user's state directory (~/.local/share/coracle) and the bases
# (~/.cache/coracle-demo). Both make the second run quick.
#
# `make demo` runs `make setup` first. Environment: DEMO_USER, the ordinary user
# that root's call uses (default: coracle-demo, created when missing).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")

main() {
    say "building coracle (release)"
    (cd "$top" && cargo build --release --locked --workspace --quiet)
    work=$(mktemp -d /var/tmp/coracle-demo.XXXXXX)
    trap clean_up EXIT
    chmod 755 "$work"
    install -m 755 "${CARGO_TARGET_DIR:-$top/target}/release/coracle" \
        "${CARGO_TARGET_DIR:-$top/target}/release/coracle-plugin" "$work"
    install -m 644 "$here/loopback.sh" "$here/demo-user.sh" "$work"
    mkdir "$work/workspace"
    cp -r "$here/app" "$work/workspace/app"
    if [ "$(id -u)" = 0 ]; then
        as_ordinary_user
    else
        ensure_subordinate_ids "$(id -un)"
        bash "$work/demo-user.sh" "$work"
    fi
}

as_ordinary_user() {
    local user=${DEMO_USER:-coracle-demo} home
    id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$user"
    ensure_subordinate_ids "$user"
    home=$(getent passwd "$user" | cut -d: -f6)
    chown -R "$user:" "$work"
    say "running as $user (uid $(id -u "$user"))"
    # A clean environment, as a CI's container has: nothing of root's leaks in.
    (cd / && runuser -u "$user" -- env -i HOME="$home" USER="$user" LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        bash "$work/demo-user.sh" "$work")
}

# RUN needs 65,536 ids besides the user's own (subuid(5), newuidmap(1)).
ensure_subordinate_ids() {
    local user=$1 kind sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    for kind in uid gid; do
        if ! grep -q "^$user:\|^$(id -u "$user"):" "/etc/sub$kind" 2>/dev/null; then
            say "giving $user subordinate ${kind}s"
            $sudo usermod "--add-sub${kind}s" "$(free_range "/etc/sub$kind")" "$user"
        fi
    done
}

# The first 65,536 ids above every range that is handed out already.
free_range() {
    awk -F: 'BEGIN { next_id = 100000 } $2 + $3 > next_id { next_id = $2 + $3 }
             END { printf "%d-%d", next_id, next_id + 65535 }' "$1" 2>/dev/null || echo 100000-165535
}

say() {
    printf '\n== %s\n' "$*" >&2
}

clean_up() {
    rm -rf "$work"
}

main "$@"
