#!/usr/bin/env bash
# Every Dockerfile of tests/sandboxes in every sandbox, and whether the image is
# the same in all of them: writes bench/results/sandboxes.md. Needs root and runc.
set -euo pipefail

cd "$(dirname "$0")/.."
./tests/sandboxes/pool.sh
mkdir -p bench/results
status=0
CORACLE_SOAK=1 CORACLE_SANDBOX_TABLE=$PWD/bench/results/sandboxes.md \
    cargo test --quiet --release --locked --test sandboxes -- "$@" || status=$?
echo "written to bench/results/sandboxes.md"
exit "$status"
