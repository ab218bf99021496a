//! Tests of the queue against restarts, torn tails, flipped bytes, its size limit, and a model.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::dead_letter::tests::{dead_letter, parked};
use super::store::DeadLetterStore;
use super::*;

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir()
            .join(format!("weir-dlq-{}", crate::event::Id(u128::from_be_bytes(crate::event::Seed::random().0))));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|kind| kind == "dlq")).collect();
    files.sort();
    files
}

fn ordinals(store: &DeadLetterStore) -> Vec<u64> {
    store.list(None, usize::MAX).unwrap().iter().map(|dead_letter| dead_letter.content.ordinal).collect()
}

fn open(folder: &Folder) -> DeadLetterStore {
    DeadLetterStore::open(&folder.0, DEFAULT_MAX_BYTES).unwrap()
}

#[test]
fn dead_letters_survive_a_restart_in_order_and_a_torn_tail_is_cut() {
    let folder = Folder::new();
    let mut store = open(&folder);
    store.append(vec![dead_letter("out", 1), dead_letter("out", 2)], NOW).unwrap();
    store.append(vec![dead_letter("out", 3)], NOW).unwrap();
    drop(store);
    let file = &files(&folder.0)[0];
    let whole = std::fs::read(file).unwrap();
    for torn in 1..100 {
        std::fs::write(file, &whole[..whole.len() - torn]).unwrap();
        assert_eq!(ordinals(&open(&folder)), [1, 2], "{torn} bytes are missing");
    }
    let mut store = open(&folder);
    store.append(vec![dead_letter("out", 4)], NOW).unwrap();
    assert_eq!(ordinals(&open(&folder)), [1, 2, 4]);
}

#[test]
fn an_event_that_comes_again_after_a_crash_is_one_dead_letter() {
    let folder = Folder::new();
    open(&folder).append(vec![dead_letter("out", 1)], NOW).unwrap();
    let mut store = open(&folder);
    store.append(vec![dead_letter("out", 1), dead_letter("out", 2), dead_letter("other", 1)], NOW).unwrap();
    store.append(vec![dead_letter("out", 3), dead_letter("out", 3)], NOW).unwrap();
    assert_eq!(ordinals(&store), [1, 2, 1, 3], "once in one call, too");
    let first = store.list(None, 1).unwrap()[0].number;
    store.remove(&[first]).unwrap();
    store.append(vec![dead_letter("out", 1)], NOW).unwrap();
    assert_eq!(ordinals(&store), [2, 1, 3, 1], "once dropped, it may come back");
}

#[test]
fn two_events_to_which_their_producer_gave_one_id_are_two_dead_letters() {
    let folder = Folder::new();
    let mut store = open(&folder);
    let of_one_id = |seq, text: &'static str| NewDeadLetter {
        seq,
        body: bytes::Bytes::from_static(text.as_bytes()),
        ordinal: seq.unwrap_or(0),
        ..NewDeadLetter { event_id: dead_letter("out", 1).event_id, ..dead_letter("out", 1) }
    };
    let in_the_journal = [of_one_id(Some(1), "a"), of_one_id(Some(2), "b"), of_one_id(Some(3), "c")];
    let not_yet = [of_one_id(None, "a"), of_one_id(None, "b")];
    store.append(in_the_journal[..2].to_vec(), NOW).unwrap();
    store.append(in_the_journal[2..].to_vec(), NOW).unwrap();
    store.append(not_yet.to_vec(), NOW).unwrap();
    assert_eq!(store.list(None, 9).unwrap().len(), 5);
    // Each of them, when it comes again after a crash, is the one that is here.
    let mut store = open(&folder);
    store.append([&in_the_journal[..], &not_yet].concat(), NOW).unwrap();
    assert_eq!(store.list(None, 9).unwrap().len(), 5);
}

#[test]
fn at_its_bound_the_queue_refuses_and_loses_nothing() {
    let mut store = DeadLetterStore::in_memory(2000);
    let mut kept = 0;
    while store.append(vec![dead_letter("out", kept)], NOW).is_ok() {
        kept += 1;
    }
    assert!(kept > 2);
    assert_eq!(store.append(vec![dead_letter("out", 99)], NOW), Err(Refused::Full));
    assert_eq!(ordinals(&store), (0..kept).collect::<Vec<_>>());
    let numbers: Vec<Number> = store.list(None, 9).unwrap().iter().map(|dead_letter| dead_letter.number).collect();
    assert_eq!(store.remove(&numbers).unwrap().dead_letters, kept);
    assert_eq!(store.remove(&numbers).unwrap().dead_letters, 0, "they are gone already");
    store.append(vec![dead_letter("out", 99)], NOW).unwrap();
}

#[test]
fn what_is_done_is_given_back_to_the_disk() {
    let folder = Folder::new();
    let mut store = open(&folder);
    let big = |n| NewDeadLetter { body: bytes::Bytes::from(vec![b'x'; 1 << 20]), ..dead_letter("out", n) };
    for n in 0..12 {
        store.append(vec![big(n)], NOW).unwrap();
    }
    let before = files(&folder.0).len();
    assert!(before >= 3, "{before} segments");
    let numbers: Vec<Number> = store.list(None, 99).unwrap().iter().map(|dead_letter| dead_letter.number).collect();
    assert_eq!(store.remove(&numbers[..11]).unwrap().dead_letters, 11);
    assert_eq!(ordinals(&store), [11]);
    assert_eq!(files(&folder.0).len(), 1);
    assert!(store.bytes() < 2 << 20, "{} bytes", store.bytes());
    assert_eq!(ordinals(&open(&folder)), [11]);
}

fn wanted(destination: &str, before: u64, events: usize) -> Wanted {
    Wanted { component: "out".into(), destination: destination.into(), before, events, bytes: 1 << 20 }
}

fn taken(store: &DeadLetterStore, wanted: &Wanted) -> Vec<u64> {
    store.take(wanted).unwrap().dead_letters.iter().map(|dead_letter| dead_letter.content.ordinal).collect()
}

#[test]
fn parked_dead_letters_wait_by_destination_over_restarts_and_compaction() {
    let folder = Folder::new();
    let mut store = open(&folder);
    store.append(vec![parked("out", "a", 1), parked("out", "b", 2), parked("other", "a", 3)], NOW).unwrap();
    // Two events may have one id; dead letters are told apart by it, parked ones are not.
    store.append(vec![parked("out", "a", 4), NewDeadLetter { seq: Some(1005), ..parked("out", "a", 4) }], NOW).unwrap();
    store.append(vec![dead_letter("out", 4)], NOW).unwrap();
    for _ in 0..2 {
        assert_eq!(taken(&store, &wanted("a", u64::MAX, 9)), [1, 4, 4]);
        assert_eq!(taken(&store, &wanted("a", 1004, 9)), [1], "only what the cursor has passed");
        assert_eq!(taken(&store, &wanted("b", u64::MAX, 9)), [2]);
        assert_eq!(store.waiting(), [("other".into(), 1), ("out".into(), 4)].into());
        assert_eq!((store.summary().dead_letters, store.summary().parked), (6, 5));
        store = open(&folder);
    }
    let padding = NewDeadLetter { body: bytes::Bytes::from(vec![b'x'; 1 << 20]), ..dead_letter("out", 99) };
    store.append(vec![padding], NOW).unwrap();
    let last = store.list(None, 99).unwrap().last().unwrap().number;
    store.remove(&[last]).unwrap();
    assert!(store.bytes() < 1 << 20, "it was compacted");
    assert_eq!(taken(&open(&folder), &wanted("a", u64::MAX, 2)), [1, 4]);
    assert_eq!(store.clear("out").unwrap(), 4);
    assert_eq!(open(&folder).waiting(), [("other".into(), 1)].into());
}

#[test]
fn what_comes_again_from_the_journal_is_parked_no_longer() {
    let mut store = DeadLetterStore::in_memory(1 << 20);
    store.append((0..6).map(|n| parked("out", if n % 2 == 0 { "a" } else { "b" }, n)).collect(), NOW).unwrap();
    store.append(vec![parked("out", "a", 0)], NOW).unwrap();
    let resumed = store.resume("out", 1003, 1005).unwrap();
    let lot = |name: &str, dead_letters| Lot {
        destination: name.into(),
        dead_letters,
        since: NOW,
        answer: "value out of range".into(),
    };
    assert_eq!(resumed.lots, [lot("a", 2), lot("b", 1)]);
    assert_eq!(resumed.come_again, 2, "two of the three were counted when the totals were saved");
    assert_eq!(ordinals(&store), [0, 1, 2], "and what a failed sync left behind twice is there once");
}

#[test]
fn how_parked_dead_letters_ended_is_kept_in_the_step_that_ends_them() {
    let folder = Folder::new();
    let mut store = open(&folder);
    store.append((0..6).map(|n| parked("out", "a", n)).collect(), NOW).unwrap();
    store.append(vec![parked("other", "a", 9), dead_letter("out", 8)], NOW).unwrap();
    let numbers: Vec<Number> = store.list(None, 99).unwrap().iter().map(|dead_letter| dead_letter.number).collect();
    let file = &files(&folder.0)[0];
    let unmarked = std::fs::read(file).unwrap();
    let ended = store.end("out", &[(numbers[0], End::Delivered), (numbers[1], End::Poison)]).unwrap();
    assert_eq!((ended.events, ended.ends.columns()), (2, [1, 0, 1, 0]));
    let again = store.end("out", &[(numbers[0], End::Delivered), (numbers[6], End::Dropped)]).unwrap();
    assert_eq!((again.events, again.ends), (0, ended.ends), "one has ended already, one is of another sink");
    // A crash before their headers were marked.
    std::fs::write(file, &unmarked).unwrap();
    let mut store = open(&folder);
    assert_eq!(ordinals(&store), [2, 3, 4, 5, 9, 8]);
    let resumed = store.resume("out", u64::MAX, u64::MAX).unwrap();
    assert_eq!((resumed.lots[0].dead_letters, resumed.ends), (4, ended.ends));
    // Somebody drops a parked one, a dead one, and one of another sink.
    let removed = store.remove(&[numbers[2], numbers[7], numbers[6]]).unwrap();
    assert_eq!(removed.dead_letters, 3);
    assert_eq!((removed.parked["out"].columns(), removed.parked["other"].columns()), ([1, 0, 1, 1], [0, 0, 0, 1]));
    let condemned = store.condemn("out", vec![dead_letter("out", 3)], &[numbers[3]], NOW).unwrap();
    assert_eq!((condemned.events, condemned.ends.columns()), (1, [1, 1, 1, 1]));
    let mut store = open(&folder);
    assert_eq!(store.resume("out", u64::MAX, u64::MAX).unwrap().ends.columns(), [1, 1, 1, 1]);
    assert_eq!(ordinals(&store), [4, 5, 3]);
}

#[test]
fn a_step_that_cannot_be_written_ends_nothing() {
    let folder = Folder::new();
    let mut store = open(&folder);
    store.append(vec![parked("out", "a", 1)], NOW).unwrap();
    let number = store.list(None, 1).unwrap()[0].number;
    // A name that does not fit stands for a disk that does not write.
    let name = "x".repeat(200_000);
    store.append(vec![parked(&name, "a", 2)], NOW).unwrap();
    let other = store.list(Some(number), 1).unwrap()[0].number;
    assert!(store.end(&name, &[(other, End::Delivered)]).is_err());
    assert_eq!((ordinals(&store), store.waiting()[&name]), (vec![1, 2], 1));
    assert_eq!(store.end("out", &[(number, End::Delivered)]).unwrap().events, 1);
}

#[test]
fn a_parked_event_becomes_a_dead_letter_in_a_full_queue() {
    let mut store = DeadLetterStore::in_memory(1500);
    let mut kept = 0;
    while store.append(vec![parked("out", "a", kept)], NOW).is_ok() {
        kept += 1;
    }
    let first = store.list(None, 1).unwrap()[0].number;
    assert_eq!(store.condemn("out", vec![dead_letter("out", 0)], &[first], NOW).map(|ended| ended.events), Ok(1));
    assert_eq!((store.summary().dead_letters, store.summary().parked), (kept, kept - 1));
    assert_eq!(store.append(vec![dead_letter("out", 99)], NOW), Err(Refused::Full));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_flipped_byte_costs_one_dead_letter_at_most(at in 0usize..10_000, bit in 0u8..8) {
        let folder = Folder::new();
        let mut store = open(&folder);
        for n in 0..8 {
            store.append(vec![if n < 4 { dead_letter("out", n) } else { parked("out", "a", n) }], NOW).unwrap();
        }
        drop(store);
        let file = &files(&folder.0)[0];
        let mut bytes = std::fs::read(file).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        std::fs::write(file, &bytes).unwrap();
        let mut store = open(&folder);
        let left = ordinals(&store);
        prop_assert!(left.len() >= 7, "{left:?}");
        prop_assert!(left.is_sorted());
        store.append(vec![dead_letter("out", 100)], NOW).unwrap();
        prop_assert_eq!(ordinals(&open(&folder)).len(), left.len() + 1);
    }

    #[test]
    fn the_queue_agrees_with_a_list(steps in prop::collection::vec((0u8..4, any::<u16>()), 1..60)) {
        let folder = Folder::new();
        let mut store = open(&folder);
        let mut model: Vec<u64> = Vec::new();
        for (nth, (step, pick)) in steps.into_iter().enumerate() {
            match step {
                0 | 1 => {
                    let count = u64::from(pick % 5);
                    let base = nth as u64 * 10;
                    store.append((base..base + count).map(|n| dead_letter("out", n)).collect(), NOW).unwrap();
                    model.extend(base..base + count);
                }
                2 if !model.is_empty() => {
                    let at = pick as usize % model.len();
                    let number = store.list(None, at + 1).unwrap()[at].number;
                    prop_assert_eq!(store.get(number).unwrap().unwrap().content.ordinal, model[at]);
                    prop_assert_eq!(store.remove(&[number]).unwrap().dead_letters, 1);
                    model.remove(at);
                }
                _ => store = open(&folder),
            }
            prop_assert_eq!(&ordinals(&store), &model);
        }
        prop_assert_eq!(store.summary().dead_letters, model.len() as u64);
    }
}

#[tokio::test]
async fn writers_at_the_same_time_share_the_thread_and_each_hears_its_own_answer() {
    let queue = DeadLetters::in_memory(100_000).unwrap();
    let writers = (0..50).map(|n| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.append(vec![dead_letter("out", n)]).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(queue.summary().await.unwrap().dead_letters, 50);
    let all = queue.list(None, 100).await.unwrap();
    assert_eq!(queue.get(all[7].number).await.unwrap().unwrap(), all[7]);
    let removed = queue.remove(all.iter().map(|dead_letter| dead_letter.number).collect()).await.unwrap();
    assert_eq!(removed.dead_letters, 50);
}
