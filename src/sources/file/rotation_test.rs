//! Property test: writes, rotations, failures and restarts in any order; every line arrives exactly once.

use std::time::Duration;

use proptest::prelude::*;

use super::tail_test::Rig;
use crate::component::JobStatus;

#[derive(Clone, Copy, Debug)]
enum Act {
    Write(u32),
    Half,
    Look,
    Rename,
    /// Rename while nobody looks, and write to the new file.
    RenameTwice,
    CopyTruncate,
    Pack,
    Restart,
    Fail(u8),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1u32..200).prop_map(Act::Write),
        2 => Just(Act::Half),
        6 => Just(Act::Look),
        3 => Just(Act::Rename),
        1 => Just(Act::RenameTwice),
        2 => Just(Act::CopyTruncate),
        2 => Just(Act::Pack),
        2 => Just(Act::Restart),
        2 => (0u8..4).prop_map(Act::Fail),
        3 => (1u64..4).prop_map(Act::Wait),
    ]
}

struct Writer {
    next: u32,
    /// What each file begins with.
    banner: String,
    is_half: bool,
    /// Names of generations, the newest first: `.1`, `.2`, packed or not.
    generations: Vec<String>,
}

impl Writer {
    fn line(&mut self) -> String {
        self.next += 1;
        format!("{{\"n\":{},\"pad\":\"{}\"}}\n", self.next - 1, "x".repeat(self.next as usize % 50))
    }

    fn write(&mut self, rig: &Rig, count: u32) {
        let mut text = String::new();
        if std::mem::take(&mut self.is_half) {
            text.push_str("}\n");
        }
        (0..count).for_each(|_| text.push_str(&self.line()));
        rig.folder.append("a.log", text);
    }

    fn half(&mut self, rig: &Rig) {
        if !self.is_half {
            rig.folder.append("a.log", format!("{{\"n\":{}", self.next));
            (self.next, self.is_half) = (self.next + 1, true);
        }
    }

    /// Makes room for `.1`.
    fn shift(&mut self, rig: &Rig) {
        for at in (0..self.generations.len()).rev() {
            let old = &self.generations[at];
            let ending = if old.ends_with(".gz") { ".gz" } else { "" };
            let new = format!("a.log.{}{ending}", at + 2);
            rig.folder.rename(old, &new);
            self.generations[at] = new;
        }
        self.generations.insert(0, "a.log.1".into());
    }

    fn rename(&mut self, rig: &Rig) {
        if !rig.folder.path("a.log").exists() {
            return;
        }
        self.write(rig, 0);
        self.shift(rig);
        rig.folder.rename("a.log", "a.log.1");
        // Births are told apart by the clock of the file system, which ticks every 4 ms.
        std::thread::sleep(Duration::from_millis(5));
        rig.folder.write("a.log", &self.banner);
    }

    fn copy_truncate(&mut self, rig: &Rig) {
        if !rig.folder.path("a.log").exists() {
            return;
        }
        self.write(rig, 0);
        self.shift(rig);
        std::thread::sleep(Duration::from_millis(5));
        std::fs::copy(rig.folder.path("a.log"), rig.folder.path("a.log.1")).unwrap();
        std::fs::File::options().write(true).open(rig.folder.path("a.log")).unwrap().set_len(0).unwrap();
        rig.folder.append("a.log", &self.banner);
    }

    fn pack(&mut self, rig: &Rig) {
        let plain = self.generations.iter_mut().rev().find(|name| !name.ends_with(".gz"));
        let Some(name) = plain else { return };
        let text = std::fs::read(rig.folder.path(&name)).unwrap();
        let modified = std::fs::metadata(rig.folder.path(&name)).unwrap().modified().unwrap();
        let packed = format!("{name}.gz");
        let path = rig.folder.write(&packed, super::tail_test::gzip(&text));
        std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        rig.folder.remove(name);
        *name = packed;
    }
}

fn run(acts: &[Act], include: &str, banner: usize) -> Result<(), TestCaseError> {
    let mut rig = Rig::with(crate::toolkit::fake::Folder::new(), &[include], |settings| settings.is_json = true);
    let banner = match banner {
        0 => String::new(),
        len => format!("{{\"banner\":\"{}\"}}\n", "-".repeat(len)),
    };
    let mut writer = Writer { next: 0, banner, is_half: false, generations: Vec::new() };
    rig.folder.write("a.log", &writer.banner);
    writer.write(&rig, 3);
    rig.pass();
    for act in acts {
        match *act {
            Act::Write(count) => writer.write(&rig, count),
            Act::Half => writer.half(&rig),
            Act::Look => rig.pass(),
            Act::Rename => writer.rename(&rig),
            Act::RenameTwice => {
                writer.rename(&rig);
                writer.write(&rig, 5);
                writer.rename(&rig);
            }
            // What is cut away before anybody looked is found in the copy, if the copy can be known for one:
            // that takes lines that were read before.
            Act::CopyTruncate => {
                rig.later(1);
                writer.copy_truncate(&rig);
                rig.later(1);
            }
            // Packing takes a while, in life too, and rotation leaves the newest generations alone.
            Act::Pack => {
                rig.later(6);
                writer.pack(&rig);
                rig.later(1);
            }
            Act::Restart => rig.restart(),
            Act::Fail(count) => {
                rig.intake.script(
                    (0..count).map(|n| if n % 2 == 0 { JobStatus::Full } else { JobStatus::Failed("no".into()) }),
                );
            }
            Act::Wait(seconds) => rig.later(seconds),
        }
    }
    rig.intake.unscript();
    writer.write(&rig, 1);
    (0..6).for_each(|_| rig.later(11));
    let mut numbers: Vec<u32> = Vec::new();
    let mut ids = std::collections::HashSet::new();
    for (text, entry) in rig.texts().iter().zip(rig.intake.entries()) {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        if let Some(n) = value["n"].as_u64() {
            numbers.push(n as u32);
            ids.insert(entry.id);
        }
    }
    numbers.sort_unstable();
    prop_assert_eq!(numbers, (0..writer.next).collect::<Vec<_>>());
    prop_assert_eq!(ids.len() as u32, writer.next);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_line_comes_exactly_once_by_family(acts in prop::collection::vec(act(), 1..40)) {
        run(&acts, "a.log", 0)?;
    }

    #[test]
    fn every_line_comes_exactly_once_by_pattern(acts in prop::collection::vec(act(), 1..40)) {
        run(&acts, "a.log*", 0)?;
    }

    /// But for copies of what was cut back, and generations that nobody saw: what only begins like a file may be another.
    #[test]
    fn every_line_comes_exactly_once_though_all_files_begin_alike(
        acts in prop::collection::vec(act().prop_filter("told apart", |act| !matches!(act, Act::CopyTruncate | Act::RenameTwice)), 1..40),
        banner in prop_oneof![Just(300usize), 900usize..1100, Just(3000)],
    ) {
        run(&acts, "a.log*", banner)?;
    }
}

#[test]
fn a_copy_remembers_what_was_read_of_it_last() {
    run(&[Act::Fail(1), Act::Write(1), Act::CopyTruncate, Act::CopyTruncate, Act::Restart, Act::Write(1)], "a.log*", 0)
        .unwrap();
}

#[test]
fn a_packed_copy_is_no_younger_than_its_original() {
    let acts =
        [Act::Write(22), Act::Rename, Act::Wait(1), Act::Pack, Act::Half, Act::Look, Act::RenameTwice, Act::Restart];
    run(&acts, "a.log", 0).unwrap();
}
