#!/usr/bin/env bash
# Everything CI runs, in the order in which it fails soonest; `make test` calls
# it. Each part runs even when an earlier one failed, and the summary says which.
set -uo pipefail
cd "$(dirname "$0")/.."

results=()
failed=0

main() {
    part "format" cargo fmt --all --check
    part "clippy" cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
    part "build" cargo build --quiet --locked --workspace --all-targets
    part "unit tests" cargo test --quiet --locked --workspace --lib --bins
    part "plugin tests" cargo test --quiet --locked --package coracle-plugin --tests
    part "sandbox tests" cargo test --quiet --locked --test sandbox
    part "escape attempts" cargo test --quiet --locked --test escape
    part "integration tests" cargo test --quiet --locked --test integration
    if [ "$(id -u)" = 0 ]; then
        part "package pool" ./tests/sandboxes/pool.sh
    fi
    part "sandboxes" cargo test --quiet --locked --test sandboxes
    if [ "$(id -u)" = 0 ]; then
        part "sandbox tests, ordinary user" as_ordinary_user sandbox
        part "escape attempts, ordinary user" as_ordinary_user escape
        part "integration tests, ordinary user" as_ordinary_user integration --skip architecture --skip judge
    fi
    part "doc tests" cargo test --quiet --locked --workspace --doc
    summary
}

# part NAME COMMAND…
part() {
    local name=$1 started=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    if "$@"; then
        results+=("ok     $((SECONDS - started)) s  $name")
    else
        results+=("FAILED $((SECONDS - started)) s  $name")
        failed=1
    fi
}

# as_ordinary_user TEST ARGUMENT…
# Run by root the integration tests already start every build twice, as root and
# as an ordinary user. This runs the test programs themselves as that user, as on
# a developer's machine. The checkout may be closed to others, so they are copied.
as_ordinary_user() {
    local test=$1 user=coracle-test copy program status
    shift
    id "$user" >/dev/null 2>&1 || useradd --create-home "$user" || return 1
    program=$(cargo test --quiet --locked --test "$test" --no-run --message-format=json |
        sed -n "s/.*\"name\":\"$test\".*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -n 1)
    [ -x "$program" ] || { echo "the test program was not found"; return 1; }
    copy=$(mktemp -d)
    chmod 755 "$copy"
    install -m 755 "$program" "$copy/$test"
    install -m 755 target/debug/coracle "$copy/coracle"
    (cd / && runuser -u "$user" -- env -i HOME="$(getent passwd "$user" | cut -d: -f6)" \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        "$copy/$test" --quiet "$@")
    status=$?
    rm -rf "$copy"
    return $status
}

summary() {
    printf '\n== summary\n'
    printf '%s\n' "${results[@]}"
    if [ "$failed" != 0 ]; then
        echo "FAILED"
        exit 1
    fi
    echo "everything passed"
}

main
