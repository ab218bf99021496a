//! The groups of an aggregate: what one place adds to them, and all of them together.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::aggregate::Outcome;
use super::budget::{Held, Share};
use super::clock::DAY;
use super::hashing::Seeded;
use super::percentile::{MAX_EXACT, MAX_EXACT_OF_GROUP, MAX_EXACT_OF_MANY, Percentile};
use super::search::Stop;
use super::short_keys::ShortKeys;
use super::summary::Tally;
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

/// Bytes of a group beside the texts of its keys: in the table of all, and as it is answered.
const GROUP_BYTES: usize =
    std::mem::size_of::<(Group, Option<Percentile>)>() + 3 * std::mem::size_of::<Keys>() + 2 * 32;
/// Bytes of a group in the table of one place, and more for one whose keys have no codes.
const PARTIAL_BYTES: usize = std::mem::size_of::<Tally>() + std::mem::size_of::<Keys>() + 3 * 32;
const FULL_BYTES: usize = 2 * std::mem::size_of::<Keys>();

/// From so many groups on, percentiles are exact for fewer values.
const MANY: usize = 1000;

/// All groups; two threads share them.
pub struct Groups {
    numbers: HashMap<Keys, usize, Seeded>,
    groups: Vec<(Group, Option<Percentile>)>,
    share: Arc<Share>,
    held: Held,
}

impl Groups {
    pub fn new(share: &Arc<Share>) -> Groups {
        Groups { numbers: HashMap::default(), groups: Vec::new(), share: share.clone(), held: Held::default() }
    }

    fn number(&mut self, key: Keys, request: &AggregateRequest) -> Result<usize, Failed> {
        if let Some(known) = self.numbers.get(&key) {
            return Ok(*known);
        }
        if self.groups.len() >= request.max_groups {
            return Err(Failed::TooMany);
        }
        let keys: Vec<Option<String>> = request.group_by.iter().zip(&key).map(|(by, value)| label(by, value)).collect();
        let texts: usize = keys.iter().flatten().map(String::len).sum();
        self.held.add(&self.share, GROUP_BYTES + 2 * texts)?;
        if self.groups.len() == MANY {
            self.limit_percentiles();
        }
        let exact = match self.groups.len() {
            _ if request.group_by.is_empty() => MAX_EXACT,
            0..MANY => MAX_EXACT_OF_GROUP,
            _ => MAX_EXACT_OF_MANY,
        };
        let percentile = request.with_percentiles.then(|| Percentile::new(exact));
        self.groups.push((Group { keys, ..Group::default() }, percentile));
        self.numbers.insert(key, self.groups.len() - 1);
        Ok(self.groups.len() - 1)
    }

    fn limit_percentiles(&mut self) {
        for percentile in self.groups.iter_mut().filter_map(|(_, percentile)| percentile.as_mut()) {
            let before = percentile.weight();
            percentile.limit(MAX_EXACT_OF_MANY);
            self.held.sub(before.saturating_sub(percentile.weight()));
        }
    }

    /// Adds sums that were kept. Returns the number of their group.
    pub fn merge(&mut self, key: Keys, tally: &Tally, request: &AggregateRequest) -> Result<usize, Failed> {
        let number = self.number(key, request)?;
        self.merge_into(number, tally);
        Ok(number)
    }

    pub fn merge_into(&mut self, number: usize, tally: &Tally) {
        self.groups[number].0.add(&tally.group());
    }

    fn add_durations(&mut self, number: usize, durations: &[f32]) -> Result<(), Failed> {
        if let (_, Some(percentile)) = &mut self.groups[number] {
            let before = percentile.weight();
            percentile.add(durations);
            let after = percentile.weight();
            self.held.sub(before.saturating_sub(after));
            self.held.add(&self.share, after.saturating_sub(before))?;
        }
        Ok(())
    }

    pub fn finish(self) -> Vec<Group> {
        let finish = |(mut group, percentile): (Group, Option<Percentile>)| {
            let percentile = percentile.and_then(|mut percentile| percentile.of(0.95));
            // The middle of a bucket may lie above all of its values.
            group.p95_ms = percentile.map(|value| group.max_ms.map_or(value, |max| value.min(max)));
            group
        };
        self.groups.into_iter().map(finish).collect()
    }
}

/// How a key is written.
fn label(by: &GroupKey, value: &KeyValue) -> Option<String> {
    match (by, value) {
        (_, KeyValue::Missing) => None,
        (_, KeyValue::Text(text)) => Some(text.to_string()),
        (GroupKey::Day(_), KeyValue::Number(day)) => Some(Timestamp(day * DAY).to_string()[..10].to_owned()),
        (GroupKey::Interval { .. }, KeyValue::Number(start)) => Some(Timestamp(*start).to_string()),
        (_, KeyValue::Number(number)) => Some(number.to_string()),
    }
}

/// The groups of one place, as they join all others.
pub struct PartialGroups {
    keys: Vec<Keys>,
    tallies: Vec<Tally>,
    /// By group, and where those of each group end.
    durations: Vec<f32>,
    ends: Vec<usize>,
}

impl PartialGroups {
    pub fn none() -> PartialGroups {
        PartialGroups { keys: Vec::new(), tallies: Vec::new(), durations: Vec::new(), ends: Vec::new() }
    }

    /// Groups with their durations one group behind the other, and where those of each group end.
    pub fn of(keys: Vec<Keys>, tallies: Vec<Tally>, durations: Vec<f32>, ends: Vec<usize>) -> PartialGroups {
        PartialGroups { keys, tallies, durations, ends }
    }

    /// Adds them to all others.
    pub fn merge(&self, request: &AggregateRequest, groups: &Mutex<Groups>) -> Result<(), Failed> {
        let mut groups = super::lock(groups);
        let mut start = 0;
        for ((key, tally), end) in self.keys.iter().zip(&self.tallies).zip(&self.ends) {
            let number = groups.merge(key.clone(), tally, request)?;
            groups.add_durations(number, &self.durations[start..*end])?;
            start = *end;
        }
        Ok(())
    }

    /// Bytes in memory.
    pub fn weight(&self) -> usize {
        let text = |value: &KeyValue| if let KeyValue::Text(text) = value { text.len() + 16 } else { 0 };
        let texts: usize = self.keys.iter().flatten().map(text).sum();
        texts + self.keys.len() * (std::mem::size_of::<(Keys, Tally)>() + 8) + self.durations.len() * 4
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
    durations: Vec<(u32, f32)>,
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
        let bytes = durations.unwrap_or(0) * (std::mem::size_of::<(u32, f32)>() + std::mem::size_of::<f32>());
        self.held.clear();
        self.held.add(&share, bytes)?;
        self.share = Some(share);
        Ok(())
    }

    /// Holds memory for groups of a place that are made at once, with so many durations.
    pub fn hold(&mut self, groups: &Mutex<Groups>, count: usize, durations: usize) -> Result<(), Failed> {
        let share = super::lock(groups).share.clone();
        self.held.clear();
        self.held.add(&share, count * PARTIAL_BYTES + durations * std::mem::size_of::<f32>())?;
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
            self.durations.push((number as u32, duration as f32));
        }
    }

    /// The groups of this place.
    pub fn end(&mut self) -> PartialGroups {
        let (durations, ends) = self.sorted_durations();
        PartialGroups {
            keys: std::mem::take(&mut self.keys),
            tallies: std::mem::take(&mut self.tallies),
            durations,
            ends,
        }
    }

    /// The durations by group, and where those of each group end.
    fn sorted_durations(&self) -> (Vec<f32>, Vec<usize>) {
        let mut places = Vec::with_capacity(self.tallies.len());
        let mut end = 0;
        for tally in &self.tallies {
            places.push(end);
            end += if self.with_percentiles { tally.durations as usize } else { 0 };
        }
        let mut sorted = vec![0.0; end];
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
    use crate::query::request::Filter;

    /// What queries may hold of `limits.memory: 256 MiB`, which is the default.
    const DEFAULT_SHARE: usize = super::super::MEMORY / 6;

    #[test]
    fn percentiles_of_ten_thousand_users_with_a_thousand_events_each_fit_the_default_share() {
        let request = AggregateRequest {
            filter: Filter::default(),
            group_by: vec![GroupKey::Field(vec!["user_id".to_owned()])],
            with_percentiles: true,
            max_groups: 100_000,
            deadline: Instant::now() + Duration::from_secs(600),
        };
        let budget = Budget::new(DEFAULT_SHARE);
        let groups = Mutex::new(Groups::new(&budget.share()));
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
                partial.end().merge(&request, &groups).ok().expect("all groups fit");
            }
        }
        let groups = groups.into_inner().expect("nothing panicked").finish();
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
