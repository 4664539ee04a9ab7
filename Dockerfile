# syntax=docker/dockerfile:1
# Ringway in a container: the binary, a configuration, the licences, and the C library of Debian 12.
#
#   docker build --tag ringway .
#   docker run --rm --read-only -p 8080:8080 -v "$PWD/ringway.toml:/etc/ringway/ringway.toml:ro" ringway
#
# `docker stop` waits 10 seconds and then kills; drain takes up to 30: use `docker stop --time 45`.

FROM rust:1-bookworm AS build
WORKDIR /build

# Layer 1, the dependencies: built against an empty program, so that it stays as long as the manifests do.
# The roots of benches and tests are here because the manifest may name them; they are not compiled.
COPY Cargo.toml Cargo.lock ./
COPY benches/*.rs benches/
COPY tests/it/main.rs tests/it/
RUN mkdir src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --bin ringway \
    && rm -r src

# Layer 2, the program. Its files can be older than the empty ones, and cargo goes by the date: touch.
COPY config config
COPY README.md ./
COPY src src
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin ringway \
    && target/release/ringway --version \
    && target/release/ringway check -c config/container.toml \
    && config/third-party >THIRD-PARTY-LICENSES

FROM gcr.io/distroless/cc-debian12:nonroot

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ringway" \
      org.opencontainers.image.description="Consistent-hash routing HTTP reverse proxy" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"

COPY --from=build /build/target/release/ringway /usr/bin/ringway
COPY --from=build /build/THIRD-PARTY-LICENSES /usr/share/doc/ringway/
COPY LICENSE LICENSE-MIT LICENSE-APACHE /usr/share/doc/ringway/
COPY config/container.toml /etc/ringway/ringway.toml

# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["/usr/bin/ringway", "healthcheck"]
ENTRYPOINT ["/usr/bin/ringway"]
CMD ["run", "-c", "/etc/ringway/ringway.toml"]
