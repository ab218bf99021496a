//! An open group of `reduce`: its first event, and the merged fields so far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::event::object::Rewrite;
use crate::event::{Batch, Kind, Raw, Seed, escape, names};
use crate::toolkit::Held;
use crate::toolkit::held::{made, put_time, take_time};
use crate::units::Timestamp;
use crate::varint::{put_bytes, put_varint, take_bytes, take_varint};

/// The most bytes of a group; a larger one is emitted.
const MAX_BYTES: usize = 64 * 1024;
/// The first byte of a value, so that a later format can be distinguished.
const FORMAT: u8 = 1;

/// How values of one field are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Merge {
    /// The first value.
    First,
    /// The last value.
    Last,
    /// The sum of all numbers.
    Sum,
    /// The least number.
    Min,
    /// The greatest number.
    Max,
    /// How many events have the field.
    Count,
    /// All texts, each on a line of its own.
    Concat,
    /// All values as a list.
    Array,
}

/// When a group ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub window: Duration,
    pub idle: Option<Duration>,
    pub events: u64,
}

/// An open group.
pub struct Group {
    first: Held,
    last_at: Timestamp,
    pub count: u64,
    /// Values of merged fields beyond those of the first event, as a list of JSON texts.
    values: BTreeMap<String, Vec<Bytes>>,
    /// Members that the first event does not have, as they came first.
    added: BTreeMap<String, Bytes>,
    bytes: usize,
}

impl Group {
    pub fn begin(first: Held) -> Group {
        let (last_at, bytes) = (first.received_at, first.line.len());
        Group { first, last_at, count: 1, values: BTreeMap::new(), added: BTreeMap::new(), bytes }
    }

    pub fn is_full(&self) -> bool {
        self.bytes > MAX_BYTES
    }

    pub fn due(&self, limits: &Limits) -> Timestamp {
        let end = self.first.received_at.plus(limits.window);
        limits.idle.map_or(end, |idle| end.min(self.last_at.plus(idle)))
    }

    pub fn add(&mut self, event: &Held, merge: &BTreeMap<String, Merge>) {
        self.count += 1;
        self.last_at = self.last_at.max(event.received_at);
        for (name, value) in event.json().members() {
            let name = escape::unescape(name).into_owned();
            let kept = Bytes::copy_from_slice(value.as_bytes());
            match merge.get(&name) {
                Some(Merge::First) | None => {
                    let is_new = self.first.json().get(&name).is_none() && !self.added.contains_key(&name);
                    if is_new && name != "metadata" {
                        self.bytes += name.len() + kept.len();
                        self.added.insert(name, kept);
                    }
                }
                Some(Merge::Count) => {
                    let values = self.values.entry(name).or_default();
                    let counted = values.first().map_or(0, |count| Raw::valid(count).as_i64().unwrap_or(0));
                    *values = vec![(counted + 1).to_string().into()];
                }
                Some(merge) => {
                    let values = self.values.entry(name).or_default();
                    self.bytes += kept.len();
                    values.push(kept);
                    if !matches!(merge, Merge::Concat | Merge::Array) && values.len() > 1 {
                        // Of these only one value has to be kept.
                        let one = fold(*merge, values.iter().map(|value| Raw::valid(value)));
                        self.bytes -= values.iter().map(Bytes::len).sum::<usize>();
                        self.bytes += one.len();
                        *values = vec![one.into()];
                    }
                }
            }
        }
    }

    /// The event that it becomes.
    pub fn finish(self, merge: &BTreeMap<String, Merge>, source: &Arc<str>) -> Batch {
        let id = self.first.id();
        let seed = Seed::derive(&[b"reduce", &id.0.to_be_bytes(), &self.count.to_le_bytes()]);
        let mut batch = made(self.first.line.to_vec(), seed, self.first.received_at, source);
        for (name, value) in &self.added {
            if !merge.contains_key(name) {
                let name = batch.name_id(name);
                batch.set_json(0, name, value);
            }
        }
        for (name, merge) in merge {
            let field = batch.name_id(name);
            let first = self.first.json().get(name);
            let later = self.values.get(name).into_iter().flatten().map(|value| Raw::valid(value));
            let all: Vec<Raw<'_>> = first.into_iter().chain(later).collect();
            if all.is_empty() {
                continue;
            }
            let folded = match merge {
                Merge::Count => self.counted(name, first.is_some()),
                merge => fold(*merge, all.into_iter()),
            };
            batch.set_json(0, field, &folded);
        }
        let mut metadata = Rewrite::default();
        metadata.begin(batch.get(0, names::METADATA), "value");
        let reduced = format!(
            "{{\"count\":{},\"first\":\"{}\",\"last\":\"{}\"}}",
            self.count, self.first.received_at, self.last_at
        );
        metadata.set("reduced", Raw::valid(reduced.as_bytes()));
        let metadata = metadata.finish().to_vec();
        batch.set_json(0, names::METADATA, &metadata);
        batch
    }

    /// How many events had the field: the later ones were counted as they came.
    fn counted(&self, name: &str, in_first: bool) -> Vec<u8> {
        let later = self.values.get(name).and_then(|values| Raw::valid(values.first()?).as_i64()).unwrap_or(0);
        (later + i64::from(in_first)).to_string().into_bytes()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        self.first.encode(&mut out);
        put_time(&mut out, self.last_at);
        put_varint(&mut out, self.count);
        put_varint(&mut out, self.bytes as u64);
        put_varint(&mut out, self.values.len() as u64);
        for (name, values) in &self.values {
            put_bytes(&mut out, name.as_bytes());
            put_varint(&mut out, values.len() as u64);
            values.iter().for_each(|value| put_bytes(&mut out, value));
        }
        put_varint(&mut out, self.added.len() as u64);
        for (name, value) in &self.added {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, value);
        }
        out
    }

    /// `None` for what another version has written.
    pub fn decode(value: &Bytes) -> Option<Group> {
        let (format, mut from) = value.split_first()?;
        if *format != FORMAT {
            return None;
        }
        let first = Held::decode(value, &mut from)?;
        let last_at = take_time(&mut from)?;
        let (count, bytes) = (take_varint(&mut from)?, take_varint(&mut from)? as usize);
        let mut group = Group { first, last_at, count, values: BTreeMap::new(), added: BTreeMap::new(), bytes };
        let text = |from: &mut &[u8]| String::from_utf8(take_bytes(from)?.to_vec()).ok();
        for _ in 0..take_varint(&mut from)? {
            let name = text(&mut from)?;
            let count = take_varint(&mut from)?;
            let values = (0..count).map(|_| Some(value.slice_ref(take_bytes(&mut from)?)));
            group.values.insert(name, values.collect::<Option<Vec<Bytes>>>()?);
        }
        for _ in 0..take_varint(&mut from)? {
            let name = text(&mut from)?;
            group.added.insert(name, value.slice_ref(take_bytes(&mut from)?));
        }
        Some(group)
    }
}

/// Several values as one.
fn fold<'v>(merge: Merge, values: impl Iterator<Item = Raw<'v>>) -> Vec<u8> {
    let mut values = values.peekable();
    let first = values.peek().copied();
    let or_first = |found: Option<Raw<'v>>| found.or(first).map_or_else(|| b"null".to_vec(), |v| v.as_bytes().to_vec());
    match merge {
        Merge::First => or_first(None),
        Merge::Last => or_first(values.last()),
        Merge::Sum => sum(values),
        Merge::Min | Merge::Max => {
            let numbers = values.filter_map(|value| Some((value, value.as_f64()?)));
            let better = |a: f64, b: f64| if merge == Merge::Min { a < b } else { a > b };
            or_first(
                numbers.reduce(|best, next| if better(next.1, best.1) { next } else { best }).map(|(value, _)| value),
            )
        }
        Merge::Count => values.count().to_string().into_bytes(),
        Merge::Concat => {
            let mut text = String::new();
            for value in values.filter(|value| !value.is_null()) {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&value.display());
            }
            let mut out = Vec::new();
            escape::push_string(&mut out, &text);
            out
        }
        Merge::Array => {
            let mut out = vec![b'['];
            for (nth, value) in values.enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(value.as_bytes());
            }
            out.push(b']');
            out
        }
    }
}

/// Exact as long as all numbers are integers that fit.
fn sum<'v>(values: impl Iterator<Item = Raw<'v>>) -> Vec<u8> {
    let (mut whole, mut real) = (Some(0_i64), 0.0);
    for value in values.filter(|value| value.kind() == Kind::Number) {
        real += value.as_f64().unwrap_or(0.0);
        whole = whole.zip(value.as_i64()).and_then(|(whole, value)| whole.checked_add(value));
    }
    match whole {
        Some(whole) => whole.to_string().into_bytes(),
        None => serde_json::to_vec(&real).unwrap_or_else(|_| b"null".to_vec()),
    }
}
