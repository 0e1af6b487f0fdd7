#!/usr/bin/env bash
# How RUN's changes are found where overlayfs cannot be had: processor time and
# memory of the scan of a tree (no longer than half a second for 100,000 names),
# and with --soak also of a million names, and a thousand random histories on
# both kinds of storage. Writes bench/results/changes.md.
#
#   bench/changes.sh [--soak]
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

cd "$here/.."
status=0

# test NAME
run_test() {
    cargo test --release --quiet --locked --test sandbox -- --nocapture "$1" 2>&1 | tee -a "$log" || status=1
}

CORACLE_SCAN_ENTRIES=100000 run_test scans_in_little_memory
# Both walks together: "scan: N names: 0.19 s to list, 0.18 s to compare (…"
seconds=$(sed -n 's/^scan: .* names: \([0-9.]*\) s to list, \([0-9.]*\) s to compare.*/\1 \2/p' "$log" |
    awk '{ print $1 + $2 }')
bound="within the bound of 0.5 s"
awk -v seconds="${seconds:-9}" 'BEGIN { exit !(seconds <= 0.5) }' || { bound="over the bound of 0.5 s"; status=1; }
echo "100,000 names: ${seconds:-nothing measured} s, $bound"
if [ "${1:-}" = --soak ]; then
    CORACLE_SCAN_ENTRIES=1000000 run_test scans_in_little_memory
    CORACLE_SOAK=1 run_test packs_what_histories_did
fi

mkdir -p "$here/results"
{
    echo "# Finding what a RUN changed"
    echo
    echo "Made by \`bench/changes.sh ${1:-}\` on $(date -u +%Y-%m-%d), $(nproc) processors."
    echo
    grep -E '^(scan|histories): ' "$log" | sed 's/^/- /'
    echo "- 100,000 names: ${seconds:-nothing measured} s for both, $bound"
} > "$here/results/changes.md"
echo "written to bench/results/changes.md"
exit "$status"
