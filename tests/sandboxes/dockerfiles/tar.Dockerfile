# An archive with foreign owners, modes, links, unpacked by ADD and by tar.
FROM BASE
ADD owners.tar /added/
RUN --mount=type=bind,source=owners.tar,target=/owners.tar mkdir /unpacked && tar -xpf /owners.tar -C /unpacked --numeric-owner \
    && (cd /added && find . -printf '%p %y %m %U:%G %n %l\n' | sort) > /tmp/added \
    && (cd /unpacked && find . -printf '%p %y %m %U:%G %n %l\n' | sort) > /tmp/unpacked \
    && sed -i '1d' /tmp/added /tmp/unpacked && cmp /tmp/added /tmp/unpacked && rm /tmp/added /tmp/unpacked \
    && test "$(stat -c '%U:%G %u %a' /unpacked/home/app)" = "UNKNOWN:UNKNOWN 1234 2750"
