#!/usr/bin/env bash
# Fills the pool that the sandbox tests install from, so that every sandbox gets
# the same files and no test needs a mirror: a Debian 12 base image and a flat
# package repository, downloaded once with this machine's sources.
#
#   tests/sandboxes/pool.sh        CORACLE_POOL: where (default: ~/.cache/coracle-tests)
#
#   POOL/debian/            OCI layout of the base, made by mmdebstrap
#   POOL/packages/          *.deb with all they need beyond the base, and Packages
#   POOL/packages/wanted    what was asked for; another list is another download
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../ci-examples/loopback.sh"

pool=${CORACLE_POOL:-${XDG_CACHE_HOME:-$HOME/.cache}/coracle-tests}
wanted=(
    python3 python3-venv libcap2-bin sudo iputils-ping # functional checks
    nodejs postgresql-15                               # Dockerfiles of the matrix
    gcc libc6-dev                                      # bench/overhead.sh
)

main() {
    base_layout "$pool" debian
    if [ "$(cat "$pool/packages/wanted" 2>/dev/null)" != "${wanted[*]}" ]; then
        fetch
    fi
}

# As root or not: nothing of the machine's own apt state is touched.
fetch() {
    local new=$pool/packages.new
    rm -rf "$new"
    mkdir -p "$new"/{lists,archives}/partial "$new/sources"
    base_status >"$new/status"
    mapfile -t sources < <(debian_sources)
    ln -s "${sources[@]}" "$new/sources/"
    # The machine's hooks would clean its own cache, not this one.
    printf '#clear APT::Update::Post-Invoke;\n#clear DPkg::Post-Invoke;\n' >"$new/apt.conf"
    private_apt "$new" update
    private_apt "$new" -y --no-install-recommends --download-only install "${wanted[@]}"
    index "$new/archives"
    printf '%s\n' "${wanted[*]}" >"$new/archives/wanted"
    rm -rf "$pool/packages" "$new/archives/partial" "$new/archives/lock"
    mv "$new/archives" "$pool/packages"
    rm -rf "$new"
}

# private_apt DIRECTORY ARGUMENT…
private_apt() {
    local new=$1
    shift
    APT_CONFIG=$new/apt.conf DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dir::State::status="$new/status" \
        -o Dir::State::lists="$new/lists" -o Dir::Cache="$new" -o Dir::Cache::archives="$new/archives" \
        -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$new/sources" \
        -o Debug::NoLocking=1 -o APT::Sandbox::User= -o APT::Install-Suggests=0 "$@" >&2
}

# What the base has already is not downloaded.
base_status() {
    local layer
    layer=$(python3 - "$pool/debian" <<'LAYER'
import json, os, sys
blob = lambda digest: os.path.join(sys.argv[1], "blobs", *digest.split(":"))
index = json.load(open(os.path.join(sys.argv[1], "index.json")))
print(blob(json.load(open(blob(index["manifests"][0]["digest"])))["layers"][0]["digest"]))
LAYER
    )
    tar -xzOf "$layer" ./var/lib/dpkg/status
}

# index DIRECTORY: a flat repository. The `4%3a` of an epoch would be escaped
# once more on its way through a URL, so the names go without.
index() {
    local file name
    for file in "$1"/*.deb; do
        name=${file##*/}
        case $name in
            *%3a*) mv "$file" "$1/${name%%_*}_${name#*%3a}"; name=${name%%_*}_${name#*%3a} ;;
        esac
        dpkg-deb -f "$1/$name"
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$name" "$(stat -c %s "$1/$name")" \
            "$(sha256sum <"$1/$name" | cut -d' ' -f1)"
    done >"$1/Packages"
}

main
