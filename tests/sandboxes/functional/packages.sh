# apt and dpkg on a minimal Debian; leaves Python and the tools of the other checks.
group=packages
. /functional/shell.sh

# apt's http method asks this script for a proxy, after it dropped its privileges.
drops() {
    printf '#!/bin/sh\nid -u >> /tmp/who\necho DIRECT\n' >/tmp/ask
    chmod 755 /tmp/ask
    : >/tmp/who
    chmod 666 /tmp/who
    apt-get -o Acquire::http::Proxy-Auto-Detect=/tmp/ask update
    test "$(sort -u /tmp/who)" = "$(id -u _apt)"
    test "$(stat -c %U /var/lib/apt/lists/partial)" = _apt
    rm /tmp/ask /tmp/who
}

configured() {
    test "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1")" = "ii "
    dpkg --audit
    test -z "$(dpkg --audit)"
}

installs() {
    apt-get install python3 sudo libcap2-bin iputils-ping
    configured python3
    python3 -c 'import ctypes, ssl, sqlite3'
}

capable() {
    test "$(getcap /bin/ping)" = "/bin/ping cap_net_raw=ep"
    test "$(stat -c '%a %u' /usr/bin/sudo /usr/bin/passwd | sort -u)" = "4755 0"
}

verified() {
    # The base goes without documentation and manual pages.
    dpkg --verify python3.11-minimal sudo libc6 | grep -vE '/usr/share/(doc|man|locale)/' >/tmp/verify || true
    cat /tmp/verify
    test ! -s /tmp/verify
    rm /tmp/verify
}

by_dpkg() {
    mkdir -p /tmp/made/DEBIAN /tmp/made/etc/made /tmp/made/usr/share/made
    printf 'Package: made\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.com>\nDescription: made here\n' \
        >/tmp/made/DEBIAN/control
    echo /etc/made/conf >/tmp/made/DEBIAN/conffiles
    printf '#!/bin/sh\nset -e\ntest "$(id -u)" = 0\nadduser --version >/dev/null 2>&1 || true\necho "$1" >/usr/share/made/called\n' \
        >/tmp/made/DEBIAN/postinst
    chmod 755 /tmp/made/DEBIAN/postinst
    echo 1 >/tmp/made/etc/made/conf
    echo data >/tmp/made/usr/share/made/data
    chown 3:4 /tmp/made/usr/share/made/data
    chmod 2640 /tmp/made/usr/share/made/data
    dpkg-deb --build /tmp/made /tmp/made.deb
    dpkg -i /tmp/made.deb
    configured made
    test "$(stat -c '%u:%g %a' /usr/share/made/data)" = "3:4 2640"
    test "$(cat /usr/share/made/called)" = configure
}

removed() {
    dpkg-divert --rename --divert /usr/share/made/elsewhere --add /usr/share/made/data
    test -f /usr/share/made/elsewhere
    dpkg-divert --rename --remove /usr/share/made/data
    dpkg-statoverride --update --add root games 2755 /usr/share/made
    test "$(stat -c '%G %a' /usr/share/made)" = "games 2755"
    dpkg-statoverride --remove /usr/share/made
    rm /usr/share/made/called
    dpkg --purge made
    test ! -e /etc/made
    rm -rf /usr/share/made /tmp/made /tmp/made.deb
}

alternatives() {
    update-alternatives --install /usr/bin/pager2 pager2 /bin/more 10
    test "$(readlink -f /usr/bin/pager2)" = "$(readlink -f /bin/more)"
    update-alternatives --remove pager2 /bin/more
    test ! -e /usr/bin/pager2
}

check "apt drops its privileges" drops
check "apt installs" installs
check "setuid and capabilities of packages" capable
check "dpkg verifies" verified
check "dpkg installs what was built here" by_dpkg
check "diversions, overrides, purge" removed
check "alternatives" alternatives
checked
