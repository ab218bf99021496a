//! Groups by time and status computed from the sums of chunks, without reading rows.

use std::io;
use std::sync::Arc;

use super::by_value::name_of;
use super::clock::Clock;
use super::groups::{Failed, Groups, KeyValue, key_value};
use super::part::{Dictionary, Part};
use super::rows::RowFilter;
use super::search::{Place, covers};
use super::short_keys::ShortKeys;
use super::summary::{ChunkTallies, OF_CHUNKS, Tally};
use crate::event::Raw;
use crate::query::request::{AggregateRequest, GroupKey};
use crate::visibility::Visibility;

const HOUR: i64 = 3600 * 1_000_000;

/// The sums of one part, for a request that they can serve.
pub struct ChunkSums {
    statuses: Option<Arc<Dictionary>>,
    clock: Option<Clock>,
    /// Whether each key is a member that no event of the part has.
    is_absent: [bool; 2],
    of_chunks: Arc<ChunkTallies>,
    /// The groups that were just met, by bucket and status.
    known: ShortKeys,
}

fn is_time(by: &GroupKey) -> bool {
    name_of(by).is_none() && !matches!(by, GroupKey::Field(_))
}

impl ChunkSums {
    pub fn of(place: &Place, request: &AggregateRequest, visibility: &Visibility) -> io::Result<Option<ChunkSums>> {
        let Place::Part(part) = place else { return Ok(None) };
        let filter = &request.filter;
        let is_of_all = filter.equals.is_empty() && visibility.only_user().is_none();
        if !is_of_all || request.with_percentiles || request.group_by.len() > 2 || !part.has_sums() {
            return Ok(None);
        }
        // Where events are all of one kind, sums serve also those who ask for that kind.
        if filter.query.is_some() && !RowFilter::new(place, filter, visibility)?.is_true_of_all() {
            return Ok(None);
        }
        let mut is_absent = [false; 2];
        for (is_absent, by) in is_absent.iter_mut().zip(&request.group_by) {
            *is_absent = name_of(by).is_some_and(|name| part.column(name).is_none());
        }
        Ok(Some(ChunkSums {
            is_absent,
            of_chunks: part.chunk_sums()?,
            known: ShortKeys::default(),
            statuses: dictionary(part, OF_CHUNKS)?,
            clock: request.group_by.iter().find(|by| is_time(by)).map(Clock::new),
        }))
    }

    /// The keys that events of the part can have, and their places.
    fn present<'r>(&self, request: &'r AggregateRequest) -> impl Iterator<Item = (usize, &'r GroupKey)> + use<'r> {
        let is_absent = self.is_absent;
        request.group_by.iter().enumerate().filter(move |(nth, _)| !is_absent[*nth])
    }

    /// Adds a chunk, if all of it belongs to the groups that its sums tell of.
    pub fn add_chunk(&mut self, chunk: usize, request: &AggregateRequest, groups: &mut Groups) -> Result<bool, Failed> {
        let of_chunks = self.of_chunks.clone();
        let Some(tallies) = of_chunks.chunk(chunk) else { return Ok(false) };
        let first = tallies.iter().map(|tally| tally.first).min().unwrap_or(i64::MAX);
        let last = tallies.iter().map(|tally| tally.last).max().unwrap_or(i64::MIN);
        let is_served = |by: &GroupKey| is_time(by) || name_of(by) == Some(OF_CHUNKS);
        if first > last
            || !self.present(request).all(|(_, by)| is_served(by))
            || !covers(&request.filter, (first, last))
        {
            return Ok(false);
        }
        let mut bucket = None;
        for by in request.group_by.iter().filter(|by| is_time(by)) {
            let clock = self.clock.as_mut().expect("a time is among the keys");
            let (key, end) = (clock.key(by, first), clock.key(by, last));
            // Hours come again every day, and a clock may be put back.
            let is_long = matches!(by, GroupKey::Hour(_)) && last - first >= HOUR;
            if key != end || is_long || bucket.is_some() {
                return Ok(false);
            }
            bucket = Some(key);
        }
        for tally in tallies {
            let short = [bucket.unwrap_or(i64::MIN), i64::from(tally.code)];
            if let Some(number) = self.known.get(short) {
                groups.merge_into(number, tally);
                continue;
            }
            let mut keys = [KeyValue::Missing, KeyValue::Missing];
            for (nth, by) in self.present(request) {
                keys[nth] = match bucket.filter(|_| is_time(by)) {
                    Some(bucket) => KeyValue::Number(bucket),
                    None => value_of(self.statuses.as_deref(), tally),
                };
            }
            let number = groups.merge(keys, tally, request)?;
            self.known.insert(short, number);
        }
        Ok(true)
    }
}

fn dictionary(part: &Part, name: &str) -> io::Result<Option<Arc<Dictionary>>> {
    part.column(name).map(|(column, _)| part.dictionary(column)).transpose()
}

fn value_of(values: Option<&Dictionary>, tally: &Tally) -> KeyValue {
    let value = values.and_then(|values| values.get(i64::from(tally.code)));
    key_value(value.map(Raw::valid))
}
