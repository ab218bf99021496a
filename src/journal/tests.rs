//! Tests of the journal with its threads on a real disk: appending, reading, reopening, filling up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;

use super::fs::Real;
use super::*;
use crate::event::{Origins, Seed};

/// A folder that goes away with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-journal-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `count` events, the first with this number.
pub fn lines(first: u64, count: u64) -> Lines {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for n in first..first + count {
        bytes.extend_from_slice(format!("{{\"n\":{n}}}\n").as_bytes());
        ends.push(bytes.len() as u32);
    }
    let origins = Origins::of(Seed([7; 16]), first..first + count);
    Lines { bytes: Bytes::from(bytes), ends, origins }
}

pub fn commit(stream: StreamId, lines: Lines) -> Commit {
    Commit { entries: vec![(stream, lines)], received_at: Timestamp(1), ..Commit::default() }
}

pub fn texts(records: &[Arc<Record>]) -> Vec<String> {
    let lines = records.iter().flat_map(|record| (0..record.lines.len()).map(|n| record.lines.line(n)));
    lines.map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("{{\"n\":{n}}}")).collect()
}

fn open(folder: &Folder) -> Journal {
    Journal::open(Options::new(&folder.0), Arc::new(Real::default())).unwrap().0
}

#[tokio::test]
async fn what_was_acknowledged_is_read_in_order_before_and_after_a_restart() {
    let folder = Folder::new();
    let journal = open(&folder);
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
    let seqs = journal.ticket().commit(commit(stream, lines(0, 10))).await.unwrap();
    assert_eq!(seqs.end - seqs.start, 10);
    let records = cursor.next(1 << 20).await.unwrap();
    assert_eq!(texts(&records), numbers(0..10));
    assert_eq!(records[0].lines.derived_id(3), lines(0, 10).derived_id(3));
    cursor.settle(seqs.start + 4, b"totals", None);
    journal.close();
    drop((cursor, journal));

    let (journal, report) = Journal::open(Options::new(&folder.0), Arc::new(Real::default())).unwrap();
    assert_eq!((report.events, report.lost_events()), (10, 0));
    assert_eq!(journal.stream("a"), Some(stream));
    let mut cursor = journal.cursor("sink", &[stream], Start::End, None).unwrap();
    assert_eq!((&cursor.totals()[..], cursor.position(), cursor.waiting_events()), (&b"totals"[..], seqs.start + 4, 6));
    assert_eq!(texts(&cursor.next(1 << 20).await.unwrap()), numbers(4..10));
    let more = journal.ticket().commit(commit(stream, lines(10, 1))).await.unwrap();
    assert_eq!(more.start, seqs.end);
    assert_eq!(texts(&cursor.next(1 << 20).await.unwrap()), numbers(10..11));
}

#[tokio::test]
async fn a_second_opener_hears_who_has_the_journal() {
    let folder = Folder::new();
    let _journal = open(&folder);
    match Journal::open(Options::new(&folder.0), Arc::new(Real::default())) {
        Err(OpenError::Locked { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{:?}", other.map(|(_, report)| report)),
    }
}

#[tokio::test]
async fn tickets_are_appended_in_the_order_they_were_taken_and_a_dropped_one_holds_nobody_up() {
    let folder = Folder::new();
    let journal = open(&folder);
    let stream = journal.stream("a").unwrap();
    let (first, dropped, third) = (journal.ticket(), journal.ticket(), journal.ticket());
    let late = third.commit(commit(stream, lines(2, 1)));
    drop(dropped);
    let early = first.commit(commit(stream, lines(1, 1)));
    assert!(early.await.unwrap().end <= late.await.unwrap().start);
}

#[tokio::test]
async fn positions_hold_the_last_word_and_survive_a_restart() {
    let folder = Folder::new();
    let journal = open(&folder);
    let stream = journal.stream("a").unwrap();
    let position = |key: &'static str, value: &'static str| Position {
        source: "files".into(),
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(value.as_bytes()),
    };
    for (key, value) in [("x", "1"), ("y", "1"), ("x", "2"), ("y", "")] {
        let mut commit = commit(stream, lines(0, 1));
        commit.positions.push(position(key, value));
        journal.ticket().commit(commit).await.unwrap();
    }
    let expected = vec![(Bytes::from("x"), Bytes::from("2"))];
    assert_eq!(journal.positions("files"), expected);
    drop(journal);
    assert_eq!(open(&folder).positions("files"), expected);
}

#[tokio::test]
async fn an_idempotency_key_is_taken_once_and_known_after_a_restart_without_its_table() {
    let folder = Folder::new();
    let journal = open(&folder);
    let stream = journal.stream("a").unwrap();
    let key = IdempotencyKey { key: [1; 16], body: [2; 16] };
    let keyed =
        |stream| Commit { key: Some(key), accepted: 5, received_at: Timestamp::now(), ..commit(stream, lines(0, 5)) };
    journal.ticket().commit(keyed(stream)).await.unwrap();
    let same = KeyMatch::Same { accepted: 5 };
    assert_eq!(journal.ticket().commit(keyed(stream)).await, Err(AppendError::KnownKey(same)));
    drop(journal);
    std::fs::remove_file(folder.0.join("keys")).unwrap();
    let journal = open(&folder);
    // The commits of these tests were received in 1970, so the key is over: enter one that is not.
    assert_eq!(journal.known_key(&key).unwrap(), Some(same));
    let other = IdempotencyKey { body: [3; 16], ..key };
    assert_eq!(journal.known_key(&other).unwrap(), Some(KeyMatch::OtherBody));
}

#[tokio::test]
async fn memory_mode_keeps_events_and_their_permits_until_every_cursor_passed_them() {
    let options = Options { mode: Mode::Memory, intake_bytes: 1000, ..Options::new("/nowhere") };
    let (journal, _) = Journal::open(options, Arc::new(Real::default())).unwrap();
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::End, None).unwrap();
    let permit = journal.try_reserve(900, &[stream]).unwrap();
    let seqs = journal.ticket().commit(Commit { permit: Some(permit), ..commit(stream, lines(0, 3)) }).await.unwrap();
    assert_eq!(journal.try_reserve(200, &[stream]).err(), Some(ReserveError::Full(Full::Memory)));
    let delivered = journal.delivered(seqs.end, &[stream]);
    assert!(journal.somebody_waits());
    assert_eq!(texts(&cursor.next(1 << 20).await.unwrap()), numbers(0..3));
    cursor.settle(seqs.end, b"", None);
    delivered.await;
    assert!(!journal.somebody_waits());
    assert!(journal.try_reserve(200, &[stream]).is_ok());
}

#[tokio::test]
async fn a_cursor_sees_only_its_streams_and_a_slow_one_reads_from_the_disk() {
    let folder = Folder::new();
    let options = Options { tier_bytes: 0, ..Options::new(&folder.0) };
    let (journal, _) = Journal::open(options, Arc::new(Real::default())).unwrap();
    let (a, b) = (journal.stream("a").unwrap(), journal.stream("b").unwrap());
    let mut cursor = journal.cursor("sink", &[b], Start::End, None).unwrap();
    for n in 0..20 {
        let entries = vec![(a, lines(n, 1)), (b, lines(n, 1))];
        let commit = Commit { entries, received_at: Timestamp(1), ..Commit::default() };
        journal.ticket().commit(commit).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 20 {
        seen.extend(texts(&cursor.next(8).await.unwrap()));
    }
    assert_eq!(seen, numbers(0..20));
    assert_eq!(cursor.try_next(8).unwrap().len(), 0);
}

#[tokio::test]
async fn a_cursor_that_nobody_has_opened_knows_what_waits_for_it() {
    let folder = Folder::new();
    let journal = open(&folder);
    let (mine, other) = (journal.stream("a").unwrap(), journal.stream("b").unwrap());
    let mut cursor = journal.cursor("sink", &[mine], Start::Oldest, None).unwrap();
    let seqs = journal.ticket().commit(commit(mine, lines(0, 10))).await.unwrap();
    journal.ticket().commit(commit(other, lines(0, 5))).await.unwrap();
    cursor.next(1 << 20).await.unwrap();
    cursor.settle(seqs.start + 4, b"", None);
    journal.close();
    drop((cursor, journal));
    let journal = open(&folder);
    let waiting = || journal.cursors()[0].waiting_events;
    assert_eq!(waiting(), 6);
    assert!(journal.move_cursor("sink", seqs.start + 9, None).unwrap().is_some());
    assert_eq!(waiting(), 1);
    assert!(journal.move_cursor("sink", 0, None).unwrap().is_some_and(|at| 0 < at && at <= seqs.start));
    assert_eq!(waiting(), 10);
}
