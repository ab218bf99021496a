//! Tests of compressed, damaged and unreadable files: no line twice, and every missing one reported.

use std::io::Read;

use super::tail_test::{Rig, expected, gzip, lines};
use crate::toolkit::fake::Folder;

fn zst(text: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut encoder, text).unwrap();
    encoder.finish().unwrap()
}

/// What was read of the plain generation before the packed one is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Half,
    Everything,
    /// All of it, by an agent before this one.
    Restarted,
}

const LINES: u32 = 80;

/// Lines that damage does not turn into one another.
fn signed(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("{n:04} {}\n", &blake3::hash(&n.to_le_bytes()).to_hex()[..16])).collect()
}

/// Reads `packed` in place of the plain generation, and says what came: lines, and whether something was said to be lost.
fn read(include: &str, ending: &str, packed: &[u8], before: Before) -> (Vec<String>, bool) {
    let mut rig = Rig::with(Folder::new(), &[include], |_| {});
    rig.pass();
    match before {
        Before::Nothing => {}
        Before::Half => {
            rig.folder.write("a.log", signed(0..LINES / 2));
            rig.pass();
            rig.restart();
        }
        Before::Everything | Before::Restarted => {
            rig.folder.write("a.log", signed(0..LINES));
            rig.pass();
            rig.folder.rename("a.log", "a.log.1");
            rig.later(1);
        }
    }
    if before == Before::Restarted {
        rig.restart();
    }
    rig.folder.write(&format!("a.log.1.{ending}"), packed);
    for name in ["a.log", "a.log.1"] {
        if rig.folder.path(name).exists() {
            rig.folder.remove(name);
        }
    }
    rig.folder.write("a.log", "the next one\n");
    (0..9).for_each(|_| rig.later(3));
    rig.restart();
    (0..4).for_each(|_| rig.later(3));
    let mut texts = rig.sorted();
    assert_eq!(texts.iter().filter(|text| *text == "the next one").count(), 1);
    texts.retain(|text| text != "the next one");
    let (skipped, damaged) = rig.intake.unread_files();
    (texts, skipped + damaged > 0)
}

fn check(packed: &[u8], ending: &str, what: &str) {
    let mut unpacked = Vec::new();
    // What comes before the damage is enough.
    drop(match ending {
        "gz" => flate2::read::MultiGzDecoder::new(packed).read_to_end(&mut unpacked),
        _ => zstd::stream::read::Decoder::new(packed).and_then(|mut decoder| decoder.read_to_end(&mut unpacked)),
    });
    let unpacked = String::from_utf8_lossy(&unpacked);
    for include in ["a.log", "a.log*"] {
        for before in [Before::Nothing, Before::Half, Before::Everything, Before::Restarted] {
            let (texts, is_said) = read(include, ending, packed, before);
            let all = signed(0..LINES);
            let case = format!("{what} {include} {before:?}");
            let came = |line: &str| texts.iter().filter(|text| *text == line).count();
            let (mut whole, mut missing) = (0, 0);
            for line in all.lines() {
                // Damage may turn one line into another.
                let times = if is_said { unpacked.matches(line).count().max(1) } else { 1 };
                assert!(came(line) <= times, "{line} came twice: {case}");
                whole += came(line);
                missing += usize::from(came(line) == 0);
            }
            let altered = texts.len() - whole;
            assert!(missing + altered == 0 || is_said, "{missing} lost and {altered} altered without a word: {case}");
            if before == Before::Everything || before == Before::Restarted {
                assert_eq!((missing, altered), (0, 0), "{case}");
            }
        }
    }
}

#[test]
fn no_cut_and_no_flip_of_a_packed_generation_doubles_a_line_or_loses_one_without_a_word() {
    let text = signed(0..LINES);
    for (packed, ending) in [(gzip(text.as_bytes()), "gz"), (zst(text.as_bytes()), "zst")] {
        check(&packed, ending, "whole");
        let step = (packed.len() / 12).max(1);
        for at in (0..packed.len()).filter(|at| at % step == 0 || *at < 12 || at + 10 > packed.len()) {
            check(&packed[..at], ending, &format!("{ending} cut at {at}"));
            for flip in [0x01, 0xFF] {
                let mut flipped = packed.clone();
                flipped[at] ^= flip;
                check(&flipped, ending, &format!("{ending} {at} ^ {flip:#x}"));
            }
        }
    }
}

#[test]
fn lines_before_the_damage_come_once_and_the_rest_is_counted() {
    let noise: String = (0..20_000u32).map(|n| format!("{}\n", blake3::hash(&n.to_le_bytes()))).collect();
    let packed = gzip(noise.as_bytes());
    let all: Vec<String> = noise.lines().map(String::from).collect();
    let mut wrong_sum = packed.clone();
    let at = packed.len() - 6;
    wrong_sum[at] ^= 1;
    for (damaged, least) in [(&packed[..packed.len() / 2], 8_000), (&wrong_sum, 20_000)] {
        let mut rig = Rig::new(&["a.log"]);
        rig.pass();
        rig.folder.write("a.log.1.gz", damaged);
        (0..5).for_each(|_| rig.later(3));
        rig.restart();
        (0..5).for_each(|_| rig.later(3));
        let texts = rig.texts();
        assert!(texts.len() >= least, "{}", texts.len());
        assert_eq!(texts, all[..texts.len()], "whole lines, each once");
        assert_eq!(rig.intake.unread_files(), (0, 2), "said by each agent");
    }
}

#[test]
fn what_is_packed_otherwise_binary_or_not_finished_makes_no_events_and_is_said_once() {
    let text = lines(0..20);
    let swap = [b"b0VIM 9.0".as_slice(), &[0; 40], b"user", &[0; 3000], b"line\nline\n"].concat();
    let xz = [b"\xFD7zXZ\0".as_slice(), b"\n\n garbage\n"].concat();
    for include in ["a.log", "a.log*", "*"] {
        let mut rig = Rig::new(&[include]);
        rig.pass();
        rig.folder.write("a.log", &text);
        rig.folder.write("a.log.1.xz", &xz);
        rig.folder.write("a.log.2", &xz);
        rig.folder.write("a.log.3", &swap);
        rig.folder.write("a.log.4.gz", "this is no gzip\n");
        rig.folder.write("a.log-20260101.tmp", gzip(lines(30..50).as_bytes()));
        rig.folder.write(".a.log.swp", &swap);
        rig.folder.write("a.log~", &text);
        (0..5).for_each(|_| rig.later(3));
        assert_eq!(rig.texts(), expected(0..20), "{include}");
        assert_eq!(rig.intake.unread_files(), (4, 0), "{include}");
        rig.folder.rename("a.log-20260101.tmp", "a.log-20260101.gz");
        rig.folder.write("a.log-20260102.gz", gzip(lines(20..30).as_bytes()));
        (0..5).for_each(|_| rig.later(3));
        assert_eq!(rig.texts().len(), 50, "{include}: what is finished is read");
    }
}

#[test]
fn a_generation_packed_without_saying_so_in_its_name_is_unpacked() {
    let mut rig = Rig::new(&["a.log"]);
    rig.pass();
    rig.folder.write("a.log.1", gzip(lines(0..10).as_bytes()));
    rig.folder.write("a.log.2", zst(lines(10..20).as_bytes()));
    (0..3).for_each(|_| rig.later(3));
    assert_eq!(rig.sorted(), expected(0..20));
}

#[test]
fn a_temporary_name_is_read_where_the_pattern_asks_for_it() {
    let mut rig = Rig::new(&["*.tmp"]);
    rig.folder.write("a.tmp", lines(0..5));
    rig.later(1);
    assert_eq!(rig.texts(), expected(0..5));
}
