# All mounts of a RUN at once; nothing of them stays.
FROM BASE AS tools
RUN echo tool > /usr/bin/tool && chmod 755 /usr/bin/tool
FROM BASE
RUN --mount=type=bind,source=functional,target=/in --mount=type=bind,from=tools,source=/usr/bin,target=/tools,rw \
    --mount=type=cache,target=/var/cache/made,uid=5,mode=0750 --mount=type=tmpfs,target=/scratch,size=16m \
    --mount=type=ssh,uid=1000,mode=0600 --mount=type=secret,id=key,target=/run/key,uid=1000,mode=0440 --mount=type=secret,id=key,env=KEY \
    test -s /in/checks.py && cat /tools/tool > /tool && echo x > /tools/new \
    && test "$(stat -c '%u %a' /var/cache/made /run/key | xargs)" = "5 750 1000 440" && echo 1 >> /var/cache/made/count \
    && dd if=/dev/zero of=/scratch/f bs=1M count=8 2>/dev/null && test "$(cat /run/key)" = "$KEY" && test "$KEY" = "a key" \
    && perl -MIO::Socket::UNIX -e '$agent = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die $!; syswrite $agent, pack("NC", 1, 11); sysread $agent, $_, 9; exit(unpack("x4C") != 12)'
RUN --mount=type=cache,target=/var/cache/made --mount=from=tools,target=/all echo 2 >> /var/cache/made/count && cp /var/cache/made/count /count && test -x /all/usr/bin/tool && test ! -e /all/usr/bin/new
RUN test ! -e /in && test ! -e /tools && test ! -e /scratch && test ! -e /run/key && test ! -e /var/cache/made && test "$(cat /count | xargs)" = "1 2"
