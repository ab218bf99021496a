//! JSON: one object per frame, or a document of objects, arrays and NDJSON.
//!
//! Events stay where they came in: the batch is over the chunk itself. Only where an object spans lines the chunk is
//! copied once, its line breaks turned into spaces at the same offsets.
//!
//! Values may follow each other without white space, in a document and in a frame. A broken value is refused up to the
//! end of the line it starts on; a broken array as a whole, up to its matching bracket, or the rest where there is none.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Decoded, Decoder, Frames, Limits, Ordinals, Refusal, frames, too_large, too_many};
use crate::event::scan::{Member, Reason, Unfit};
use crate::event::{Batch, Provenance, Scanner};

const NO_OBJECT: &str = "not a JSON object";

pub struct Json;

impl Decoder for Json {
    fn decode(
        &self,
        chunk: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded {
        let decoded = decode(&chunk, frames, &ordinals, None, provenance.clone(), limits, split);
        let is_broken = |refusal: &Refusal| std::str::from_utf8(&refusal.text).is_err();
        if decoded.refused.iter().any(is_broken) {
            repair(&chunk, frames, &ordinals, provenance, limits, split)
        } else {
            decoded
        }
    }
}

fn decode(
    chunk: &Bytes,
    frames: &Frames,
    ordinals: &Ordinals,
    repaired: Option<Repaired>,
    provenance: Arc<Provenance>,
    limits: &Limits,
    split: bool,
) -> Decoded {
    let batch = Batch::new(chunk.clone(), provenance);
    let mut reader = Reader {
        chunk,
        ordinals,
        repaired,
        limits: *limits,
        split,
        scanner: Scanner::new(),
        members: Vec::new(),
        end: chunk.len(),
        out: Decoded { batch, refused: Vec::new(), items: 0 },
        broken_lines: Vec::new(),
    };
    match frames {
        Frames::Document => reader.values(frames::without_mark(chunk, 0..chunk.len(), ordinals).start),
        _ => {
            // How many there are is bounded by the length of a frame.
            reader.limits.values = usize::MAX;
            reader.frames(frames);
        }
    }
    if *frames == Frames::Document && reader.is_full() {
        reader.refuse_all();
    }
    reader.finish()
}

/// Text that lies elsewhere than it came in: where now, and where it was.
struct Moved {
    now: usize,
    was: usize,
}

/// What a chunk was before it was repaired.
struct Repaired {
    original: Bytes,
    moved: Vec<Moved>,
}

/// Decodes text that is not UTF-8 everywhere: each broken part becomes U+FFFD, and the event says so.
fn repair(
    chunk: &Bytes,
    frames: &Frames,
    ordinals: &Ordinals,
    provenance: Arc<Provenance>,
    limits: &Limits,
    split: bool,
) -> Decoded {
    let (mut text, mut moved, mut at) = (String::new(), Vec::new(), Vec::new());
    let ranges: Vec<Range<usize>> = match frames {
        Frames::Document => std::iter::once(0..chunk.len()).collect(),
        _ => frames::cut(chunk, frames).map(|range| frames::without_mark(chunk, range, ordinals)).collect(),
    };
    for range in ranges {
        let start = text.len();
        let end = range.end;
        push_repaired(&chunk[range.clone()], range.start, &mut text, &mut moved);
        moved.push(Moved { now: text.len(), was: end });
        // Lines stay lines, of which empty ones are no events.
        if *frames != Frames::Lines || !text[start..].trim_ascii().is_empty() {
            at.push(start..text.len());
        }
        text.push('\n');
    }
    if *frames == Frames::Document {
        text.pop();
    }
    let (text, repaired) = (Bytes::from(text.into_bytes()), Repaired { original: chunk.clone(), moved });
    let frames = if *frames == Frames::Document { Frames::Document } else { Frames::At(at) };
    let mut decoded = decode(&text, &frames, ordinals, Some(repaired), provenance, limits, split);
    let batch = &mut decoded.batch;
    let broken: Vec<usize> = (0..batch.len())
        .filter(|event| memchr::memmem::find(&batch.input()[batch.span(*event)], REPLACEMENT).is_some())
        .collect();
    if !broken.is_empty() {
        batch.split_all();
        let name = batch.name_id("encoding_error");
        broken.into_iter().for_each(|event| batch.set_json(event, name, b"true"));
    }
    decoded
}

/// Appends text with U+FFFD for what is none, and notes where each part came from.
fn push_repaired(bytes: &[u8], mut was: usize, out: &mut String, moved: &mut Vec<Moved>) {
    for chunk in bytes.utf8_chunks() {
        moved.push(Moved { now: out.len(), was });
        out.push_str(chunk.valid());
        was += chunk.valid().len();
        if !chunk.invalid().is_empty() {
            moved.push(Moved { now: out.len(), was });
            out.push(char::REPLACEMENT_CHARACTER);
            was += chunk.invalid().len();
        }
    }
}

/// U+FFFD.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

struct Reader<'a> {
    chunk: &'a Bytes,
    ordinals: &'a Ordinals,
    repaired: Option<Repaired>,
    limits: Limits,
    split: bool,
    scanner: Scanner,
    members: Vec<Member>,
    /// Of what is read now, a document or a frame.
    end: usize,
    out: Decoded,
    /// Events with line breaks between their tokens.
    broken_lines: Vec<Range<usize>>,
}

impl<'a> Reader<'a> {
    fn frames(&mut self, frames: &Frames) {
        for range in frames::cut(self.chunk, frames) {
            let range = trim(self.chunk, frames::without_mark(self.chunk, range, self.ordinals));
            if range.is_empty() && *frames == Frames::Lines {
                continue;
            }
            self.frame(range, frames);
        }
    }

    fn frame(&mut self, range: Range<usize>, frames: &Frames) {
        let chunk = self.chunk;
        let text = &chunk[range.clone()];
        if text.len() > self.limits.event_bytes {
            return self.refuse(range, too_large(self.limits.event_bytes));
        }
        match self.scan(text, Scanner::split, Scanner::validate) {
            Err(unfit) if !self.begins_with_a_value(text) => self.refuse(range, unfit.to_string()),
            Ok(()) if !matches!(text[0], b'{' | b'[') => self.refuse(range, NO_OBJECT.to_owned()),
            // A line has no line break in it.
            Ok(()) if *frames == Frames::Lines && text[0] == b'{' => self.enter(range),
            Ok(()) if text[0] == b'{' => self.accept(range),
            _ => {
                self.end = range.end;
                self.values(range.start);
            }
        }
    }

    /// Whether a frame that is not one value is several, as some senders write them, or an array.
    fn begins_with_a_value(&mut self, text: &[u8]) -> bool {
        match text.first() {
            Some(b'[') => true,
            Some(b'{') => self.scanner.prefix(text).is_ok_and(|len| ends_value(text.get(len))),
            _ => false,
        }
    }

    /// Scans with the members kept if fields are wanted.
    fn scan<T>(
        &mut self,
        text: &[u8],
        split: impl Fn(&mut Scanner, &[u8], &mut Vec<Member>) -> Result<T, Unfit>,
        validate: impl Fn(&mut Scanner, &[u8]) -> Result<T, Unfit>,
    ) -> Result<T, Unfit> {
        if !self.split {
            return validate(&mut self.scanner, text);
        }
        self.members.clear();
        split(&mut self.scanner, text, &mut self.members)
    }

    /// Length of the value at the head of `text`.
    fn prefix(&mut self, text: &[u8]) -> Result<usize, Unfit> {
        self.scan(text, |scanner, text, members| scanner.prefix_split(text, Some(members)), Scanner::prefix)
    }

    /// Takes the object just scanned.
    fn accept(&mut self, range: Range<usize>) {
        if memchr::memchr(b'\n', &self.chunk[range.clone()]).is_some() {
            self.broken_lines.push(range.clone());
        }
        self.enter(range);
    }

    fn enter(&mut self, range: Range<usize>) {
        let ordinal = self.ordinals.of(self.out.items, self.origin(range.start));
        if self.split {
            self.out.batch.push_members(range, ordinal, &self.members);
        } else {
            self.out.batch.push_scanned(range, ordinal, &self.scanner);
        }
        self.out.items += 1;
    }

    fn refuse(&mut self, range: Range<usize>, reason: String) {
        let (index, origin) = (self.out.items, self.origin(range.start)..self.origin(range.end));
        let original = self.repaired.as_ref().map_or(self.chunk, |repaired| &repaired.original);
        let (offset, text) = (origin.start as u64, original.slice(origin));
        self.out.refused.push(Refusal { index, offset, text, reason });
        self.out.items += 1;
    }

    /// Where in its origin a place in the chunk lies.
    fn origin(&self, at: usize) -> usize {
        let Some(repaired) = &self.repaired else { return at };
        let behind = repaired.moved.partition_point(|moved| moved.now <= at);
        let Some(moved) = behind.checked_sub(1).and_then(|nth| repaired.moved.get(nth)) else { return at };
        (moved.was + (at - moved.now)).min(repaired.original.len())
    }

    fn skip_space(&self, at: usize) -> usize {
        self.chunk[at..self.end].iter().position(|byte| !is_space(*byte)).map_or(self.end, |n| at + n)
    }

    fn is_full(&self) -> bool {
        self.out.items > self.limits.values as u64
    }

    /// Takes values one after another, from `at` to the end.
    fn values(&mut self, mut at: usize) {
        let mut line_end = 0;
        loop {
            at = self.skip_space(at);
            if at == self.end || self.is_full() {
                return;
            }
            // The end of a line is looked for once, and a whole line is tried once, at its start: a line may hold
            // millions of values.
            let fresh_line = at >= line_end;
            if fresh_line {
                line_end = memchr::memchr(b'\n', &self.chunk[at..self.end]).map_or(self.end, |n| at + n);
            }
            let line = trim(self.chunk, at..line_end);
            let first = self.chunk[at];
            if fresh_line && first == b'{' && self.line(line.clone()) {
                at = line_end;
            } else if first == b'[' {
                at = self.array(at);
            } else {
                at = self.value(at, line);
            }
        }
    }

    /// Takes a line that is one object, as in NDJSON.
    fn line(&mut self, line: Range<usize>) -> bool {
        let chunk = self.chunk;
        let text = &chunk[line.clone()];
        let fits = text.ends_with(b"}")
            && text.len() <= self.limits.event_bytes
            && self.scan(text, Scanner::split, Scanner::validate).is_ok();
        if fits {
            self.accept(line);
        }
        fits
    }

    /// Takes or refuses the value at `at`, of whose line `line` is the rest; tells where to go on.
    fn value(&mut self, at: usize, line: Range<usize>) -> usize {
        let chunk = self.chunk;
        let text = &chunk[at..self.end];
        match self.prefix(text) {
            Ok(len) if ends_value(text.get(len)) => {
                self.object(at..at + len);
                at + len
            }
            Ok(len) => {
                let unfit = Unfit { offset: len, reason: Reason::Trailing };
                self.refuse(line.clone(), unfit.to_string());
                line.end
            }
            Err(unfit) => {
                self.refuse(line.clone(), unfit.to_string());
                line.end
            }
        }
    }

    /// Takes the value just scanned if it is an object of acceptable size.
    fn object(&mut self, range: Range<usize>) {
        if self.chunk[range.start] != b'{' {
            self.refuse(range, NO_OBJECT.to_owned());
        } else if range.len() > self.limits.event_bytes {
            self.refuse(range, too_large(self.limits.event_bytes));
        } else {
            self.accept(range);
        }
    }

    /// Takes the objects of the array at `at`, or refuses it whole; tells where to go on.
    fn array(&mut self, at: usize) -> usize {
        let before = (self.out.batch.len(), self.out.refused.len(), self.out.items, self.broken_lines.len());
        match self.elements(at) {
            Ok(end) => end,
            Err(unfit) => {
                self.out.batch.truncate(before.0);
                self.out.refused.truncate(before.1);
                self.out.items = before.2;
                self.broken_lines.truncate(before.3);
                let end = at + brackets_end(&self.chunk[at..self.end]);
                self.refuse(at..end, unfit.to_string());
                end
            }
        }
    }

    fn elements(&mut self, open: usize) -> Result<usize, Unfit> {
        let text: &'a [u8] = &self.chunk[..self.end];
        let fail = |at: usize, reason| Err(Unfit { offset: at - open, reason });
        let mut at = self.skip_space(open + 1);
        if text.get(at) != Some(&b']') {
            loop {
                let start = self.skip_space(at);
                let len = self.prefix(&text[start..]);
                let len = len.map_err(|unfit| Unfit { offset: unfit.offset + start - open, ..unfit })?;
                self.object(start..start + len);
                if self.is_full() {
                    return Ok(self.end);
                }
                at = self.skip_space(start + len);
                match text.get(at) {
                    Some(b',') => at += 1,
                    Some(b']') => break,
                    Some(_) => return fail(at, Reason::ExpectedCommaOrEnd),
                    None => return fail(at, Reason::Unclosed),
                }
            }
        }
        at += 1;
        if ends_value(text.get(at)) { Ok(at) } else { fail(at, Reason::Trailing) }
    }

    /// A larger request is refused as a whole, with the request to send less.
    fn refuse_all(&mut self) {
        self.out.batch.truncate(0);
        self.broken_lines.clear();
        self.out.refused.clear();
        self.out.items = 0;
        self.refuse(0..self.chunk.len(), too_many(self.limits.values));
    }

    fn finish(self) -> Decoded {
        let mut out = self.out;
        if !self.broken_lines.is_empty() {
            let mut joined = self.chunk.to_vec();
            for range in self.broken_lines {
                for byte in &mut joined[range] {
                    // Inside strings a raw line break is not valid, so these stand between tokens.
                    if matches!(byte, b'\n' | b'\r') {
                        *byte = b' ';
                    }
                }
            }
            out.batch.replace_input(Bytes::from(joined));
        }
        out
    }
}

/// Where the bracket that `text` begins with is matched; all of it where it never is. The text may be anything: a
/// backslash may be its last byte.
fn brackets_end(text: &[u8]) -> usize {
    let (mut depth, mut in_string, mut at) = (0usize, false, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if in_string => at += 1,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether a value ends in front of this: white space, the end, or the next object or array.
fn ends_value(byte: Option<&u8>) -> bool {
    byte.is_none_or(|byte| is_space(*byte) || matches!(byte, b'{' | b'['))
}

/// The range without white space at its ends.
fn trim(text: &[u8], mut range: Range<usize>) -> Range<usize> {
    while !range.is_empty() && is_space(text[range.end - 1]) {
        range.end -= 1;
    }
    while !range.is_empty() && is_space(text[range.start]) {
        range.start += 1;
    }
    range
}

#[cfg(test)]
#[path = "json/tests.rs"]
mod tests;
