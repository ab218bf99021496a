//! The state of a stage: keyed entries, changed in transactions that are committed with the stage's output.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::units::Timestamp;

/// What an entry takes in memory beside its key and value: the tables that lead to it.
const ENTRY_BYTES: usize = 200;
/// Stands for an entry that waits for no time.
const NEVER: Timestamp = Timestamp(i64::MAX);
/// What is stored before a value: when it is due, its flags, and whose it is.
const HEAD_BYTES: usize = 8 + 1 + 4;
/// The flags: the entry is spare; it says what type of stage has written it, as all do but those of early versions.
const SPARE: u8 = 1;
const TYPED: u8 = 2;

/// What type of component wrote a state: another type under the same name must never read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTag([u8; 4]);

impl StateTag {
    pub const BYTES: usize = 4;

    pub fn of(type_name: &str) -> StateTag {
        let hash = blake3::hash(type_name.as_bytes());
        StateTag(hash.as_bytes()[..4].try_into().expect("a hash has more than four bytes"))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A stored entry, taken apart.
struct Stored {
    put: Put,
    /// None in what early versions wrote.
    tag: Option<StateTag>,
}

impl Stored {
    fn decode(stored: &Bytes) -> Option<Stored> {
        let (due, rest) = stored.split_first_chunk::<8>()?;
        let (flags, rest) = rest.split_first()?;
        let tag = match flags & TYPED {
            0 => None,
            _ => Some(StateTag(*rest.first_chunk::<4>()?)),
        };
        let head = if tag.is_some() { HEAD_BYTES } else { 8 + 1 };
        let due = Timestamp(i64::from_le_bytes(*due));
        let put = Put { value: stored.slice(head..), due, is_spare: flags & SPARE != 0 };
        Some(Stored { put, tag })
    }
}

/// How much a stage may keep; beyond it the entries that were changed the longest ago go, spare ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub entries: usize,
    pub bytes: usize,
}

/// The committed entries.
#[derive(Debug, Default)]
pub struct State {
    entries: HashMap<Bytes, Entry>,
    by_due: BTreeSet<(Timestamp, Bytes)>,
    /// In the order in which they go at the bound: the spare ones first, then by their last changes.
    by_change: BTreeMap<(bool, u64), Bytes>,
    changes: u64,
    bytes: usize,
    not_spare: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Bytes,
    due: Timestamp,
    change: (bool, u64),
}

/// What an entry becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Put {
    value: Bytes,
    due: Timestamp,
    is_spare: bool,
}

impl State {
    /// The state as the journal kept it: what a stage of this type wrote, or whoever it was. The number is that of the
    /// entries which belong to another type.
    pub fn restore(entries: impl IntoIterator<Item = (Bytes, Bytes)>, of: Option<StateTag>) -> (State, usize) {
        let (mut found, mut others) = (Vec::new(), 0);
        for (key, stored) in entries {
            let Some(Stored { put, tag }) = Stored::decode(&stored) else { continue };
            match (tag, of) {
                (Some(tag), Some(of)) if tag != of => others += 1,
                _ => found.push((key, put)),
            }
        }
        found.sort_by(|(a_key, a), (b_key, b)| (a.due, a_key).cmp(&(b.due, b_key)));
        let mut state = State::default();
        for (key, put) in found {
            state.insert(key, put);
        }
        (state, others)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn exceeds(&self, bounds: Bounds) -> bool {
        self.len() > bounds.entries || self.bytes > bounds.bytes
    }

    /// When the next entry is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// Entries that are not spare.
    pub fn not_spare(&self) -> usize {
        self.not_spare
    }

    /// Entries that are due by `now`, the earliest first.
    pub fn due_by(&self, now: Timestamp, most: usize) -> Vec<(Bytes, Bytes)> {
        let due = self.by_due.iter().take_while(|(due, _)| *due <= now).take(most);
        due.map(|(_, key)| (key.clone(), self.entries[key].value.clone())).collect()
    }

    /// The entries that were changed the longest ago.
    pub fn oldest(&self, most: usize) -> Vec<(Bytes, Bytes)> {
        let oldest = self.by_change.values().take(most);
        oldest.map(|key| (key.clone(), self.entries[key].value.clone())).collect()
    }

    /// How many entries there are with these changes, and how many of them are not spare.
    pub fn counts_with(&self, changes: &Changes) -> (u64, u64) {
        let (mut all, mut not_spare) = (self.len(), self.not_spare());
        for (key, change) in &changes.0 {
            if let Some(old) = self.entries.get(key) {
                all -= 1;
                not_spare -= usize::from(old.change.0);
            }
            if let Some(new) = &change.to {
                all += 1;
                not_spare += usize::from(!new.is_spare);
            }
        }
        (all as u64, not_spare as u64)
    }

    /// Makes committed changes part of the state.
    pub fn apply(&mut self, changes: Changes) {
        // In the order in which they were made, which is the order in which they grow old.
        let mut ordered: Vec<_> = changes.0.into_iter().collect();
        ordered.sort_by_key(|(_, change)| change.order);
        for (key, change) in ordered {
            self.remove(&key);
            if let Some(put) = change.to {
                self.insert(key, put);
            }
        }
    }

    fn insert(&mut self, key: Bytes, Put { value, due, is_spare }: Put) {
        self.changes += 1;
        self.bytes += cost(&key, &value);
        if due != NEVER {
            self.by_due.insert((due, key.clone()));
        }
        self.not_spare += usize::from(!is_spare);
        let change = (!is_spare, self.changes);
        self.by_change.insert(change, key.clone());
        self.entries.insert(key, Entry { value, due, change });
    }

    fn remove(&mut self, key: &Bytes) {
        let Some(old) = self.entries.remove(key) else { return };
        self.bytes -= cost(key, &old.value);
        self.not_spare -= usize::from(old.change.0);
        self.by_change.remove(&old.change);
        self.by_due.remove(&(old.due, key.clone()));
    }
}

fn cost(key: &Bytes, value: &Bytes) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

/// What a transaction changes.
#[derive(Clone, Debug, Default)]
pub struct Changes(HashMap<Bytes, Change>);

#[derive(Clone, Debug)]
struct Change {
    order: u64,
    /// `None`: the entry goes.
    to: Option<Put>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys of the entries that change.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.0.keys()
    }

    /// Keys and stored values as the journal keeps them; an empty value removes.
    pub fn stored(&self, tag: StateTag) -> impl Iterator<Item = (Bytes, Bytes)> + '_ {
        self.0.iter().map(move |(key, change)| {
            let stored = change.to.as_ref().map(|Put { value, due, is_spare }| {
                let mut stored = Vec::with_capacity(HEAD_BYTES + value.len());
                stored.extend_from_slice(&due.0.to_le_bytes());
                stored.push(TYPED | if *is_spare { SPARE } else { 0 });
                stored.extend_from_slice(&tag.0);
                stored.extend_from_slice(value);
                Bytes::from(stored)
            });
            (key.clone(), stored.unwrap_or_default())
        })
    }
}

/// The state as it would be with the changes of one step.
#[derive(Debug)]
pub struct Transaction<'s> {
    state: &'s State,
    changes: Changes,
    orders: u64,
    /// When the step is made.
    pub now: Timestamp,
}

impl<'s> Transaction<'s> {
    pub fn new(state: &'s State, now: Timestamp) -> Transaction<'s> {
        Transaction { state, changes: Changes::default(), orders: 0, now }
    }

    pub fn get(&self, key: &[u8]) -> Option<&Bytes> {
        match self.changes.0.get(key) {
            Some(change) => change.to.as_ref().map(|put| &put.value),
            None => self.state.entries.get(key).map(|entry| &entry.value),
        }
    }

    /// Sets an entry. It is handed to the stage's `due` once that time has come.
    pub fn put(&mut self, key: &[u8], value: impl Into<Bytes>, due: Option<Timestamp>) {
        self.change(key, Some(Put { value: value.into(), due: due.unwrap_or(NEVER), is_spare: false }));
    }

    /// The same for an entry that holds no event: at the bound such entries go before all others.
    pub fn put_spare(&mut self, key: &[u8], value: impl Into<Bytes>, due: Option<Timestamp>) {
        self.change(key, Some(Put { value: value.into(), due: due.unwrap_or(NEVER), is_spare: true }));
    }

    pub fn remove(&mut self, key: &[u8]) {
        self.change(key, None);
    }

    fn change(&mut self, key: &[u8], to: Option<Put>) {
        self.orders += 1;
        let change = Change { order: self.orders, to };
        match self.changes.0.get_mut(key) {
            Some(old) => *old = change,
            None => drop(self.changes.0.insert(Bytes::copy_from_slice(key), change)),
        }
    }

    /// The changes so far, to go back to.
    pub fn saved(&self) -> Changes {
        self.changes.clone()
    }

    pub fn go_back(&mut self, to: Changes) {
        self.changes = to;
    }

    pub fn into_changes(self) -> Changes {
        self.changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(state: &State, change: impl FnOnce(&mut Transaction<'_>)) -> Changes {
        let mut transaction = Transaction::new(state, Timestamp(0));
        change(&mut transaction);
        transaction.into_changes()
    }

    #[test]
    fn a_state_restored_from_what_was_stored_is_the_same() {
        let mut state = State::default();
        let changes = changed(&state, |t| {
            t.put(b"a", &b"1"[..], Some(Timestamp(30)));
            t.put_spare(b"b", &b""[..], None);
            t.put(b"c", &b"3"[..], Some(Timestamp(10)));
            t.remove(b"a");
            t.put(b"a", &b"2"[..], Some(Timestamp(20)));
        });
        let stored: Vec<_> = changes.stored(StateTag::of("counting")).collect();
        assert!(stored.iter().all(|(_, value)| !value.is_empty()), "an empty value would remove the entry");
        let counts = state.counts_with(&changes);
        state.apply(changes);
        assert_eq!((counts, state.not_spare()), ((3, 2), 2));
        let removed = changed(&state, |t| ["b", "c"].iter().for_each(|key| t.remove(key.as_bytes())));
        assert_eq!(state.counts_with(&removed), (1, 1));
        let (other, others) = State::restore(stored.clone(), Some(StateTag::of("other")));
        assert_eq!((other.len(), others), (0, 3), "another type reads none of it");
        for state in [&state, &State::restore(stored, Some(StateTag::of("counting"))).0] {
            assert_eq!((state.len(), state.next_due()), (3, Some(Timestamp(10))));
            let due = state.due_by(Timestamp(20), 9);
            assert_eq!(due, [("c".into(), "3".into()), ("a".into(), "2".into())]);
        }
    }

    #[test]
    fn what_early_versions_stored_belongs_to_whoever_has_the_name() {
        let stored = [&7_i64.to_le_bytes()[..], &[1], b"value"].concat();
        let (state, others) = State::restore([("k".into(), stored.into())], Some(StateTag::of("any")));
        assert_eq!((others, state.oldest(1), state.not_spare()), (0, vec![("k".into(), "value".into())], 0));
    }

    #[test]
    fn the_entry_changed_the_longest_ago_is_the_first_to_go() {
        let mut state = State::default();
        let changes = changed(&state, |t| ["a", "b", "c"].iter().for_each(|key| t.put(key.as_bytes(), "", None)));
        state.apply(changes);
        let changes = changed(&state, |t| t.put(b"a", "again", None));
        state.apply(changes);
        let oldest: Vec<Bytes> = state.oldest(2).into_iter().map(|(key, _)| key).collect();
        assert_eq!(oldest, ["b", "c"]);
        let changes = changed(&state, |t| t.put_spare(b"a", "again", None));
        state.apply(changes);
        assert_eq!(state.oldest(1)[0].0, "a", "a spare one goes first");
        assert!(state.exceeds(Bounds { entries: 2, bytes: usize::MAX }));
        assert!(!state.exceeds(Bounds { entries: 3, bytes: state.bytes() }));
    }

    #[test]
    fn a_transaction_sees_its_own_changes_and_leaves_the_state_alone() {
        let state = State::default();
        let mut transaction = Transaction::new(&state, Timestamp(0));
        transaction.put(b"a", "1", None);
        let saved = transaction.saved();
        transaction.remove(b"a");
        assert_eq!(transaction.get(b"a"), None);
        transaction.go_back(saved);
        assert_eq!(transaction.get(b"a").map(|value| &value[..]), Some(&b"1"[..]));
        assert!(state.is_empty());
    }
}
