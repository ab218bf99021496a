//! Tests of the whole store against a plain list of events.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::event::time::Moment;
use crate::event::{Raw, Seed};
use crate::query::Query;
use crate::query::request::{AggregateRequest, CountLimit, Filter, Group, GroupKey, PageRequest, Sort, SortKey, Zone};
use crate::units::Timestamp;
use crate::visibility::Visibility;

pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("weir-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Folder(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Debug)]
pub struct Stored {
    pub seq: u64,
    pub received: i64,
    pub ordinal: u64,
    pub line: String,
}

const SEED: Seed = Seed([7; 16]);
pub const START: i64 = 1_767_225_600_000_000;

pub fn later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

impl Stored {
    pub fn event(&self) -> NewEvent<'_> {
        NewEvent {
            seq: self.seq,
            received_at: Timestamp(self.received),
            seed: SEED,
            ordinal: self.ordinal,
            line: self.line.as_bytes(),
        }
    }

    pub fn time(&self) -> i64 {
        let text =
            Raw::valid(self.line.as_bytes()).get("timestamp").and_then(|value| value.as_str().map(|t| t.into_owned()));
        text.and_then(|text| Moment::parse(&text)).map_or(self.received, |moment| moment.timestamp().0)
    }
}

fn line_strategy() -> impl Strategy<Value = String> {
    let user = prop_oneof![Just("ali"), Just("سارا"), Just("Reza"), Just("anon-7")];
    let code = prop_oneof![
        Just("import pandas as pd\nprint(df.head(10))".to_owned()),
        Just("print('سلام دنیا')".to_owned()),
        "[a-cA-C \\n\"]{0,200}",
        Just("x = \"😀\" # İstanbul".to_owned()),
        (0u32..30).prop_map(|n| format!("run_{} = {}{n}\nqty_{n:03} # 12345{n}", 150 + n, 160 + n)),
    ];
    let status = prop_oneof![Just("success"), Just("error"), Just("in_progress"), Just("lost")];
    let time = prop_oneof![
        3 => (0i64..200).prop_map(|s| Some(format!("2026-01-{:02}T{:02}:00:{:02}.{:03}Z", 1 + s % 5, s % 24, s % 60, s))),
        1 => Just(Some("2026-01-02T03:04:05Z".to_owned())),
        1 => prop_oneof![
            Just("2026-01-03"), Just(" 2026-01-03T01:02:03Z "), Just("2026-01-03T01:02:03+01:00"),
            Just("2026-01-04 05:06:07,5"), Just("yesterday"), Just("2031-01-01T00:00:00Z"),
        ].prop_map(|time| Some(time.to_owned())),
        1 => Just(None),
    ];
    let more = prop_oneof![
        4 => Just(0u8), 1 => Just(1u8), 1 => Just(2u8), 1 => Just(3u8), 1 => Just(4u8),
    ];
    (user, code, status, time, 0u32..90_000, more).prop_map(|(user, code, status, time, duration, more)| {
        let mut event = serde_json::Map::new();
        if let Some(time) = time {
            event.insert("timestamp".into(), time.into());
        }
        event.insert("user_id".into(), user.into());
        event.insert("status".into(), status.into());
        event.insert("code".into(), code.into());
        match more {
            0 => drop(event.insert("duration_ms".into(), (f64::from(duration) / 8.0).into())),
            1 => drop(event.insert("duration_ms".into(), duration.into())),
            2 => {
                event.insert("metadata".into(), serde_json::json!({ "new_status": "SHIPPED", "n": duration % 3 }));
                event.insert("entity_type".into(), "order".into());
                event.insert("status_code".into(), (200 + duration % 3 * 100).into());
            }
            3 => {
                event.insert("error_message".into(), serde_json::Value::Null);
                event.insert("session_id".into(), format!("s-{}", duration % 50).into());
                event.insert(
                    "trace".into(),
                    format!("{:032x}", u128::from(duration % 50) * 0x1234_5678_9123_4567).into(),
                );
                event.insert("tags".into(), serde_json::json!(["A", "b"]));
            }
            _ => {
                // A name twice: such a line is kept whole.
                let text = serde_json::Value::Object(event).to_string();
                return format!("{{\"status\":\"warning\",{}", &text[1..]);
            }
        }
        serde_json::Value::Object(event).to_string()
    })
}

pub fn events_strategy(most: usize) -> impl Strategy<Value = Vec<Stored>> {
    proptest::collection::vec((line_strategy(), 1u64..4, 0i64..3), 1..most).prop_map(|all| {
        let (mut seq, mut received) = (START as u64, START);
        let event = |(nth, (line, step, wait)): (usize, (String, u64, i64))| {
            seq += step;
            received += wait * 1000;
            Stored { seq, received, ordinal: nth as u64, line }
        };
        all.into_iter().enumerate().map(event).collect()
    })
}

const QUERIES: &[&str] = &[
    "",
    "status:error",
    "user_id:ALI",
    "user_id:سارا",
    "username:reza",
    "-status:success",
    "pandas",
    "PANDAS",
    "سلام",
    "\"دنیا\"",
    "code:print",
    "code:\"df.head\"",
    "has:duration_ms",
    "-has:duration_ms",
    "duration_ms:>5000",
    "duration_ms:<100.5",
    "status:error OR status:lost",
    "(user_id:ali status:error) OR code:سلام",
    "metadata.new_status:shipped",
    "metadata.n:1",
    "status_code:500",
    "status_code:>=300",
    "tags:a",
    "timestamp:>2026-01-03",
    "timestamp:2026-01-02",
    "timestamp:>=2026-01-03T05:00:45Z",
    "timestamp:[2026-01-02T02:00 TO 2026-01-04] -status:error",
    "timestamp:<2026-01-02T03:04:05Z OR timestamp:>=2026-01-05",
    "timestamp:>2030-01-01",
    "received_at:<2030-01-01",
    "entity_type:ord*",
    "~\"a+b\"",
    "code:~\"print.*\\)\"",
    "session_id:s-7",
    "aa",
    "istanbul",
    "-code:abc",
    "😀",
    "status:warning",
    "anon",
    "has:nothing",
    "ab ca",
    "user_id:(ali OR reza)",
    "12345",
    "\"123451\" OR \"1600\"",
    "-1234",
    "code:12345 -code:\"_0\"",
    "run_160",
    "qty_01*3451",
    "5678",
    "trace:0000*234 OR qty_002",
    "error_message:null",
    "NOT (status:success OR user_id:ali)",
];

pub fn all() -> Visibility {
    Visibility::All { own: "ali".into(), preview: 10 }
}

fn visibilities() -> [Visibility; 3] {
    [all(), Visibility::Own("سارا".into()), Visibility::Previews { preview: 10 }]
}

pub fn filter(query: &str) -> Filter {
    let query = Some(query).filter(|text| !text.is_empty());
    Filter { query: query.map(|text| Arc::new(Query::parse(text).expect("a query"))), ..Filter::default() }
}

/// The first page of the newest that a query finds.
pub fn newest(query: &str, limit: usize) -> PageRequest {
    PageRequest {
        filter: filter(query),
        sort: Sort::Time,
        is_descending: true,
        after: None,
        offset: 0,
        limit,
        deadline: later(),
        may_be_partial: false,
    }
}

/// What the plain list says, newest first.
fn expected<'a>(events: &'a [Stored], filter: &Filter, visibility: &Visibility) -> Vec<&'a Stored> {
    let matches = |event: &&Stored| {
        let Some(shown) = visibility.searchable(event.line.as_bytes()) else { return false };
        let time = event.time();
        filter.query.as_ref().is_none_or(|query| query.matches_line(Raw::valid(&shown)))
            && filter.from.is_none_or(|from| time >= from.0)
            && filter.to.is_none_or(|to| time < to.0)
            && filter
                .equals
                .iter()
                .all(|(name, value)| Raw::valid(&shown).get(name).is_some_and(|found| found.display() == *value))
    };
    let mut found: Vec<&Stored> = events.iter().filter(matches).collect();
    found.sort_by_key(|event| std::cmp::Reverse((event.time(), event.seq)));
    found
}

pub fn fill(store: &Store, events: &[Stored], batch: usize, seal_every: usize) {
    for (nth, some) in events.chunks(batch).enumerate() {
        let new: Vec<NewEvent<'_>> = some.iter().map(Stored::event).collect();
        let appended = store.append(&new).expect("it is stored");
        assert_eq!((appended.stored, appended.repeated, &appended.conflicts[..]), (some.len(), 0, &[][..]));
        if nth % seal_every == seal_every - 1 {
            store.seal_now().expect("a part is made");
        }
    }
}

pub fn check(store: &Store, events: &[Stored]) {
    let snapshot = store.snapshot();
    for visibility in visibilities() {
        for query in QUERIES {
            let mut filter = filter(query);
            check_pages(&snapshot, events, &filter, &visibility);
            filter.from = Some(Timestamp(START + 2 * 86_400_000_000));
            filter.to = Some(Timestamp(START + 4 * 86_400_000_000));
            check_pages(&snapshot, events, &filter, &visibility);
            check_groups(&snapshot, events, &filter, &visibility);
        }
    }
    for event in events {
        let found = snapshot.by_seq(event.seq, &all()).unwrap().expect("it is found by its number");
        assert_eq!(String::from_utf8(found.line).unwrap(), event.line);
        let id = event.event().prepare(&mut Walked::default()).id;
        let found = snapshot.by_id(id, &all()).unwrap().expect("it is found by its id");
        assert_eq!(found.seq, event.seq);
    }
}

fn check_pages(snapshot: &search::Snapshot, events: &[Stored], filter: &Filter, visibility: &Visibility) {
    let wanted = expected(events, filter, visibility);
    let label =
        format!("{:?} {:?} {visibility:?}", filter.query.as_ref().map(|query| query.text().to_owned()), filter.from);
    // Twice: what parts have counted is kept.
    for _ in 0..2 {
        let total = snapshot.count(filter, visibility, CountLimit::Exact, later()).unwrap();
        assert_eq!((total.count, total.is_at_least), (wanted.len() as u64, false), "{label}");
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let request = PageRequest { filter: filter.clone(), after: after.clone(), ..newest("", 13) };
        let page = snapshot.page(&request, visibility).unwrap();
        for row in &page.rows {
            seen.push(row.seq);
            let event = events.iter().find(|event| event.seq == row.seq).expect("it was stored");
            let shown = visibility.show(event.line.as_bytes()).expect("it may be seen");
            assert_eq!(row.line, shown.into_owned(), "{label}");
        }
        assert_eq!(page.has_more, seen.len() < wanted.len(), "{label}");
        match page.rows.last() {
            Some(last) if page.has_more => after = Some(last.keyset.clone()),
            _ => break,
        }
    }
    assert_eq!(seen, wanted.iter().map(|event| event.seq).collect::<Vec<_>>(), "{label}");
}

/// Twice: what parts have answered is kept.
fn check_groups(snapshot: &search::Snapshot, events: &[Stored], filter: &Filter, visibility: &Visibility) {
    let field = |name: &str| GroupKey::Field(vec![name.to_owned()]);
    for _ in 0..2 {
        check_groups_by(snapshot, events, filter, visibility, [field("user_id"), GroupKey::Day(Zone::default())]);
        check_groups_by(snapshot, events, filter, visibility, [field("user_id"), field("absent")]);
        check_groups_by(snapshot, events, filter, visibility, [field("absent"), field("status")]);
    }
}

fn check_groups_by(
    snapshot: &search::Snapshot,
    events: &[Stored],
    filter: &Filter,
    visibility: &Visibility,
    group_by: [GroupKey; 2],
) {
    let wanted = expected(events, filter, visibility);
    for with_percentiles in [false, true] {
        check_groups_of(snapshot, &wanted, filter, visibility, &group_by, with_percentiles);
    }
}

fn check_groups_of(
    snapshot: &search::Snapshot,
    wanted: &[&Stored],
    filter: &Filter,
    visibility: &Visibility,
    group_by: &[GroupKey; 2],
    with_percentiles: bool,
) {
    let request = AggregateRequest {
        filter: filter.clone(),
        group_by: group_by.to_vec(),
        with_durations: true,
        with_percentiles,
        max_groups: 1000,
        min_count: 0,
        top: None,
        deadline: later(),
    };
    let groups = snapshot.aggregate(&request, visibility).unwrap();
    let counted = AggregateRequest { with_durations: false, with_percentiles: false, ..request };
    let counted = snapshot.aggregate(&counted, visibility).unwrap();
    let counts = |groups: &[Group]| -> BTreeMap<_, _> {
        groups.iter().map(|group| (group.keys.clone(), (group.count, group.errors, group.first, group.last))).collect()
    };
    assert_eq!(counts(&counted), counts(&groups));
    let mut plain: BTreeMap<Vec<Option<String>>, Vec<&Stored>> = BTreeMap::new();
    for event in wanted {
        let key = |by: &GroupKey| match by {
            GroupKey::Field(path) => {
                let value = Raw::valid(event.line.as_bytes()).get(&path[0]);
                value.map(|value| value.display().into_owned())
            }
            _ => Some(Timestamp(event.time()).to_string()[..10].to_owned()),
        };
        plain.entry(group_by.iter().map(key).collect()).or_default().push(event);
    }
    let found: BTreeMap<Vec<Option<String>>, &Group> = groups.iter().map(|group| (group.keys.clone(), group)).collect();
    assert_eq!(found.keys().collect::<Vec<_>>(), plain.keys().collect::<Vec<_>>());
    for (keys, events) in plain {
        let group = found[&keys];
        let durations: Vec<f64> = events
            .iter()
            .filter_map(|event| Raw::valid(event.line.as_bytes()).get("duration_ms").and_then(|value| value.as_f64()))
            .collect();
        assert_eq!((group.count, group.durations), (events.len() as u64, durations.len() as u64));
        assert!((group.sum_ms - durations.iter().sum::<f64>()).abs() < 0.01);
        assert_eq!(group.max_ms, durations.iter().copied().reduce(f64::max));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, ..ProptestConfig::default() })]

    #[test]
    fn every_question_has_the_answer_of_a_plain_list(
        events in events_strategy(700), batch in 1usize..300, seal_every in 1usize..6,
    ) {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        fill(&store, &events, batch, seal_every);
        check(&store, &events);
        drop(store);
        let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens again");
        prop_assert_eq!((report.events, report.damaged.len(), report.cut_bytes), (events.len() as u64, 0, 0));
        check(&store, &events);
    }

    #[test]
    fn sorted_by_a_member_pages_are_in_its_order(events in events_strategy(600), is_descending: bool) {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        fill(&store, &events, 100, 2);
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let request = PageRequest {
                filter: Filter::default(), sort: Sort::Field("duration_ms".into()), is_descending, after: after.clone(),
                offset: 0, limit: 50, deadline: later(),
            may_be_partial: false,
            };
            let page = store.snapshot().page(&request, &all()).unwrap();
            seen.extend(page.rows.iter().map(|row| row.keyset.clone()));
            match page.rows.last() {
                Some(last) if page.has_more => after = Some(last.keyset.clone()),
                _ => break,
            }
        }
        prop_assert_eq!(seen.len(), events.len());
        for pair in seen.windows(2) {
            let order = pair[0].key.compare(&pair[1].key, is_descending);
            prop_assert!(order.is_le(), "{:?} before {:?}", pair[0], pair[1]);
            if order.is_eq() {
                let ascends = (pair[0].time, pair[0].seq) < (pair[1].time, pair[1].seq);
                prop_assert!(ascends != is_descending);
            }
        }
        prop_assert!(seen.iter().skip_while(|keyset| keyset.key != SortKey::Missing).all(|keyset| keyset.key == SortKey::Missing));
    }
}

pub fn plain(seq: u64, line: &str) -> Stored {
    Stored { seq, received: START + seq as i64, ordinal: seq, line: line.to_owned() }
}

#[test]
fn a_repeat_is_ignored_and_the_same_id_with_other_content_is_a_conflict() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let own = plain(1, r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","n":1}"#);
    let derived = plain(2, r#"{"n":2}"#);
    let named = plain(3, r#"{"id":"order-5","n":1}"#);
    store.append(&[own.event(), derived.event(), named.event()]).unwrap();
    for seal in [false, true] {
        if seal {
            store.seal_now().unwrap();
        }
        let again = Stored { seq: own.seq + 10, ordinal: 99, ..own.clone() };
        assert_eq!(store.append(&[again.event()]).unwrap().repeated, 1, "sent again by its producer");
        let other = Stored { line: own.line.replace("1}", "7}"), ..again };
        assert_eq!(store.append(&[other.event()]).unwrap().conflicts, [0]);
        assert_eq!(store.append(&[derived.event()]).unwrap().repeated, 1, "delivered again after a crash");
        let again = Stored { seq: named.seq + 10, ..named.clone() };
        assert_eq!(store.append(&[again.event()]).unwrap().repeated, 1, "its id follows from what it is called");
        let other = Stored { line: named.line.replace("1}", "7}"), ..again };
        let appended = store.append(&[other.event(), own.event()]).unwrap();
        assert_eq!((&appended.conflicts[..], appended.repeated), (&[0][..], 1));
    }
    assert_eq!(store.snapshot().count(&Filter::default(), &all(), CountLimit::Exact, later()).unwrap().count, 3);
    // What was sent again from the dead letters has an old number and is new.
    let late = plain(0, r#"{"n":0}"#);
    assert_eq!(store.append(&[plain(20, r#"{"n":20}"#).event(), late.event()]).unwrap().stored, 2);
    store.seal_now().unwrap();
    for seq in [0, 20] {
        assert!(
            store.snapshot().by_seq(seq, &all()).unwrap().is_some(),
            "{seq} is found, though it stands out of order"
        );
    }
}

#[test]
fn imported_events_have_numbers_of_their_own_and_are_on_no_stream() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let imported = store.next_imported_seq();
    let events = [plain(7, r#"{"n":7}"#), plain(imported, r#"{"n":8}"#)];
    store.append(&events.each_ref().map(Stored::event)).unwrap();
    let again = |store: &Store| {
        assert_eq!((store.stored_seq(), store.next_imported_seq()), (7, imported + 1));
        for (sort, expected) in [(Sort::Seq, vec![7]), (Sort::Time, vec![7, imported])] {
            let request = PageRequest { sort, is_descending: false, ..newest("", 10) };
            let mut seqs: Vec<u64> =
                store.snapshot().page(&request, &all()).unwrap().rows.iter().map(|row| row.seq).collect();
            seqs.sort_unstable();
            assert_eq!(seqs, expected);
        }
    };
    again(&store);
    store.seal_now().unwrap();
    again(&store);
    drop(store);
    again(&Store::open(&Options::new(&folder.0)).expect("it opens again").0);
}

#[test]
fn a_part_of_executions_alone_serves_their_statistics_by_its_sums() {
    let executions = filter("has:code -status:in_progress");
    let line = |n: u64| {
        let status = ["success", "error"][n as usize % 2];
        format!(
            "{{\"user_id\":\"u{}\",\"status\":\"{status}\",\"duration_ms\":{n},\"code\":\"a cell {n} of its own\"}}",
            n % 7
        )
    };
    let others = [
        None,
        Some(r#"{"user_id":"u1","status":"success","duration_ms":1}"#),
        Some(r#"{"user_id":"u1","status":"success","duration_ms":1,"code":null}"#),
        Some(r#"{"user_id":"u1","status":"in_progress","duration_ms":1,"code":"begun"}"#),
        Some(r#"{"user_id":"u1","status":"success","duration_ms":1,"code":"a","code":null}"#),
    ];
    for other in others {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let mut events: Vec<Stored> = (1..=600).map(|n| plain(n, &line(n))).collect();
        events.extend(other.map(|other| plain(601, other)));
        fill(&store, &events, 100, usize::MAX);
        let count = |store: &Store| {
            let request = AggregateRequest {
                filter: executions.clone(),
                group_by: vec![GroupKey::Field(vec!["user_id".into()])],
                with_durations: true,
                with_percentiles: false,
                max_groups: 1000,
                min_count: 0,
                top: None,
                deadline: later(),
            };
            let mut groups = store.snapshot().aggregate(&request, &all()).expect("groups");
            groups.sort_by(|a, b| a.keys.cmp(&b.keys));
            groups
        };
        let in_tail = count(&store);
        assert_eq!(in_tail.iter().map(|group| group.count).sum::<u64>(), 600, "{other:?}");
        store.seal_now().expect("a part is made");
        assert_eq!(count(&store), in_tail, "{other:?}");
        let place = store.snapshot().places().swap_remove(0);
        let sees = all();
        let accepted = rows::RowFilter::new(&place, &executions, &sees).expect("a filter").accepted(None);
        assert_eq!(accepted == Some(plan::Accepted::All), other.is_none(), "{other:?}");
    }
}
