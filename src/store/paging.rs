//! Tests of pages while events arrive, late and at equal times, tails become parts, and the oldest parts go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::tests::{Folder, START, Stored, all, filter, later};
use super::*;
use crate::query::request::{Keyset, PageRequest, ReadError, Sort, SortKey};
use crate::units::Timestamp;

const SECOND: i64 = 1_000_000;

#[derive(Clone, Debug)]
enum Step {
    /// So many events, so many seconds before or behind the newest.
    Arrive(u8, i64),
    Seal,
    DropOldest,
    Page,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u8..30, prop_oneof![3 => Just(0i64), 2 => -40i64..0, 1 => 1i64..5]).prop_map(|(n, at)| Step::Arrive(n, at)),
        2 => Just(Step::Seal),
        1 => Just(Step::DropOldest),
        6 => Just(Step::Page),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The store and a plain account of it.
struct World {
    store: Store,
    _folder: Folder,
    seq: u64,
    newest: i64,
    /// Time of every event that is stored, by `seq`.
    stored: BTreeMap<u64, i64>,
}

impl World {
    fn new() -> World {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        World { store, _folder: folder, seq: 0, newest: START, stored: BTreeMap::new() }
    }

    fn arrive(&mut self, count: u8, seconds: i64) {
        self.newest += SECOND;
        let time = self.newest + seconds * SECOND;
        let text = Timestamp(time).to_string();
        let events: Vec<Stored> = (0..count)
            .map(|nth| {
                self.seq += 1;
                self.stored.insert(self.seq, time);
                let user = ["ali", "sara"][usize::from(nth % 2)];
                let line = format!("{{\"timestamp\":\"{text}\",\"user_id\":\"{user}\",\"n\":{}}}", self.seq);
                Stored { seq: self.seq, received: START, ordinal: self.seq, line }
            })
            .collect();
        let new: Vec<NewEvent<'_>> = events.iter().map(Stored::event).collect();
        assert_eq!(self.store.append(&new).expect("it is stored").stored, events.len());
    }

    fn drop_oldest(&mut self) {
        let Some(part) = self.store.snapshot().parts.first().cloned() else { return };
        self.stored.retain(|seq, _| !(part.meta.first_seq..=part.meta.last_seq).contains(seq));
        // So many bytes that the oldest part alone is too much.
        let bytes = self.store.bytes() - 1;
        self.store.set_retention(Retention { bytes: Some(bytes), ..Retention::default() });
        assert_eq!(self.store.tidy(Timestamp(START)).expect("it is dropped").parts, 1);
        self.store.set_retention(Retention::default());
    }
}

/// A list that is read page by page.
struct Reading {
    query: &'static str,
    sort: Sort,
    is_descending: bool,
    after: Option<Keyset>,
    seen: Vec<(i64, u64)>,
    is_over: bool,
    /// What was stored when it began.
    at_first: BTreeSet<u64>,
}

impl Reading {
    fn new(query: &'static str, sort: Sort, is_descending: bool, world: &World) -> Reading {
        let at_first = world.stored.keys().copied().collect();
        Reading { query, sort, is_descending, after: None, seen: Vec::new(), is_over: false, at_first }
    }

    fn page(&mut self, world: &World) {
        if self.is_over {
            return;
        }
        let request = PageRequest {
            filter: filter(self.query),
            sort: self.sort.clone(),
            is_descending: self.is_descending,
            after: self.after.clone(),
            offset: 0,
            limit: 7,
            deadline: later(),
            may_be_partial: false,
        };
        let page = world.store.snapshot().page(&request, &all()).expect("a page");
        self.seen.extend(page.rows.iter().map(|row| (row.time.0, row.seq)));
        self.is_over = !page.has_more;
        self.after = page.rows.last().map(|row| row.keyset.clone()).or(self.after.take());
    }

    fn check(&self, world: &World) {
        let key = |(time, seq): &(i64, u64)| if self.sort == Sort::Seq { (0, *seq) } else { (*time, *seq) };
        let is_sorted = self.seen.windows(2).all(|pair| match self.is_descending {
            true => key(&pair[0]) > key(&pair[1]),
            false => key(&pair[0]) < key(&pair[1]),
        });
        assert!(is_sorted, "{:?}: each event once and in order: {:?}", self.sort, self.seen);
        let seen: BTreeSet<u64> = self.seen.iter().map(|(_, seq)| *seq).collect();
        let is_asked_for = |seq: &u64| self.query.is_empty() || world.is_of_ali(*seq);
        // What was there from the beginning to the end is seen.
        let missed: Vec<u64> = world
            .stored
            .keys()
            .filter(|seq| self.at_first.contains(seq) && is_asked_for(seq) && !seen.contains(seq))
            .copied()
            .collect();
        assert!(!self.is_over || missed.is_empty(), "{:?} {}: {missed:?} were missed", self.sort, self.query);
    }
}

impl World {
    fn is_of_ali(&self, seq: u64) -> bool {
        let row = self.store.snapshot().by_seq(seq, &all()).expect("it is read").expect("it is there");
        String::from_utf8(row.line).expect("text").contains("\"ali\"")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    #[test]
    fn each_event_is_on_one_page_whatever_happens_between_the_pages(before in steps(), during in steps()) {
        let mut world = World::new();
        let mut readings = Vec::new();
        for (nth, step) in before.iter().chain(&during).enumerate() {
            if nth == before.len() {
                for query in ["", "user_id:ali"] {
                    for is_descending in [true, false] {
                        for sort in [Sort::Time, Sort::Seq] {
                            readings.push(Reading::new(query, sort, is_descending, &world));
                        }
                    }
                }
            }
            match step {
                Step::Arrive(count, seconds) => world.arrive(*count, *seconds),
                Step::Seal => world.store.seal_now().expect("a part is made"),
                Step::DropOldest => world.drop_oldest(),
                Step::Page => readings.iter_mut().for_each(|reading| reading.page(&world)),
            }
        }
        for reading in &mut readings {
            while !reading.is_over {
                reading.page(&world);
            }
            reading.check(&world);
        }
    }
}

#[test]
fn pages_that_end_at_their_deadline_lead_through_all_events_once() {
    let mut world = World::new();
    for part in 0..12 {
        world.arrive(40, if part % 4 == 3 { -3 } else { 0 });
        world.store.seal_now().expect("a part is made");
    }
    for (query, found) in [("", 480), ("user_id:ali", 240), ("nothing", 0), ("~\"no.*thing\"", 0)] {
        for is_descending in [true, false] {
            let (mut after, mut seen, mut allowed) = (None, BTreeSet::new(), Duration::from_micros(1));
            loop {
                let request = PageRequest {
                    filter: filter(query),
                    sort: Sort::Time,
                    is_descending,
                    after: after.clone(),
                    offset: 0,
                    limit: 100,
                    deadline: Instant::now() + allowed,
                    may_be_partial: true,
                };
                let page = match world.store.snapshot().page(&request, &all()) {
                    Ok(page) => page,
                    Err(ReadError::Deadline) => {
                        allowed *= 2;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                };
                let is_new = page.rows.iter().all(|row| seen.insert(row.seq));
                assert!(is_new, "an event came twice");
                after = page.next().cloned();
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(seen.len(), found, "{query}");
        }
    }
}

#[test]
fn an_event_of_the_time_at_which_a_page_ended_is_on_the_next_page_if_its_number_comes_behind() {
    let mut world = World::new();
    world.arrive(20, 0);
    let mut reading = Reading::new("", Sort::Time, false, &world);
    reading.page(&world);
    // As late as the others, and behind them in number.
    world.arrive(5, -1);
    while !reading.is_over {
        reading.page(&world);
    }
    reading.check(&world);
    assert_eq!(reading.seen.len(), 25);
    assert!(matches!(reading.after.map(|after| after.key), Some(SortKey::None)));
}
