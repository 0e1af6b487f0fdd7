# useradd, su, setpriv, and files of those users.
FROM BASE
RUN useradd -m -u 1500 -s /bin/sh alice && groupadd -g 1600 crew && usermod -aG crew alice \
    && su alice -c 'echo hers > ~/note; mkdir -m 700 ~/private' \
    && setpriv --reuid=alice --regid=crew --init-groups touch /tmp/of-crew \
    && mkdir /srv/crew && chown root:crew /srv/crew && chmod 2770 /srv/crew && su alice -c 'echo shared > /srv/crew/file' \
    && rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /var/log/lastlog /var/log/faillog \
    && sed -i -E 's/^([^:]*:[^:]*:)[0-9]+/\11/' /etc/shadow
USER alice
WORKDIR /home/alice
RUN test "$(id -un) $(stat -c %U:%G note /srv/crew/file | xargs)" = "alice alice:alice alice:crew" && umask 027 && echo more > more
USER 4321:1234
RUN test "$(id -u):$(id -g)" = 4321:1234 && echo nobody > /tmp/of-a-number
