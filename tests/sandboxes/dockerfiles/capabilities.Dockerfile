# setuid, setgid, sticky and file capabilities, kept across steps and copies.
FROM BASE
ENV DEBIAN_FRONTEND=noninteractive APT_CONFIG=/apt/conf
RUN --mount=type=bind,source=apt,target=/apt apt-get update && apt-get install libcap2-bin iputils-ping && sh /apt/clean
RUN cp /bin/true /usr/bin/suid && chmod 4755 /usr/bin/suid && cp /bin/true /usr/bin/sgid && chgrp 42 /usr/bin/sgid && chmod 2711 /usr/bin/sgid \
    && cp /bin/true /usr/bin/capable && setcap cap_net_bind_service,cap_chown=eip /usr/bin/capable && mkdir -m 3777 /sticky && chgrp 50 /sticky
RUN test "$(stat -c '%a %u:%g' /usr/bin/suid /usr/bin/sgid /sticky | xargs)" = "4755 0:0 2711 0:42 3777 0:50" \
    && getcap /usr/bin/capable | grep -q 'cap_chown,cap_net_bind_service=eip' && getcap /bin/ping | grep -q cap_net_raw=ep \
    && cp -a /usr/bin/capable /usr/bin/capable-too && getcap /usr/bin/capable-too | grep -q cap_chown && mv /usr/bin/suid /usr/bin/suid-too && touch -d @0 /usr/bin/suid-too
