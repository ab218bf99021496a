//! The groups with the newest events, of more than fit in memory: those of the newest places.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::search::{Place, Snapshot, is_in_time};
use super::slices::Slice;
use crate::query::request::{AggregateRequest, Group, Ranking, ReadError};
use crate::visibility::Visibility;

/// So many places are looked through for the newest groups.
const MAX_PLACES: usize = 8;

impl Snapshot {
    /// A slice with the groups that are wanted, if these are the newest and a few places tell which: no event elsewhere is
    /// newer than the last of so many groups.
    pub fn newest_groups(
        &self,
        request: &AggregateRequest,
        visibility: &Visibility,
    ) -> Result<Option<Slice>, ReadError> {
        let Some(top) = request.top.as_ref().filter(|top| top.ranking == Ranking::Newest) else { return Ok(None) };
        if request.min_count > 1 {
            return Ok(None);
        }
        let mut places = self.places();
        places.retain(|place| is_in_time(place, &request.filter, visibility));
        // A single one is what did not fit.
        if places.len() < 2 {
            return Ok(None);
        }
        places.sort_by_key(|place| Reverse(place.times().1));
        let mut found: HashMap<Vec<Option<String>>, Group> = HashMap::new();
        for (nth, place) in places.iter().enumerate().take(MAX_PLACES) {
            for group in self.of_place(place).aggregate(request, visibility)? {
                let known = found.entry(group.keys.clone()).or_insert_with(|| group.clone());
                known.last = known.last.max(group.last);
            }
            let mut newest: Vec<Group> = std::mem::take(&mut found).into_values().collect();
            top.cut(&mut newest);
            let is_enough = places.get(nth + 1).is_none_or(|next| {
                let last = newest.last().and_then(|group| group.last);
                newest.len() >= top.limit && last.is_some_and(|last| last.0 > next.times().1)
            });
            if is_enough {
                return Ok(Slice::of_groups(&newest, &request.group_by));
            }
            found = newest.into_iter().map(|group| (group.keys.clone(), group)).collect();
        }
        Ok(None)
    }

    /// The same moment, of one place.
    fn of_place(&self, place: &Place) -> Snapshot {
        let (mut parts, mut tails) = (Vec::new(), Vec::new());
        match place {
            Place::Part(part) => parts.push(part.clone()),
            Place::Tail(tail) => tails.push(tail.clone()),
        }
        Snapshot { parts, tails, damaged: self.damaged.clone(), share: self.share.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{Folder, START, Stored, all, filter, later, plain};
    use super::super::{Options, Store};
    use super::*;
    use crate::query::request::{GroupKey, Top};
    use crate::units::Timestamp;

    /// The newest events of some sessions are in the oldest part, and most have older ones elsewhere.
    #[test]
    fn the_newest_of_more_groups_than_fit_are_those_of_a_plain_list() {
        const EVENTS: u64 = 40_000;
        let folder = Folder::new();
        let options = Options { memory: 3 << 20, part_events: 8192, ..Options::new(&folder.0) };
        let (store, _) = Store::open(&options).expect("it opens");
        let time = |n: u64| START + (if n % 100 == 7 && n < 3000 { 1_000_000 + n / 200 } else { n }) as i64 * 1_000_000;
        let session = |n: u64| format!("session-{:08}", n % 20_000);
        let line = |n: u64| format!(r#"{{"timestamp":"{}","session_id":"{}"}}"#, Timestamp(time(n)), session(n));
        let mut wanted: BTreeMap<String, (u64, i64)> = BTreeMap::new();
        for from in (0..EVENTS).step_by(2000) {
            let events: Vec<Stored> = (from..from + 2000).map(|n| plain(n + 1, &line(n))).collect();
            store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
            for n in from..from + 2000 {
                let (count, last) = wanted.entry(session(n)).or_insert((0, i64::MIN));
                (*count, *last) = (*count + 1, time(n).max(*last));
            }
        }
        store.settle();
        let mut wanted: Vec<(String, u64, i64)> =
            wanted.into_iter().map(|(session, (count, last))| (session, count, last)).collect();
        wanted.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
        let snapshot = store.snapshot();
        for limit in [1, 10, 31, 200] {
            let request = AggregateRequest {
                filter: filter(""),
                group_by: vec![GroupKey::Field(vec!["session_id".to_owned()])],
                with_durations: true,
                with_percentiles: false,
                max_groups: 1000,
                min_count: 0,
                top: Some(Top::newest(limit)),
                deadline: later(),
            };
            assert!(snapshot.newest_groups(&request, &all()).expect("they fit").is_some(), "{limit}");
            let found = snapshot.aggregate(&request, &all()).expect("they fit").into_iter();
            let found = found.map(|group| {
                (group.keys[0].clone().unwrap_or_default(), group.count, group.last.expect("it has events").0)
            });
            assert_eq!(found.collect::<Vec<_>>(), wanted[..limit], "{limit}");
        }
    }
}
