FROM rust:1-bookworm AS build
WORKDIR /weir
COPY . .
# The image below has OpenSSL, and no zlib.
ENV LIBZ_SYS_STATIC=1
RUN cargo build --release --locked --bin weir

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /weir/target/release/weir /usr/local/bin/weir
WORKDIR /var/lib/weir
VOLUME /var/lib/weir
HEALTHCHECK CMD ["weir", "health"]
ENTRYPOINT ["weir"]
