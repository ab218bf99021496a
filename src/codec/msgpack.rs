//! MessagePack: maps become objects. Binary data comes out as base64, times as RFC 3339.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::make::{Maker, Object};
use super::{Decoded, Decoder, Frames, Limits, Ordinals, frames};
use crate::event::scan::MAX_DEPTH;
use crate::event::{Provenance, escape};
use crate::units::Timestamp;

/// A frame is one map. A chunk without frames of its own holds maps, or arrays of maps, one after another.
pub struct Msgpack;

impl Decoder for Msgpack {
    fn decode(
        &self,
        chunk: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded {
        let mut maker = Maker::new(&chunk, ordinals, *limits, *frames == Frames::Document);
        if let Frames::At(_) = frames {
            for range in frames::cut(&chunk, frames) {
                let mut input = Input { bytes: &chunk[range.clone()], at: 0 };
                maker.make(range, |event| {
                    input.event(event)?;
                    if input.at < input.bytes.len() { Err("more bytes after the map".to_owned()) } else { Ok(()) }
                });
            }
        } else {
            sequence(&mut maker, &chunk);
        }
        maker.finish(provenance, split)
    }
}

/// Takes one value after another. Behind a broken one nothing can be found again.
fn sequence(maker: &mut Maker, chunk: &[u8]) {
    let mut input = Input { bytes: chunk, at: 0 };
    // Elements of a top-level array that are still to come.
    let mut elements = 0;
    while input.at < chunk.len() && !maker.is_full() {
        let start = input.at;
        if elements == 0
            && let Some(count) = input.array_head()
        {
            elements = count;
            continue;
        }
        elements = elements.saturating_sub(1);
        match input.skip(1) {
            Ok(()) => {
                let mut value = Input { bytes: &chunk[..input.at], at: start };
                maker.make(start..input.at, |event| value.event(event));
            }
            Err(reason) => return maker.refuse(start..chunk.len(), reason),
        }
    }
    if elements > 0 && !maker.is_full() {
        maker.refuse(chunk.len()..chunk.len(), CUT_OFF.to_owned());
    }
}

const CUT_OFF: &str = "cut off";

/// Bytes of the first value, if it is whole.
pub fn value_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut input = Input { bytes, at: 0 };
    match input.skip(1) {
        Ok(()) => Ok(Some(input.at)),
        Err(reason) if reason == CUT_OFF => Ok(None),
        Err(reason) => Err(reason),
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A value's head: what it is and how long.
enum Head {
    Nil,
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(usize),
    Binary(usize),
    Array(usize),
    Map(usize),
    Extension(i8, usize),
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes[self.at..].get(..len).ok_or(CUT_OFF)?;
        self.at += len;
        Ok(taken)
    }

    /// An unsigned number of so many bytes, most significant first.
    fn number(&mut self, len: usize) -> Result<u64, String> {
        Ok(self.take(len)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, len: usize) -> Result<usize, String> {
        Ok(self.number(len)? as usize)
    }

    fn extension(&mut self, len: usize) -> Result<Head, String> {
        Ok(Head::Extension(self.number(1)? as i8, len))
    }

    fn head(&mut self) -> Result<Head, String> {
        let first = self.number(1)? as u8;
        Ok(match first {
            0x00..=0x7F => Head::Unsigned(first.into()),
            0x80..=0x8F => Head::Map(usize::from(first & 0x0F)),
            0x90..=0x9F => Head::Array(usize::from(first & 0x0F)),
            0xA0..=0xBF => Head::Text(usize::from(first & 0x1F)),
            0xC0 => Head::Nil,
            0xC1 => return Err("a byte that MessagePack never uses".to_owned()),
            0xC2 | 0xC3 => Head::Boolean(first == 0xC3),
            0xC4..=0xC6 => Head::Binary(self.length(1 << (first - 0xC4))?),
            0xC7..=0xC9 => {
                let len = self.length(1 << (first - 0xC7))?;
                self.extension(len)?
            }
            0xCA => Head::Float(f32::from_bits(self.number(4)? as u32).into()),
            0xCB => Head::Float(f64::from_bits(self.number(8)?)),
            0xCC..=0xCF => Head::Unsigned(self.number(1 << (first - 0xCC))?),
            0xD0 => Head::Signed((self.number(1)? as i8).into()),
            0xD1 => Head::Signed((self.number(2)? as i16).into()),
            0xD2 => Head::Signed((self.number(4)? as i32).into()),
            0xD3 => Head::Signed(self.number(8)? as i64),
            0xD4..=0xD8 => self.extension(1 << (first - 0xD4))?,
            0xD9..=0xDB => Head::Text(self.length(1 << (first - 0xD9))?),
            0xDC | 0xDD => Head::Array(self.length(2 << (first - 0xDC))?),
            0xDE | 0xDF => Head::Map(self.length(2 << (first - 0xDE))?),
            0xE0..=0xFF => Head::Signed((first as i8).into()),
        })
    }

    /// The number of elements, if an array is next.
    fn array_head(&mut self) -> Option<usize> {
        let start = self.at;
        match self.head() {
            Ok(Head::Array(count)) => Some(count),
            _ => {
                self.at = start;
                None
            }
        }
    }

    /// Passes over so many values with all that is in them. Each takes a byte at least, which bounds the work.
    fn skip(&mut self, values: usize) -> Result<(), String> {
        let mut due = values as u64;
        while due > 0 {
            due -= 1;
            match self.head()? {
                Head::Text(len) | Head::Binary(len) | Head::Extension(_, len) => drop(self.take(len)?),
                Head::Array(count) => due += count as u64,
                Head::Map(count) => due += 2 * count as u64,
                _ => {}
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &mut Object) -> Result<(), String> {
        let Head::Map(count) = self.head()? else { return Err("not a map".to_owned()) };
        for _ in 0..count {
            let name = self.name()?;
            event.value(&name, |out, members| self.value(out, members, 1))?;
        }
        Ok(())
    }

    fn name(&mut self) -> Result<String, String> {
        Ok(match self.head()? {
            Head::Text(len) | Head::Binary(len) => String::from_utf8_lossy(self.take(len)?).into_owned(),
            Head::Unsigned(number) => number.to_string(),
            Head::Signed(number) => number.to_string(),
            _ => return Err("a key that is neither text nor number".to_owned()),
        })
    }

    /// Writes the next value, which stands in `depth` containers, as JSON.
    fn value(&mut self, out: &mut Vec<u8>, members: &mut usize, depth: usize) -> Result<(), String> {
        let head = self.head()?;
        if depth == MAX_DEPTH && matches!(head, Head::Array(_) | Head::Map(_) | Head::Extension(..)) {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        match head {
            Head::Nil => out.extend_from_slice(b"null"),
            Head::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Head::Unsigned(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Head::Signed(number) => out.extend_from_slice(number.to_string().as_bytes()),
            // JSON has no word for infinity and what is no number.
            Head::Float(number) if !number.is_finite() => out.extend_from_slice(b"null"),
            Head::Float(number) => out.extend_from_slice(format!("{number:?}").as_bytes()),
            Head::Text(len) => escape::push_string(out, &String::from_utf8_lossy(self.take(len)?)),
            Head::Binary(len) => push_base64(out, self.take(len)?),
            Head::Extension(-1, len) => push_time(out, self.take(len)?)?,
            Head::Extension(kind, len) => {
                *members += 2;
                out.extend_from_slice(format!("{{\"type\":{kind},\"data\":").as_bytes());
                push_base64(out, self.take(len)?);
                out.push(b'}');
            }
            Head::Array(count) => {
                out.push(b'[');
                for nth in 0..count {
                    if nth > 0 {
                        out.push(b',');
                    }
                    self.value(out, members, depth + 1)?;
                }
                out.push(b']');
            }
            Head::Map(count) => {
                out.push(b'{');
                for nth in 0..count {
                    if nth > 0 {
                        out.push(b',');
                    }
                    *members += 1;
                    escape::push_string(out, &self.name()?);
                    out.push(b':');
                    self.value(out, members, depth + 1)?;
                }
                out.push(b'}');
            }
        }
        Ok(())
    }
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    escape::push_string(out, &STANDARD.encode(bytes));
}

/// A timestamp in its three lengths: seconds, nanoseconds with seconds, and both apart.
fn push_time(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), String> {
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let (seconds, nanos) = match bytes.len() {
        4 => (number(bytes) as i64, 0),
        8 => ((number(bytes) & 0x3_FFFF_FFFF) as i64, number(bytes) >> 34),
        12 => (number(&bytes[4..]) as i64, number(&bytes[..4])),
        _ => return Err("a timestamp of unknown length".to_owned()),
    };
    // Beyond the year 9999 there is no RFC 3339.
    let micros = seconds.checked_mul(1_000_000).filter(|_| (-62_135_596_800..253_402_300_800).contains(&seconds));
    let micros = micros.ok_or("a timestamp out of range")? + (nanos / 1000).min(999_999) as i64;
    escape::push_string(out, &Timestamp(micros).to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{decode, document, texts};
    use super::*;

    const MAP: &[u8] = b"\x83\xa1a\xcb\x3f\xf8\0\0\0\0\0\0\xa1b\x93\xc0\xc3\xd0\xff\x07\xc4\x02\xfb\xff";

    #[test]
    fn maps_become_objects_one_after_another_or_in_an_array() {
        let object = r#"{"a":1.5,"b":[null,true,-1],"7":"+/8="}"#;
        let (events, refused) = document(&Msgpack, &[MAP, b"\x92", MAP, MAP, b"\x05"].concat());
        assert_eq!(events, [object; 3]);
        assert_eq!(refused, [(3, "not a map".to_owned())]);
    }

    #[test]
    fn times_numbers_and_text_keep_their_meaning() {
        let text = b"\x84\xa1t\xd6\xff\x3b\x9a\xca\x00\xa1n\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa1f\xcb\x7f\xf0\0\0\0\0\0\0\xa1s\xa2\"\xff";
        let (events, _) = document(&Msgpack, text);
        let expected =
            "{\"t\":\"2001-09-09T01:46:40.000Z\",\"n\":18446744073709551615,\"f\":null,\"s\":\"\\\"\u{fffd}\"}";
        assert_eq!(events, [expected]);
    }

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "one frame")]
    fn what_is_cut_off_or_too_deep_is_refused() {
        let decoded = decode(&Msgpack, &MAP[..10], Frames::At(vec![0..10]), Ordinals::Count(0), true);
        assert_eq!(decoded.refused[0].reason, CUT_OFF);
        let deep = [b"\x81\xa1a".as_slice(), &[0x91; 70], b"\x01"].concat();
        let (_, refused) = document(&Msgpack, &deep);
        assert_eq!(refused[0].1, "nested deeper than 64 levels");
        let (_, refused) = document(&Msgpack, b"\xdd\xff\xff\xff\xff\x80");
        assert_eq!(refused, [(1, CUT_OFF.to_owned())]);
        let decoded = decode(&Msgpack, MAP, Frames::At(vec![0..MAP.len()]), Ordinals::Count(7), true);
        assert_eq!((texts(&decoded.batch).len(), decoded.batch.ordinal(0)), (1, 7));
    }
}
