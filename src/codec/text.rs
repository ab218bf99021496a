//! Plain text: each line becomes an event with a `message`.

use std::sync::Arc;

use bytes::Bytes;

use super::framing::mark_of_cut;
use super::{Decoded, Decoder, Frames, Limits, Ordinals, frames, make};
use crate::event::Provenance;

/// Text that is not UTF-8 is kept as far as it is, and the event gets `encoding_error: true`.
pub struct Text;

/// Bytes of a frame before its end, within which a character ends.
const LONGEST_CHARACTER: usize = 4;

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
        let mut maker = make::Maker::new(&chunk, ordinals, *limits, *frames == Frames::Document);
        for range in frames::cut(&chunk, frames) {
            let inside = frames::without_mark(&chunk, range.clone(), maker.ordinals());
            match shortened(&chunk[inside.clone()], limits.event_bytes) {
                None => maker.make(range, |event| {
                    event.bytes("message", &chunk[inside]);
                    Ok(())
                }),
                Some(line) => maker.make_any(range, |event| {
                    event.bytes("message", &line);
                    Ok(())
                }),
            }
            if maker.is_full() {
                break;
            }
        }
        maker.finish(provenance, split)
    }
}

/// What remains of a line that was cut by its source, if an event may not be as long as the source's lines. What a
/// client sends whole is not cut but refused.
fn shortened(line: &[u8], event_bytes: usize) -> Option<Vec<u8>> {
    if line.len() <= event_bytes {
        return None;
    }
    let mark = mark_of_cut(line)?;
    let room = event_bytes.checked_sub(mark.len())?;
    // Not amid a character, where there are any.
    let before = &line[..room];
    let begins = |byte: &u8| byte & 0xc0 != 0x80;
    let tail =
        line[room.saturating_sub(LONGEST_CHARACTER)..=room].iter().rev().take_while(|byte| !begins(byte)).count();
    let end = if tail < LONGEST_CHARACTER { room - tail } else { room };
    Some([&before[..end], mark].concat())
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

    #[test]
    fn a_line_that_its_source_has_cut_fits_into_an_event() {
        let mark = super::super::framing::cut_mark(100);
        for text in ["x".repeat(100), "سلام".repeat(13), "😀".repeat(25), "a😀".repeat(20)] {
            let line = format!("{text}{mark}");
            for limit in 60..=100 {
                let kept = shortened(line.as_bytes(), limit).expect("it is longer");
                let kept = String::from_utf8(kept).expect("no character is cut");
                assert!(kept.len() <= limit && kept.len() + 4 > limit, "{kept} {limit}");
                assert!(line.starts_with(kept.strip_suffix(&mark).expect("its mark")), "{kept}");
            }
            assert_eq!(shortened(line.as_bytes(), line.len()), None);
            assert_eq!(shortened(text.as_bytes(), 50), None, "what was sent whole is refused");
        }
        let (events, refused) = lines(&Text, format!("{}{mark}", "x".repeat(100)).as_bytes());
        assert_eq!((events.len(), refused.len()), (1, 0));
    }
}
