//! Positions of events and fields, for scanning many events at once.

use std::ops::Range;

use super::{Batch, Event, MADE};
use crate::event::names::{KNOWN, NameId};
use crate::event::raw::value_end;

/// Where a field stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name's opening quote in the input; nothing where a transform gave the name.
    pub key: Option<usize>,
    /// The value, in what transforms made or in the input.
    pub value: Range<usize>,
    pub made: bool,
}

impl Batch {
    /// The bytes that came in; events and untouched values are parts of it.
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    /// The values that transforms have made, one after another.
    pub fn made(&self) -> &[u8] {
        &self.made
    }

    /// Where an event stands in the input.
    #[inline]
    pub fn span(&self, event: usize) -> Range<usize> {
        let Event { start, len, .. } = self.events[event];
        start as usize..(start + len) as usize
    }

    /// Where the member's name ends whose opening quote stands at `key` of the input.
    pub fn key_end(&self, key: usize) -> usize {
        self.input.get(key..).map_or(key, |rest| key + value_end(rest))
    }

    /// Where the n-th field of a split event stands.
    #[inline]
    pub fn place(&self, event: usize, nth: usize) -> Place {
        let field = &self.table(event)[nth];
        Place {
            key: (field.key != MADE).then_some(field.key as usize),
            value: field.value as usize..(field.value + field.len) as usize,
            made: field.made,
        }
    }

    pub fn is_split(&self, event: usize) -> bool {
        self.events[event].split
    }

    /// The names of this batch beyond the canonical ones.
    pub fn other_names(&self) -> impl Iterator<Item = (NameId, &str)> {
        (KNOWN.len()..self.names.count()).map(|at| NameId(at as u32)).map(|id| (id, self.name(id)))
    }
}
