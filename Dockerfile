FROM rust:1-bookworm AS build
WORKDIR /weir
COPY . .
RUN cargo build --release --locked --bin weir

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /weir/target/release/weir /usr/local/bin/weir
WORKDIR /var/lib/weir
VOLUME /var/lib/weir
HEALTHCHECK CMD ["weir", "health"]
ENTRYPOINT ["weir"]
