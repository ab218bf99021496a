//! Retention classes: events with different retention go into separate parts, which can be dropped whole.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::coded::{IN_LINE, NONE, number_of};
use super::members::Walked;
use super::retention::each_held;
use super::search::Place;
use super::split::Shapes;
use super::tail::{NewEvent, TailChunk};
use super::tail_memory::{Frozen, TailMemory};
use crate::event::{Raw, Seed};
use crate::query::Query;
use crate::units::Timestamp;

/// The most parts that one tail becomes, but for that of held events; types beyond them lie with those that nothing is said of.
const MAX_CLASSES: usize = 8;
/// A part with more types of events does not say when each came last.
const MAX_TYPES: usize = 256;

/// What one part is made of.
pub struct Class {
    pub chunks: Vec<Arc<TailChunk>>,
    pub seeds: Vec<Seed>,
    pub shapes: Arc<Shapes>,
}

/// The events of a tail by how long they stay, those that are held last.
pub fn split(frozen: &Frozen, ages: &BTreeMap<String, Duration>, hold: Option<&Arc<Query>>) -> io::Result<Vec<Class>> {
    let whole =
        || Class { chunks: frozen.view.chunks.clone(), seeds: frozen.seeds.clone(), shapes: frozen.shapes.clone() };
    let held = match hold {
        Some(hold) => held(frozen, hold)?,
        None => BTreeSet::new(),
    };
    if ages.is_empty() && held.is_empty() {
        return Ok(vec![whole()]);
    }
    let mut different: Vec<Duration> = ages.values().copied().collect();
    different.sort_unstable();
    different.dedup();
    different.truncate(MAX_CLASSES - 1);
    let class_of = |event_type: &str| {
        let age = ages.get(event_type);
        age.and_then(|age| different.iter().position(|one| one == age)).map_or(0, |nth| nth + 1)
    };
    let of_held = different.len() + 1;
    let mut memories: Vec<TailMemory> = (0..=of_held).map(|_| TailMemory::default()).collect();
    for (at, chunk) in frozen.view.chunks.iter().enumerate() {
        let lines = chunk.lines()?;
        let types = types_of(chunk, |row| lines.line(row).to_vec());
        let class_of = |row: usize| if held.contains(&(at, row)) { of_held } else { class_of(&types[row]) };
        for (nth, memory) in memories.iter_mut().enumerate() {
            let mut walked = Walked::default();
            let rows = chunk.rows.iter().enumerate().filter(|(row, _)| class_of(*row) == nth);
            let events = rows.map(|(row, head)| NewEvent {
                seq: head.seq,
                received_at: Timestamp(head.received),
                seed: frozen.seeds[head.seed as usize],
                ordinal: head.ordinal,
                line: lines.line(row),
            });
            let events: Vec<NewEvent<'_>> = events.collect();
            let prepared: Vec<_> = events.iter().map(|event| event.prepare(&mut walked)).collect();
            memory.enter(&prepared, &walked, &[])?;
        }
    }
    memories.retain(|memory| memory.events > 0);
    if memories.len() < 2 {
        return Ok(vec![whole()]);
    }
    let classes = memories.into_iter().map(|mut memory| {
        let Frozen { view, seeds, shapes, .. } = memory.freeze(frozen.number, frozen.path.clone())?;
        Ok(Class { chunks: view.chunks, seeds, shapes })
    });
    classes.collect()
}

/// Chunk and row of each event that is held.
fn held(frozen: &Frozen, hold: &Arc<Query>) -> io::Result<BTreeSet<(usize, usize)>> {
    let mut held = BTreeSet::new();
    each_held(&Place::Tail(frozen.view.clone()), hold, |chunk, rows| {
        held.extend(rows.iter().map(|row| (chunk, *row)));
        true
    })?;
    Ok(held)
}

/// The type of each event of a chunk.
fn types_of(chunk: &TailChunk, line: impl Fn(usize) -> Vec<u8>) -> Vec<String> {
    let column = number_of("event_type").and_then(|nth| chunk.columns.of(nth));
    let values: Vec<String> = column.iter().flat_map(|column| column.values()).map(text).collect();
    let of_row = |row: usize| match column.map_or(IN_LINE, |column| column.code(row)) {
        NONE => String::new(),
        IN_LINE => Raw::valid(&line(row)).get("event_type").map(text).unwrap_or_default(),
        code => values[usize::from(code) - 1].clone(),
    };
    (0..chunk.rows.len()).map(of_row).collect()
}

fn text(value: Raw<'_>) -> String {
    value.display().into_owned()
}

/// When events of each type were received last; none where there are too many types.
pub fn last_received(chunks: &[Arc<TailChunk>]) -> io::Result<Option<BTreeMap<String, i64>>> {
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for chunk in chunks {
        for (event_type, received) in last_of_chunk(chunk)? {
            let known = last.entry(event_type).or_insert(received);
            *known = (*known).max(received);
            if last.len() > MAX_TYPES {
                return Ok(None);
            }
        }
    }
    Ok(Some(last))
}

/// The types of a chunk's events, each at least once, with when one was received last.
fn last_of_chunk(chunk: &TailChunk) -> io::Result<Vec<(String, i64)>> {
    let column = number_of("event_type").and_then(|nth| chunk.columns.of(nth));
    let is_told = |row: &usize| column.is_some_and(|column| column.code(*row) != IN_LINE);
    let (Some(column), true) = (column, (0..chunk.rows.len()).all(|row| is_told(&row))) else {
        let lines = chunk.lines()?;
        let types = types_of(chunk, |row| lines.line(row).to_vec());
        return Ok(types.into_iter().zip(chunk.rows.iter().map(|head| head.received)).collect());
    };
    // The first is for rows without a type.
    let mut last = vec![None; column.values().count() + 1];
    for (row, head) in chunk.rows.iter().enumerate() {
        let known = &mut last[usize::from(column.code(row))];
        *known = (*known).max(Some(head.received));
    }
    let names = std::iter::once(String::new()).chain(column.values().map(text));
    Ok(names.zip(last).filter_map(|(name, received)| Some((name, received?))).collect())
}
