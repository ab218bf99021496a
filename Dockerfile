# Builds Weir with everything in it; the last stage holds the program and what the C library needs, nothing else.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential pkg-config perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /weir
# Kernels for arm64 have pages of 4, 16 or 64 KiB; one image serves all of them.
RUN [ "$(uname -m)" != aarch64 ] || printf '[env]\nJEMALLOC_SYS_WITH_LG_PAGE = "16"\n' > "$CARGO_HOME/config.toml"
# Dependencies first, so that a change of the sources alone builds only those.
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo .cargo
RUN mkdir -p src benches tests/integration && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && for name in journal scan transforms redact elasticsearch postgres kafka whole; do echo 'fn main() {}' > benches/$name.rs; done \
    && echo 'fn main() {}' > tests/integration/main.rs \
    && cargo build --profile dist --features vendored --locked --bin weir
COPY . .
RUN touch src/main.rs src/lib.rs && cargo build --profile dist --features vendored --locked --bin weir \
    && mkdir -p /empty

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /weir/target/dist/weir /usr/local/bin/weir
COPY --from=build --chown=nonroot:nonroot /empty /var/lib/weir
WORKDIR /var/lib/weir
VOLUME /var/lib/weir
EXPOSE 8686 8687
HEALTHCHECK CMD ["weir", "health"]
ENTRYPOINT ["weir"]
