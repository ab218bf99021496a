//! Edits that transforms make to the events of a batch (after `split_all`).

use super::{Batch, Event, Field, MADE};
use crate::event::escape;
use crate::event::names::NameId;

/// A value that a transform made, in the batch it was made in.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    at: u32,
    len: u32,
}

/// Slots that an event gets beyond what it needs when its fields have to move: transforms add more than one.
const SPARE: usize = 7;

impl Batch {
    /// Sets a field to a value given as JSON text: in its place if the event has it, else at the end.
    pub fn set_json(&mut self, event: usize, name: NameId, json: &[u8]) {
        let value = self.make(json);
        self.put(event, name, value);
    }

    /// Makes a value, given as JSON text, that any number of events may have.
    pub fn make(&mut self, json: &[u8]) -> Made {
        let at = self.made_end();
        self.made.extend_from_slice(json);
        Made { at, len: json.len() as u32 }
    }

    /// Sets a field to a value of this batch's making: in its place if the event has it, else at the end.
    pub fn set_made(&mut self, event: usize, name: NameId, value: Made) {
        self.put(event, name, value);
    }

    /// Sets a field to a string.
    pub fn set_str(&mut self, event: usize, name: NameId, text: &str) {
        let at = self.made_end();
        escape::push_string(&mut self.made, text);
        self.put(event, name, Made { at, len: self.made_end() - at });
    }

    /// Replaces the value of the n-th field by JSON text.
    pub fn set_nth(&mut self, event: usize, nth: usize, json: &[u8]) {
        let Made { at: value, len } = self.make(json);
        let at = self.events[event].first as usize + nth;
        let field = &mut self.fields[at];
        (field.value, field.len, field.made) = (value, len, true);
        self.events[event].edited = true;
    }

    /// Replaces the value of the n-th field by JSON text that is written from the bytes that came in.
    pub fn rewrite_nth(&mut self, event: usize, nth: usize, write: impl FnOnce(&[u8], &mut Vec<u8>)) {
        let value = self.made_end();
        write(&self.input, &mut self.made);
        let len = self.made_end() - value;
        let at = self.events[event].first as usize + nth;
        let field = &mut self.fields[at];
        (field.value, field.len, field.made) = (value, len, true);
        self.events[event].edited = true;
    }

    /// Sets a field to JSON text that is written in its place.
    pub fn set_with(&mut self, event: usize, name: NameId, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.made_end();
        write(&mut self.made);
        self.put(event, name, Made { at, len: self.made_end() - at });
    }

    /// Makes space for so many more bytes that transforms make, and for as many again that will follow, so that what is
    /// made need not move.
    pub fn reserve_made(&mut self, bytes: usize, times: usize) {
        if self.made.capacity() - self.made.len() < bytes {
            self.made.reserve((bytes * times).min(self.input.len() * 2).max(bytes));
        }
    }

    fn made_end(&self) -> u32 {
        u32::try_from(self.made.len()).expect("transforms make far less than 4 GiB of a chunk")
    }

    fn put(&mut self, event: usize, name: NameId, Made { at: value, len }: Made) {
        self.events[event].edited = true;
        let Event { first, count, .. } = self.events[event];
        let range = first as usize..(first + count) as usize;
        if let Some(field) = self.fields[range].iter_mut().find(|field| field.name == name) {
            (field.value, field.len, field.made) = (value, len, true);
            return;
        }
        self.append(event, Field { name, key: MADE, value, len, made: true });
    }

    /// Adds a field behind the others of its event: in a spare slot, at the end of the table, or after moving there.
    fn append(&mut self, event: usize, field: Field) {
        let Event { first, count, capacity, .. } = self.events[event];
        let (start, end) = (first as usize, (first + count) as usize);
        if count < capacity {
            self.fields[end] = field;
        } else if end == self.fields.len() {
            self.fields.push(field);
            self.events[event].capacity += 1;
        } else {
            let moved = self.fields.len();
            let needed = count as usize + 1 + SPARE;
            if self.fields.capacity() - moved < needed {
                self.fields.reserve(needed * (self.events.len() - event));
            }
            self.fields.extend_from_within(start..end);
            self.fields.resize(moved + needed, field);
            (self.events[event].first, self.events[event].capacity) = (moved as u32, needed as u32);
        }
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
}
