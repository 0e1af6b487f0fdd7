# Every functional check.
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
