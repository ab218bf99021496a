//! Field names: canonical ones have fixed numbers, all others are numbered per batch.

use std::hash::{BuildHasher, RandomState};

/// The number of a field's name: below [`KNOWN`]'s length it means the same in every batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NameId(pub u32);

macro_rules! known {
    ($($constant:ident $text:literal)*) => {
        /// Every canonical name, in the order of its number.
        pub const KNOWN: &[&str] = &[$($text),*];
        known!(@number 0u32; $($constant)*);
    };
    (@number $n:expr; $constant:ident $($rest:ident)*) => {
        pub const $constant: NameId = NameId($n);
        known!(@number $n + 1; $($rest)*);
    };
    (@number $n:expr;) => {};
}

known! {
    ID "id"
    TIMESTAMP "timestamp"
    RECEIVED_AT "received_at"
    EVENT_TYPE "event_type"
    STATUS "status"
    USER_ID "user_id"
    USER_EMAIL "user_email"
    USER_DISPLAY_NAME "user_display_name"
    SESSION_ID "session_id"
    OPERATION_ID "operation_id"
    DESCRIPTION "description"
    DURATION_MS "duration_ms"
    CODE "code"
    CELL_NUMBER "cell_number"
    LANGUAGE "language"
    NOTEBOOK "notebook"
    KERNEL_ID "kernel_id"
    ERROR_TYPE "error_type"
    ERROR_MESSAGE "error_message"
    ERROR_TRACE "error_trace"
    ENTITY_TYPE "entity_type"
    ENTITY_ID "entity_id"
    TARGET_USER_ID "target_user_id"
    ENDPOINT "endpoint"
    HTTP_METHOD "http_method"
    STATUS_CODE "status_code"
    DB_QUERY_COUNT "db_query_count"
    TRACE_ID "trace_id"
    IP_ADDRESS "ip_address"
    PEER_IP "peer_ip"
    USER_AGENT "user_agent"
    IS_ADMIN "is_admin"
    HOST "host"
    AGENT "agent"
    SOURCE "source"
    REPORTED_BY "reported_by"
    METADATA "metadata"
    CAPTURE "capture"
    TRUNCATED "truncated"
    REDACTIONS "redactions"
    SEQ "seq"
    ACTION "action"
    ACTION_TYPE "action_type"
    TYPE "type"
    USERNAME "username"
    USER "user"
    USER_ID_CAMEL "userId"
    EXECUTION_TIME_MS "execution_time_ms"
    DURATION "duration"
    DURATION_SECONDS "duration_seconds"
    DURATION_S "duration_s"
    MESSAGE "message"
    MSG "msg"
    DETAILS "details"
    SUCCESS "success"
    RESOURCE_TYPE "resource_type"
    TARGET_RESOURCE_ID "target_resource_id"
    RESOURCE_ID "resource_id"
    ERROR "error"
    TIME "time"
    TS "ts"
    AT_TIMESTAMP "@timestamp"
}

/// The fixed number of a canonical name or alias.
pub fn known(text: &[u8]) -> Option<NameId> {
    let mut slot = slot(text);
    loop {
        match SLOTS[slot] {
            FREE => return None,
            at if KNOWN[at as usize].as_bytes() == text => return Some(NameId(at as u32)),
            _ => slot = (slot + 1) % SLOTS.len(),
        }
    }
}

const FREE: u8 = u8::MAX;

/// The numbers of the canonical names at their [`slot`], or in the next free one behind it.
const SLOTS: [u8; 512] = {
    assert!(KNOWN.len() < 128, "the table stays mostly free");
    let mut slots = [FREE; 512];
    let mut at = 0;
    while at < KNOWN.len() {
        let mut slot = slot(KNOWN[at].as_bytes());
        while slots[slot] != FREE {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = at as u8;
        at += 1;
    }
    slots
};

/// A hash of length, first, middle and last byte: enough to tell the canonical names apart.
const fn slot(text: &[u8]) -> usize {
    let len = text.len();
    if len == 0 {
        return 0;
    }
    let (first, middle, last) = (text[0] as usize, text[len / 2] as usize, text[len - 1] as usize);
    (len * 37 + first * 113 + middle * 5 + last * 29) % 512
}

/// The names beyond [`KNOWN`] that one batch uses, numbered as they appear.
#[derive(Clone, Debug, Default)]
pub struct Names {
    text: Vec<u8>,
    /// Where each name ends in `text`.
    ends: Vec<u32>,
    /// An open hash table of numbers plus one; 0 is a free slot. Never more than half full.
    slots: Vec<u32>,
    /// Producers choose the names, so their hashes are keyed.
    hasher: RandomState,
}

impl Names {
    /// The decoded name behind a number.
    pub fn text(&self, id: NameId) -> &str {
        let id = id.0 as usize;
        KNOWN.get(id).copied().unwrap_or_else(|| {
            std::str::from_utf8(self.own(id - KNOWN.len())).expect("only whole UTF-8 names are entered")
        })
    }

    fn own(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        &self.text[start..self.ends[at] as usize]
    }

    /// How many numbers are in use; each is smaller than this.
    pub fn count(&self) -> usize {
        KNOWN.len() + self.ends.len()
    }

    /// The number of a name, if it has one.
    pub fn find(&self, text: &[u8]) -> Option<NameId> {
        known(text).or_else(|| self.probe(text).1)
    }

    /// The number of a name, made if need be.
    pub fn enter(&mut self, text: &[u8]) -> NameId {
        if let Some(id) = known(text) {
            return id;
        }
        if self.slots.len() < 2 * (self.ends.len() + 1) {
            self.grow();
        }
        let (slot, found) = self.probe(text);
        found.unwrap_or_else(|| {
            self.text.extend_from_slice(text);
            self.ends.push(self.text.len() as u32);
            self.slots[slot] = self.ends.len() as u32;
            NameId((self.count() - 1) as u32)
        })
    }

    /// The slot of a name that is not canonical and, if it stands there, its number.
    fn probe(&self, text: &[u8]) -> (usize, Option<NameId>) {
        if self.slots.is_empty() {
            return (0, None);
        }
        let mut slot = self.hasher.hash_one(text) as usize % self.slots.len();
        loop {
            match self.slots[slot] {
                0 => return (slot, None),
                entry if self.own(entry as usize - 1) == text => {
                    return (slot, Some(NameId(KNOWN.len() as u32 + entry - 1)));
                }
                _ => slot = (slot + 1) % self.slots.len(),
            }
        }
    }

    fn grow(&mut self) {
        self.slots = vec![0; (4 * self.ends.len()).max(32).next_power_of_two()];
        for at in 0..self.ends.len() {
            let (slot, _) = self.probe(self.own(at));
            self.slots[slot] = at as u32 + 1;
        }
    }

    /// Bytes that the names keep in memory.
    pub fn pinned_bytes(&self) -> usize {
        self.text.capacity() + 4 * (self.ends.capacity() + self.slots.capacity())
    }
}

/// What the agent puts into an event when it takes it, and so puts anew into one that comes again.
pub const OF_RECEIPT: [&str; 3] = ["received_at", "source", "peer_ip"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canonical_name_has_its_number_and_no_other_text_has() {
        for (at, name) in KNOWN.iter().enumerate() {
            assert_eq!(known(name.as_bytes()), Some(NameId(at as u32)), "{name}");
            assert_eq!(known(format!("{name}x").as_bytes()), None);
        }
        assert_eq!(known(b""), None);
    }

    #[test]
    fn a_hundred_thousand_names_are_numbered_in_order_and_found_again() {
        let mut names = Names::default();
        for n in 0..100_000u32 {
            assert_eq!(names.enter(format!("name {n}").as_bytes()), NameId(KNOWN.len() as u32 + n));
        }
        assert_eq!(names.enter(b"name 77"), NameId(KNOWN.len() as u32 + 77));
        assert_eq!(names.find(b"name 99999"), Some(NameId(KNOWN.len() as u32 + 99_999)));
        assert_eq!(names.find(b"name 100000"), None);
        assert_eq!(names.text(NameId(KNOWN.len() as u32)), "name 0");
        // An open table that is at most half full answers in a few steps.
        assert!(names.slots.len() >= 2 * names.ends.len());
    }
}
