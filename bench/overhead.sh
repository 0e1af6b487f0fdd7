#!/usr/bin/env bash
# What isolation costs on each rung, beside a plain chroot and proot: writes
# bench/results/overhead.md. Needs root (the sandboxes are made with runc) and a
# machine that does nothing else.
#
#   OVERHEAD_ROUNDS=3            the median counts
#   OVERHEAD_FILES=20000 OVERHEAD_COMPILES=50 OVERHEAD_FORKS=500 OVERHEAD_TREE=100000
#   OVERHEAD_PROFILE=release     `dev` measures a debug build, for trying this out
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
pool=${CORACLE_POOL:-${XDG_CACHE_HOME:-$HOME/.cache}/coracle-tests}
. "$top/ci-examples/loopback.sh"

main() {
    [ "$(id -u)" = 0 ] || { echo "bench/overhead.sh needs root: sandboxes are made with runc" >&2; exit 1; }
    "$top/tests/sandboxes/pool.sh"
    sandboxes=$(cd "$top" && cargo test --quiet --locked --profile "${OVERHEAD_PROFILE:-release}" --test sandboxes \
        --no-run --message-format=json | sed -n 's/.*"name":"sandboxes".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
    work=$(mktemp -d /var/tmp/coracle-overhead.XXXXXX)
    chmod 755 "$work"
    trap clean_up EXIT
    port=$(free_port)
    start_registry "$work/registry" "$port"
    skopeo copy --quiet --insecure-policy --dest-tls-verify=false \
        "oci:$pool/debian:latest" "docker://127.0.0.1:$port/debian:latest"
    python3 "$here/overhead.py" "$work" "$top" "$pool" "127.0.0.1:$port" "$sandboxes"
}

clean_up() {
    [ -z "${REGISTRY_PID:-}" ] || kill "$REGISTRY_PID" 2>/dev/null || true
    # The loop device goes with the mount.
    ! mountpoint --quiet "$work/volume" || umount --lazy "$work/volume"
    rm -rf --one-file-system "$work"
}

main
