//! The store within its memory, and right after its start.

use super::search::Snapshot;
use super::tests::{Folder, START, Stored, all, filter, later, newest, plain};
use super::*;
use crate::query::request::{AggregateRequest, CountLimit, GroupKey, PageRequest, Ranking, ReadError, Top, Total};
use crate::units::Timestamp;

#[test]
fn memory_stays_within_its_bound_while_many_ask() {
    let folder = Folder::new();
    let memory = 6 << 20;
    let options = Options { memory, ..Options::new(&folder.0) };
    let (store, _) = Store::open(&options).expect("it opens");
    let line = |n: u64| {
        format!("{{\"user_id\":\"u{}\",\"session_id\":\"{:032x}\",\"code\":\"x = {n} + {}\"}}", n % 50, n % 97, n * n)
    };
    let most = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6)
            .map(|nth| {
                let store = store.clone();
                scope.spawn(move || {
                    for round in 0..15 {
                        let mut filter = filter(["", "user_id:u7", "x", "status:error"][(nth + round) % 4]);
                        filter.from = Some(Timestamp(START));
                        let request = AggregateRequest {
                            filter: filter.clone(),
                            group_by: vec![GroupKey::Field(vec!["user_id".into()])],
                            with_durations: true,
                            with_percentiles: true,
                            max_groups: 1000,
                            min_count: 0,
                            top: None,
                            deadline: later(),
                        };
                        // Six at a time may be too many for what they share; then one is told so.
                        match store.snapshot().aggregate(&request, &all()) {
                            Ok(_) | Err(ReadError::TooLarge(_) | ReadError::Unavailable(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                        store.snapshot().count(&filter, &all(), CountLimit::Exact, later()).expect("a count");
                    }
                })
            })
            .collect();
        let mut most = 0;
        for batch in 0..120u64 {
            let events: Vec<Stored> = (0..500).map(|n| plain(batch * 500 + n + 1, &line(batch * 500 + n))).collect();
            store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
            most = most.max(store.weight() + store.0.budget.used());
        }
        asking.into_iter().for_each(|one| one.join().expect("no question panics"));
        most.max(store.weight())
    });
    assert!(store.snapshot().parts.len() > 1, "it has made parts");
    assert!(most <= memory, "{most} of {memory} bytes");
}

/// As an export does. The share is a megabyte, the events are thirty.
#[test]
fn a_hundred_thousand_events_are_read_page_by_page_within_a_small_share_of_memory() {
    const EVENTS: u64 = 100_000;
    let folder = Folder::new();
    let (store, _) = Store::open(&Options { memory: 6 << 20, ..Options::new(&folder.0) }).expect("it opens");
    let filler = "a text that takes its room ".repeat(8);
    for from in (1..=EVENTS).step_by(5000) {
        let events: Vec<Stored> =
            (from..from + 5000).map(|n| plain(n, &format!("{{\"n\":{n},\"code\":\"{filler}\"}}"))).collect();
        assert_eq!(
            store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it stores").stored,
            5000
        );
    }
    let snapshot = store.snapshot();
    let (mut seen, mut after, mut has_more) = (0, None, true);
    while has_more {
        let request = PageRequest { after: after.take(), ..newest("", 1000) };
        let page = snapshot.page(&request, &all()).expect("a page fits the share");
        for row in &page.rows {
            assert_eq!(row.seq, EVENTS - seen);
            seen += 1;
        }
        after = page.rows.last().map(|row| row.keyset.clone());
        has_more = page.has_more;
        assert_eq!(store.0.budget.used(), 0, "a page that was read holds nothing");
    }
    assert_eq!(seen, EVENTS);
}

fn percentiles_by(name: &str) -> AggregateRequest {
    AggregateRequest {
        filter: filter(""),
        group_by: vec![GroupKey::Field(vec![name.into()])],
        with_durations: true,
        with_percentiles: true,
        max_groups: 100_000,
        min_count: 0,
        top: None,
        deadline: later(),
    }
}

#[test]
fn percentiles_of_ten_thousand_users_are_answered_with_the_default_memory() {
    const USERS: u64 = 10_000;
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    for from in (0..4 * USERS).step_by(5000) {
        let line = |n: u64| format!("{{\"user_id\":\"user_{}\",\"duration_ms\":{}}}", n % USERS, n / USERS);
        let events: Vec<Stored> = (from..from + 5000).map(|n| plain(n + 1, &line(n))).collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
        if from == 2 * USERS {
            store.seal_now().expect("a part is made");
        }
    }
    let groups = store.snapshot().aggregate(&percentiles_by("user_id"), &all()).expect("all users fit");
    assert_eq!(groups.len() as u64, USERS);
    assert!(groups.iter().all(|group| (group.count, group.p95_ms, group.max_ms) == (4, Some(3.0), Some(3.0))));
    assert_eq!(store.0.budget.used(), 0);
}

/// Twenty thousand users with eight events each take two parts, whose percentiles fit together only slice by slice.
#[test]
fn percentiles_of_more_users_than_fit_at_once_are_those_of_a_plain_list() {
    const USERS: u64 = 20_000;
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    for from in (0..8 * USERS).step_by(5000) {
        let line = |n: u64| format!("{{\"user_id\":\"user_{}\",\"duration_ms\":{}}}", n % USERS, n / USERS + n % 7);
        let events: Vec<Stored> = (from..from + 5000).map(|n| plain(n + 1, &line(n))).collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
    }
    let groups = store.snapshot().aggregate(&percentiles_by("user_id"), &all()).expect("all users fit");
    assert_eq!(groups.len() as u64, USERS);
    for group in &groups {
        let user: u64 = group.keys[0].as_deref().and_then(|name| name[5..].parse().ok()).expect("a user");
        let most = (0..8).map(|nth| nth + (user + nth * USERS) % 7).max().expect("durations") as f64;
        assert_eq!((group.count, group.p95_ms, group.max_ms), (8, Some(most), Some(most)), "{user}");
    }
    assert_eq!(store.0.budget.used(), 0);
}

/// Thirty thousand sessions in one megabyte: in parts and in what is newest, by codes, by texts and by UUIDs.
#[test]
fn the_first_of_more_groups_than_fit_are_found_and_all_are_counted() {
    more_groups_than_fit("session-");
    more_groups_than_fit("00000000-0000-4000-8000-0000");
}

fn more_groups_than_fit(prefix: &str) {
    const SESSIONS: u64 = 30_000;
    let folder = Folder::new();
    let (store, _) =
        Store::open(&Options { memory: 3 << 20, part_events: 16_384, ..Options::new(&folder.0) }).expect("it opens");
    // Session n has its events n and n + SESSIONS, and every hundredth one more; its user is that of its last digits.
    let line = |n: u64| {
        let session = if n < 2 * SESSIONS { n % SESSIONS } else { (n - 2 * SESSIONS) * 100 };
        let (user, kind) = (session % 300, n % 7000);
        format!(
            "{{\"session_id\":\"{prefix}{session:08}\",\"user_id\":\"u{user}\",\"event_type\":\"type-{kind}\",\
             \"duration_ms\":{n}}}"
        )
    };
    let count = 2 * SESSIONS + SESSIONS / 100;
    for from in (0..count).step_by(5000) {
        let events: Vec<Stored> = (from..count.min(from + 5000)).map(|n| plain(n + 1, &line(n))).collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
    }
    let by = |names: &[&str]| AggregateRequest {
        filter: filter(""),
        group_by: names.iter().map(|name| GroupKey::Field(vec![(*name).to_owned()])).collect(),
        with_durations: true,
        with_percentiles: false,
        max_groups: 20_000,
        min_count: 0,
        top: None,
        deadline: later(),
    };
    let snapshot = store.snapshot();
    let refused = snapshot.aggregate(&by(&["session_id"]), &all());
    assert!(matches!(refused, Err(ReadError::Invalid(_) | ReadError::TooLarge(_))), "{refused:?}");
    for names in [&["session_id"][..], &["session_id", "user_id"], &["user_id", "session_id"]] {
        let by_all = Top::new(50, |a, b| b.last.cmp(&a.last));
        let by_all = AggregateRequest { top: Some(by_all), ..by(names) };
        let newest = AggregateRequest { top: Some(Top::newest(50)), ..by(names) };
        let found = snapshot.aggregate(&newest, &all()).expect("they fit");
        assert_eq!(snapshot.aggregate(&by_all, &all()).expect("they fit"), found);
        let session = usize::from(names[0] == "user_id");
        let found: Vec<_> =
            found.iter().map(|group| (group.keys[session].clone(), group.count, group.sum_ms)).collect();
        let wanted = |nth: u64| {
            let session = SESSIONS - 100 - nth * 100;
            let sum = session + (session + SESSIONS) + (2 * SESSIONS + session / 100);
            (Some(format!("{prefix}{session:08}")), 3, sum as f64)
        };
        assert_eq!(found, (0..50).map(wanted).collect::<Vec<_>>(), "{names:?}");
    }
    // Counted first, and then summed up with their percentiles; or all of them summed up.
    let measured = |top| AggregateRequest { with_percentiles: true, top: Some(top), ..by(&["session_id"]) };
    let most = snapshot.aggregate(&measured(Top::most(100)), &all()).expect("they fit");
    assert!(most.len() == 100 && most.iter().all(|group| group.count == 3));
    let of_all = snapshot.aggregate(&measured(Top { ranking: Ranking::Other, ..Top::most(100) }), &all());
    assert_eq!(most, of_all.expect("they fit"));
    let begun =
        Top { prefix: format!("{}00012", prefix.to_uppercase()), ..Top::new(usize::MAX, |a, b| a.keys.cmp(&b.keys)) };
    let begun = AggregateRequest { top: Some(begun), ..by(&["session_id"]) };
    let found = snapshot.aggregate(&begun, &all()).expect("they fit");
    assert_eq!(found.len(), 1000);
    let often = AggregateRequest { min_count: 3, ..by(&["session_id", "user_id"]) };
    assert_eq!(snapshot.aggregate(&often, &all()).expect("they fit").len() as u64, SESSIONS / 100);
    assert_eq!(snapshot.distinct(&by(&["session_id"]), &all()), Ok(SESSIONS));
    assert_eq!(snapshot.distinct(&by(&["user_id", "session_id"]), &all()), Ok(SESSIONS));
    assert_eq!(snapshot.distinct(&by(&["user_id"]), &all()), Ok(300));
    // Sums of parts know these; all of one part together take more than a megabyte.
    let frequent = Top::new(3, |a, b| b.count.cmp(&a.count).then_with(|| a.keys.cmp(&b.keys)));
    let frequent = AggregateRequest { top: Some(frequent), ..by(&["event_type"]) };
    let found = snapshot.aggregate(&frequent, &all()).expect("they fit");
    let found: Vec<_> = found.iter().map(|group| (group.keys[0].as_deref(), group.count)).collect();
    assert_eq!(found, ["type-0", "type-1", "type-10"].map(|name| (Some(name), 9)));
    assert_eq!(snapshot.distinct(&by(&["event_type"]), &all()), Ok(7000));
    assert_eq!(store.0.budget.used(), 0);
}

#[test]
fn a_question_that_needs_more_than_its_share_of_memory_is_told_so() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options { memory: 3 << 20, ..Options::new(&folder.0) }).expect("it opens");
    let line = |n: u64| format!("{{\"user_id\":\"u{n}\",\"duration_ms\":{n},\"code\":\"{}\"}}", "x".repeat(400));
    let events: Vec<Stored> = (1..=12_000).map(|n| plain(n, &line(n))).collect();
    store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
    let page = |limit: usize| newest("", limit);
    let snapshot = store.snapshot();
    let told = snapshot.aggregate(&percentiles_by("user_id"), &all()).expect_err("too many groups").to_string();
    assert!(told.contains("MiB of memory that queries may hold"), "{told}");
    assert!(matches!(snapshot.page(&page(4000), &all()), Err(ReadError::TooLarge(_))));
    assert_eq!(snapshot.aggregate(&percentiles_by("event_type"), &all()).expect("one group").len(), 1);
    assert_eq!(snapshot.page(&page(100), &all()).expect("a page").rows.len(), 100);
    assert_eq!(store.0.budget.used(), 0, "everything was given back");
}

#[test]
fn newest_events_are_found_right_after_a_start_and_in_the_part_that_is_made_of_them() {
    const EVENTS: u64 = 3_000;
    let folder = Folder::new();
    let options = Options::new(&folder.0);
    let line = |n: u64| format!("{{\"user_id\":\"u{}\",\"code\":\"needle_{n}_ {}\"}}", n % 7, "x".repeat(900));
    let found = |snapshot: &Snapshot, query: &str| {
        snapshot.count(&filter(query), &all(), CountLimit::Exact, later()).expect("a count").count
    };
    for round in 0..2 {
        let (store, _) = Store::open(&options).expect("it opens");
        // The index of what was loaded may be there or not.
        let snapshot = store.snapshot();
        for n in (1..=EVENTS * round).step_by(499) {
            assert_eq!(found(&snapshot, &format!("needle_{n}_")), 1);
        }
        assert_eq!(found(&snapshot, "absent"), 0);
        if round == 0 {
            let events: Vec<Stored> = (1..=EVENTS).map(|n| plain(n, &line(n))).collect();
            store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
            continue;
        }
        let later_event = plain(EVENTS + 1, &line(EVENTS + 1));
        store.append(&[later_event.event()]).expect("it is stored");
        store.seal_now().expect("a part is made");
        let snapshot = store.snapshot();
        assert_eq!((snapshot.parts.len(), snapshot.tails.iter().map(|tail| tail.chunks.len()).sum::<usize>()), (1, 0));
        for n in [1, 2, 255, 256, 257, 1999, EVENTS, EVENTS + 1] {
            assert_eq!(found(&snapshot, &format!("needle_{n}_")), 1, "{n}");
        }
    }
}

#[test]
fn a_frequent_text_is_counted_as_far_as_the_bound_reaches_and_whole_where_that_is_asked_for() {
    const EVENTS: u64 = 40_000;
    let folder = Folder::new();
    let (store, _) = Store::open(&Options { part_events: 8192, ..Options::new(&folder.0) }).expect("it opens");
    let line =
        |n: u64| format!("{{\"user_id\":\"u{}\",\"code\":\"frame_{} = {n} {}\"}}", n % 40, n * n, "text ".repeat(9));
    for from in (0..EVENTS).step_by(4000) {
        let events: Vec<Stored> = (from..from + 4000).map(|n| plain(n + 1, &line(n))).collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("it is stored");
    }
    store.settle();
    let snapshot = store.snapshot();
    let count = |query: &str, limit| snapshot.count(&filter(query), &all(), limit, later()).expect("a count");
    let page = CountLimit::UpTo(100_000);
    let counted = count("frame", page);
    assert!(counted.is_at_least && (10_000..15_000).contains(&counted.count), "{counted:?}");
    // Asked again, it goes on where it ended.
    let again = count("frame", page);
    assert!(again.count > counted.count && (again.count == EVENTS || again.is_at_least), "{again:?}");
    assert_eq!(count("frame", CountLimit::Exact), Total { count: EVENTS, is_at_least: false });
    // What columns tell opens no text, and what is rare is counted whole.
    assert_eq!(count("user_id:u7", page), Total { count: EVENTS / 40, is_at_least: false });
    assert_eq!(count("frame_1524980601", page), Total { count: 1, is_at_least: false });
}
