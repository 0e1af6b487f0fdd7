#!/usr/bin/env bash
# Prepares what the benchmark needs (release build, bases, local packages, an
# ordinary user) and hands over to bench.py, which runs as that user.
#
#   bench/run.sh [--soak] [--only-buildah]
#   BENCH_WORKLOADS=tiny,stages   which workloads (default: all six)
#   BENCH_ROUNDS=3                interleaved rounds; the median counts
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
user=${DEMO_USER:-coracle-demo}

main() {
    (cd "$top" && cargo build --release --locked --workspace --quiet)
    work=$(mktemp -d /var/tmp/coracle-bench.XXXXXX)
    trap clean_up EXIT
    chmod 755 "$work"
    install -m 755 "${CARGO_TARGET_DIR:-$top/target}/release/coracle" "$work"
    install -m 644 "$here"/*.py "$top/ci-examples/loopback.sh" "$work"
    local status=0
    if [ "$(id -u)" = 0 ]; then
        id "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$user"
        chown -R "$user:" "$work"
        (cd / && runuser -u "$user" -- env -i HOME="$(getent passwd "$user" | cut -d: -f6)" \
            USER="$user" LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            BENCH_WORKLOADS="${BENCH_WORKLOADS:-}" BENCH_ROUNDS="${BENCH_ROUNDS:-3}" \
            python3 "$work/bench.py" "$work" "$@") || status=$?
    else
        python3 "$work/bench.py" "$work" "$@" || status=$?
    fi
    for result in "$work"/results/*.md; do
        [ -e "$result" ] || continue
        mkdir -p "$here/results"
        install -m 644 "$result" "$here/results/"
        echo "written to bench/results/${result##*/}"
    done
    return "$status"
}

clean_up() {
    # buildah's and our own trees belong to subordinate ids: their owner's user
    # namespace removes them, root removes the rest.
    if [ "$(id -u)" = 0 ]; then
        rm -rf "$work"
    else
        buildah unshare rm -rf "$work" 2>/dev/null || rm -rf "$work"
    fi
}

main "$@"
