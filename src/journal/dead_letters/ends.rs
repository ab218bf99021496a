//! How parked dead letters ended, by sink, in a small file; its write is the moment at which they end.
//!
//! The file holds the totals of each sink and the numbers of those that ended last. Their own headers are marked
//! afterwards; what a crash keeps from being marked is marked when the queue is opened.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::dead_letter::Number;
use crate::journal::fs::{Fs, Real};
use crate::journal::slots::Slots;
use crate::telemetry::ParkedEnds;
use crate::varint::{put_bytes, put_varint, take_bytes, take_varint};

/// Bytes of one of the file's two slots.
const SLOT_BYTES: usize = 128 * 1024;
/// Dead letters that end in one step.
pub const MAX_ENDS: usize = 1000;
/// Sinks whose totals are kept; of more, those with nothing parked are forgotten.
const MAX_SINKS: usize = 512;

#[derive(Default)]
pub struct Ends {
    /// `None` in memory.
    slots: Option<Slots>,
    totals: BTreeMap<String, ParkedEnds>,
    /// Dead letters that have ended, and may not be marked yet.
    unmarked: Vec<Number>,
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ends").field("totals", &self.totals).field("unmarked", &self.unmarked).finish_non_exhaustive()
    }
}

impl Ends {
    /// Opens or makes the file in the folder of the queue. What cannot be read counts as nothing.
    pub fn open(folder: &Path) -> io::Result<Ends> {
        let fs = Real::default();
        let (slots, stored) = Slots::open(&fs, &folder.join("parked"), SLOT_BYTES)?;
        fs.sync_dir(folder)?;
        let (totals, unmarked) = stored.and_then(|stored| decode(&stored)).unwrap_or_default();
        Ok(Ends { slots: Some(slots), totals, unmarked })
    }

    pub fn of(&self, component: &str) -> ParkedEnds {
        self.totals.get(component).copied().unwrap_or_default()
    }

    /// Dead letters that have ended and are still to be marked.
    pub fn unmarked(&self) -> &[Number] {
        &self.unmarked
    }

    pub fn all_marked(&mut self) {
        self.unmarked.clear();
    }

    /// Ends at most [`MAX_ENDS`] dead letters of a sink. On failure nothing has changed. `has_parked` tells of which
    /// sinks something is parked.
    pub fn commit(
        &mut self,
        component: &str,
        more: ParkedEnds,
        numbers: Vec<Number>,
        has_parked: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        let mut totals = self.totals.clone();
        totals.entry(component.to_owned()).or_default().add(&more);
        if totals.len() > MAX_SINKS {
            totals.retain(|name, _| name == component || has_parked(name));
        }
        if let Some(slots) = &mut self.slots {
            slots.save(&encode(&totals, &numbers))?;
        }
        (self.totals, self.unmarked) = (totals, numbers);
        Ok(())
    }
}

fn encode(totals: &BTreeMap<String, ParkedEnds>, numbers: &[Number]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, numbers.len() as u64);
    numbers.iter().for_each(|number| put_varint(&mut out, number.0));
    for (name, ends) in totals {
        put_bytes(&mut out, name.as_bytes());
        ends.columns().into_iter().for_each(|column| put_varint(&mut out, column));
    }
    out
}

fn decode(mut from: &[u8]) -> Option<(BTreeMap<String, ParkedEnds>, Vec<Number>)> {
    let (mut totals, mut numbers) = (BTreeMap::new(), Vec::new());
    for _ in 0..take_varint(&mut from)? {
        numbers.push(Number(take_varint(&mut from)?));
    }
    while !from.is_empty() {
        let name = String::from_utf8(take_bytes(&mut from)?.to_vec()).ok()?;
        let mut columns = [0; 4];
        for column in &mut columns {
            *column = take_varint(&mut from)?;
        }
        totals.insert(name, ParkedEnds::from_columns(columns));
    }
    Some((totals, numbers))
}
