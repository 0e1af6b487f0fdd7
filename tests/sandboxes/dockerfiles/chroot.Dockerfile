# chroot(2) to a directory below.
FROM BASE
ENV DEBIAN_FRONTEND=noninteractive APT_CONFIG=/apt/conf PYTHONDONTWRITEBYTECODE=1
RUN --mount=type=bind,source=apt,target=/apt apt-get update && apt-get install python3 && sh /apt/clean
RUN --mount=type=bind,source=functional,target=/functional python3 /functional/checks.py chroot
