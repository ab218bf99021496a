//! Groups by time and status computed from the sums of chunks, without reading rows.

use std::io;
use std::sync::Arc;

use super::by_value::name_of;
use super::chunk_tops::{ChunkTops, Served, Told};
use super::clock::Clock;
use super::dictionary::Dictionary;
use super::groups::{Hidden, KeyValue, Keys, PartialGroups, key_value};
use super::part::Part;
use super::plan::Accepted;
use super::rows::RowFilter;
use super::search::{Place, covers};
use super::short_keys::ShortKeys;
use super::summary::{ChunkTallies, OF_CHUNKS, Tally};
use crate::event::Raw;
use crate::query::request::{AggregateRequest, GroupKey};
use crate::visibility::Visibility;

const HOUR: i64 = 3600 * 1_000_000;

/// The sums of one part, for a request that they can serve.
pub struct ChunkSums<'p> {
    part: &'p Part,
    statuses: Option<Arc<Dictionary>>,
    clock: Option<Clock>,
    /// Whether each key is a member that no event of the part has.
    is_absent: [bool; 2],
    of_chunks: Arc<ChunkTallies>,
    /// The statuses that are asked for.
    accepted: Accepted,
    /// The groups that were met, and their numbers by bucket and status.
    keys: Vec<Keys>,
    tallies: Vec<Tally>,
    known: ShortKeys,
    /// For percentiles: the greatest durations, and the sums that were added.
    tops: Option<Arc<ChunkTops>>,
    served: Vec<Served>,
}

fn is_time(by: &GroupKey) -> bool {
    name_of(by).is_none() && !matches!(by, GroupKey::Field(_))
}

impl<'p> ChunkSums<'p> {
    pub fn of(
        place: &'p Place,
        request: &AggregateRequest,
        visibility: &Visibility,
    ) -> io::Result<Option<ChunkSums<'p>>> {
        let Place::Part(part) = place else { return Ok(None) };
        let filter = &request.filter;
        if request.group_by.len() > 2 || !part.has_sums() {
            return Ok(None);
        }
        let tops = if request.with_percentiles { part.chunk_tops()? } else { None };
        if request.with_percentiles && tops.is_none() {
            return Ok(None);
        }
        // Where events are all of one kind, sums serve also those who ask for that kind.
        let status = part.column(OF_CHUNKS).map(|(column, _)| column);
        let Some(accepted) = RowFilter::new(place, filter, visibility)?.accepted(status) else { return Ok(None) };
        let mut is_absent = [false; 2];
        for (is_absent, by) in is_absent.iter_mut().zip(&request.group_by) {
            *is_absent = name_of(by).is_some_and(|name| part.column(name).is_none());
        }
        Ok(Some(ChunkSums {
            part,
            accepted,
            tops,
            served: Vec::new(),
            is_absent,
            of_chunks: part.chunk_sums()?,
            keys: Vec::new(),
            tallies: Vec::new(),
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
    pub fn add_chunk(&mut self, chunk: usize, request: &AggregateRequest) -> bool {
        let of_chunks = self.of_chunks.clone();
        let Some(tallies) = of_chunks.chunk(chunk).filter(|tallies| !tallies.is_empty()) else { return false };
        let is_served = |by: &GroupKey| is_time(by) || name_of(by) == Some(OF_CHUNKS);
        if !self.present(request).all(|(_, by)| is_served(by)) {
            return false;
        }
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for tally in tallies.iter().filter(|tally| self.accepted.accepts(tally.code)) {
            (first, last) = (first.min(tally.first), last.max(tally.last));
        }
        if first > last {
            return true;
        }
        if !covers(&request.filter, (first, last)) {
            return false;
        }
        let mut bucket = None;
        for by in request.group_by.iter().filter(|by| is_time(by)) {
            let clock = self.clock.as_mut().expect("a time is among the keys");
            let (key, end) = (clock.key(by, first), clock.key(by, last));
            // Hours come again every day, and a clock may be put back.
            let is_long = matches!(by, GroupKey::Hour(_)) && last - first >= HOUR;
            if key != end || is_long || bucket.is_some() {
                return false;
            }
            bucket = Some(key);
        }
        for tally in tallies {
            if !self.accepted.accepts(tally.code) {
                continue;
            }
            let short = [bucket.unwrap_or(i64::MIN), i64::from(tally.code)];
            let group = match self.known.get(short) {
                Some(group) => group,
                None => {
                    let mut keys = [KeyValue::Missing, KeyValue::Missing];
                    for (nth, by) in self.present(request) {
                        keys[nth] = match bucket.filter(|_| is_time(by)) {
                            Some(bucket) => KeyValue::Number(bucket),
                            None => value_of(self.statuses.as_deref(), tally),
                        };
                    }
                    self.keys.push(keys);
                    self.tallies.push(Tally::new(0));
                    self.known.insert(short, self.keys.len() - 1);
                    self.keys.len() - 1
                }
            };
            self.tallies[group].join(tally);
            if self.tops.is_some() && tally.durations > 0 {
                let Tally { code, durations, .. } = *tally;
                self.served.push(Served { chunk, code, group, durations });
            }
        }
        true
    }

    /// The groups of the chunks that were added, with the greatest of their durations.
    pub fn groups(self) -> io::Result<PartialGroups> {
        let mut told = vec![(Vec::new(), None::<Hidden>); self.keys.len()];
        if let Some(tops) = &self.tops {
            let of_statuses = tops.told(self.part.chunks(), &self.served);
            let of_statuses =
                of_statuses.ok_or_else(|| self.part.damaged("its greatest durations do not fit its sums"))?;
            for Told { group, keys, hidden } in of_statuses {
                let (durations, before) = &mut told[group];
                durations.extend(keys);
                *before = match (*before, hidden) {
                    (Some(one), Some(other)) => {
                        Some(Hidden { count: one.count + other.count, most: one.most.max(other.most) })
                    }
                    (one, other) => one.or(other),
                };
            }
        }
        let (mut durations, mut ends, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        for (of_group, hidden_of_group) in told {
            durations.extend(of_group);
            ends.push(durations.len());
            hidden.push(hidden_of_group);
        }
        Ok(PartialGroups::of(self.keys, self.tallies, durations, ends).hiding(hidden))
    }
}

fn dictionary(part: &Part, name: &str) -> io::Result<Option<Arc<Dictionary>>> {
    part.column(name).map(|(column, _)| part.dictionary(column)).transpose()
}

fn value_of(values: Option<&Dictionary>, tally: &Tally) -> KeyValue {
    let value = values.and_then(|values| values.get(i64::from(tally.code)));
    key_value(value.map(Raw::valid))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{Folder, START, Stored, all, filter, later, plain};
    use super::super::{Options, Store};
    use super::*;
    use crate::query::request::Zone;
    use crate::units::Timestamp;

    const DAY: i64 = 24 * HOUR;

    /// Days begin within parts and within chunks, and some hours are slow.
    #[test]
    fn percentiles_by_time_and_status_are_those_of_a_plain_list() {
        const EVENTS: i64 = 12_000;
        let folder = Folder::new();
        let (store, _) = Store::open(&Options { part_events: 1500, ..Options::new(&folder.0) }).expect("it opens");
        let time = |n: i64| START + n * 31_000_000;
        let status = |n: i64| if n % 7 == 0 { "error" } else { "success" };
        let duration = |n: i64| match n / 750 % 8 {
            5 => 5_000.0 + (n * 7919 % 10_007) as f64,
            2 => (n * 7919 % 10_007) as f64 / 1000.0,
            _ => (n * 7919 % 10_007) as f64 / 4.0 + 1.0,
        };
        let event = |n: i64| {
            let (time, status) = (Timestamp(time(n)), status(n));
            plain(
                n as u64 + 1,
                &format!(r#"{{"timestamp":"{time}","status":"{status}","duration_ms":{}}}"#, duration(n)),
            )
        };
        for from in (0..EVENTS).step_by(500) {
            let events: Vec<Stored> = (from..from + 500).map(event).collect();
            store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
        }
        store.settle();
        let parts = store.snapshot().parts.clone();
        assert!(parts.len() >= 7 && parts.iter().all(|part| part.chunk_tops().is_ok_and(|tops| tops.is_some())));
        let zone = |hours: i8| Zone(jiff::tz::TimeZone::fixed(jiff::tz::offset(hours)));
        let status_key = GroupKey::Field(vec!["status".to_owned()]);
        let interval = GroupKey::Interval { micros: 6 * HOUR, zone: Zone::default() };
        let mut asked: Vec<(Vec<GroupKey>, i64, i64)> = vec![
            (vec![GroupKey::Day(zone(0)), status_key.clone()], DAY, 0),
            (vec![GroupKey::Day(zone(5)), status_key.clone()], DAY, 5 * HOUR),
            (vec![GroupKey::Day(zone(0))], DAY, 0),
            (vec![status_key.clone()], i64::MAX, 0),
            (vec![interval, status_key], 6 * HOUR, 0),
        ];
        // The second answer comes from what was kept of the first.
        asked.extend(asked.clone());
        for (group_by, bucket, offset) in asked {
            for query in ["", "status:error", "-status:error", "status:(error OR lost)", "-status:(error OR success)"] {
                let is_meant = |n: i64| match query {
                    "" => true,
                    "status:error" | "status:(error OR lost)" => status(n) == "error",
                    "-status:error" => status(n) != "error",
                    _ => false,
                };
                let by_status = group_by.iter().any(|by| name_of(by).is_some());
                let mut wanted: BTreeMap<(i64, &str), Vec<f64>> = BTreeMap::new();
                for n in (0..EVENTS).filter(|n| is_meant(*n)) {
                    let status = if by_status { status(n) } else { "" };
                    let bucket = (time(n) + offset).div_euclid(bucket);
                    wanted.entry((bucket, status)).or_default().push(duration(n));
                }
                let mut p95s: Vec<(u64, f64)> = Vec::new();
                for durations in wanted.values_mut() {
                    durations.sort_unstable_by(f64::total_cmp);
                    let nth = (durations.len() as f64 * 0.95).ceil() as usize - 1;
                    p95s.push((durations.len() as u64, durations[nth]));
                }
                let request = AggregateRequest {
                    filter: filter(query),
                    group_by: group_by.clone(),
                    with_durations: true,
                    with_percentiles: true,
                    max_groups: 1000,
                    min_count: 0,
                    top: None,
                    deadline: later(),
                };
                let mut found: Vec<(u64, f64)> = Vec::new();
                let mut groups = store.snapshot().aggregate(&request, &all()).expect("groups");
                groups.sort_by(|a, b| a.keys.cmp(&b.keys));
                found.extend(groups.iter().map(|group| (group.count, group.p95_ms.expect("there are durations"))));
                assert_eq!(found.len(), p95s.len(), "{query} {group_by:?}");
                for ((count, found), (of, wanted)) in found.iter().zip(&p95s) {
                    assert_eq!(count, of, "{query} {group_by:?}");
                    // Some groups have more values than are kept one by one.
                    let most = if *of > 1024 { wanted * 0.01 } else { 0.0 };
                    assert!((found - wanted).abs() <= most + 0.001, "{query} {group_by:?}: {found} {wanted}");
                }
            }
        }
    }

    /// What a part does not read for a filter of statuses, and for two of them.
    #[test]
    fn sums_of_chunks_serve_a_filter_of_statuses() {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let line = |n: u64| match n % 3 {
            0 => r#"{"status":"error","code":"a"}"#.to_owned(),
            1 => format!(r#"{{"status":"success","code":"{n}"}}"#),
            _ => r#"{"code":"b"}"#.to_owned(),
        };
        let events: Vec<Stored> = (0..900).map(|n| plain(n + 1, &line(n))).collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
        store.seal_now().expect("a part is made");
        let place = store.snapshot().places().swap_remove(0);
        for (query, count) in [
            ("status:error", Some(300)),
            ("-status:error", Some(600)),
            ("status:(error OR success)", Some(600)),
            ("-status:lost status:error", Some(300)),
            ("status:error code:a", None),
        ] {
            let request = AggregateRequest {
                filter: filter(query),
                group_by: Vec::new(),
                with_durations: true,
                with_percentiles: false,
                max_groups: 10,
                min_count: 0,
                top: None,
                deadline: later(),
            };
            let sums = ChunkSums::of(&place, &request, &all()).expect("it is read");
            let counted = sums.map(|mut sums| {
                assert!((0..place.chunks()).all(|chunk| sums.add_chunk(chunk, &request)), "{query}");
                sums.tallies.iter().map(|tally| tally.count).sum::<u64>()
            });
            assert_eq!(counted, count, "{query}");
        }
    }
}
