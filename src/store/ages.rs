//! Retention by age, size and type of event: what must be left is left, and nothing for much longer.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::tests::{Folder, START, Stored, all, check, fill, filter, later, plain};
use super::*;
use crate::query::Query;
use crate::query::request::CountLimit;
use crate::units::Timestamp;

#[test]
fn retention_lets_whole_parts_go_and_keeps_what_is_held() {
    let folder = Folder::new();
    let archive = folder.0.join("archive");
    let (store, _) = Store::open(&Options::new(folder.0.join("store"))).expect("it opens");
    for part in 0..4u64 {
        let line = |n: u64| {
            format!("{{\"n\":{n},\"case\":\"{}\"}}", if part == 1 && n.is_multiple_of(10) { "legal" } else { "none" })
        };
        let events: Vec<Stored> = (part * 10..part * 10 + 10)
            .map(|n| Stored { received: START + (part as i64) * 86_400_000_000, ..plain(n + 1, &line(n)) })
            .collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).unwrap();
        store.seal_now().unwrap();
    }
    store.set_retention(Retention {
        age: Some(Duration::from_secs(86_400)),
        archive: Some(archive.clone()),
        hold: Some(Arc::new(Query::parse("case:legal").unwrap())),
        ..Retention::default()
    });
    let tidied = store.tidy(Timestamp(START + 3 * 86_400_000_000)).unwrap();
    assert_eq!((tidied.parts, tidied.events), (1, 10), "the first is old, the second held, the others are young");
    let files: Vec<_> = std::fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    let text = zstd::decode_all(std::fs::File::open(&files[0]).unwrap()).unwrap();
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 10);
    store.set_retention(Retention { bytes: Some(1), ..Retention::default() });
    assert_eq!(store.tidy(Timestamp(START)).unwrap().parts, 3);
}

#[test]
fn the_little_that_arrives_goes_when_its_time_is_over_though_no_tail_ever_fills() {
    let folder = Folder::new();
    let hour = 3_600_000_000;
    let (age, short) = (Duration::from_secs(240 * 3600), Duration::from_secs(24 * 3600));
    for types in [[].into(), [("noise".to_owned(), short)].into()] {
        let retention = Retention { age: Some(age), types, ..Retention::default() };
        let has_types = !retention.types.is_empty();
        let dir = folder.0.join(has_types.to_string());
        let (store, _) = Store::open(&Options { retention, ..Options::new(&dir) }).expect("it opens");
        let left =
            |query: &str| store.snapshot().count(&filter(query), &all(), CountLimit::Exact, later()).unwrap().count;
        let mut most = 0;
        for n in 0..1000u64 {
            let now = START + n as i64 * hour;
            let kind = if n % 2 == 0 { "noise" } else { "other" };
            let one = Stored { received: now, ..plain(n + 1, &format!("{{\"event_type\":\"{kind}\",\"n\":{n}}}")) };
            store.append(&[one.event()]).unwrap();
            store.tidy(Timestamp(now)).unwrap();
            most = most.max(store.snapshot().parts.len());
        }
        // An eighth later at most.
        let others = left("event_type:other");
        assert!((120..=136).contains(&others), "{others} of 240 hours");
        let noise = left("event_type:noise");
        let expected = if has_types { 12..=15 } else { 120..=136 };
        assert!(expected.contains(&noise), "{noise}");
        assert!(most < MANY_PARTS_HERE, "{most} parts");
        store.tidy(Timestamp(START + 2000 * hour)).unwrap();
        assert_eq!(left(""), 0);
    }
}

/// What a store of this many events and times may come to.
const MANY_PARTS_HERE: usize = 250;

#[test]
fn types_of_events_stay_for_times_of_their_own() {
    let folder = Folder::new();
    let day = Duration::from_secs(86_400);
    let types = [("noise", 1), ("alert", 365)].map(|(name, days)| (name.to_owned(), day * days)).into();
    let retention = Retention { age: Some(day * 30), types, ..Retention::default() };
    let options = Options { retention, ..Options::new(&folder.0) };
    let (store, _) = Store::open(&options).expect("it opens");
    let kinds = ["\"event_type\":\"noise\",", "\"event_type\":\"alert\",", "\"event_type\":\"other\",", ""];
    let events: Vec<Stored> =
        (0..200).map(|n| plain(n + 1, &format!("{{{}\"n\":{n}}}", kinds[n as usize % 4]))).collect();
    fill(&store, &events, 40, 2);
    check(&store, &events);
    let left = |store: &Store| {
        let everything = filter("");
        store.snapshot().count(&everything, &all(), CountLimit::Exact, later()).unwrap().count
    };
    assert_eq!(left(&store), 200);
    store.seal_now().unwrap();
    assert_eq!(store.snapshot().parts.len(), 9, "three tails of three times");
    for (days, expected) in [(0, 200), (2, 150), (31, 50), (366, 0)] {
        let now = Timestamp(START + 200 + days * 86_400_000_000);
        store.tidy(now).unwrap();
        assert_eq!(left(&store), expected, "after {days} days");
        let (again, _) = Store::open(&Options::new(&folder.0)).expect("it opens again");
        assert_eq!(left(&again), expected, "after {days} days, opened again");
    }
}

#[test]
fn of_what_is_over_only_what_is_held_stays() {
    let day = Duration::from_secs(86_400);
    for types in [[].into(), [("noise".to_owned(), day), ("short".to_owned(), day / 2)].into()] {
        let folder = Folder::new();
        let hold = Some(Arc::new(Query::parse("user_id:kept OR code:\"legal case\"").unwrap()));
        let retention = Retention { age: Some(day * 10), types, hold, ..Retention::default() };
        let options = Options { retention, ..Options::new(&folder.0) };
        let (store, _) = Store::open(&options).expect("it opens");
        let kinds = ["noise", "other", "short"];
        let events: Vec<Stored> = (0..900u64)
            .map(|n| {
                let (user, kind) = (if n % 50 == 0 { "kept" } else { "ali" }, kinds[n as usize % 3]);
                let code = if n % 70 == 1 { "a legal case" } else { "a case" };
                plain(
                    n + 1,
                    &format!("{{\"event_type\":\"{kind}\",\"user_id\":\"{user}\",\"code\":\"{code}\",\"n\":{n}}}"),
                )
            })
            .collect();
        fill(&store, &events, 300, 2);
        check(&store, &events);
        store.seal_now().unwrap();
        check(&store, &events);
        store.tidy(Timestamp(START + 11 * 86_400_000_000)).unwrap();
        let held: Vec<Stored> =
            events.into_iter().filter(|one| one.line.contains("\"kept\"") || one.line.contains("legal case")).collect();
        assert_eq!(held.len(), 18 + 13);
        check(&store, &held);
        let (again, _) = Store::open(&options).expect("it opens again");
        check(&again, &held);
    }
}

#[test]
fn newest_events_that_nobody_adds_to_become_a_part_unless_they_are_few() {
    let folder = Folder::new();
    let options = Options { part_events: 1000, ..Options::new(&folder.0) };
    let (store, _) = Store::open(&options).expect("it opens");
    let parts = |store: &Store| store.snapshot().parts.len();
    let add = |store: &Store, seqs: std::ops::RangeInclusive<u64>, received: i64| {
        let events: Vec<Stored> =
            seqs.map(|n| Stored { received, ..plain(n, &format!("{{\"n\":{n},\"code\":\"x\"}}")) }).collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).unwrap();
    };
    let second = 1_000_000;
    add(&store, 1..=249, START);
    store.tidy(Timestamp(START + 3600 * second)).unwrap();
    assert_eq!(parts(&store), 0, "they are few");
    add(&store, 250..=300, START + 3600 * second);
    store.tidy(Timestamp(START + 3620 * second)).unwrap();
    assert_eq!(parts(&store), 0, "events have just come");
    // They rest after a start as well.
    drop(store);
    let (store, _) = Store::open(&options).expect("it opens");
    store.tidy(Timestamp(START + 3621 * second)).unwrap();
    assert_eq!((parts(&store), store.snapshot().tails.iter().map(|tail| tail.chunks.len()).sum::<usize>()), (1, 0));
    store.tidy(Timestamp(START + 9000 * second)).unwrap();
    assert_eq!(parts(&store), 1);
    let found = store.snapshot().count(&filter("code:x"), &all(), CountLimit::Exact, later()).expect("a count");
    assert_eq!(found.count, 300);
}

#[test]
fn a_damaged_part_holds_up_no_retention() {
    for hold in [None, Some("case:legal")] {
        let folder = Folder::new();
        let (dir, archive) = (folder.0.join("store"), folder.0.join("archive"));
        let (store, _) = Store::open(&Options::new(&dir)).expect("it opens");
        let events: Vec<Stored> = (1..=300).map(|n| plain(n, &format!("{{\"n\":{n},\"case\":\"none\"}}"))).collect();
        fill(&store, &events, 100, 1);
        drop(store);
        let path = dir.join(layout::part_name(1, 0));
        let mut bytes = std::fs::read(&path).unwrap();
        let file = layout::PartFile::open(&path).unwrap();
        for section in [layout::Section::PostingsIndex, layout::Section::Ordinals, layout::Section::Shapes] {
            bytes[file.place_of(section, 0).unwrap()].iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        std::fs::write(&path, &bytes).unwrap();
        let hold = hold.map(|hold| Arc::new(Query::parse(hold).unwrap()));
        let retention =
            Retention { age: Some(Duration::from_secs(60)), archive: Some(archive), hold, ..Retention::default() };
        let (store, _) = Store::open(&Options { retention, ..Options::new(&dir) }).expect("it opens");
        let tidied = store.tidy(Timestamp(START + 3_600_000_000)).expect("it is tidied");
        assert_eq!((tidied.parts, tidied.events), (2, 200));
        assert!(dir.join("quarantine").join(layout::part_name(1, 0)).exists());
        assert_eq!(store.snapshot().parts.len(), 0);
    }
}

/// The lines of all files of an archive, sorted.
fn archived(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = files.map(|path| zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap());
    let mut lines: Vec<String> =
        text.flat_map(|text| String::from_utf8(text).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.sort();
    lines
}

#[test]
fn stores_that_share_an_archive_lose_nothing_there_and_what_is_archived_again_is_there_once() {
    let folder = Folder::new();
    let archive = folder.0.join("archive");
    let mut expected = Vec::new();
    for name in ["one", "other", "third"] {
        let dir = folder.0.join(name);
        let retention =
            Retention { age: Some(Duration::from_secs(60)), archive: Some(archive.clone()), ..Retention::default() };
        let options = Options { retention, ..Options::new(&dir) };
        let (store, _) = Store::open(&options).expect("it opens");
        let events: Vec<Stored> = (1..=100).map(|n| plain(n, &format!("{{\"n\":{n},\"store\":\"{name}\"}}"))).collect();
        expected.extend(events.iter().map(|event| event.line.clone()));
        fill(&store, &events, 100, 1);
        let (part, kept) = (dir.join(layout::part_name(1, 0)), folder.0.join("kept"));
        std::fs::copy(&part, &kept).unwrap();
        assert_eq!(store.tidy(Timestamp(START + 3_600_000_000)).unwrap().parts, 1);
        drop(store);
        // The agent has ended between both steps.
        std::fs::rename(&kept, &part).unwrap();
        let (store, _) = Store::open(&options).expect("it opens");
        assert_eq!(store.tidy(Timestamp(START + 3_600_000_000)).unwrap().parts, 1);
    }
    expected.sort();
    assert_eq!(archived(&archive), expected);
}
