# Packages with maintainer scripts, triggers, file capabilities and a setuid
# program; apt's downloader runs as _apt.
FROM BASE
ENV DEBIAN_FRONTEND=noninteractive APT_CONFIG=/apt/conf
RUN --mount=type=bind,source=apt,target=/apt apt-get update && apt-get install gcc libc6-dev sudo iputils-ping && sh /apt/clean
RUN printf 'int main(void) { return 7; }\n' > /tmp/x.c && gcc -o /usr/bin/seven /tmp/x.c && rm /tmp/x.c && { seven; test $? = 7; }
