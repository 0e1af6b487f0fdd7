# What `make test` builds in each sandbox: every functional check, then files of
# every awkward kind that must come out the same everywhere.
FROM BASE AS tools
RUN echo tool > /usr/bin/tool && chmod 755 /usr/bin/tool

FROM BASE AS checked
ENV DEBIAN_FRONTEND=noninteractive PYTHONDONTWRITEBYTECODE=1
RUN --mount=type=bind,source=apt,target=/apt --mount=type=bind,source=functional,target=/functional APT_CONFIG=/apt/conf sh /functional/packages.sh && sh /apt/clean
RUN --mount=type=bind,source=functional,target=/functional sh /functional/whiteouts.sh make
RUN --mount=type=bind,source=functional,target=/functional sh /functional/whiteouts.sh remove
RUN --mount=type=bind,source=functional,target=/functional sh /functional/whiteouts.sh look
RUN --mount=type=bind,source=apt,target=/apt --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py root && sh /apt/clean
RUN --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py leave
RUN --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py left
RUN --mount=type=bind,source=apt,target=/apt useradd -m -u 1500 -s /bin/bash alice && sh /apt/clean
USER alice
RUN --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py user
RUN --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py leave-as-user
RUN --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py left

# Only where doctor reports it.
FROM checked AS sudo
USER root
RUN echo 'alice ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/alice && cp /usr/bin/id /setuid-id && chmod 4755 /setuid-id && cp /bin/cat /capable-cat && setcap cap_net_bind_service=ep /capable-cat
USER alice
RUN --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py sudo

# Only where doctor reports it.
FROM checked AS chroot
USER root
RUN --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py chroot

FROM checked
USER root
ADD --chown=7:8 owners.tar /added/
COPY --chown=1234:5678 --chmod=4711 note /opt/note
RUN --mount=type=bind,source=owners.tar,target=/owners.tar mkdir /unpacked && tar -xpf /owners.tar -C /unpacked --numeric-owner && test "$(stat -c '%u %a' /unpacked/home/app)" = "1234 2750"
RUN mkdir -p /l/d && echo one > /l/a && ln /l/a /l/b && ln /l/a /l/d/c && ln -s a /l/s && ln -P /l/s /l/t && mkfifo /l/p && ln /l/p /l/q \
    && mknod /l/c c 1 5 && mknod -m 600 /l/dev b 7 3 && mv /l/dev /l/loop && chown 0:6 /l/loop \
    && cp /bin/true /l/suid && chmod 4755 /l/suid && cp /bin/true /l/capable && setcap cap_net_bind_service,cap_chown=eip /l/capable && mkdir -m 3777 /l/sticky
RUN ln /l/b /l/e && rm /l/a && mv /l/capable /l/capable-too && touch -d @0 /l/suid && rm -r /opt/note && mkdir /opt/note
RUN --mount=type=bind,source=functional,target=/in --mount=type=bind,from=tools,source=/usr/bin,target=/tools,rw \
    --mount=type=cache,target=/var/cache/made,uid=5,mode=0750 --mount=type=tmpfs,target=/scratch \
    --mount=type=ssh,uid=1000,mode=0600 --mount=type=secret,id=key,target=/run/key,uid=1000,mode=0440 \
    test -s /in/checks.py && cat /tools/tool > /tool && echo x > /tools/new && test "$(stat -c '%u %a' /var/cache/made /run/key | xargs)" = "5 750 1000 440" \
    && echo 1 >> /var/cache/made/count && echo t > /scratch/t && test "$(cat /run/key)" = "a key" \
    && perl -MIO::Socket::UNIX -e '$agent = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}) or die $!; syswrite $agent, pack("NC", 1, 11); sysread $agent, $_, 9; exit(unpack("x4C") != 12)'
RUN test ! -e /in && test ! -e /tools && test ! -e /scratch && test ! -e /run/key && test ! -e /var/cache/made
USER 4321:1234
WORKDIR /home/alice
RUN test "$(id -u):$(id -g)" = 4321:1234 && echo nobody > /tmp/of-a-number
