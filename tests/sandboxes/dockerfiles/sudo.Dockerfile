# Programs that gain privileges for another user than root.
FROM BASE
ENV DEBIAN_FRONTEND=noninteractive APT_CONFIG=/apt/conf PYTHONDONTWRITEBYTECODE=1
RUN --mount=type=bind,source=apt,target=/apt apt-get update && apt-get install python3 sudo libcap2-bin && sh /apt/clean
RUN useradd -u 1500 alice && echo 'alice ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/alice && cp /usr/bin/id /setuid-id && chmod 4755 /setuid-id \
    && cp /bin/cat /capable-cat && setcap cap_net_bind_service=ep /capable-cat && rm -f /etc/*- /var/log/lastlog /var/log/faillog && sed -i -E 's/^([^:]*:[^:]*:)[0-9]+/\11/' /etc/shadow
USER alice
RUN --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py sudo
