//! Builds JSON events from formats that are not JSON.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Decoded, Frames, Limits, Ordinals, Refusal, frames, too_large, too_many};
use crate::event::scan::{MAX_DEPTH, MAX_KEYS};
use crate::event::{Batch, Provenance, Scanner, escape};

/// Makes an event of every frame: `write` fills an object from it, or says why it can not.
pub fn each_frame(
    chunk: &Bytes,
    frames: &Frames,
    ordinals: Ordinals,
    limits: &Limits,
    mut write: impl FnMut(&[u8], &mut Object) -> Result<(), String>,
) -> Maker {
    let mut maker = Maker::new(chunk, ordinals, *limits, *frames == Frames::Document);
    for range in frames::cut(chunk, frames) {
        let inside = frames::without_mark(chunk, range.clone(), &maker.ordinals);
        maker.make(range, |object| write(&chunk[inside], object));
        if maker.is_full() {
            break;
        }
    }
    maker
}

/// The events made so far, one JSON line each.
pub struct Maker {
    chunk: Bytes,
    ordinals: Ordinals,
    limits: Limits,
    /// Whether the number of values is bounded.
    is_document: bool,
    out: Vec<u8>,
    made: Vec<(Range<usize>, u64)>,
    refused: Vec<Refusal>,
    items: u64,
}

impl Maker {
    pub fn new(chunk: &Bytes, ordinals: Ordinals, limits: Limits, is_document: bool) -> Maker {
        Maker {
            chunk: chunk.clone(),
            ordinals,
            limits,
            is_document,
            out: Vec::with_capacity(chunk.len() + chunk.len() / 4),
            made: Vec::new(),
            refused: Vec::new(),
            items: 0,
        }
    }

    /// Makes one event of the item at `range`, or refuses it.
    pub fn make(&mut self, range: Range<usize>, write: impl FnOnce(&mut Object) -> Result<(), String>) {
        if range.len() > self.limits.event_bytes {
            return self.refuse(range, too_large(self.limits.event_bytes));
        }
        self.make_any(range, write);
    }

    /// Makes one event of the item at `range`, of which `write` takes no more than fits, or refuses it.
    pub fn make_any(&mut self, range: Range<usize>, write: impl FnOnce(&mut Object) -> Result<(), String>) {
        let start = self.out.len();
        let mut object = Object { out: &mut self.out, members: 0, depth: 1, is_first: true };
        object.out.push(b'{');
        let written = write(&mut object).and_then(|()| match object.members {
            0..=MAX_KEYS => Ok(()),
            _ => Err(format!("more than {MAX_KEYS} members")),
        });
        if let Err(reason) = written {
            self.out.truncate(start);
            return self.refuse(range, reason);
        }
        self.out.push(b'}');
        let ordinal = self.ordinals.of(self.items, range.start);
        self.made.push((start..self.out.len(), ordinal));
        self.out.push(b'\n');
        self.items += 1;
    }

    pub fn ordinals(&self) -> &Ordinals {
        &self.ordinals
    }

    pub fn refuse(&mut self, range: Range<usize>, reason: String) {
        let (index, offset) = (self.items, range.start as u64);
        self.refused.push(Refusal { index, offset, text: self.chunk.slice(range), reason });
        self.items += 1;
    }

    pub fn is_full(&self) -> bool {
        self.is_document && self.items > self.limits.values as u64
    }

    pub fn finish(mut self, provenance: Arc<Provenance>, split: bool) -> Decoded {
        if self.is_full() {
            self.made.clear();
            self.refused.clear();
            self.items = 0;
            self.refuse(0..self.chunk.len(), too_many(self.limits.values));
        }
        let mut batch = Batch::new(Bytes::from(self.out), provenance);
        let (mut scanner, mut scratch) = (Scanner::new(), Vec::new());
        for (range, ordinal) in self.made {
            if split {
                let pushed = batch.push_split(range, ordinal, &mut scanner, &mut scratch);
                pushed.expect("an object writes valid JSON within the bounds of an event");
            } else {
                batch.push_validated(range, ordinal);
            }
        }
        Decoded { batch, refused: self.refused, items: self.items }
    }
}

/// An event being written. Whatever is called on it in whatever order, its text stays valid JSON.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    members: usize,
    depth: usize,
    is_first: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        self.members += 1;
        escape::push_string(self.out, name);
        self.out.push(b':');
    }

    pub fn string(&mut self, name: &str, text: &str) {
        self.name(name);
        escape::push_string(self.out, text);
    }

    /// Bytes that should be UTF-8: where they are not, each broken part becomes U+FFFD and `encoding_error` is set
    /// beside it.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) {
        match String::from_utf8_lossy(bytes) {
            std::borrow::Cow::Borrowed(text) => self.string(name, text),
            std::borrow::Cow::Owned(text) => {
                self.string(name, &text);
                self.boolean("encoding_error", true);
            }
        }
    }

    pub fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Whether one more object or array may be opened.
    pub fn may_nest(&self) -> bool {
        self.depth < MAX_DEPTH
    }

    /// A member that is an object, filled by `write`.
    pub fn object<T>(&mut self, name: &str, write: impl FnOnce(&mut Object) -> T) -> T {
        self.name(name);
        assert!(self.may_nest(), "a decoder asks before it nests");
        self.out.push(b'{');
        let mut inner = Object { out: self.out, members: self.members, depth: self.depth + 1, is_first: true };
        let result = write(&mut inner);
        self.members = inner.members;
        self.out.push(b'}');
        result
    }

    /// A member whose value is written as JSON by `write`, with so many further members inside.
    pub fn value<T>(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>, &mut usize) -> T) -> T {
        self.name(name);
        write(self.out, &mut self.members)
    }
}
