//! Tests that every codec must pass, and their shared helpers.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::event::{Scanner, Seed};
use crate::units::Timestamp;

const LIMITS: Limits = Limits { event_bytes: 1 << 20, values: 10_000 };

fn provenance(received_at: Timestamp) -> Arc<Provenance> {
    Arc::new(Provenance { source: "test".into(), seed: Seed([1; 16]), received_at, peer: None, stamp: None })
}

pub fn decode(decoder: &dyn Decoder, text: &[u8], frames: Frames, ordinals: Ordinals, split: bool) -> Decoded {
    let chunk = Bytes::copy_from_slice(text);
    decoder.decode(chunk, &frames, ordinals, provenance(Timestamp(0)), &LIMITS, split)
}

/// The events as JSON.
pub fn texts(batch: &Batch) -> Vec<String> {
    let lines = batch.render();
    (0..lines.len()).map(|n| String::from_utf8(lines.line(n).to_vec()).expect("JSON is UTF-8")).collect()
}

fn both(decoder: &dyn Decoder, text: &[u8], frames: Frames) -> (Vec<String>, Vec<(u64, String)>) {
    let decoded = decode(decoder, text, frames, Ordinals::Offset(0), true);
    let refused = decoded.refused.into_iter().map(|refusal| (refusal.index, refusal.reason));
    (texts(&decoded.batch), refused.collect())
}

/// Events and refusals (index and reason) of lines.
pub fn lines(decoder: &dyn Decoder, text: &[u8]) -> (Vec<String>, Vec<(u64, String)>) {
    both(decoder, text, Frames::Lines)
}

/// Events and refusals of a document.
pub fn document(decoder: &dyn Decoder, text: &[u8]) -> (Vec<String>, Vec<(u64, String)>) {
    both(decoder, text, Frames::Document)
}

/// The events of lines received at this time.
pub fn decode_at(decoder: &dyn Decoder, text: &[u8], received: Timestamp) -> Vec<String> {
    let chunk = Bytes::copy_from_slice(text);
    let decoded = decoder.decode(chunk, &Frames::Lines, Ordinals::Count(0), provenance(received), &LIMITS, true);
    texts(&decoded.batch)
}

fn codecs() -> Vec<Codec> {
    let columns = csv::Config { columns: vec!["a".into(), "b".into()], ..csv::Config::default() };
    let csv = [Codec::Csv(columns), Codec::Csv(csv::Config::default())];
    let others = [Codec::Json, Codec::Text, Codec::Logfmt, Codec::Syslog(Default::default()), Codec::Msgpack];
    others.into_iter().chain(csv).collect()
}

/// Whatever came in: every item is an event or a refusal, in order, and every event is an object within bounds.
fn check(codec: &Codec, text: &[u8], frames: Frames) -> Result<(), TestCaseError> {
    let decoder = codec.decoder();
    let split = decode(&*decoder, text, frames.clone(), Ordinals::Count(0), true);
    let whole = decode(&*decoder, text, frames, Ordinals::Count(0), false);
    prop_assert_eq!(split.items, split.batch.len() as u64 + split.refused.len() as u64);
    prop_assert_eq!(&split.refused, &whole.refused);
    prop_assert_eq!(whole.batch.len(), split.batch.len());
    let mut indexes: Vec<_> = split.refused.iter().map(|refusal| refusal.index).collect();
    indexes.extend((0..split.batch.len()).map(|event| split.batch.ordinal(event)));
    indexes.sort_unstable();
    prop_assert_eq!(indexes, (0..split.items).collect::<Vec<_>>());
    for refusal in &split.refused {
        let offset = refusal.offset as usize;
        prop_assert_eq!(&text[offset..offset + refusal.text.len()], &refusal.text[..]);
    }
    let mut batch = whole.batch;
    for (line, from_split) in texts(&batch).iter().zip(texts(&split.batch)) {
        prop_assert!(line.starts_with('{') && !line.contains('\n'), "{}", line);
        prop_assert_eq!(Scanner::plain().validate(line.as_bytes()), Ok(()));
        prop_assert_eq!(Scanner::plain().validate(from_split.as_bytes()), Ok(()));
    }
    batch.split_all();
    prop_assert_eq!(texts(&batch), texts(&split.batch));
    Ok(())
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let parts: &[&[u8]] = &[
        b"{\"a\":1}",
        b"{\"a\":[{\"b\":2},3]}",
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b"\n",
        b"\r\n",
        b" ",
        b"\"",
        b"1",
        b"x",
        b"{\"a\":",
        b"<34>",
        b"<13>1 ",
        b"2003-10-11T22:14:15Z ",
        b"- - - - ",
        b"Oct 11 22:14:15 ",
        b"host ",
        b"su[1]: ",
        b"[id a=\"b\"]",
        b"k=v ",
        b"k=\"v\" ",
        b"=",
        b"\\",
        b"\xff",
        b"\x81\xa1a\x01",
        b"\x92",
        b"\xc7",
        b"\xdf\xff\xff",
        b"\xef\xbb\xbf",
        b"\0",
        b"a,b",
    ];
    prop_oneof![
        prop::collection::vec(prop::sample::select(parts), 0..30).prop_map(|parts| parts.concat()),
        prop::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_in_every_item_is_an_event_or_a_refusal(text in hostile(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(text.len() + 1);
        for codec in codecs() {
            for frames in [Frames::Lines, Frames::Document, Frames::At(vec![0..cut, cut..text.len()])] {
                check(&codec, &text, frames)?;
            }
        }
    }
}
