//! Tests of missed changes: short-lived files, truncated bytes, unusual encodings.

use std::time::Duration;

use super::followed::Origin;
use super::identity::Identity;
use super::losses::{Losses, Truncation};
use super::shape::looks_wide;
use super::tail_test::{Rig, expected, gzip, lines};

#[test]
fn a_file_that_came_and_went_between_two_looks_is_found_in_its_generations() {
    for include in ["a.log", "a.log*"] {
        let mut rig = Rig::new(&[include]);
        rig.pass();
        for generation in [3, 2, 1] {
            let first = 10 * (3 - generation);
            rig.folder.write("a.log", lines(first..first + 10));
            rig.folder.rename("a.log", &format!("a.log.{generation}"));
        }
        rig.folder.write("a.log-20260101.gz", gzip(lines(30..40).as_bytes()));
        rig.folder.write("a.log", lines(40..50));
        (0..4).for_each(|_| rig.later(3));
        assert_eq!(rig.sorted(), expected(0..50), "{include}");
        rig.restart();
        (0..2).for_each(|_| rig.later(3));
        assert_eq!(rig.texts().len(), 50, "{include}");
    }
}

#[test]
fn a_file_that_came_and_went_while_the_agent_was_stopped_is_found_if_its_pattern_is_an_old_one() {
    for is_known in [true, false] {
        let mut rig = Rig::new(&["a.log"]);
        if is_known {
            rig.pass();
        }
        rig.folder.write("a.log", lines(0..5));
        rig.folder.rename("a.log", "a.log.1");
        std::thread::sleep(Duration::from_millis(30)); // longer than a tick of the file system's clock
        rig.restart();
        rig.later(1);
        assert_eq!(rig.texts().len(), if is_known { 5 } else { 0 });
    }
}

/// Programs write the same words at the beginning of every file, more than tells files apart otherwise.
#[test]
fn packed_generations_that_begin_like_the_file_in_use_are_read_on() {
    let banner = "# what each file begins with ".repeat(100) + "\n";
    let begun = |range| banner.clone() + &lines(range);
    for is_restarted in [true, false] {
        let mut rig = Rig::new(&["a.log*"]);
        rig.folder.write("a.log", begun(0..10));
        rig.later(1);
        if is_restarted {
            rig.restart();
        }
        // One was read in part, one was never seen, and a copy of the one in use is made before that goes on.
        rig.folder.remove("a.log");
        rig.folder.write("a.log.2.gz", gzip(begun(0..20).as_bytes()));
        rig.folder.write("a.log.1.gz", gzip(begun(20..30).as_bytes()));
        rig.folder.write("a.log", begun(30..40));
        (0..4).for_each(|_| rig.later(3));
        rig.folder.write("a.log.0.gz", gzip(begun(30..45).as_bytes()));
        rig.folder.append("a.log", lines(40..50));
        (0..4).for_each(|_| rig.later(3));
        let texts = rig.sorted();
        let read: Vec<_> = texts.iter().filter(|text| text.starts_with("line")).cloned().collect();
        assert_eq!(read, expected(0..50), "restarted: {is_restarted}");
    }
}

#[test]
fn what_is_left_of_a_file_that_nobody_saw_is_read_without_a_file_of_its_name() {
    let mut rig = Rig::new(&["a.log"]);
    rig.pass();
    rig.folder.write("a.log", lines(0..5));
    rig.folder.rename("a.log", "a.log.1");
    rig.folder.write("b.log.1", lines(5..10));
    rig.later(1);
    assert_eq!(rig.texts(), expected(0..5), "b.log is nobody's business");
}

#[test]
fn a_generation_that_only_its_name_makes_young_is_left_alone() {
    let mut rig = Rig::new(&["a.log"]);
    let old = rig.folder.write("a.log.1", lines(0..5));
    std::thread::sleep(Duration::from_millis(30));
    rig.restart();
    rig.pass();
    // Its writer has not heard of the rotation, but it is from before our time.
    rig.folder.append("a.log.1", lines(5..6));
    rig.folder.rename("a.log.1", "a.log.2");
    std::fs::File::options().append(true).open(rig.folder.path("a.log.2")).unwrap();
    (0..3).for_each(|_| rig.later(3));
    assert_eq!(rig.texts(), [""; 0], "{old:?}");
}

#[test]
fn bytes_that_were_seen_and_cut_away_are_counted_unless_a_copy_has_them() {
    for has_copy in [true, false] {
        for was_read in [true, false] {
            let mut rig = Rig::new(&["a.log"]);
            rig.folder.write("a.log", if was_read { lines(0..5) } else { String::new() });
            rig.pass();
            rig.intake.set_full(true);
            rig.folder.append("a.log", lines(5..10));
            rig.tail.look_again();
            while rig.tail.step(rig.now) == super::tail::Next::Step {}
            std::thread::sleep(Duration::from_millis(10)); // births must differ, as they do in life
            if has_copy {
                std::fs::copy(rig.folder.path("a.log"), rig.folder.path("a.log.1")).unwrap();
            }
            rig.folder.write("a.log", "");
            rig.intake.set_full(false);
            (0..70).for_each(|_| rig.later(1));
            let lost = if has_copy { 0 } else { lines(5..10).len() as u64 };
            let (begun, ended) = (if was_read { 0 } else { 5 }, if has_copy { 10 } else { 5 });
            assert_eq!(rig.intake.losses(), (1, lost), "{has_copy} {was_read}");
            assert_eq!(rig.sorted(), expected(begun..ended), "{has_copy} {was_read}");
        }
    }
}

#[test]
fn a_file_that_goes_before_it_was_ever_opened_is_counted() {
    let mut rig = Rig::with(crate::toolkit::fake::Folder::new(), &["*.log"], |s| s.most_open = 1);
    rig.intake.set_full(true);
    rig.folder.write("a.log", lines(0..5));
    rig.folder.write("b.log", lines(5..10));
    rig.tail.look_again();
    while rig.tail.step(rig.now) == super::tail::Next::Step {}
    rig.folder.remove("a.log");
    rig.folder.remove("b.log");
    rig.intake.set_full(false);
    (0..6).for_each(|_| rig.later(3));
    assert_eq!((rig.texts().len(), rig.intake.losses()), (5, (0, lines(0..5).len() as u64)));
}

#[test]
fn many_files_and_few_descriptors_need_one_scan_only() {
    let mut rig = Rig::with(crate::toolkit::fake::Folder::new(), &["*.log"], |s| s.most_open = 10);
    for n in 0..600 {
        rig.folder.write(&format!("{n}.log"), lines(n..n + 1));
    }
    (0..1000).for_each(|_| _ = rig.tail.step(rig.now));
    assert_eq!(rig.sorted(), expected(0..600));
}

#[test]
fn a_file_that_looks_like_utf_16_is_said_once_unless_it_is_read_as_such() {
    let wide: Vec<u8> = "hello\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut rig = Rig::new(&["*.log"]);
    let path = rig.folder.write("wide.log", &wide);
    rig.folder.write("plain.log", "hello\n");
    (0..3).for_each(|_| rig.later(1));
    assert_eq!(rig.tail.refused, [path].into());
    let mut rig = Rig::with(crate::toolkit::fake::Folder::new(), &["*.log"], |settings| {
        settings.reader.shape.encoding = Some(encoding_rs::UTF_16LE);
    });
    rig.folder.write("wide.log", &wide);
    rig.later(1);
    assert_eq!((rig.texts(), rig.tail.refused.len()), (vec!["hello".to_owned()], 0));
}

#[test]
fn only_utf_16_looks_like_it() {
    let wide = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_le_bytes).collect() };
    let big = |text: &str| -> Vec<u8> { text.encode_utf16().flat_map(u16::to_be_bytes).collect() };
    assert_eq!(looks_wide(&wide("\u{FEFF}سلام")), Some("utf-16le"));
    assert_eq!(looks_wide(&big("\u{FEFF}سلام")), Some("utf-16be"));
    assert_eq!(looks_wide(&wide("{\"a\":1}\r\n")), Some("utf-16le"));
    assert_eq!(looks_wide(&big("{\"a\":1}\r\n")), Some("utf-16be"));
    for text in
        [&b"{\"a\":1}\n"[..], b"a\0", &[0; 64], "سلام سلام".as_bytes(), b"", b"\xEF\xBB\xBF{}", b"a\0b\0c\0d\0e\0fg"]
    {
        assert_eq!(looks_wide(text), None, "{text:?}");
    }
}

#[test]
fn more_cuts_than_are_remembered_count_at_once() {
    let now = std::time::Instant::now();
    let origin: Origin = (Identity { birth: 1, device: 2, inode: 3 }, 0);
    let cut = |bytes| Truncation { path: "/a".into(), family: "/a".into(), origin, is_unknown: false, bytes, at: now };
    let mut losses = Losses::default();
    (0..1030).for_each(|n| losses.add(cut(n)));
    assert_eq!(losses.take_due(now), (1..6).map(cut).collect::<Vec<_>>());
    losses.found(origin);
    assert_eq!(losses.take_due(now + Duration::from_secs(100)), []);
}

#[test]
fn files_that_come_and_go_while_nothing_may_be_read_are_held_open_or_counted() {
    for most_open in [100, 4] {
        let mut rig = Rig::new(&["a.log"]);
        rig.change_settings(|settings| settings.most_open = most_open);
        rig.folder.write("a.log", lines(0..10));
        rig.pass();
        rig.intake.set_full(true);
        for generation in 1..=20 {
            rig.folder.append("a.log", lines(generation * 10..generation * 10 + 5));
            rig.watch();
            rig.folder.append("a.log", lines(generation * 10 + 5..generation * 10 + 10));
            rig.watch();
            for old in (1..3).rev().filter(|n| rig.folder.path(format!("a.log.{n}")).exists()) {
                rig.folder.rename(&format!("a.log.{old}"), &format!("a.log.{}", old + 1));
            }
            rig.folder.rename("a.log", "a.log.1");
            rig.folder.write("a.log", "");
        }
        rig.intake.set_full(false);
        (0..9).for_each(|_| rig.later(11));
        let read = rig.sorted();
        let mut once = read.clone();
        once.dedup();
        assert_eq!(once, read, "no line comes twice");
        let line = lines(0..1).len();
        let lost = rig.intake.losses().1 as usize;
        assert_eq!(read.len() * line + lost, 210 * line, "{most_open}: read, or said to be lost");
        assert_eq!(lost == 0, most_open == 100, "{most_open}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_says_that_it_reads_once_the_journal_knows_since_when() {
    let rig = Rig::new(&["a.log"]);
    let cx = rig.intake.context();
    rig.intake.hold();
    let following = super::follow(rig.tail, cx.clone());
    tokio::pin!(following);
    for is_known in [false, true] {
        if is_known {
            rig.intake.release();
        }
        tokio::select! {
            () = &mut following => panic!("it goes on"),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        assert_eq!((rig.intake.is_ready(), rig.intake.stated()), (is_known, usize::from(is_known)));
    }
    cx.shutdown.cancel();
    following.await;
}

#[test]
fn a_mark_says_the_byte_order_of_utf_16_whatever_was_configured() {
    for mark in [[0xFF, 0xFE], [0xFE, 0xFF]] {
        let mut rig = Rig::with(crate::toolkit::fake::Folder::new(), &["*.log"], |settings| {
            settings.reader.shape.encoding = Some(encoding_rs::UTF_16LE);
        });
        let order = if mark[0] == 0xFF { u16::to_le_bytes } else { u16::to_be_bytes };
        let text = |text: &str| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        rig.folder.write("a.log", [mark.to_vec(), text("سلام\nhello\n")].concat());
        rig.later(1);
        rig.restart();
        rig.folder.append("a.log", text("again\n"));
        rig.later(1);
        assert_eq!(rig.texts(), ["سلام", "hello", "again"], "{mark:?}");
    }
}
