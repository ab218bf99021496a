//! The groups of an aggregate: what one place adds to them, and all of them together.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::aggregate::Outcome;
use super::budget::{Held, Share};
use super::clock::DAY;
use super::duration_key::key_of;
use super::hashing::Seeded;
use super::percentile::{Found, MAX_EXACT, MAX_EXACT_OF_GROUP, MAX_EXACT_OF_MANY, Percentile};
use super::search::Stop;
use super::short_keys::ShortKeys;
use super::slices::Slice;
use super::summary::Tally;
use super::value_tops::kept_of;
use crate::event::Raw;
use crate::query::request::{AggregateRequest, Group, GroupKey, ReadError};
use crate::units::Timestamp;

pub enum Failed {
    Stop(Stop),
    TooMany,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Stop(Stop::Io(error))
    }
}

impl From<ReadError> for Failed {
    fn from(error: ReadError) -> Failed {
        Failed::Stop(Stop::Failed(error))
    }
}

/// One part of a group's key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeyValue {
    Missing,
    Number(i64),
    Text(Arc<str>),
}

pub type Keys = [KeyValue; 2];

pub fn key_value(value: Option<Raw<'_>>) -> KeyValue {
    match value.filter(|value| !value.is_null()) {
        Some(value) => KeyValue::Text(value.display().as_ref().into()),
        None => KeyValue::Missing,
    }
}

/// What is counted of a group, with its percentile where that is wanted.
type Counted = (Tally, Option<Box<Percentile>>);

/// Bytes of a group beside the texts of its keys: its sums, and its place in the table, of both of which a third may be
/// empty.
const GROUP_BYTES: usize = (std::mem::size_of::<Counted>() + std::mem::size_of::<(Keys, u32)>()) * 3 / 2;
/// Bytes of a text beside its own: how often it is held, and what its allocation takes.
const TEXT_BYTES: usize = 32;
const PERCENTILE_BYTES: usize = std::mem::size_of::<Percentile>() + 16;
/// Bytes of a group in the table of one place, and more for one whose keys have no codes.
const PARTIAL_BYTES: usize = std::mem::size_of::<Tally>() + std::mem::size_of::<Keys>() + 3 * 32;
const FULL_BYTES: usize = 2 * std::mem::size_of::<Keys>();

/// From so many groups on, percentiles are exact for fewer values.
const MANY: usize = 1000;

/// The percentile that is asked for.
const P95: f64 = 0.95;

/// Durations of a group that a place has not told: how many there are, and what none of them exceeds.
#[derive(Clone, Copy)]
pub struct Hidden {
    pub count: u32,
    pub most: i32,
}

#[derive(Clone, Copy)]
struct HiddenAt {
    group: u32,
    place: u32,
    most: i32,
}

/// All groups; two threads share them.
pub struct Groups {
    /// Which groups these are, of all that there are.
    pub slice: Slice,
    numbers: HashMap<Keys, u32, Seeded>,
    groups: Vec<Counted>,
    /// What places have not told of their durations.
    hidden: Vec<HiddenAt>,
    share: Arc<Share>,
    held: Held,
}

impl Groups {
    pub fn new(share: &Arc<Share>, slice: Slice) -> Groups {
        Groups {
            slice,
            numbers: HashMap::default(),
            groups: Vec::new(),
            hidden: Vec::new(),
            share: share.clone(),
            held: Held::default(),
        }
    }

    /// The number of a group, which may be a new one.
    pub fn number(&mut self, key: Keys, request: &AggregateRequest) -> Result<usize, Failed> {
        if let Some(known) = self.numbers.get(&key) {
            return Ok(*known as usize);
        }
        if self.groups.len() >= request.max_groups.min(u32::MAX as usize) {
            return Err(Failed::TooMany);
        }
        let percentile = if request.with_percentiles { PERCENTILE_BYTES } else { 0 };
        self.held.add(&self.share, GROUP_BYTES + percentile + texts_of(&key))?;
        if self.groups.len() == MANY {
            self.limit_percentiles();
        }
        let exact = match self.groups.len() {
            _ if request.group_by.is_empty() => MAX_EXACT,
            0..MANY => MAX_EXACT_OF_GROUP,
            _ => MAX_EXACT_OF_MANY,
        };
        let number = self.groups.len();
        self.groups.push((Tally::new(0), request.with_percentiles.then(|| Box::new(Percentile::new(exact)))));
        self.numbers.insert(key, number as u32);
        Ok(number)
    }

    fn limit_percentiles(&mut self) {
        for percentile in self.groups.iter_mut().filter_map(|(_, percentile)| percentile.as_mut()) {
            let before = percentile.weight();
            percentile.limit(MAX_EXACT_OF_MANY);
            self.held.sub(before.saturating_sub(percentile.weight()));
        }
    }

    pub fn merge_into(&mut self, number: usize, tally: &Tally) {
        self.groups[number].0.join(tally);
    }

    fn add_durations(&mut self, number: usize, add: impl FnOnce(&mut Percentile)) -> Result<(), Failed> {
        if let (_, Some(percentile)) = &mut self.groups[number] {
            let before = percentile.weight();
            add(percentile);
            if self.held.add(&self.share, percentile.weight().saturating_sub(before)).is_err() {
                // Less exact rather than refused.
                self.held.sub(percentile.weight().saturating_sub(before));
                percentile.limit(MAX_EXACT_OF_GROUP);
                self.held.add(&self.share, percentile.weight().saturating_sub(before))?;
            }
            self.held.sub(before.saturating_sub(percentile.weight()));
        }
        Ok(())
    }

    fn hide(&mut self, number: usize, place: usize, hidden: Hidden) -> Result<(), Failed> {
        self.held.add(&self.share, std::mem::size_of::<HiddenAt>())?;
        self.hidden.push(HiddenAt { group: number as u32, place: place as u32, most: hidden.most });
        self.add_durations(number, |percentile| percentile.hide(u64::from(hidden.count)))
    }

    /// The places that have to tell the rest of their durations, since percentiles may be among them.
    pub fn unsettled(&mut self) -> Vec<usize> {
        let mut found: HashMap<u32, Option<Found>, Seeded> = HashMap::default();
        let groups = &mut self.groups;
        self.hidden.retain(|HiddenAt { group, most, .. }| {
            let percentile = groups[*group as usize].1.as_mut();
            let found = found.entry(*group).or_insert_with(|| percentile.and_then(|percentile| percentile.find(P95)));
            !found.is_some_and(|found| found.stays(*most))
        });
        let mut places: Vec<usize> = self.hidden.iter().map(|hidden| hidden.place as usize).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The durations of groups of a place, by their numbers.
    pub fn numbered(&self, groups: &PartialGroups) -> Vec<(usize, Vec<i32>)> {
        let mut numbered = Vec::with_capacity(groups.keys.len());
        groups.each(|key, durations| {
            numbered.extend(self.numbers.get(key).map(|number| (*number as usize, durations.to_vec())));
        });
        numbered
    }

    /// Adds what an unsettled place had not told: of all durations of its groups those that are not among `told`.
    pub fn reveal(&mut self, place: usize, told: Vec<(usize, Vec<i32>)>, all: &PartialGroups) -> Result<(), Failed> {
        let here = self.hidden.iter().filter(|hidden| hidden.place as usize == place);
        let mut left: HashMap<usize, Vec<i32>, Seeded> =
            here.map(|hidden| (hidden.group as usize, Vec::new())).collect();
        let numbers = &self.numbers;
        all.each(|key, durations| {
            if let Some(left) = numbers.get(key).and_then(|number| left.get_mut(&(*number as usize))) {
                left.extend_from_slice(durations);
            }
        });
        left.values_mut().for_each(|left| left.sort_unstable());
        let mut told_of: HashMap<usize, Vec<i32>, Seeded> = HashMap::default();
        for (number, durations) in told {
            told_of.entry(number).or_default().extend(durations);
        }
        for (number, all) in left {
            let mut told = told_of.remove(&number).unwrap_or_default();
            told.sort_unstable();
            let mut told = told.into_iter().peekable();
            let left: Vec<i32> = all.into_iter().filter(|key| told.next_if_eq(key).is_none()).collect();
            self.add_durations(number, |percentile| percentile.reveal(&left))?;
        }
        Ok(())
    }

    /// How many groups have a first key.
    pub fn named(&self) -> u64 {
        self.numbers.keys().filter(|key| key[0] != KeyValue::Missing && self.slice.has(key)).count() as u64
    }

    /// The groups one after another; their memory is held until all have been taken.
    pub fn finish(self, group_by: &[GroupKey]) -> impl Iterator<Item = Group> {
        let Groups { slice, numbers, mut groups, held, .. } = self;
        // Sums of whole parts tell also of groups of other slices.
        let mine = numbers.into_iter().filter(move |(key, _)| slice.has(key));
        mine.map(move |(key, number)| {
            let (tally, percentile) = &mut groups[number as usize];
            let percentile = percentile.take().and_then(|mut percentile| percentile.of(P95));
            let _until_the_end = &held;
            let mut group = Group { keys: group_by.iter().zip(&key).map(label).collect(), ..tally.group() };
            // The middle of a bucket may lie above all of its values.
            group.p95_ms = percentile.map(|value| group.max_ms.map_or(value, |max| value.min(max)));
            group
        })
    }
}

/// How a key is written.
fn label((by, value): (&GroupKey, &KeyValue)) -> Option<String> {
    match (by, value) {
        (_, KeyValue::Missing) => None,
        (_, KeyValue::Text(text)) => Some(text.to_string()),
        (GroupKey::Day(_), KeyValue::Number(day)) => Some(Timestamp(day * DAY).to_string()[..10].to_owned()),
        (GroupKey::Interval { .. }, KeyValue::Number(start)) => Some(Timestamp(*start).to_string()),
        (_, KeyValue::Number(number)) => Some(number.to_string()),
    }
}

/// Keys by how they are written; none where that is not how they would be.
pub fn keys_of(by: &[GroupKey], labels: &[Option<String>]) -> Option<Keys> {
    let mut keys = [KeyValue::Missing, KeyValue::Missing];
    for ((key, by), written) in keys.iter_mut().zip(by).zip(labels) {
        let Some(text) = written else { continue };
        *key = match by {
            GroupKey::Field(_) => KeyValue::Text(text.as_str().into()),
            GroupKey::Day(_) => KeyValue::Number(Timestamp::parse(&format!("{text}T00:00:00Z"))?.0.div_euclid(DAY)),
            GroupKey::Interval { .. } => KeyValue::Number(Timestamp::parse(text)?.0),
            GroupKey::Hour(_) => KeyValue::Number(text.parse().ok()?),
        };
        if label((by, key)) != *written {
            return None;
        }
    }
    Some(keys)
}

/// Bytes of the texts of keys.
fn texts_of(key: &Keys) -> usize {
    let text = |value: &KeyValue| if let KeyValue::Text(text) = value { text.len() + TEXT_BYTES } else { 0 };
    key.iter().map(text).sum()
}

/// The groups of one place, as they join all others.
pub struct PartialGroups {
    keys: Vec<Keys>,
    tallies: Vec<Tally>,
    /// By group, and where those of each group end.
    durations: Vec<i32>,
    ends: Vec<usize>,
    /// What is not told of each group's durations; nothing inside where all is told.
    hidden: Vec<Option<Hidden>>,
}

impl PartialGroups {
    pub fn none() -> PartialGroups {
        PartialGroups::of(Vec::new(), Vec::new(), Vec::new(), Vec::new())
    }

    /// Groups with their durations one group behind the other, and where those of each group end.
    pub fn of(keys: Vec<Keys>, tallies: Vec<Tally>, durations: Vec<i32>, ends: Vec<usize>) -> PartialGroups {
        PartialGroups { keys, tallies, durations, ends, hidden: Vec::new() }
    }

    /// The same, of which these durations are not told.
    pub fn hiding(self, hidden: Vec<Option<Hidden>>) -> PartialGroups {
        PartialGroups { hidden, ..self }
    }

    /// Whether there are durations that are not told.
    pub fn hides_some(&self) -> bool {
        self.hidden.iter().any(Option::is_some)
    }

    /// The same, of whose durations only the greatest are told: rather more than parts keep, since those were too few.
    pub fn greatest(self) -> PartialGroups {
        let (mut durations, mut ends, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        let mut of_group = Vec::new();
        self.each(|_, all| {
            of_group.clear();
            of_group.extend_from_slice(all);
            of_group.sort_unstable_by(|a, b| b.cmp(a));
            let kept = kept_of(all.len() as u64) as usize;
            let kept = all.len().min(kept + kept / 10 + 1);
            durations.extend_from_slice(&of_group[..kept]);
            ends.push(durations.len());
            let rest = (all.len() - kept) as u32;
            hidden.push(of_group.get(kept).map(|most| Hidden { count: rest, most: *most }));
        });
        PartialGroups { durations, ends, hidden, ..self }
    }

    /// These and those of other rows of the same place. A group may be among both.
    pub fn and(mut self, mut other: PartialGroups) -> PartialGroups {
        self.hidden.resize(self.keys.len(), None);
        self.hidden.append(&mut other.hidden);
        self.keys.append(&mut other.keys);
        self.tallies.append(&mut other.tallies);
        let before = self.durations.len();
        self.durations.append(&mut other.durations);
        self.ends.extend(other.ends.into_iter().map(|end| before + end));
        self
    }

    /// Adds those of a place to all others.
    pub fn merge(&self, place: usize, request: &AggregateRequest, groups: &Mutex<Groups>) -> Result<(), Failed> {
        let mut groups = super::lock(groups);
        let mut start = 0;
        for (nth, ((key, tally), end)) in self.keys.iter().zip(&self.tallies).zip(&self.ends).enumerate() {
            let durations = &self.durations[std::mem::replace(&mut start, *end)..*end];
            if !groups.slice.has(key) {
                continue;
            }
            let number = groups.number(key.clone(), request)?;
            groups.merge_into(number, tally);
            groups.add_durations(number, |percentile| percentile.add(durations))?;
            if let Some(hidden) = self.hidden.get(nth).copied().flatten() {
                groups.hide(number, place, hidden)?;
            }
        }
        Ok(())
    }

    /// The durations of each group that are told.
    fn each(&self, mut give: impl FnMut(&Keys, &[i32])) {
        let mut start = 0;
        for (key, end) in self.keys.iter().zip(&self.ends) {
            give(key, &self.durations[std::mem::replace(&mut start, *end)..*end]);
        }
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        let texts: usize = self.keys.iter().map(texts_of).sum();
        let hidden = self.hidden.len() * std::mem::size_of::<Option<Hidden>>();
        texts + self.keys.len() * (std::mem::size_of::<(Keys, Tally)>() + 8) + self.durations.len() * 4 + hidden
    }
}

/// The groups of one place while it is read. They are numbered by codes of the place and join the others by their keys when it is read,
/// so that a text is looked up once for each place, and the durations of a group are added one after another.
#[derive(Default)]
pub struct Partial {
    by_short: ShortKeys,
    /// Groups of rows whose keys have no codes.
    by_full: HashMap<Keys, u32, Seeded>,
    keys: Vec<Keys>,
    tallies: Vec<Tally>,
    /// The group and the duration of each row, where percentiles are wanted.
    durations: Vec<(u32, i32)>,
    with_percentiles: bool,
    share: Option<Arc<Share>>,
    held: Held,
}

impl Partial {
    /// Begins another place, of whose rows percentiles need up to so many durations.
    pub fn begin(&mut self, groups: &Mutex<Groups>, durations: Option<usize>) -> Result<(), Failed> {
        let share = super::lock(groups).share.clone();
        self.by_short.clear();
        self.by_full.clear();
        self.keys.clear();
        self.tallies.clear();
        self.durations.clear();
        self.with_percentiles = durations.is_some();
        // Durations are held twice while they are put in order.
        let bytes = durations.unwrap_or(0) * (std::mem::size_of::<(u32, i32)>() + std::mem::size_of::<i32>());
        self.held.clear();
        self.held.add(&share, bytes)?;
        self.share = Some(share);
        Ok(())
    }

    /// Holds memory for groups of a place that are made at once, with so many durations.
    pub fn hold(&mut self, groups: &Mutex<Groups>, count: usize, durations: usize) -> Result<(), Failed> {
        let share = super::lock(groups).share.clone();
        self.held.clear();
        self.held.add(&share, count * PARTIAL_BYTES + durations * std::mem::size_of::<i32>())?;
        Ok(())
    }

    /// The number of a group with these codes that was met before.
    pub fn known(&self, short: [i64; 2]) -> Option<usize> {
        self.by_short.get(short)
    }

    /// The number of a group, which may be a new one.
    pub fn number(&mut self, short: Option<[i64; 2]>, key: Keys, max_groups: usize) -> Result<usize, Failed> {
        if short.is_none()
            && let Some(known) = self.by_full.get(&key)
        {
            return Ok(*known as usize);
        }
        if self.keys.len() >= max_groups {
            return Err(Failed::TooMany);
        }
        if let Some(share) = &self.share {
            self.held.add(share, PARTIAL_BYTES + if short.is_none() { FULL_BYTES } else { 0 })?;
        }
        let number = self.keys.len();
        match short {
            Some(short) => self.by_short.insert(short, number),
            None => drop(self.by_full.insert(key.clone(), number as u32)),
        }
        self.keys.push(key);
        self.tallies.push(Tally::new(0));
        Ok(number)
    }

    pub fn add(&mut self, number: usize, outcome: Outcome, duration: Option<f64>, time: i64) {
        self.tallies[number].add(outcome, duration, time);
        if let Some(duration) = duration.filter(|_| self.with_percentiles) {
            self.durations.push((number as u32, key_of(duration)));
        }
    }

    /// The groups of this place.
    pub fn end(&mut self) -> PartialGroups {
        let (durations, ends) = self.sorted_durations();
        PartialGroups::of(std::mem::take(&mut self.keys), std::mem::take(&mut self.tallies), durations, ends)
    }

    /// The durations by group, and where those of each group end.
    fn sorted_durations(&self) -> (Vec<i32>, Vec<usize>) {
        let mut places = Vec::with_capacity(self.tallies.len());
        let mut end = 0;
        for tally in &self.tallies {
            places.push(end);
            end += if self.with_percentiles { tally.durations as usize } else { 0 };
        }
        let mut sorted = vec![0; end];
        for (number, duration) in &self.durations {
            let place = &mut places[*number as usize];
            sorted[*place] = *duration;
            *place += 1;
        }
        (sorted, places)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::budget::Budget;
    use super::*;
    use crate::query::request::{Filter, Zone};

    /// What queries may hold of `limits.memory: 256 MiB`, which is the default.
    const DEFAULT_SHARE: usize = super::super::MEMORY / 6;

    #[test]
    fn what_is_written_of_a_key_tells_it() {
        let zone = Zone::default();
        let bys = [
            (GroupKey::Day(zone.clone()), [0, -1, 20_787, 2_932_896, 9_999_999]),
            (GroupKey::Hour(zone.clone()), [0, 1, 9, 10, 23]),
            (GroupKey::Interval { micros: 60_000_000, zone }, [0, 60_000_000, -60_000_000, 1_767_225_600_000_000, 1]),
        ];
        for (by, numbers) in bys {
            for number in numbers {
                let (key, by) = (KeyValue::Number(number), [by.clone()]);
                let written = [label((&by[0], &key))];
                // What is not told leads to another way, never to another group.
                if let Some(found) = keys_of(&by, &written) {
                    assert_eq!(found[0], key, "{by:?} {written:?}");
                } else {
                    assert!(number == 9_999_999, "{by:?} {written:?}");
                }
            }
        }
        assert_eq!(keys_of(&[GroupKey::Hour(Zone::default())], &[None]), Some([KeyValue::Missing, KeyValue::Missing]));
        assert_eq!(keys_of(&[GroupKey::Hour(Zone::default())], &[Some("01".to_owned())]), None);
    }

    #[test]
    fn percentiles_of_ten_thousand_users_with_a_thousand_events_each_fit_the_default_share() {
        let request = AggregateRequest {
            filter: Filter::default(),
            group_by: vec![GroupKey::Field(vec!["user_id".to_owned()])],
            with_durations: true,
            with_percentiles: true,
            max_groups: 100_000,
            min_count: 0,
            top: None,
            deadline: Instant::now() + Duration::from_secs(600),
        };
        let budget = Budget::new(DEFAULT_SHARE);
        let groups = Mutex::new(Groups::new(&budget.share(), Slice::whole()));
        // Two threads, each with its place.
        let mut partials = [Partial::default(), Partial::default()];
        for round in 0..100u32 {
            for partial in &mut partials {
                partial.begin(&groups, Some(65_536)).ok().expect("a place fits");
                for user in 0..10_000u32 {
                    let key = [KeyValue::Text(format!("user_{user}").into()), KeyValue::Missing];
                    let number = partial.number(Some([i64::from(user), 0]), key, 100_000).ok().expect("it fits");
                    // From 1 to 1,000 ms.
                    for nth in 0..5 {
                        let share = f64::from((user * 31 + round * 5 + nth) % 500) / 500.0;
                        partial.add(number, Outcome::Success, Some(1000f64.powf(share)), 0);
                    }
                }
                partial.end().merge(0, &request, &groups).ok().expect("all groups fit");
            }
        }
        let groups: Vec<Group> = groups.into_inner().expect("nothing panicked").finish(&request.group_by).collect();
        assert_eq!(groups.len(), 10_000);
        for group in &groups {
            assert_eq!((group.count, group.durations), (1000, 1000));
            let p95 = group.p95_ms.expect("there are durations");
            assert!((p95 / 1000f64.powf(0.948) - 1.0).abs() < 0.02, "{p95}");
        }
        drop(partials);
        assert_eq!(budget.used(), 0);
    }
}
