//! A batch: many events over a few shared buffers, with one flat table of fields for all of them.
//!
//! Invariants:
//! - A field's value is a span of valid JSON text, in `input` (untouched) or in `made` (set by a transform).
//! - An event that nobody touched renders as its own bytes; in one that was, untouched members are copied.
//! - `input` holds no raw line break inside an event: decoders that join lines replace them by spaces.
//! - Of several members with one name the last stands once the event is split; the others are gone.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::escape;
use super::id::{Id, Seed};
use super::lines::{Lines, Run};
use super::names::{KNOWN, NameId, known};
use super::raw::Raw;
use super::scan::{Member, Scanner, Unfit};
use crate::units::Timestamp;

/// What all events of a batch have in common: where they entered.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// Name of the source.
    pub source: Arc<str>,
    pub seed: Seed,
    pub received_at: Timestamp,
    /// The address the events were sent from.
    pub peer: Option<IpAddr>,
    pub stamp: Option<Arc<Stamp>>,
}

/// Who sent the events, as the door has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// A user's own token: every event is theirs, whatever it claims.
    User(String),
    /// A service that may speak for users: `reported_by` names it.
    Service(String),
}

#[derive(Clone, Copy, Debug)]
struct Event {
    start: u32,
    len: u32,
    /// First field in the table; meaningless until `split`.
    first: u32,
    count: u32,
    split: bool,
    edited: bool,
    ordinal: u64,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: NameId,
    /// Offset of the name's opening quote in `input`, or [`MADE`] for a name that a transform gave.
    key: u32,
    value: u32,
    len: u32,
    made: bool,
}

const MADE: u32 = u32::MAX;

/// Many events. Cloning shares the input and copies the tables.
#[derive(Clone, Debug)]
pub struct Batch {
    pub provenance: Arc<Provenance>,
    input: Bytes,
    made: Vec<u8>,
    events: Vec<Event>,
    fields: Vec<Field>,
    /// Names beyond [`KNOWN`], by number.
    names: Vec<Box<[u8]>>,
}

impl Batch {
    /// A batch without events over `input`.
    pub fn new(input: Bytes, provenance: Arc<Provenance>) -> Batch {
        assert!(input.len() < MADE as usize, "a piece is far smaller than 4 GiB");
        Batch { provenance, input, made: Vec::new(), events: Vec::new(), fields: Vec::new(), names: Vec::new() }
    }

    /// Adds the event at `range` of the input, which the caller has validated as one JSON object
    /// without white space around it.
    pub fn push_validated(&mut self, range: Range<usize>, ordinal: u64) {
        self.events.push(Event {
            start: range.start as u32,
            len: range.len() as u32,
            first: 0,
            count: 0,
            split: false,
            edited: false,
            ordinal,
        });
    }

    /// Validates the object at `range` and adds it split into its fields.
    pub fn push_split(
        &mut self,
        range: Range<usize>,
        ordinal: u64,
        scanner: &mut Scanner,
        scratch: &mut Vec<Member>,
    ) -> Result<(), Unfit> {
        scratch.clear();
        scanner.split(&self.input[range.clone()], scratch)?;
        self.push_validated(range, ordinal);
        let last = self.events.len() - 1;
        self.enter_members(last, scratch);
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The event's ordinal in its origin.
    pub fn ordinal(&self, event: usize) -> u64 {
        self.events[event].ordinal
    }

    /// The id that follows from where the event came from.
    pub fn derived_id(&self, event: usize) -> Id {
        self.provenance.seed.id(self.events[event].ordinal)
    }

    /// Bytes that this batch keeps in memory.
    pub fn pinned_bytes(&self) -> usize {
        self.input.len()
            + self.made.capacity()
            + self.events.capacity() * size_of::<Event>()
            + self.fields.capacity() * size_of::<Field>()
    }

    // --- names ---

    /// The number of a name in this batch, made if need be.
    pub fn name_id(&mut self, text: &str) -> NameId {
        self.intern(text.as_bytes(), None)
    }

    /// The number of a name, if any event of this batch may have it.
    pub fn find_name(&self, text: &str) -> Option<NameId> {
        known(text.as_bytes()).or_else(|| {
            let at = self.names.iter().position(|name| **name == *text.as_bytes())?;
            Some(NameId((KNOWN.len() + at) as u32))
        })
    }

    /// The decoded name behind a number.
    pub fn name(&self, id: NameId) -> &str {
        match KNOWN.get(id.0 as usize) {
            Some(name) => name,
            None => std::str::from_utf8(&self.names[id.0 as usize - KNOWN.len()]).expect("names are UTF-8"),
        }
    }

    fn name_bytes(&self, id: NameId) -> &[u8] {
        match KNOWN.get(id.0 as usize) {
            Some(name) => name.as_bytes(),
            None => &self.names[id.0 as usize - KNOWN.len()],
        }
    }

    /// `guess` is the name that stood at the same place in the event before.
    fn intern(&mut self, text: &[u8], guess: Option<NameId>) -> NameId {
        if let Some(guess) = guess
            && self.name_bytes(guess) == text
        {
            return guess;
        }
        if let Some(id) = known(text) {
            return id;
        }
        let at = self.names.iter().position(|name| **name == *text).unwrap_or_else(|| {
            self.names.push(text.into());
            self.names.len() - 1
        });
        NameId((KNOWN.len() + at) as u32)
    }

    // --- splitting ---

    /// Splits every event that is not split yet.
    pub fn split_all(&mut self) {
        let (mut scanner, mut scratch) = (Scanner::new(), Vec::new());
        for event in 0..self.events.len() {
            if self.events[event].split {
                continue;
            }
            scratch.clear();
            let Event { start, len, .. } = self.events[event];
            scanner
                .split(&self.input[start as usize..(start + len) as usize], &mut scratch)
                .expect("the event was validated when it entered the batch");
            self.enter_members(event, &scratch);
        }
    }

    fn enter_members(&mut self, event: usize, members: &[Member]) {
        let start = self.events[event].start;
        let first = self.fields.len();
        let shape = event
            .checked_sub(1)
            .map(|last| &self.events[last])
            .map_or(0..0, |e| e.first as usize..(e.first + e.count) as usize);
        let input = self.input.clone();
        let mut edited = false;
        for (nth, member) in members.iter().enumerate() {
            let from = (start + member.key + 1) as usize;
            let key = &input[from..from + member.key_len as usize];
            let guess = shape.clone().nth(nth).map(|at| self.fields[at].name);
            let name = if memchr::memchr(b'\\', key).is_some() {
                let decoded = escape::unescape(key).into_owned();
                self.intern(decoded.as_bytes(), guess)
            } else {
                self.intern(key, guess)
            };
            if let Some(twin) = self.fields[first..].iter().position(|field| field.name == name) {
                self.fields.remove(first + twin);
                edited = true;
            }
            self.fields.push(Field {
                name,
                key: start + member.key,
                value: start + member.value,
                len: member.value_len,
                made: false,
            });
        }
        let count = (self.fields.len() - first) as u32;
        let entry = &mut self.events[event];
        (entry.first, entry.count, entry.split) = (first as u32, count, true);
        entry.edited |= edited;
    }

    fn table(&self, event: usize) -> &[Field] {
        let Event { first, count, split, .. } = self.events[event];
        assert!(split, "fields are looked at only after split_all");
        &self.fields[first as usize..(first + count) as usize]
    }

    fn value_of(&self, field: &Field) -> Raw<'_> {
        let range = field.value as usize..(field.value + field.len) as usize;
        Raw(if field.made { &self.made[range] } else { &self.input[range] })
    }

    // --- reading (after split_all) ---

    /// The value of a field.
    pub fn get(&self, event: usize, name: NameId) -> Option<Raw<'_>> {
        self.table(event).iter().find(|field| field.name == name).map(|field| self.value_of(field))
    }

    /// Follows a path of member names from the top of the event.
    pub fn get_path<S: AsRef<str>>(&self, event: usize, path: &[S]) -> Option<Raw<'_>> {
        let (first, rest) = path.split_first()?;
        self.get(event, self.find_name(first.as_ref())?)?.path(rest)
    }

    /// The decoded text of a field that holds a string.
    pub fn get_str(&self, event: usize, name: NameId) -> Option<Cow<'_, str>> {
        self.get(event, name)?.as_str()
    }

    /// All fields of an event, in order.
    pub fn fields(&self, event: usize) -> impl Iterator<Item = (NameId, Raw<'_>)> {
        self.table(event).iter().map(|field| (field.name, self.value_of(field)))
    }

    /// The names of an event's fields, in order: its shape.
    pub fn field_names(&self, event: usize) -> impl ExactSizeIterator<Item = NameId> {
        self.table(event).iter().map(|field| field.name)
    }

    /// How many fields an event has.
    pub fn field_count(&self, event: usize) -> usize {
        self.events[event].count as usize
    }

    /// Name and value of the n-th field of an event.
    pub fn nth(&self, event: usize, nth: usize) -> (NameId, Raw<'_>) {
        let field = &self.table(event)[nth];
        (field.name, self.value_of(field))
    }

    // --- writing (after split_all) ---

    /// Sets a field to a value given as JSON text: in its place if the event has it, else at the end.
    pub fn set_json(&mut self, event: usize, name: NameId, json: &[u8]) {
        let value = self.made.len() as u32;
        self.made.extend_from_slice(json);
        self.put(event, name, value);
    }

    /// Sets a field to a string.
    pub fn set_str(&mut self, event: usize, name: NameId, text: &str) {
        let value = self.made.len() as u32;
        escape::push_string(&mut self.made, text);
        self.put(event, name, value);
    }

    /// Replaces the value of the n-th field by JSON text.
    pub fn set_nth(&mut self, event: usize, nth: usize, json: &[u8]) {
        let value = self.made.len() as u32;
        self.made.extend_from_slice(json);
        let at = self.events[event].first as usize + nth;
        let field = &mut self.fields[at];
        (field.value, field.len, field.made) = (value, json.len() as u32, true);
        self.events[event].edited = true;
    }

    fn put(&mut self, event: usize, name: NameId, value: u32) {
        let len = self.made.len() as u32 - value;
        self.events[event].edited = true;
        let Event { first, count, .. } = self.events[event];
        let range = first as usize..(first + count) as usize;
        if let Some(field) = self.fields[range.clone()].iter_mut().find(|field| field.name == name) {
            (field.value, field.len, field.made) = (value, len, true);
            return;
        }
        if range.end != self.fields.len() {
            self.events[event].first = self.fields.len() as u32;
            self.fields.extend_from_within(range);
        }
        self.fields.push(Field { name, key: MADE, value, len, made: true });
        self.events[event].count += 1;
    }

    /// Removes a field; tells whether the event had it.
    pub fn remove(&mut self, event: usize, name: NameId) -> bool {
        let Some(nth) = self.table(event).iter().position(|field| field.name == name) else { return false };
        let Event { first, count, .. } = self.events[event];
        let range = first as usize..(first + count) as usize;
        self.fields.copy_within(range.start + nth + 1..range.end, range.start + nth);
        self.events[event].count -= 1;
        self.events[event].edited = true;
        true
    }

    /// Keeps the fields of an event for which `keep` says so, by place.
    pub fn keep_fields(&mut self, event: usize, mut keep: impl FnMut(usize) -> bool) {
        let Event { first, count, .. } = self.events[event];
        let mut kept = 0;
        for nth in 0..count as usize {
            if keep(nth) {
                self.fields[first as usize + kept] = self.fields[first as usize + nth];
                kept += 1;
            }
        }
        self.events[event].edited |= kept < count as usize;
        self.events[event].count = kept as u32;
    }

    /// Gives the n-th field another name; it keeps its place. The caller sees to it that the name is free.
    pub fn rename_nth(&mut self, event: usize, nth: usize, name: NameId) {
        let at = self.events[event].first as usize + nth;
        self.fields[at].name = name;
        self.fields[at].key = MADE;
        self.events[event].edited = true;
    }

    /// Keeps the events for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut at = 0;
        self.events.retain(|_| {
            at += 1;
            keep(at - 1)
        });
    }

    // --- rendering ---

    /// The bytes of an event as they came in, if no transform has touched it.
    pub fn untouched(&self, event: usize) -> Option<&[u8]> {
        let Event { start, len, edited, .. } = self.events[event];
        (!edited).then(|| &self.input[start as usize..(start + len) as usize])
    }

    /// Appends an event as one JSON line, without the line break.
    pub fn render_event(&self, event: usize, out: &mut Vec<u8>) {
        if let Some(bytes) = self.untouched(event) {
            return out.extend_from_slice(bytes);
        }
        out.push(b'{');
        for (nth, field) in self.table(event).iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            if field.key == MADE {
                escape::push_string(out, self.name(field.name));
                out.push(b':');
            } else if field.made {
                let key = &self.input[field.key as usize..];
                out.extend_from_slice(&key[..super::raw::value_end(key)]);
                out.push(b':');
            } else {
                // Name, colon and value stand together in the input.
                out.extend_from_slice(&self.input[field.key as usize..(field.value + field.len) as usize]);
                continue;
            }
            out.extend_from_slice(self.value_of(field).0);
        }
        out.push(b'}');
    }

    /// Renders all events. Events that stand untouched one after another in the input are not copied.
    pub fn render(&self) -> Lines {
        let mut ends = Vec::with_capacity(self.events.len());
        let runs = self.runs();
        if let Some(range) = self.contiguous() {
            ends.extend(self.events.iter().map(|e| e.start + e.len + 1 - range.start as u32));
            return Lines { bytes: self.input.slice(range), ends, runs };
        }
        let mut out = Vec::with_capacity(self.input.len() + self.made.len() + 64);
        for event in 0..self.events.len() {
            self.render_event(event, &mut out);
            out.push(b'\n');
            ends.push(out.len() as u32);
        }
        Lines { bytes: Bytes::from(out), ends, runs }
    }

    fn runs(&self) -> Vec<Run> {
        if self.events.is_empty() {
            return Vec::new();
        }
        vec![Run { seed: self.provenance.seed, ordinals: self.events.iter().map(|e| e.ordinal).collect() }]
    }

    /// The range of the input that is exactly all events, each followed by one line feed.
    fn contiguous(&self) -> Option<Range<usize>> {
        let start = self.events.first()?.start;
        let mut next = start;
        for event in &self.events {
            if event.edited || event.start != next {
                return None;
            }
            next = event.start + event.len + 1;
            if self.input.get(next as usize - 1) != Some(&b'\n') {
                return None;
            }
        }
        Some(start as usize..next as usize)
    }
}
