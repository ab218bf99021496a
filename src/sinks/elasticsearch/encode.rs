//! Encodes the body of a bulk request: an action line and a document per event.

use bytes::Bytes;

use crate::codec::mapping::{ecs, push_time};
use crate::codec::name::NameTemplate;
use crate::component::{BatchEvent, Failure, WriteBatch};
use crate::event::raw::name_is;
use crate::event::{Id, Raw};
use crate::net::compress::Compression;

/// What an event grows by: its action line and its `@timestamp`.
const ADDED_BYTES: usize = 160;

/// What documents look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The event's line, with `@timestamp` before its members.
    Line,
    Ecs,
}

pub struct Encoder {
    pub names: NameTemplate,
    pub shape: Shape,
    pub compression: Compression,
}

impl Encoder {
    /// The body as it is sent; events that no index can be named for are poison.
    pub fn encode(&self, batch: &WriteBatch) -> Result<Bytes, Failure> {
        Ok(self.compression.compress(self.body(batch)?.into()))
    }

    /// Where an event goes, if they do not all go to the same index.
    pub fn index_of(&self, event: BatchEvent<'_>) -> Option<String> {
        let timestamp = Look::at(event.json()).timestamp;
        Index::new(&self.names).of(event, timestamp).ok()?.map(str::to_owned)
    }

    /// The body before it is compressed.
    pub fn body(&self, batch: &WriteBatch) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::with_capacity(batch.bytes() + batch.len() * ADDED_BYTES);
        let mut index = Index::new(&self.names);
        let mut failures = Vec::new();
        for (nth, event) in batch.events().enumerate() {
            let look = Look::at(event.json());
            let name = match index.of(event, look.timestamp) {
                Ok(name) => name,
                Err(answer) => {
                    failures.push((nth, Failure::poison(answer)));
                    continue;
                }
            };
            push_action(&mut out, name, event.id_from(look.id));
            match self.shape {
                Shape::Line => push_line(&mut out, event, &look),
                Shape::Ecs => ecs::append(event.json(), Some(event.record.received_at), &mut out),
            }
            out.push(b'\n');
        }
        if failures.is_empty() { Ok(out) } else { Err(Failure::some(failures)) }
    }
}

/// What encoding wants to know of an event, found in one pass over its members.
#[derive(Default)]
struct Look<'a> {
    id: Option<Raw<'a>>,
    timestamp: Option<Raw<'a>>,
    /// Whether there is an `@timestamp` already.
    has_own_time: bool,
    is_empty: bool,
}

impl<'a> Look<'a> {
    fn at(event: Raw<'a>) -> Look<'a> {
        let mut look = Look { is_empty: true, ..Look::default() };
        for (key, value) in event.members() {
            look.is_empty = false;
            // The length tells nearly all other names apart; those with escapes are longer than they look.
            match key.len() {
                2 if key == b"id" => look.id = Some(value),
                9 if key == b"timestamp" => look.timestamp = Some(value),
                10 if key == b"@timestamp" => look.has_own_time = true,
                7.. if memchr::memchr(b'\\', key).is_some() => match () {
                    () if name_is(key, "id") => look.id = Some(value),
                    () if name_is(key, "timestamp") => look.timestamp = Some(value),
                    () => look.has_own_time |= name_is(key, "@timestamp"),
                },
                _ => {}
            }
        }
        look
    }
}

/// The index of one event after another; events of the same day mostly have the same.
struct Index<'a> {
    names: &'a NameTemplate,
    time_bytes: Option<usize>,
    /// The name that was rendered last, and the time it was rendered for.
    last: Option<(String, Vec<u8>)>,
    rendered: String,
}

impl<'a> Index<'a> {
    fn new(names: &'a NameTemplate) -> Index<'a> {
        Index { names, time_bytes: names.time_bytes(), last: None, rendered: String::new() }
    }

    /// `None` where the request's address names it.
    fn of(&mut self, event: BatchEvent<'_>, timestamp: Option<Raw<'_>>) -> Result<Option<&str>, String> {
        if self.names.constant().is_some() {
            return Ok(None);
        }
        let mut time = Vec::with_capacity(40);
        push_time(timestamp, Some(event.record.received_at), &mut time);
        match self.time_bytes {
            // The quote before the time counts.
            Some(bytes) => {
                let decisive = &time[..=bytes];
                if self.last.as_ref().is_none_or(|(_, last)| last != decisive) {
                    let name = self.names.render_with(|_| Some(Raw::valid(&time)))?;
                    self.last = Some((name, decisive.to_vec()));
                }
                Ok(self.last.as_ref().map(|(name, _)| &**name))
            }
            None => {
                let json = event.json();
                self.rendered = self.names.render_with(|path| match path {
                    [name] if name == "timestamp" => Some(Raw::valid(&time)),
                    path => json.path(path),
                })?;
                Ok(Some(&self.rendered))
            }
        }
    }
}

fn push_action(out: &mut Vec<u8>, index: Option<&str>, id: Id) {
    out.extend_from_slice(b"{\"create\":{");
    if let Some(index) = index {
        // Names of indices hold nothing that JSON would escape.
        out.extend_from_slice(b"\"_index\":\"");
        out.extend_from_slice(index.as_bytes());
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"_id\":\"");
    push_id(out, id);
    out.extend_from_slice(b"\"}}\n");
}

/// The id as it is displayed, without the machinery of formatting.
fn push_id(out: &mut Vec<u8>, id: Id) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (nth, byte) in id.0.to_be_bytes().into_iter().enumerate() {
        if matches!(nth, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

fn push_line(out: &mut Vec<u8>, event: BatchEvent<'_>, look: &Look<'_>) {
    if look.has_own_time {
        return out.extend_from_slice(event.line());
    }
    out.extend_from_slice(b"{\"@timestamp\":");
    push_time(look.timestamp, Some(event.record.received_at), out);
    if !look.is_empty {
        out.push(b',');
    }
    out.extend_from_slice(&event.line()[1..]);
}
