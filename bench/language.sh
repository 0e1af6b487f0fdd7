#!/usr/bin/env bash
# The long form of the language tests: every Dockerfile of tests/judge compared with
# what BuildKit made of it (asked again where `docker buildx` and a daemon are at
# hand), every one of tests/differential.rs built by buildah too, and FUZZ_SECONDS
# (600) of generated input for each reader of hostile text and bytes. Writes
# bench/results/language.md.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT

cd "$here/.."
status=0
if docker version >/dev/null 2>&1; then
    export CORACLE_BLESS=ask
    echo "judge: asked BuildKit of dockerd $(docker version --format '{{.Server.Version}}')" >> "$log"
else
    echo "judge: no Docker daemon here, so BuildKit's stored answers were used" >> "$log"
fi
for name in judge differential fuzz; do
    CORACLE_SOAK=1 CORACLE_FUZZ_SECONDS=${FUZZ_SECONDS:-600} \
        cargo test --quiet --locked --test integration -- --test-threads 2 "$name" 2>&1 | tee -a "$log" || status=1
done

mkdir -p "$here/results"
{
    echo "# The Dockerfile language, long form"
    echo
    echo "Made by \`bench/language.sh\` on $(date -u +%Y-%m-%d), $(nproc) processors."
    echo
    grep -E '^(judge|fuzz|differential): ' "$log" | sed 's/^/- /'
    grep -E '^test result' "$log" | sed 's/^/- /' || true
} > "$here/results/language.md"
echo "written to bench/results/language.md"
exit "$status"
