//! Splitting: from the members the scanner found to the table of fields.

use super::{Batch, Event, FREE, Field};
use crate::event::escape;
use crate::event::names::{NameId, Names};
use crate::event::scan::{Member, Scanner};

/// Longest name that is compared at once, without a call.
const HEAD: usize = 16;
/// The name of a field that a later one of the same name has replaced.
const GONE: NameId = NameId(u32::MAX);

/// The names of the event entered last, in order: the next event probably has the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    places: Vec<Place>,
    /// For each name the event, by its `turn`, and the field that had it last.
    seen: Vec<(u32, u32)>,
    turn: u32,
    /// Whether some name stands at two places.
    repeats: bool,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    name: NameId,
    /// Length of the name; one that was written with escapes has `u32::MAX` and fits no other.
    len: u32,
    head: u128,
}

impl Shape {
    /// The name at this place, if the key that starts at `from` of the input is the same.
    #[inline]
    fn name(&self, nth: usize, input: &[u8], from: usize, len: u32, names: &Names) -> Option<NameId> {
        let place = self.places.get(nth).filter(|place| place.len == len)?;
        let same = head(input, from, len as usize)? == place.head
            && (len as usize <= HEAD || input[from..from + len as usize] == *names.text(place.name).as_bytes());
        same.then_some(place.name)
    }

    fn set(&mut self, nth: usize, place: Place) {
        match self.places.get_mut(nth) {
            Some(old) => *old = place,
            None => self.places.push(place),
        }
    }

    /// Notes that a field of this event has the name; tells which other had it before.
    fn see(&mut self, name: NameId, field: usize) -> Option<usize> {
        let name = name.0 as usize;
        if self.seen.len() <= name {
            self.seen.resize((name + 1).next_power_of_two(), (0, 0));
        }
        let (turn, before) = std::mem::replace(&mut self.seen[name], (self.turn, field as u32));
        (turn == self.turn).then_some(before as usize)
    }
}

/// The first bytes of a name, zeros behind it. None near the end of the input.
#[inline]
fn head(input: &[u8], from: usize, len: usize) -> Option<u128> {
    let bytes = u128::from_le_bytes(*input.get(from..)?.first_chunk::<HEAD>()?);
    Some(if len >= HEAD { bytes } else { bytes & !(u128::MAX << (8 * len)) })
}

impl Batch {
    /// Splits every event that is not split yet.
    pub fn split_all(&mut self) {
        self.split_some(0..self.events.len());
    }

    /// Splits those of these events that are not split yet.
    pub fn split_some(&mut self, events: impl IntoIterator<Item = usize>) {
        let (mut scanner, mut scratch) = (Scanner::new(), Vec::new());
        for event in events {
            if self.events[event].split {
                continue;
            }
            scratch.clear();
            let Event { start, len, .. } = self.events[event];
            scanner
                .split(&self.input[start as usize..(start + len) as usize], &mut scratch)
                .expect("the event was validated when it entered the batch");
            self.make_space(event, scratch.len() + 1);
            self.enter_members(event, &scratch);
            // Whoever splits some events mostly adds a field to them, which then needs no move.
            self.fields.push(FREE);
            self.events[event].capacity += 1;
        }
    }

    pub(super) fn enter_members(&mut self, event: usize, members: &[Member]) {
        let start = self.events[event].start;
        let first = self.fields.len();
        self.make_space(event, members.len());
        let as_last = if self.shape.repeats { 0 } else { self.enter_as_last(start, members) };
        let mut edited = false;
        if as_last < members.len() {
            edited = self.enter_singly(start, first, members);
        }
        let count = (self.fields.len() - first) as u32;
        let entry = &mut self.events[event];
        (entry.first, entry.count, entry.capacity, entry.split) = (first as u32, count, count, true);
        entry.edited |= edited;
    }

    /// If the table is full: room for the rest of the batch, should it go on like this event.
    fn make_space(&mut self, event: usize, count: usize) {
        if self.fields.capacity() - self.fields.len() < count {
            let Event { start, len, .. } = self.events[event];
            let rest = (self.input.len() - start as usize) / (len as usize + 1) + 1;
            self.fields.reserve(rest * count);
        }
    }

    /// Enters members for as long as their names are those of the event before; tells how many.
    fn enter_as_last(&mut self, start: u32, members: &[Member]) -> usize {
        for (nth, member) in members.iter().enumerate() {
            let from = (start + member.key + 1) as usize;
            let Some(name) = self.shape.name(nth, &self.input, from, member.key_len, &self.names) else { return nth };
            self.fields.push(field(name, start, member));
        }
        members.len()
    }

    /// Enters the members that are not entered yet, each name looked up. Tells whether one replaced another.
    fn enter_singly(&mut self, start: u32, first: usize, members: &[Member]) -> bool {
        self.shape.turn += 1;
        for at in first..self.fields.len() {
            self.shape.see(self.fields[at].name, at);
        }
        let entered = self.fields.len() - first;
        let mut repeats = false;
        for (nth, member) in members.iter().enumerate().skip(entered) {
            let from = (start + member.key + 1) as usize;
            let name = match self.shape.name(nth, &self.input, from, member.key_len, &self.names) {
                Some(name) => name,
                None => self.look_up(nth, from, member.key_len),
            };
            if let Some(before) = self.shape.see(name, self.fields.len()) {
                self.fields[before].name = GONE;
                repeats = true;
            }
            self.fields.push(field(name, start, member));
        }
        self.shape.places.truncate(members.len());
        self.shape.repeats = repeats;
        if repeats {
            let mut kept = first;
            for at in first..self.fields.len() {
                if self.fields[at].name != GONE {
                    self.fields[kept] = self.fields[at];
                    kept += 1;
                }
            }
            self.fields.truncate(kept);
        }
        repeats
    }

    /// The number of the name that starts at `from`; the shape remembers it.
    fn look_up(&mut self, nth: usize, from: usize, len: u32) -> NameId {
        let key = &self.input[from..from + len as usize];
        let plain = memchr::memchr(b'\\', key).is_none();
        let name = if plain { self.names.enter(key) } else { self.names.enter(escape::unescape(key).as_bytes()) };
        let head = head(&self.input, from, len as usize).filter(|_| plain);
        let place = match head {
            Some(head) => Place { name, len, head },
            None => Place { name, len: u32::MAX, head: 0 },
        };
        self.shape.set(nth, place);
        name
    }
}

fn field(name: NameId, start: u32, member: &Member) -> Field {
    Field { name, key: start + member.key, value: start + member.value, len: member.value_len, made: false }
}
