//! Normalizes events one by one, by the plan of their shape.

use super::Unknown;
use super::plan::{Plan, Slot};
use super::value::{self, Now};
use crate::event::names::*;
use crate::event::object::{Rewrite, may_sink, push_sunk};
use crate::event::raw::Kind;
use crate::event::{Batch, Id, NameId, Provenance, Raw, Sender, Stamp, escape};

/// What all events of a batch share, and memory that goes from one to the next.
pub struct Normalizer {
    unknown: Unknown,
    /// As JSON.
    source: Vec<u8>,
    peer: Option<Vec<u8>>,
    received_at: Vec<u8>,
    /// Whether the sender is a user, whose word about where an event was received counts for nothing.
    is_user: bool,
    scratch: Vec<u8>,
    metadata: Rewrite,
    /// Whether something moved into this event's metadata.
    moved: bool,
    /// Members of this event that go to metadata, by place.
    away: Vec<usize>,
    /// Members that are gone from this event, by place.
    gone: Vec<usize>,
    /// Canonical names that no member could fill although one has the alias.
    unfilled: Vec<NameId>,
    /// This event's own `received_at`, where it counts.
    own_received_at: Option<Vec<u8>>,
}

impl Normalizer {
    pub fn new(provenance: &Provenance, unknown: Unknown) -> Normalizer {
        let quoted = |text: &str| {
            let mut json = Vec::new();
            escape::push_string(&mut json, text);
            json
        };
        let stamp = provenance.stamp.as_deref();
        Normalizer {
            unknown,
            source: quoted(&provenance.source),
            peer: provenance.peer.map(|peer| quoted(&peer.to_string())),
            received_at: quoted(&provenance.received_at.to_string()),
            is_user: matches!(stamp, Some(Stamp { sender: Some(Sender::User(_)), .. })),
            scratch: Vec::new(),
            metadata: Rewrite::default(),
            moved: false,
            away: Vec::new(),
            gone: Vec::new(),
            unfilled: Vec::new(),
            own_received_at: None,
        }
    }

    pub fn normalize(&mut self, batch: &mut Batch, event: usize, plan: &Plan) {
        (self.moved, self.own_received_at) = (false, None);
        self.away.clear();
        self.gone.clear();
        self.unfilled.clear();
        if let Some(nth) = plan.metadata
            && !matches!(batch.nth(event, nth).1.kind(), Kind::Object | Kind::Null)
        {
            self.open_metadata(batch, event, plan);
        }
        let mut has_error = false;
        for slot in &plan.slots {
            match (slot.canonical, self.settle(batch, event, plan, slot)) {
                (name, None) => self.unfilled.push(name),
                (ERROR_MESSAGE, Some(nth)) => has_error = value::is_an_error(batch.nth(event, nth).1),
                (STATUS, Some(nth)) => self.settle_status(batch, event, plan, nth, has_error),
                _ => {}
            }
        }
        self.away.extend_from_slice(&plan.unknown);
        self.move_away(batch, event, plan);
        self.close(batch, event, plan);
        for name in plan.missing.iter().chain(&self.unfilled) {
            match *name {
                ID => {
                    self.scratch.clear();
                    push_id(&mut self.scratch, batch.derived_id(event));
                    batch.set_json(event, ID, &self.scratch);
                }
                TIMESTAMP => batch.set_json(event, TIMESTAMP, self.received_at()),
                RECEIVED_AT => batch.set_json(event, RECEIVED_AT, &self.received_at),
                SOURCE => batch.set_json(event, SOURCE, &self.source),
                PEER_IP => self.peer.iter().for_each(|peer| batch.set_json(event, PEER_IP, peer)),
                STATUS if says_error(batch, event, has_error) => batch.set_json(event, STATUS, b"\"error\""),
                _ => {}
            }
        }
    }

    fn received_at(&self) -> &[u8] {
        self.own_received_at.as_deref().unwrap_or(&self.received_at)
    }

    /// Chooses the member that fills a slot, gives it the canonical name and a readable value, and sends the others
    /// away. Tells where the slot is filled.
    fn settle(&mut self, batch: &mut Batch, event: usize, plan: &Plan, slot: &Slot) -> Option<usize> {
        let value = |nth: usize| batch.nth(event, nth).1;
        let mut fitting = slot.candidates.iter().filter(|(nth, name)| value::fits(*name, value(*nth)));
        let chosen = match slot.candidates[..] {
            [_] => fitting.next().copied(),
            _ => fitting.clone().find(|(nth, _)| !value(*nth).is_null()).or(fitting.next()).copied(),
        };
        if slot.candidates.len() > 1 || chosen.is_none() {
            for (nth, name) in &slot.candidates {
                if chosen.is_none_or(|(winner, _)| winner != *nth) {
                    self.send_away(batch, event, *nth, *name);
                }
            }
        }
        let (nth, name) = chosen?;
        self.scratch.clear();
        match slot.canonical {
            ID => self.settle_id(batch, event, plan, nth),
            TIMESTAMP => self.settle_time(batch, event, plan, nth),
            RECEIVED_AT | SOURCE | PEER_IP => self.settle_reception(batch, event, plan, nth, slot.canonical),
            DURATION_MS if value::duration(name, batch.nth(event, nth).1, &mut self.scratch) == Now::Written => {
                batch.set_nth(event, nth, &self.scratch);
            }
            _ => {}
        }
        if name != slot.canonical {
            batch.rename_nth(event, nth, slot.canonical);
        }
        Some(nth)
    }

    /// A member that does not fill the slot it could fill: what does not fit is unknown, what fits has lost.
    fn send_away(&mut self, batch: &Batch, event: usize, nth: usize, name: NameId) {
        let value = batch.nth(event, nth).1;
        if value.is_null() {
            self.gone.push(nth);
        } else if self.unknown == Unknown::Metadata || value::fits(name, value) || is_for_metadata(name, value) {
            self.away.push(nth);
        }
    }

    fn settle_id(&mut self, batch: &mut Batch, event: usize, plan: &Plan, nth: usize) {
        let value = batch.nth(event, nth).1;
        let text = value.display();
        if value.is_null() || text.is_empty() {
            push_id(&mut self.scratch, batch.derived_id(event));
        } else if value.kind() == Kind::String && Id::parse(&text).is_some() {
            return;
        } else {
            push_id(&mut self.scratch, batch.identity(event, nth, &text).id(0));
            self.keep_original(batch, event, plan, nth, "source_id");
        }
        batch.set_nth(event, nth, &self.scratch);
    }

    fn settle_time(&mut self, batch: &mut Batch, event: usize, plan: &Plan, nth: usize) {
        let value = batch.nth(event, nth).1;
        match value::moment(value, &mut self.scratch) {
            Now::Same => return,
            Now::Written => {}
            Now::Unreadable if value.as_bytes() == self.received_at() => return,
            Now::Unreadable => {
                self.keep_original(batch, event, plan, nth, "timestamp_original");
                self.scratch.extend_from_slice(self.own_received_at.as_deref().unwrap_or(&self.received_at));
            }
        }
        batch.set_nth(event, nth, &self.scratch);
    }

    /// A member about how the event was received: a user's own claim does not count.
    fn settle_reception(&mut self, batch: &mut Batch, event: usize, plan: &Plan, nth: usize, name: NameId) {
        let value = batch.nth(event, nth).1;
        let ours = match name {
            RECEIVED_AT => Some(&self.received_at),
            SOURCE => Some(&self.source),
            _ => self.peer.as_ref(),
        };
        if ours.is_some_and(|ours| value.as_bytes() == &ours[..]) {
            return;
        }
        let counts = !self.is_user && !value.is_null();
        let read = match name {
            RECEIVED_AT if counts => value::moment(value, &mut self.scratch),
            _ if counts => Now::Same,
            _ => Now::Unreadable,
        };
        match (read, ours) {
            (Now::Same, _) => {}
            (Now::Written, _) => batch.set_nth(event, nth, &self.scratch),
            (Now::Unreadable, Some(ours)) => {
                let ours = ours.clone();
                if !value.is_null() {
                    self.keep_original(batch, event, plan, nth, KNOWN[name.0 as usize]);
                }
                batch.set_nth(event, nth, &ours);
            }
            (Now::Unreadable, None) if value.is_null() => {}
            (Now::Unreadable, None) => self.away.push(nth),
        }
        if name == RECEIVED_AT && counts {
            self.own_received_at = Some(batch.nth(event, nth).1.as_bytes().to_vec());
        }
    }

    fn settle_status(&mut self, batch: &mut Batch, event: usize, plan: &Plan, nth: usize, has_error: bool) {
        let value = batch.nth(event, nth).1;
        self.scratch.clear();
        if value.is_null() {
            let code = plan.status_code.is_some_and(|nth| value::is_an_error_code(batch.nth(event, nth).1));
            if has_error || code {
                batch.set_nth(event, nth, b"\"error\"");
            }
        } else if value::status(value, &mut self.scratch) == Now::Written {
            batch.set_nth(event, nth, &self.scratch);
        }
    }

    // --- metadata ---

    fn open_metadata(&mut self, batch: &Batch, event: usize, plan: &Plan) {
        if !self.moved {
            self.moved = true;
            match plan.metadata.map(|nth| batch.nth(event, nth).1) {
                Some(value) if !may_sink(value) && value.kind() != Kind::Object => {
                    self.metadata.begin(None, "metadata");
                    self.sink("metadata", value);
                }
                base => self.metadata.begin(base, "metadata"),
            }
        }
    }

    /// Sends members to metadata, under their own names or as what they hold.
    fn move_away(&mut self, batch: &Batch, event: usize, plan: &Plan) {
        if self.away.is_empty() {
            return;
        }
        self.open_metadata(batch, event, plan);
        self.away.sort_unstable();
        for at in 0..self.away.len() {
            let (name, value) = batch.nth(event, self.away[at]);
            if is_for_metadata(name, value) {
                for (name, value) in value.members() {
                    self.metadata.add(&escape::unescape(name), value);
                }
            } else {
                self.sink(batch.name(name), value);
            }
        }
        self.gone.append(&mut self.away);
    }

    /// Adds a member to metadata; what would be too deep there is added as text.
    fn sink(&mut self, name: &str, value: Raw) {
        if may_sink(value) {
            self.metadata.add(name, value);
            return;
        }
        let mut text = Vec::new();
        push_sunk(&mut text, value);
        self.metadata.add(name, Raw::valid(&text));
    }

    /// Keeps what a member said before its value is replaced.
    fn keep_original(&mut self, batch: &Batch, event: usize, plan: &Plan, nth: usize, name: &str) {
        let value = batch.nth(event, nth).1;
        self.open_metadata(batch, event, plan);
        let mut original = Vec::new();
        push_sunk(&mut original, value);
        self.metadata.set(name, Raw::valid(&original));
    }

    /// Writes what changed in metadata, and takes out what is gone.
    fn close(&mut self, batch: &mut Batch, event: usize, plan: &Plan) {
        if let (true, Some(nth)) = (self.moved, plan.metadata) {
            batch.set_nth(event, nth, self.metadata.finish());
        }
        if !self.gone.is_empty() {
            self.gone.sort_unstable();
            let mut gone = self.gone.iter().peekable();
            batch.keep_fields(event, |nth| gone.next_if_eq(&&nth).is_none());
        }
        if self.moved && plan.metadata.is_none() {
            batch.set_json(event, METADATA, self.metadata.finish());
        }
    }
}

/// Whether a member is an object that merges into metadata.
fn is_for_metadata(name: NameId, value: Raw) -> bool {
    name == DETAILS && value.kind() == Kind::Object
}

/// Whether an event without a status has failed.
fn says_error(batch: &Batch, event: usize, has_error: bool) -> bool {
    has_error || batch.get(event, STATUS_CODE).is_some_and(value::is_an_error_code)
}

/// Appends an id as a JSON string.
fn push_id(out: &mut Vec<u8>, id: Id) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for (nth, byte) in id.0.to_be_bytes().into_iter().enumerate() {
        if matches!(nth, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
    out.push(b'"');
}
