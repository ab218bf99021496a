//! A batch: many events over a few shared buffers, with one flat table of fields for all of them.
//!
//! Invariants:
//! - A field's value is a span of valid JSON text, in `input` (untouched) or in `made` (set by a transform).
//! - An event that nobody touched renders as its own bytes; in one that was, untouched members are copied.
//! - `input` holds no raw line break inside an event: decoders that join lines replace them by spaces.
//! - Of several members with one name the last stands once the event is split; the others are gone.
//! - White space between two members that both stay may be kept or dropped; inside their values it is kept.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::id::{Id, Seed};
use super::names::{NameId, Names};
use super::raw::Raw;
use super::scan::{Member, Scanner, Unfit};
use crate::units::Timestamp;

mod edit;
mod identify;
mod places;
mod render;
mod split;

pub use edit::Made;
use identify::Identified;
pub use places::Place;
use split::Shape;

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

impl Provenance {
    /// What the id of an event derives from that its producer calls so: the source, who sent it, and that name.
    pub fn identity(&self, name: &str) -> Seed {
        let sender = match (self.stamp.as_deref().and_then(|stamp| stamp.sender.as_ref()), self.peer) {
            (Some(Sender::User(name)), _) => format!("user:{name}"),
            (Some(Sender::Service(name)), _) => format!("service:{name}"),
            (None, Some(peer)) => format!("peer:{peer}"),
            (None, None) => String::new(),
        };
        Seed::derive(&[b"source_id", self.source.as_bytes(), sender.as_bytes(), name.as_bytes()])
    }
}

/// What the source has verified about its events, whatever they say themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub sender: Option<Sender>,
    pub capture: Option<Capture>,
}

/// Who sent the events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A user's own token or file: every event is theirs, whatever it claims.
    User(String),
    /// A service that may speak for users: `reported_by` names it.
    Service(String),
}

/// Where the execution of code was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// In the process that ran it, which its user controls.
    Kernel,
    /// By the server that has the kernel run it.
    Server,
}

impl Capture {
    pub fn as_str(self) -> &'static str {
        match self {
            Capture::Kernel => "kernel",
            Capture::Server => "server",
        }
    }
}

impl Stamp {
    pub fn user(name: impl Into<String>) -> Stamp {
        Stamp { sender: Some(Sender::User(name.into())), capture: None }
    }

    pub fn service(name: impl Into<String>) -> Stamp {
        Stamp { sender: Some(Sender::Service(name.into())), capture: None }
    }
}

#[derive(Clone, Copy, Debug)]
struct Event {
    start: u32,
    len: u32,
    /// First field in the table; meaningless until `split`.
    first: u32,
    count: u32,
    /// Slots of the table that are the event's, from `first`; those behind `count` are spare.
    capacity: u32,
    split: bool,
    edited: bool,
    ordinal: u64,
}

/// What one field takes in the table.
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
/// A slot of the table that no field takes yet.
const FREE: Field = Field { name: NameId(0), key: MADE, value: 0, len: 0, made: true };

/// Many events. Cloning shares the input and copies the tables.
#[derive(Clone, Debug)]
pub struct Batch {
    pub provenance: Arc<Provenance>,
    input: Bytes,
    made: Vec<u8>,
    events: Vec<Event>,
    fields: Vec<Field>,
    /// Where values of members `id` begin in the input; ascending. None where no scanner has looked for them.
    ids: Option<Vec<u32>>,
    /// Events whose ids derive from something of their own, by where they start in the input; ascending.
    identified: Vec<Identified>,
    names: Names,
    shape: Shape,
}

impl Batch {
    /// A batch without events over `input`.
    pub fn new(input: Bytes, provenance: Arc<Provenance>) -> Batch {
        assert!(input.len() < MADE as usize, "a chunk is far smaller than 4 GiB");
        Batch {
            provenance,
            input,
            made: Vec::new(),
            events: Vec::new(),
            fields: Vec::new(),
            ids: None,
            identified: Vec::new(),
            names: Names::default(),
            shape: Shape::default(),
        }
    }

    /// Adds the event at `range` of the input, which the caller has validated as one JSON object
    /// without white space around it.
    pub fn push_validated(&mut self, range: Range<usize>, ordinal: u64) {
        self.events.push(Event {
            start: range.start as u32,
            len: range.len() as u32,
            first: 0,
            count: 0,
            capacity: 0,
            split: false,
            edited: false,
            ordinal,
        });
    }

    /// Adds the event at `range` of the input, which the scanner has just validated as one JSON object without white space
    /// around it. Events are added in their order.
    pub fn push_scanned(&mut self, range: Range<usize>, ordinal: u64, scanner: &Scanner) {
        let start = range.start as u32;
        self.ids.get_or_insert_default().extend(scanner.id().map(|id| start + id));
        self.push_validated(range, ordinal);
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
        self.push_members(range, ordinal, scratch);
        Ok(())
    }

    /// Adds the event at `range` of the input, of which the scanner has found these members.
    pub fn push_members(&mut self, range: Range<usize>, ordinal: u64, members: &[Member]) {
        self.push_validated(range, ordinal);
        self.enter_members(self.events.len() - 1, members);
    }

    /// Forgets all events from this one on, before anything was set in them.
    pub fn truncate(&mut self, len: usize) {
        if let Some(first) = self.events[len..].iter().find(|event| event.split) {
            self.fields.truncate(first.first as usize);
        }
        if let (Some(ids), Some(first)) = (&mut self.ids, self.events.get(len)) {
            ids.truncate(ids.partition_point(|id| *id < first.start));
        }
        self.events.truncate(len);
    }

    /// Takes other bytes of the same length for the input, in which only white space between tokens differs.
    pub fn replace_input(&mut self, input: Bytes) {
        assert_eq!(input.len(), self.input.len(), "offsets into the input stay what they are");
        self.input = input;
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

    /// The id that follows from where the event came from, or from what its producer calls it.
    pub fn derived_id(&self, event: usize) -> Id {
        let (seed, ordinal) = self.origin(event);
        seed.id(ordinal)
    }

    /// What the event's id derives from.
    pub fn origin(&self, event: usize) -> (Seed, u64) {
        let Event { start, ordinal, .. } = self.events[event];
        match self.identified_at(start) {
            Some(identified) => (identified.seed, identified.ordinal),
            None => (self.provenance.seed, ordinal),
        }
    }

    /// Bytes that this batch keeps in memory.
    pub fn pinned_bytes(&self) -> usize {
        self.input.len()
            + self.made.capacity()
            + self.events.capacity() * size_of::<Event>()
            + self.fields.capacity() * size_of::<Field>()
            + self.identified.capacity() * size_of::<Identified>()
            + self.names.pinned_bytes()
    }

    // --- names ---

    /// The number of a name in this batch, made if need be.
    pub fn name_id(&mut self, text: &str) -> NameId {
        self.names.enter(text.as_bytes())
    }

    /// The number of a name, if any event of this batch may have it.
    pub fn find_name(&self, text: &str) -> Option<NameId> {
        self.names.find(text.as_bytes())
    }

    /// The decoded name behind a number.
    pub fn name(&self, id: NameId) -> &str {
        self.names.text(id)
    }

    // --- reading (after split_all) ---

    #[inline]
    fn table(&self, event: usize) -> &[Field] {
        let Event { first, count, split, .. } = self.events[event];
        assert!(split, "fields are looked at only after split_all");
        &self.fields[first as usize..(first + count) as usize]
    }

    #[inline]
    fn value_of(&self, field: &Field) -> Raw<'_> {
        let range = field.value as usize..(field.value + field.len) as usize;
        Raw(if field.made { &self.made[range] } else { &self.input[range] })
    }

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
    #[inline]
    pub fn field_count(&self, event: usize) -> usize {
        self.events[event].count as usize
    }

    /// The name of the n-th field of an event.
    #[inline]
    pub fn name_of(&self, event: usize, nth: usize) -> NameId {
        self.table(event)[nth].name
    }

    /// Name and value of the n-th field of an event.
    #[inline]
    pub fn nth(&self, event: usize, nth: usize) -> (NameId, Raw<'_>) {
        let field = &self.table(event)[nth];
        (field.name, self.value_of(field))
    }
}

#[cfg(test)]
#[path = "batch/tests.rs"]
mod tests;
