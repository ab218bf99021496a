//! Tests of following through rotation, truncation, failures and restarts.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::buffers::Buffers;
use super::discover::Patterns;
use super::folders::Folders;
use super::reader::ChunkReader;
use super::shape::Shape;
use super::submit::MOST_BYTES;
use super::tail::{Next, Settings, Tail};
use crate::component::JobStatus;
use crate::component::source::CHUNK_BYTES;
use crate::journal::MemoryPermit;
use crate::toolkit::fake::{FakeIntake, Folder, NoDecoder};

pub struct Rig {
    pub folder: Arc<Folder>,
    pub intake: Arc<FakeIntake>,
    pub tail: Tail,
    pub now: Instant,
    include: Vec<String>,
    change: fn(&mut Settings),
}

impl Rig {
    pub fn new(include: &[&str]) -> Rig {
        Rig::with(Folder::new(), include, |_| {})
    }

    pub fn with(folder: Folder, include: &[&str], change: fn(&mut Settings)) -> Rig {
        let include: Vec<String> = include.iter().map(|name| folder.path(name).to_str().unwrap().into()).collect();
        let (intake, now) = (FakeIntake::new(), Instant::now());
        let tail = Tail::new(settings(&include, change), intake.context(), now);
        Rig { folder: Arc::new(folder), intake, tail, now, include, change }
    }

    /// Steps until there is nothing to do.
    pub fn pass(&mut self) {
        self.tail.look_again();
        for _ in 0..10_000 {
            match self.tail.step(self.now) {
                Next::Step => {}
                Next::NeedsMemory(_) => self.tail.grant(MemoryPermit::free()),
                Next::Wait(_) => return,
            }
        }
        panic!("the machine does not come to rest");
    }

    /// What goes on while the journal takes nothing.
    pub fn watch(&mut self) {
        self.now += Duration::from_secs(1);
        while self.tail.step(self.now) == Next::Step {}
        self.tail.watch(self.now);
    }

    pub fn change_settings(&mut self, change: impl Fn(&mut Settings)) {
        change(&mut self.tail.settings);
    }

    pub fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.pass();
    }

    /// A new agent over the same journal.
    pub fn restart(&mut self) {
        self.tail = Tail::new(settings(&self.include, self.change), self.intake.context(), self.now);
    }

    pub fn texts(&self) -> Vec<String> {
        self.intake.texts()
    }

    /// Everything that came, sorted.
    pub fn sorted(&self) -> Vec<String> {
        let mut texts = self.texts();
        texts.sort();
        texts
    }
}

fn settings(include: &[String], change: fn(&mut Settings)) -> Settings {
    let mut settings = Settings {
        patterns: Patterns::new(include, &[], None, Folders::ByPath).unwrap(),
        reader: ChunkReader {
            shape: Shape { encoding: None, grouping: None, line_bytes: 1 << 20 },
            buffers: Buffers::default(),
        },
        decoder: Arc::new(NoDecoder),
        from_end: false,
        removes: false,
        stamps_owner: false,
        capture: None,
        owner_rate: None,
        is_json: false,
        poll: Duration::from_millis(250),
        patience: Duration::from_secs(5),
        most_open: 100,
    };
    change(&mut settings);
    settings
}

pub fn gzip(text: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text).unwrap();
    out.finish().unwrap()
}

pub fn lines(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("line {n:06}\n")).collect()
}

pub fn expected(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("line {n:06}")).collect()
}

#[test]
fn lines_come_once_however_often_it_looks() {
    let mut rig = Rig::new(&["*.log"]);
    rig.pass();
    rig.folder.append("a.log", lines(0..3));
    rig.pass();
    rig.folder.append("a.log", lines(3..5));
    (0..3).for_each(|_| rig.later(1));
    assert_eq!(rig.texts(), expected(0..5));
    let path = rig.folder.path("a.log");
    assert_eq!(rig.intake.entries()[4].origin.as_deref(), path.to_str(), "dead letters say where they come from");
}

#[test]
fn what_cannot_be_looked_at_is_said_and_nothing_counts_as_gone() {
    let mut rig = Rig::new(&["sub/*.log"]);
    std::fs::create_dir(rig.folder.path("sub")).unwrap();
    rig.folder.write("sub/a.log", lines(0..2));
    rig.pass();
    // Root may read everything, so a folder that leads in a circle stands in for one that may not be read.
    rig.folder.rename("sub", "kept");
    std::os::unix::fs::symlink(rig.folder.path("sub"), rig.folder.path("sub")).unwrap();
    (0..3).for_each(|_| rig.later(4000));
    assert!(rig.intake.trouble_said().unwrap().starts_with("cannot list `"));
    rig.folder.remove("sub");
    rig.folder.rename("kept", "sub");
    rig.folder.append("sub/a.log", lines(2..3));
    (0..2).for_each(|_| rig.later(20));
    assert_eq!((rig.texts(), rig.intake.trouble_said()), (expected(0..3), None));
}

#[test]
fn an_empty_a_one_byte_and_an_unended_file_come_after_a_while() {
    let mut rig = Rig::new(&["*.log"]);
    rig.folder.write("empty.log", "");
    rig.folder.write("one.log", "x");
    rig.folder.write("long.log", "y".repeat(255));
    rig.pass();
    rig.later(1);
    assert!(rig.texts().is_empty());
    rig.later(5);
    assert_eq!(rig.sorted(), ["x".to_string(), "y".repeat(255)]);
    rig.folder.append("one.log", "\nnext\n");
    rig.later(1);
    assert_eq!(rig.sorted(), ["next".to_string(), "x".to_string(), "y".repeat(255)]);
}

#[test]
fn half_a_json_line_waits_for_its_rest_and_a_whole_one_does_not() {
    let mut rig = Rig::with(Folder::new(), &["*.log"], |s| s.is_json = true);
    rig.folder.write("half.log", r#"{"a":"#);
    rig.folder.write("whole.log", r#"{"b":2}"#);
    rig.pass();
    rig.later(30);
    assert_eq!(rig.texts(), [r#"{"b":2}"#]);
    rig.folder.append("half.log", "1}\n");
    rig.later(1);
    assert_eq!(rig.texts(), [r#"{"b":2}"#, r#"{"a":1}"#]);
}

#[test]
fn a_rename_is_followed_and_the_old_file_is_read_to_its_end() {
    let mut rig = Rig::new(&["a.log"]);
    rig.folder.write("a.log", lines(0..2));
    rig.pass();
    rig.folder.append("a.log", lines(2..4));
    rig.folder.rename("a.log", "a.log.1");
    rig.folder.write("a.log", lines(10..12));
    rig.later(1);
    // The writer has not heard of the rotation yet.
    rig.folder.append("a.log.1", lines(4..6));
    rig.later(1);
    rig.folder.append("a.log.1", "no end");
    rig.later(1);
    rig.later(6);
    let mut all = expected(0..6);
    all.extend(expected(10..12));
    all.push("no end".into());
    all.sort();
    assert_eq!(rig.sorted(), all);
}

#[test]
fn generations_made_while_it_was_stopped_are_found_by_identity() {
    for include in ["a.log", "a.log*"] {
        let mut rig = Rig::new(&[include]);
        rig.folder.write("a.log", lines(0..10));
        rig.pass();
        rig.restart();
        rig.folder.append("a.log", lines(10..20));
        for generation in 2..5 {
            for old in (1..4).rev().filter(|n| rig.folder.path(format!("a.log.{n}")).exists()) {
                rig.folder.rename(&format!("a.log.{old}"), &format!("a.log.{}", old + 1));
            }
            rig.folder.rename("a.log", "a.log.1");
            std::thread::sleep(Duration::from_millis(10)); // births must differ, as they do in life
            rig.folder.write("a.log", lines(generation * 10..generation * 10 + 10));
        }
        rig.pass();
        rig.later(1);
        rig.later(3);
        assert_eq!(rig.sorted(), expected(0..50), "{include}");
        rig.restart();
        rig.pass();
        assert_eq!(rig.texts().len(), 50);
    }
}

#[test]
fn generations_from_before_its_time_are_left_alone() {
    let mut rig = Rig::new(&["a.log"]);
    let old = rig.folder.write("a.log.1", lines(0..5));
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    std::fs::File::options().write(true).open(old).unwrap().set_modified(hour_ago).unwrap();
    rig.folder.write("a.log", lines(5..10));
    (0..3).for_each(|_| rig.later(1));
    assert_eq!(rig.texts(), expected(5..10));
}

#[test]
fn a_new_file_with_the_inode_of_the_old_one_is_read_from_its_start() {
    for after in [lines(50..51), lines(50..80)] {
        for is_stopped in [false, true] {
            let mut rig = Rig::new(&["a.log"]);
            let path = rig.folder.write("a.log", lines(0..10));
            rig.pass();
            rig.later(1);
            let inode = std::fs::metadata(&path).unwrap().ino();
            if is_stopped {
                rig.restart();
            }
            rig.folder.remove("a.log");
            if !is_stopped {
                // The inode is free only once we let go of the file.
                (0..4).for_each(|_| rig.later(3));
            }
            // The file system gives the inode away at once, now and then to another test.
            let reuse = |_: &u32| {
                rig.folder.write("a.log", &after);
                let is_same = std::fs::metadata(&path).unwrap().ino() == inode;
                if !is_same {
                    rig.folder.remove("a.log");
                }
                is_same
            };
            if (0..1000).find(reuse).is_none() {
                rig.folder.write("a.log", &after);
            }
            rig.later(1);
            let count = after.lines().count() as u32;
            assert_eq!(rig.texts()[10..], expected(50..50 + count), "{is_stopped}");
            rig.restart();
            rig.pass();
            assert_eq!(rig.texts().len() as u32, 10 + count);
        }
    }
}

#[test]
fn a_file_cut_back_begins_anew_whatever_its_size_is_then() {
    for again in [1, 10, 30] {
        let mut rig = Rig::new(&["a.log"]);
        rig.folder.write("a.log", lines(0..10));
        rig.pass();
        rig.folder.write("a.log", lines(100..100 + again));
        rig.later(1);
        assert_eq!(rig.texts()[10..], expected(100..100 + again));
        let ids: std::collections::HashSet<_> = rig.intake.entries().iter().map(|e| e.id).collect();
        assert_eq!(ids.len() as u32, 10 + again, "the offsets are the same, the ids are not");
        rig.restart();
        rig.later(1);
        assert_eq!(rig.texts().len() as u32, 10 + again);
    }
}

#[test]
fn rotation_by_copy_loses_nothing_that_is_in_the_copy() {
    for include in ["a.log", "a.log*"] {
        let mut rig = Rig::new(&[include]);
        rig.folder.write("a.log", lines(0..10));
        rig.pass();
        for round in 1..6 {
            let copy = format!("a.log.{round}");
            rig.folder.append("a.log", lines(round * 20..round * 20 + 10));
            std::fs::copy(rig.folder.path("a.log"), rig.folder.path(&copy)).unwrap();
            if round % 2 == 0 {
                rig.later(1);
            }
            std::fs::File::options().write(true).open(rig.folder.path("a.log")).unwrap().set_len(0).unwrap();
            rig.later(1);
            rig.folder.append("a.log", lines(round * 20 + 10..round * 20 + 20));
            rig.later(1);
        }
        rig.later(5);
        let mut all = expected(0..10);
        all.extend(expected(20..120));
        assert_eq!(rig.sorted(), all, "{include}");
        rig.restart();
        rig.later(1);
        assert_eq!(rig.texts().len(), 110, "{include}");
    }
}

#[test]
fn a_packed_generation_is_read_unless_the_plain_one_was() {
    let mut rig = Rig::new(&["a.log*"]);
    rig.folder.write("a.log", lines(0..10));
    rig.pass();
    rig.folder.rename("a.log", "a.log.1");
    rig.later(1);
    rig.folder.write("a.log.1.gz", gzip(lines(0..10).as_bytes()));
    rig.later(1);
    rig.folder.remove("a.log.1");
    (0..4).for_each(|_| rig.later(3));
    assert_eq!(rig.texts(), expected(0..10));
    rig.restart();
    rig.later(1);
    assert_eq!(rig.texts().len(), 10, "it is remembered");
    let members = [gzip(lines(20..25).as_bytes()), gzip(lines(25..30).as_bytes())].concat();
    rig.folder.write("a.log.2.gz", members);
    (0..3).for_each(|_| rig.later(1));
    assert_eq!(rig.texts()[10..], expected(20..30));
    rig.restart();
    (0..3).for_each(|_| rig.later(1));
    assert_eq!(rig.texts().len(), 20);
}

#[test]
fn what_was_not_read_before_it_was_packed_comes_from_the_packed_file() {
    let mut rig = Rig::new(&["a.log"]);
    rig.folder.write("a.log", lines(0..10));
    rig.pass();
    let ids: Vec<_> = rig.intake.entries().iter().map(|e| e.id).collect();
    rig.restart();
    rig.folder.append("a.log", lines(10..20));
    rig.folder.write("a.log.1.gz", gzip(lines(0..20).as_bytes()));
    rig.folder.remove("a.log");
    (0..3).for_each(|_| rig.later(1));
    assert_eq!(rig.texts(), expected(0..20));
    assert_eq!(rig.intake.entries()[..10].iter().map(|e| e.id).collect::<Vec<_>>(), ids);
}

#[test]
fn a_packed_file_that_is_still_being_written_is_read_as_it_grows() {
    let mut rig = Rig::new(&["*.gz"]);
    let noise: String = (0..20_000u32).map(|n| format!("{}\n", blake3::hash(&n.to_le_bytes()))).collect();
    let packed = gzip(noise.as_bytes());
    rig.folder.write("x.gz", &packed[..packed.len() / 3]);
    rig.pass();
    let first = rig.texts().len();
    rig.restart();
    rig.folder.write("x.gz", &packed[..packed.len() / 2]);
    rig.later(1);
    let second = rig.texts().len();
    rig.folder.append("x.gz", &packed[packed.len() / 2..]);
    rig.later(1);
    assert!(0 < first && first < second, "{first} {second}");
    assert_eq!(rig.texts(), noise.lines().map(String::from).collect::<Vec<_>>());
}

#[test]
fn failed_pieces_are_read_again_and_no_line_is_lost_or_doubled() {
    let mut rig = Rig::new(&["a.log"]);
    let text = lines(0..200_000);
    rig.folder.write("a.log", &text);
    let full = || JobStatus::Full;
    let failed = || JobStatus::Failed("no sync".into());
    rig.intake.script([JobStatus::Done, failed(), JobStatus::Done, full(), full(), JobStatus::Done]);
    rig.pass();
    assert!(rig.texts().len() < 200_000);
    (0..3).for_each(|_| rig.later(20));
    assert_eq!(rig.sorted(), expected(0..200_000));
    let ids: std::collections::HashSet<_> = rig.intake.entries().iter().map(|e| e.id).collect();
    assert_eq!(ids.len(), 200_000);
}

#[test]
fn pieces_in_flight_are_bounded_and_their_order_is_that_of_the_file() {
    let mut rig = Rig::new(&["a.log"]);
    rig.folder.write("a.log", lines(0..600_000));
    rig.intake.hold();
    rig.pass();
    assert_eq!(rig.intake.held(), crate::ranges::MOST_IN_FLIGHT);
    rig.intake.release();
    (0..3).for_each(|_| rig.pass());
    assert_eq!(rig.texts(), expected(0..600_000));
}

#[test]
fn many_files_together_have_a_bound_on_their_bytes_in_flight() {
    let mut rig = Rig::new(&["*.log"]);
    for name in ["a.log", "b.log", "c.log", "d.log"] {
        rig.folder.write(name, lines(0..400_000));
    }
    rig.intake.hold();
    rig.pass();
    let most = (MOST_BYTES as usize).div_ceil(CHUNK_BYTES) + 1;
    assert!((most / 2..=most).contains(&rig.intake.held()), "{} chunks", rig.intake.held());
    rig.intake.release();
    (0..8).for_each(|_| rig.pass());
    assert_eq!(rig.texts().len(), 4 * 400_000);
}

#[test]
fn sinks_that_are_slower_are_waited_for_but_not_for_ever() {
    let mut rig = Rig::new(&["a.log"]);
    rig.folder.write("a.log", lines(0..10));
    rig.intake.set_outpaces(true);
    rig.tail.look_again();
    for _ in 0..100 {
        assert!(matches!(rig.tail.step(rig.now), Next::Wait(_)));
        rig.now += Duration::from_millis(1);
    }
    assert!(rig.texts().is_empty());
    rig.now += Duration::from_secs(1);
    rig.pass();
    assert_eq!(rig.texts(), expected(0..10));
}

#[test]
fn without_room_it_waits_and_goes_on_where_it_was() {
    let mut rig = Rig::new(&["a.log"]);
    rig.folder.write("a.log", lines(0..10));
    rig.intake.set_full(true);
    rig.tail.look_again();
    let mut next = rig.tail.step(rig.now);
    while next == Next::Step {
        next = rig.tail.step(rig.now);
    }
    assert_eq!(next, Next::NeedsMemory(120));
    rig.intake.set_full(false);
    rig.pass();
    assert_eq!(rig.texts(), expected(0..10));
}

#[test]
fn hard_links_are_read_once_and_links_not_at_all() {
    let mut rig = Rig::new(&["*.log", "*.txt"]);
    let path = rig.folder.write("a.log", lines(0..5));
    std::fs::hard_link(&path, rig.folder.path("b.txt")).unwrap();
    std::os::unix::fs::symlink(&path, rig.folder.path("c.log")).unwrap();
    (0..3).for_each(|_| rig.later(1));
    rig.folder.append("b.txt", lines(5..6));
    rig.later(1);
    assert_eq!(rig.texts(), expected(0..6));
}

#[test]
fn a_pipe_or_a_folder_in_place_of_a_file_stops_nothing() {
    let mut rig = Rig::new(&["*.log"]);
    rig.folder.write("a.log", lines(0..2));
    rig.pass();
    rig.folder.remove("a.log");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, rig.folder.path("a.log"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::fs::create_dir(rig.folder.path("b.log")).unwrap();
    rig.folder.write("c.log", lines(2..4));
    rig.later(1);
    assert_eq!(rig.texts(), expected(0..4));
}

#[test]
fn equal_lines_are_as_many_events_with_ids_of_their_own() {
    let mut rig = Rig::new(&["a.log"]);
    rig.folder.write("a.log", "same\n".repeat(1000));
    rig.pass();
    rig.folder.rename("a.log", "a.log.1");
    rig.folder.write("a.log", "same\n".repeat(1000));
    (0..3).for_each(|_| rig.later(1));
    let ids: std::collections::HashSet<_> = rig.intake.entries().iter().map(|e| e.id).collect();
    assert_eq!((rig.texts().len(), ids.len()), (2000, 2000));
}

#[test]
fn a_deleted_file_that_is_open_is_read_to_its_end_and_then_forgotten() {
    let mut rig = Rig::new(&["a.log"]);
    rig.folder.write("a.log", lines(0..2));
    rig.pass();
    let mut writer = std::fs::File::options().append(true).open(rig.folder.path("a.log")).unwrap();
    rig.folder.remove("a.log");
    rig.later(1);
    std::io::Write::write_all(&mut writer, lines(2..4).as_bytes()).unwrap();
    rig.later(1);
    assert_eq!(rig.texts(), expected(0..4));
    rig.later(10);
    assert!(rig.intake.stated() > 1);
    (0..3).for_each(|_| rig.later(3600));
    assert_eq!(rig.intake.stated(), 1, "since when the source looks");
}

#[test]
fn few_descriptors_are_enough_for_many_files() {
    let mut rig = Rig::with(Folder::new(), &["*.log"], |s| s.most_open = 3);
    for n in 0..20u32 {
        rig.folder.write(&format!("{n}.log"), lines(n * 10..n * 10 + 5));
    }
    (0..20).for_each(|_| rig.later(1));
    for n in 0..20u32 {
        rig.folder.append(&format!("{n}.log"), lines(n * 10 + 5..n * 10 + 10));
    }
    (0..20).for_each(|_| rig.later(1));
    assert_eq!(rig.sorted(), expected(0..200));
}

#[test]
fn reading_from_the_end_takes_what_comes_and_is_remembered() {
    let mut rig = Rig::with(Folder::new(), &["*.log"], |s| s.from_end = true);
    rig.folder.write("a.log", format!("{}begun ", lines(0..10)));
    rig.pass();
    rig.restart();
    rig.folder.append("a.log", "ended\n");
    rig.folder.write("b.log", lines(20..22));
    rig.later(1);
    assert_eq!(rig.sorted(), ["begun ended".to_string(), "line 000020".into(), "line 000021".into()]);
}

#[test]
fn a_long_line_costs_itself_alone() {
    let mut rig = Rig::new(&["a.log"]);
    rig.folder.write("a.log", [b"one\n".to_vec(), vec![b'x'; 40_000_000], b"\ntwo\n".to_vec()].concat());
    rig.pass();
    let texts = rig.texts();
    assert_eq!((texts.len(), &*texts[0], &*texts[2]), (3, "one", "two"));
    assert!(texts[1].ends_with(" [cut: longer than 1048576 bytes]") && texts[1].len() < 1_050_000);
}
