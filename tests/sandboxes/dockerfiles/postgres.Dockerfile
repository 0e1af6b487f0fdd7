# A server of packages with an account of its own, initdb, and the server run.
FROM BASE
ENV DEBIAN_FRONTEND=noninteractive APT_CONFIG=/apt/conf
RUN --mount=type=bind,source=apt,target=/apt apt-get update && apt-get install postgresql-15 && sh /apt/clean
RUN --mount=type=bind,source=apt,target=/apt mkdir -p /data && chown postgres /data \
    && su postgres -c 'PATH=$PATH:/usr/lib/postgresql/15/bin; set -e; initdb -D /data/db >/dev/null; \
        pg_ctl -D /data/db -o "-c listen_addresses= -c unix_socket_directories=/tmp" -w start >/dev/null; \
        psql -h /tmp -c "create table made (n int)" -c "insert into made select generate_series(1, 1000)"; \
        test "$(psql -h /tmp -Atc "select sum(n) from made")" = 500500; pg_ctl -D /data/db -w stop' \
    && rm -rf /data/db/pg_stat/* && sh /apt/clean
