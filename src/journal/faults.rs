//! Tests of single faults: flipped bytes, truncated files, missing cursors, a full disk, failed syncs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use futures_util::FutureExt;

use super::appender::Appender;
use super::format::{DATA_START, VERSION, put32};
use super::recovery::{self, Opened};
use super::report::RecoveryReport;
use super::sim::Sim;
use super::tests::{commit, lines, texts};
use super::*;

fn small() -> Options {
    // Segments of 16 KiB.
    Options { max_bytes: 256 << 10, codec: Codec::None, tier_bytes: 1 << 10, ..Options::new("/j") }
}

fn open(disk: &Sim, options: Options) -> (Journal, Appender, RecoveryReport) {
    let Opened { shared, appender, guard, report } = recovery::open(options, disk.boot()).unwrap();
    (Journal::without_threads(shared, Some(guard)), appender, report)
}

/// Appends and syncs one commit.
fn append(journal: &Journal, appender: &mut Appender, commit: Commit) -> Result<std::ops::Range<u64>, AppendError> {
    let receipt = journal.ticket().commit(commit);
    let due = journal.shared().queue().take_due(usize::MAX);
    appender.append(due);
    appender.finish_syncs();
    appender.prepare();
    receipt.now_or_never().expect("answered after the sync")
}

fn read_all(cursor: &mut Cursor) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let records = cursor.try_next(4096).unwrap();
        if records.is_empty() {
            return all;
        }
        all.extend(texts(&records));
    }
}

/// `commits` of 40 events each, closed in order.
fn filled(commits: u64, close: bool) -> Sim {
    let disk = Sim::new(1);
    let (journal, mut appender, _) = open(&disk, small());
    let stream = journal.stream("a").unwrap();
    drop(journal.cursor("sink", &[stream], Start::Oldest, None).unwrap());
    for n in 0..commits {
        append(&journal, &mut appender, commit(stream, lines(n * 40, 40))).unwrap();
    }
    if close {
        appender.seal();
        journal.close();
    } else {
        disk.kill();
    }
    drop(journal);
    disk
}

/// Opens what is on the disk and reads everything.
fn reopen(disk: &Sim) -> (Vec<String>, RecoveryReport, u64) {
    let (journal, _appender, report) = open(disk, small());
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::End, None).unwrap();
    let all = read_all(&mut cursor);
    let missing = cursor.take_gaps().iter().map(|gap| gap.events).sum();
    disk.kill();
    (all, report, missing)
}

fn whole(n: u64) -> Vec<String> {
    texts(&[Arc::new(Record {
        stream: StreamId(0),
        first_seq: 0,
        stream_first: 0,
        received_at: Timestamp(0),
        lines: lines(0, n),
    })])
}

#[test]
fn any_flipped_byte_costs_one_record_at_most_and_is_counted() {
    let pristine = filled(36, true);
    let (all, report, _) = reopen(&pristine.copy());
    assert_eq!((all.len(), report.lost_events()), (1440, 0));
    let expected = whole(1440);
    let known: std::collections::HashSet<&String> = expected.iter().collect();
    let mut segments = 0;
    for (path, len) in pristine.files() {
        let is_segment = path.extension().is_some_and(|e| e == "segment");
        segments += usize::from(is_segment);
        for offset in (0..len).filter(|offset| offset % 11 == 0 || (*offset > 8192 && *offset < 8500)) {
            if !pristine.is_used(&path, offset) && offset % 509 != 0 {
                continue;
            }
            let disk = pristine.copy();
            disk.flip(&path, offset);
            let (left, report, missing) = reopen(&disk);
            let place = format!("{} at {offset}", path.display());
            let lost = expected.len() - left.len();
            let gone = || expected.iter().filter(|line| !left.contains(line)).step_by(40).collect::<Vec<_>>();
            assert!(lost == 0 || lost == 40, "{place}: {lost} lost, {:?}, {report:?}", gone());
            assert!(left.iter().all(|line| known.contains(line)), "{place}: something new");
            assert!(left.is_sorted_by_key(|line| line[5..line.len() - 1].parse::<u64>().unwrap()), "{place}: order");
            // What is missing at the very end shows as bytes, the number of its events went with it.
            let counted = report.lost_events().max(missing) as usize;
            let at_the_end = !left.contains(&expected[1439]);
            assert!(counted == lost || at_the_end, "{place}: {lost} lost, {counted} counted");
            if lost > 0 {
                let kept = disk.files().iter().any(|(path, _)| path.starts_with("/j/quarantine"));
                assert!(kept, "{place}: nothing in quarantine");
                assert!(!report.lost.is_empty(), "{place}: nothing is said of it");
            }
        }
    }
    assert!(segments >= 3, "{segments}");
}

#[test]
fn a_last_segment_cut_anywhere_keeps_every_commit_in_front_of_the_cut() {
    let pristine = filled(22, false);
    let last = pristine.files().into_iter().rfind(|(path, _)| path.to_str().unwrap().contains("00002.seg"));
    let (path, len) = last.unwrap();
    let mut before = 0;
    for cut in u64::from(DATA_START)..len {
        let disk = pristine.copy();
        disk.truncate(&path, cut);
        let (left, ..) = reopen(&disk);
        assert_eq!(left, whole(left.len() as u64), "cut at {cut}");
        assert!(left.len() >= before, "cut at {cut}");
        before = left.len();
    }
    assert_eq!(before, 880);
}

#[test]
fn cursors_that_lag_side_by_side_read_each_record_from_the_disk_once() {
    let disk = Sim::new(1);
    let (journal, mut appender, _) = open(&disk, Options { tier_bytes: 4 << 10, ..small() });
    let stream = journal.stream("a").unwrap();
    let mut first = journal.cursor("first", &[stream], Start::Oldest, None).unwrap();
    let mut second = journal.cursor("second", &[stream], Start::Oldest, None).unwrap();
    for n in 0..20 {
        append(&journal, &mut appender, commit(stream, lines(n * 40, 40))).unwrap();
    }
    let one = first.try_next(1).unwrap();
    disk.fail_reads(true);
    assert_eq!(second.try_next(1).unwrap(), one);
    assert!(second.try_next(1).is_err(), "nobody has read the next one");
    disk.fail_reads(false);
    let next = second.try_next(1).unwrap();
    assert_eq!((texts(&one), texts(&next)), (whole(40), whole(80)[40..].to_vec()));
    disk.fail_reads(true);
    assert_eq!(first.try_next(1).unwrap(), next);
    first.rewind_to_settled();
    (0..2).for_each(|_| journal.shared().unpacked.forget_unused());
    assert_eq!(first.try_next(1).unwrap(), one, "somebody has it still");
    first.rewind_to_settled();
    drop((one, next));
    (0..2).for_each(|_| journal.shared().unpacked.forget_unused());
    assert!(first.try_next(1).is_err(), "it is not kept for ever");
}

#[test]
fn a_cursor_that_reads_from_memory_is_outpaced_before_it_has_to_read_from_the_disk() {
    let disk = Sim::new(1);
    let (journal, mut appender, _) = open(&disk, Options { tier_bytes: 16 << 10, ..small() });
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
    let mut more = |count| {
        for n in 0..count {
            append(&journal, &mut appender, commit(stream, lines(n * 40, 40))).unwrap();
        }
    };
    more(3);
    assert!(!journal.outpaces(), "there is room for more");
    more(9);
    assert!(journal.outpaces());
    read_all(&mut cursor);
    assert!(!journal.outpaces(), "it has read all");
    more(6);
    assert!(!journal.outpaces(), "it is in the newer half");
    more(6);
    assert!(journal.outpaces());
    more(50);
    assert!(!journal.outpaces(), "it reads from the disk anyway");
    more(10);
    drop(cursor);
    assert!(!journal.outpaces(), "nobody reads");
}

#[test]
fn a_lost_cursor_reads_everything_again_and_is_reported() {
    let disk = filled(3, true);
    disk.boot();
    let path: PathBuf = "/j/cursors/sink.cursor".into();
    fs::Fs::remove(&disk, &path).unwrap();
    let (left, report, _) = reopen(&disk);
    assert_eq!((left.len(), report.cursors_lost), (120, vec!["sink".to_owned()]));
}

#[test]
fn a_cursor_behind_the_end_is_set_back_and_reported() {
    let disk = filled(3, true);
    {
        let (journal, mut appender, _) = open(&disk, small());
        let stream = journal.stream("a").unwrap();
        let mut cursor = journal.cursor("sink", &[stream], Start::End, None).unwrap();
        let end = append(&journal, &mut appender, commit(stream, lines(120, 40))).unwrap().end;
        read_all(&mut cursor);
        cursor.settle(end, b"", None);
        journal.close();
    }
    disk.kill();
    disk.truncate(Path::new("/j/0000000001.segment"), u64::from(DATA_START));
    let (left, report, _) = reopen(&disk);
    assert_eq!((left.len(), report.set_back.len()), (0, 1));
}

#[test]
fn a_newer_format_is_refused_and_nothing_is_changed() {
    let disk = filled(3, true);
    let path = Path::new("/j/0000000001.segment");
    let file = fs::Fs::open(&disk, path).unwrap();
    let mut sector = [0; format::SECTOR];
    file.read_at(&mut sector, 0).unwrap();
    put32(&mut sector, 12, VERSION + 1);
    let crc = crc32c::crc32c(&sector[12..]);
    put32(&mut sector, 8, crc);
    file.write_at(&sector, 0).unwrap();
    let before = disk.files();
    let error = recovery::open(small(), disk.boot()).err().unwrap();
    assert!(matches!(error, OpenError::NewerFormat { version, .. } if version == VERSION + 1), "{error}");
    assert_eq!(disk.files(), before);
}

#[test]
fn a_commit_that_was_written_but_never_synced_is_not_acknowledged_and_leaves_no_hole() {
    let disk = Sim::new(5);
    let (journal, mut appender, _) = open(&disk, small());
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
    let receipt = journal.ticket().commit(commit(stream, lines(0, 5)));
    let due = journal.shared().queue().take_due(usize::MAX);
    appender.append(due);
    assert!(receipt.now_or_never().is_none());
    assert!(cursor.try_next(1000).unwrap().is_empty(), "no cursor sees an event before its sync");
    disk.fail_next_syncs(1);
    appender.finish_syncs();
    append(&journal, &mut appender, commit(stream, lines(5, 5))).unwrap();
    assert_eq!(read_all(&mut cursor), whole(10)[5..]);
    assert_eq!(cursor.take_gaps(), vec![]);
    drop(cursor);
    drop(journal);
    disk.cut_power();
    let (left, report, missing) = reopen(&disk);
    assert_eq!((left, report.lost_events(), missing), (whole(10)[5..].to_vec(), 0, 0));
}

#[test]
fn a_failed_sync_fails_what_waited_for_it_and_nothing_else() {
    let disk = Sim::new(5);
    let (journal, mut appender, _) = open(&disk, small());
    let stream = journal.stream("a").unwrap();
    let first = journal.ticket().commit(commit(stream, lines(0, 1)));
    let due = journal.shared().queue().take_due(usize::MAX);
    appender.append(due);
    disk.fail_next_syncs(1);
    appender.finish_syncs();
    let second = journal.ticket().commit(commit(stream, lines(1, 1)));
    let due = journal.shared().queue().take_due(usize::MAX);
    appender.append(due);
    appender.finish_syncs();
    assert!(matches!(first.now_or_never(), Some(Err(AppendError::Sync(_)))));
    assert!(second.now_or_never().unwrap().is_ok());
}

#[test]
fn a_full_journal_takes_nothing_until_its_cursor_moves_and_then_goes_on_without_new_space() {
    let disk = Sim::new(5);
    let (journal, mut appender, _) = open(&disk, small());
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
    let position = Position { source: "files".into(), key: Bytes::from("x"), value: Bytes::from("1") };
    let first = Commit { positions: vec![position.clone()], ..commit(stream, lines(0, 40)) };
    append(&journal, &mut appender, first).unwrap();
    let mut n = 40;
    let full = loop {
        match append(&journal, &mut appender, commit(stream, lines(n, 40))) {
            Ok(_) => n += 40,
            Err(error) => break error,
        }
    };
    assert_eq!(full, AppendError::Full);
    assert!(journal.is_full() && journal.try_reserve(100, &[stream]).is_err());
    assert!(disk.files().iter().map(|(_, len)| len).sum::<u64>() <= (256 << 10) + (16 << 10));
    // Somebody else takes all the rest of the disk.
    disk.set_free(Some(0));
    assert_eq!(read_all(&mut cursor).len() as u64, n);
    cursor.settle(journal.stats().synced_seq, b"", None);
    housekeeping::save_cursors(&journal.shared()).unwrap();
    appender.prepare();
    assert!(!journal.is_full());
    for more in 0..200 {
        let seqs = append(&journal, &mut appender, commit(stream, lines(n + more * 40, 40))).unwrap();
        read_all(&mut cursor);
        cursor.settle(seqs.end, b"", None);
        housekeeping::save_cursors(&journal.shared()).unwrap();
    }
    // Its segment was used again long ago.
    assert_eq!(journal.positions("files"), vec![(position.key, position.value)]);
    drop((cursor, journal));
    disk.set_free(None);
    disk.cut_power();
    assert_eq!(open(&disk, small()).0.positions("files").len(), 1);
}

/// Segments that every cursor has passed are of use again, whatever has happened to the one that was written last: what
/// their positions say needs a place to be stated again, and a segment whose write or sync failed is none.
#[test]
fn a_failure_in_a_full_journal_does_not_keep_it_full() {
    for fails_sync in [true, false] {
        let disk = Sim::new(5);
        let (journal, mut appender, _) = open(&disk, small());
        let stream = journal.stream("a").unwrap();
        let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
        let position = Position { source: "files".into(), key: Bytes::from("x"), value: Bytes::from("1") };
        append(&journal, &mut appender, Commit { positions: vec![position.clone()], ..commit(stream, lines(0, 40)) })
            .unwrap();
        let mut n = 40;
        while append(&journal, &mut appender, commit(stream, lines(n, 40))).is_ok() {
            n += 40;
        }
        // The cursor passes everything just when the last segment becomes useless.
        if fails_sync {
            disk.fail_next_syncs(1)
        } else {
            disk.fail_next_writes(1)
        }
        append(&journal, &mut appender, commit(stream, lines(n, 1))).unwrap_err();
        read_all(&mut cursor);
        cursor.settle(journal.stats().synced_seq, b"", None);
        for more in 0..200 {
            let taken = append(&journal, &mut appender, commit(stream, lines(n, 40)));
            assert!(taken.is_ok(), "fails_sync {fails_sync}, after {more}: {taken:?}");
            n += 40;
            read_all(&mut cursor);
            cursor.settle(journal.stats().synced_seq, b"", None);
        }
        assert!(journal.stats().bytes <= (256 << 10) + (64 << 10), "{:?}", journal.stats());
        drop((cursor, journal, appender));
        disk.cut_power();
        let (journal, _appender, _) = open(&disk, small());
        assert_eq!(journal.positions("files"), vec![(position.key, position.value)], "it was stated again");
    }
}

#[test]
fn no_space_on_the_disk_is_full_and_not_the_end() {
    let disk = Sim::new(5);
    disk.set_free(Some(300 << 10));
    let (journal, mut appender, _) = open(&disk, Options { max_bytes: 8 << 20, ..small() });
    let stream = journal.stream("a").unwrap();
    let _cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
    let mut n = 0;
    while append(&journal, &mut appender, commit(stream, lines(n, 400))).is_ok() {
        n += 400;
    }
    assert!(n > 2000, "{n}");
    assert!(journal.is_full(), "{:?}", journal.stats());
    assert_eq!(append(&journal, &mut appender, commit(stream, lines(n, 400))), Err(AppendError::Full));
    disk.set_free(Some(1 << 20));
    appender.prepare();
    assert!(!journal.is_full());
    append(&journal, &mut appender, commit(stream, lines(n, 400))).unwrap();
}

#[test]
fn a_full_journal_that_drops_the_oldest_says_how_many_events_each_cursor_lost() {
    let disk = Sim::new(5);
    let options = Options { when_full: WhenFull::DropOldest, ..small() };
    let (journal, mut appender, _) = open(&disk, options);
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
    for n in 0..1000 {
        append(&journal, &mut appender, commit(stream, lines(n * 40, 40))).unwrap();
    }
    let left = read_all(&mut cursor).len() as u64;
    let gaps = cursor.take_gaps();
    let lost: u64 = gaps.iter().map(|gap| gap.events).sum();
    assert!(gaps.iter().all(|gap| gap.cause == Cause::JournalFull), "{gaps:?}");
    assert!(lost > 0 && left + lost == 40_000, "{left} left, {lost} lost");
}

#[test]
fn a_journal_that_drops_the_oldest_for_a_dead_sink_waits_for_a_stage_that_reads_on() {
    let disk = Sim::new(5);
    let options = Options { when_full: WhenFull::DropOldest, ..small() };
    let (journal, mut appender, _) = open(&disk, options);
    let stream = journal.stream("a").unwrap();
    let mut dead = journal.cursor("dead", &[stream], Start::Oldest, None).unwrap();
    let mut stage = journal.cursor("stage:in", &[stream], Start::Oldest, None).unwrap();
    stage.appends();
    let (mut appended, mut taken, mut waits) = (0, 0, 0);
    while appended < 40_000 {
        match journal.try_reserve(400, &[stream]) {
            Ok(_permit) => {
                append(&journal, &mut appender, commit(stream, lines(appended, 40))).unwrap();
                appended += 40;
            }
            Err(_) => {
                waits += 1;
                taken += read_all(&mut stage).len() as u64;
                stage.settle(journal.stats().synced_seq, b"", None);
                journal.save_cursors().unwrap();
                appender.prepare();
            }
        }
    }
    taken += read_all(&mut stage).len() as u64;
    assert_eq!((taken, stage.take_gaps()), (appended, vec![]));
    assert!(waits > 2, "the sources wait for the stage");
    let left = read_all(&mut dead).len() as u64;
    let lost: u64 = dead.take_gaps().iter().map(|gap| gap.events).sum();
    assert!(lost > 0 && left + lost == appended, "{left} left, {lost} lost");
}

#[test]
fn a_journal_that_drops_the_oldest_does_not_wait_for_a_stage_that_cannot_go_on() {
    let disk = Sim::new(5);
    let options = Options { when_full: WhenFull::DropOldest, ..small() };
    let (journal, mut appender, _) = open(&disk, options);
    let stream = journal.stream("a").unwrap();
    let mut stage = journal.cursor("stage:in", &[stream], Start::Oldest, None).unwrap();
    stage.appends();
    let mut taken = read_all(&mut stage).len() as u64;
    stage.set_stalled(true);
    for appended in (0..40_000).step_by(40) {
        let permit = journal.try_reserve(400, &[stream]).expect("the oldest events go");
        append(&journal, &mut appender, commit(stream, lines(appended, 40))).unwrap();
        drop(permit);
    }
    stage.set_stalled(false);
    taken += read_all(&mut stage).len() as u64;
    let lost: u64 = stage.take_gaps().iter().map(|gap| gap.events).sum();
    assert!(lost > 0 && taken + lost == 40_000, "{taken} taken, {lost} lost");
}

#[test]
fn a_buffer_that_drops_moves_its_own_cursor_and_no_other() {
    let disk = Sim::new(5);
    let (journal, mut appender, _) = open(&disk, small());
    let stream = journal.stream("a").unwrap();
    let bound = |when_full| Some(BufferBound { max_bytes: Some(2000), max_age: None::<Duration>, when_full });
    let mut drops = journal.cursor("drops", &[stream], Start::End, bound(WhenFull::DropOldest)).unwrap();
    let mut blocks = journal.cursor("blocks", &[stream], Start::End, bound(WhenFull::Block)).unwrap();
    for n in 0..20 {
        append(&journal, &mut appender, commit(stream, lines(n * 40, 40))).unwrap();
    }
    housekeeping::keep_bounds(&journal.shared());
    assert!(drops.info().waiting_bytes <= 2000, "{}", drops.info().waiting_bytes);
    let left = read_all(&mut drops);
    let lost: u64 = drops.take_gaps().iter().map(|gap| gap.events).sum();
    assert!(!left.is_empty() && left.len() as u64 + lost == 800);
    assert_eq!(journal.try_reserve(1, &[stream]).err(), Some(ReserveError::Full(Full::Buffer)));
    let other = journal.stream("b").unwrap();
    assert!(journal.try_reserve(1, &[other]).is_ok());
    assert_eq!(read_all(&mut blocks).len(), 800);
    blocks.settle(journal.stats().synced_seq, b"", None);
    assert!(journal.try_reserve(1, &[stream]).is_ok());
}

#[test]
fn what_a_consumer_keeps_with_its_cursor_comes_back_with_it() {
    let disk = filled(3, true);
    {
        let (journal, _appender, _) = open(&disk, small());
        let stream = journal.stream("a").unwrap();
        let mut cursor = journal.cursor("sink", &[stream], Start::End, None).unwrap();
        let end = cursor.try_next(1).unwrap()[0].end_seq();
        cursor.settle(end, b"totals", Some(Bytes::from(vec![7; 100_000])));
        housekeeping::save_cursors(&journal.shared()).unwrap();
        cursor.settle(end, b"newer", None);
        housekeeping::save_cursors(&journal.shared()).unwrap();
    }
    disk.cut_power();
    let (journal, _appender, _) = open(&disk, small());
    let stream = journal.stream("a").unwrap();
    let cursor = journal.cursor("sink", &[stream], Start::End, None).unwrap();
    assert_eq!((&cursor.totals()[..], cursor.state().unwrap().len()), (&b"newer"[..], 100_000));
    assert_eq!(cursor.waiting_events(), 80);
}

/// A journal whose oldest segments were used again, after so many commits of forty lines.
fn reused(commits: u64) -> (Journal, Appender, StreamId) {
    let options = Options { keep_bytes: 0, keep_age: std::time::Duration::ZERO, ..small() };
    let (journal, mut appender, _) = open(&Sim::new(1), options);
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
    for n in 0..commits {
        append(&journal, &mut appender, commit(stream, lines(n * 40, 40))).unwrap();
        let end = cursor.try_next(1 << 20).unwrap().last().expect("it was appended").end_seq();
        cursor.settle(end, b"", None);
        housekeeping::save_cursors(&journal.shared()).unwrap();
    }
    (journal, appender, stream)
}

#[test]
fn a_reader_that_starts_before_the_oldest_event_is_told_of_the_gap() {
    let (journal, _appender, stream) = reused(300);
    let oldest = journal.stats().oldest_seq;
    let mut reader = journal.reader(oldest - 10, &[stream]).unwrap();
    let gap = &reader.take_gaps()[0];
    assert_eq!((gap.seqs.clone(), gap.events, gap.cause), (oldest - 10..oldest, 10, Cause::Gone));
    let kept = reader.try_next(1 << 30).unwrap();
    assert_eq!((kept[0].first_seq, kept.last().unwrap().stream_first), (oldest, 299 * 40));
    let mut middle = journal.reader(oldest + 60, &[stream]).unwrap();
    assert_eq!(middle.try_next(1).unwrap()[0].first_seq, oldest + 60);
    assert_eq!(middle.take_gaps(), vec![]);
}

/// A segment that will be used again still has what it had, until the next one begins in it.
#[test]
fn segments_that_go_leave_no_hole_before_those_that_stay_wherever_the_process_ends() {
    let options = Options { keep_bytes: 0, keep_age: Duration::ZERO, ..small() };
    let disk = Sim::new(7);
    let (journal, mut appender, _) = open(&disk, options.clone());
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
    let mut n = 0;
    while append(&journal, &mut appender, commit(stream, lines(n, 40))).is_ok() {
        n += 40;
    }
    while let Some(last) = cursor.try_next(1 << 12).unwrap().last() {
        cursor.settle(last.end_seq(), b"", None);
        housekeeping::save_cursors(&journal.shared()).unwrap();
    }
    drop(cursor);
    let before = journal.stats().segments;
    for more in 0..8 {
        append(&journal, &mut appender, commit(stream, lines(n + more, 1))).unwrap();
        let (_, _, report) = open(&disk.copy(), options.clone());
        assert_eq!(report.lost, [], "{} segments of {before}", journal.stats().segments);
    }
    assert!(before - journal.stats().segments > 2, "only {} went", before - journal.stats().segments);
}

#[test]
fn a_reader_from_the_beginning_of_time_misses_what_there_was_and_no_more() {
    let (journal, _appender, stream) = reused(300);
    let mut reader = journal.reader(0, &[stream]).unwrap();
    let kept: usize = reader.try_next(1 << 30).unwrap().iter().map(|record| record.lines.len()).sum();
    assert!(kept < 300 * 40, "nothing was reused");
    let missed: Vec<u64> = reader.take_gaps().iter().map(|gap| gap.events).collect();
    assert_eq!(missed, [300 * 40 - kept as u64]);

    let (journal, _appender, _) = open(&Sim::new(4), small());
    let stream = journal.stream("a").unwrap();
    assert_eq!(journal.reader(0, &[stream]).unwrap().take_gaps(), vec![]);
}

/// One worker: while a cursor reads from a disk that does not answer, the worker's other tasks go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_disk_that_reads_slowly_holds_up_its_reader_alone() {
    let disk = Sim::new(5);
    let (journal, mut appender, _) = open(&disk, small());
    let stream = journal.stream("a").unwrap();
    let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
    for n in 0..20 {
        append(&journal, &mut appender, commit(stream, lines(n * 40, 40))).unwrap();
    }
    let gate = disk.hold_reads();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let reading = tokio::spawn(async move {
        begun.send(()).expect("somebody waits");
        cursor.next(4096).await.map(|records| texts(&records).len())
    });
    let other = tokio::spawn(async move {
        has_begun.await.expect("it begins");
        gate.open();
    });
    other.await.expect("it goes on");
    assert!(reading.await.expect("no panic").expect("the disk answers in the end") > 0);
}
