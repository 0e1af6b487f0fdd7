#!/usr/bin/env bash
# Installs the Debian packages that are named and missing. Quick when none is.
set -euo pipefail

missing=()
for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} = 0 ]; then
    exit 0
fi

sudo=()
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "missing packages and no sudo; as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    sudo=(sudo)
fi
echo "installing ${missing[*]}" >&2
# A failing index of some other vendor's source does not stop Debian's packages.
"${sudo[@]}" apt-get update -qq >&2 || echo "apt-get update reports errors; going on" >&2
# Services that packages bring are not started: what is needed is started later,
# on loopback, by the demo and the tests themselves.
policy=/usr/sbin/policy-rc.d
made_policy=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod 755 "$policy"
    made_policy=1
fi
remove_policy() {
    [ -z "$made_policy" ] || "${sudo[@]}" rm -f "$policy"
}
trap remove_policy EXIT
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
