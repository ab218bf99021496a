//! Compresses bodies before they are sent.

use std::io::{self, Write};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

/// zstd's own usual level: three times as fast as gzip's, and smaller.
const ZSTD_LEVEL: i32 = 3;

/// How bodies are compressed on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// The word for the header Content-Encoding.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }

    /// The same bytes give the same result every time.
    pub fn compress(self, plain: Bytes) -> Bytes {
        match self {
            Compression::None => Ok(plain),
            Compression::Gzip => gzip(&plain),
            Compression::Zstd => zstd::bulk::compress(&plain, ZSTD_LEVEL).map(Bytes::from),
        }
        .expect("compressing from memory to memory does not fail")
    }
}

fn gzip(plain: &[u8]) -> io::Result<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(plain.len() / 4), flate2::Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_was_compressed_comes_out_as_it_went_in() {
        let plain = Bytes::from("a line\n".repeat(1000));
        assert_eq!(Compression::None.compress(plain.clone()), plain);
        let mut text = Vec::new();
        let gzip = Compression::Gzip.compress(plain.clone());
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut text).expect("gzip");
        assert_eq!(text, plain);
        let packed = Compression::Zstd.compress(plain.clone());
        assert_eq!(zstd::decode_all(&packed[..]).expect("zstd"), plain);
        assert!(gzip.len() < plain.len() / 10 && packed.len() < plain.len() / 10);
    }
}
