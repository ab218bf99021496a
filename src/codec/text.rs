//! Plain text: each line becomes an event with a `message`.

use std::sync::Arc;

use bytes::Bytes;

use super::{Decoded, Decoder, Frames, Limits, Ordinals, make};
use crate::event::Provenance;

/// Text that is not UTF-8 is kept as far as it is, and the event gets `encoding_error: true`.
pub struct Text;

impl Decoder for Text {
    fn decode(
        &self,
        chunk: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded {
        let made = make::each_frame(&chunk, frames, ordinals, limits, |line, event| {
            event.bytes("message", line);
            Ok(())
        });
        made.finish(provenance, split)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::lines;
    use super::*;

    #[test]
    fn a_line_becomes_a_message() {
        let (events, refused) = lines(&Text, b"hello \"you\"\r\n\n\ttab\n\xff\xfe bytes");
        assert_eq!(
            events,
            [
                r#"{"message":"hello \"you\""}"#,
                r#"{"message":"\ttab"}"#,
                "{\"message\":\"\u{fffd}\u{fffd} bytes\",\"encoding_error\":true}",
            ]
        );
        assert!(refused.is_empty());
    }
}
