# The plugin image: two programs, certificates and what maps ids. Build it with
# any builder, coracle included:
#   coracle build -t registry.example.com/coracle/plugin:0.1 .
ARG RUST_BASE=rust:1-bookworm
ARG RUN_BASE=debian:bookworm-slim

FROM ${RUST_BASE} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --workspace

FROM ${RUN_BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git uidmap \
    # A setuid newuidmap is refused where the bounding set lacks CAP_SYS_ADMIN
    # (Docker's does); file capabilities are not.
    && apt-get install -y --no-install-recommends libcap2-bin \
    && chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap \
    && setcap cap_setuid+ep /usr/bin/newuidmap \
    && setcap cap_setgid+ep /usr/bin/newgidmap \
    && apt-get purge -y --auto-remove libcap2-bin \
    && useradd --uid 1000 --create-home coracle \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*
COPY --from=build /src/target/release/coracle-plugin /usr/local/bin/coracle-plugin
# One program under several names: it looks at the name it is called by.
RUN ln -s coracle-plugin /usr/local/bin/coracle
ENTRYPOINT ["/usr/local/bin/coracle-plugin"]
