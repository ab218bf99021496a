//! How many files are open at a time, and which are closed for others.

use std::time::Instant;

use super::followed::Followed;
use super::identity::Identity;
use super::tail::{REMOVE_AFTER, Tail};

/// Idle files of which the quietest are closed for others.
const CANDIDATES: usize = 64;

/// The part of all open files that is closed at a time, so that idle ones are not looked for anew for each file of many.
const SHARE: usize = 32;

impl Tail {
    /// Whether one more file may be opened; closes idle ones for it if need be.
    pub(super) fn may_open(&mut self, now: Instant) -> bool {
        let most = self.settings.most_open;
        if self.open.len() < most {
            return true;
        }
        let idle = |file: &&Followed| file.missing_since.is_none() && file.is_idle(now);
        let files = self.open.iter().filter_map(|identity| self.files.get(identity)).map(Box::as_ref);
        let candidates = files.filter(idle).take(CANDIDATES.min(most));
        // Of half a line the rest may come at any time.
        let mut candidates: Vec<_> =
            candidates.map(|file| (!file.is_at_end(), file.quiet_since, file.identity)).collect();
        candidates.sort_unstable();
        candidates.truncate((most / SHARE).clamp(1, CANDIDATES / 2));
        for (_, _, identity) in &candidates {
            self.close(*identity);
        }
        self.lacked_descriptor |= candidates.is_empty();
        !candidates.is_empty()
    }

    /// Puts a file back that was looked at, and notes whether it is open.
    pub(super) fn keep(&mut self, file: Box<Followed>) {
        if file.body.is_some() {
            self.open.insert(file.identity)
        } else {
            self.open.remove(&file.identity)
        };
        self.files.insert(file.identity, file);
    }

    /// When an unfinished line may have become the last one without a change of the file.
    pub(super) fn looks_again(&self, file: &Followed, now: Instant) -> Option<Instant> {
        if self.settings.removes {
            // Its writer may have gone.
            return Some(now + REMOVE_AFTER);
        }
        file.quiet_since.checked_add(self.settings.patience).filter(|at| *at > now)
    }

    fn close(&mut self, identity: Identity) {
        self.open.remove(&identity);
        if let Some(file) = self.files.get_mut(&identity) {
            file.body = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::tail_test::{Rig, expected, lines};
    use crate::toolkit::fake::Folder;

    #[test]
    fn files_that_nobody_writes_to_are_opened_once_however_few_may_be_open() {
        let mut rig = Rig::with(Folder::new(), &["*.log"], |settings| settings.most_open = 10);
        for n in 0..200u32 {
            let path = rig.folder.write(&format!("{n}.log"), lines(n..n + 1));
            let file = std::fs::File::options().append(true).open(path).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
        }
        (0..5).for_each(|_| rig.later(1));
        assert_eq!((rig.sorted(), rig.tail.opens), (expected(0..200), 200));
        for n in 0..200u32 {
            rig.folder.append(&format!("{n}.log"), lines(200 + n..201 + n));
        }
        (0..20).for_each(|_| rig.later(1));
        assert_eq!(rig.sorted(), expected(0..400), "what is closed is read again once it grows");
    }

    #[test]
    fn a_file_that_waits_for_sinks_keeps_no_descriptor_from_those_before_it() {
        let mut rig = Rig::with(Folder::new(), &["*.log"], |settings| settings.most_open = 10);
        for n in 0..100u32 {
            rig.folder.write(&format!("{n}.log"), lines(n..n + 1));
        }
        for _ in 0..300 {
            rig.intake.set_soon_ahead();
            rig.tail.step(rig.now);
        }
        assert_eq!(rig.sorted(), expected(0..100), "without another scan");
    }

    #[test]
    fn files_that_end_in_half_a_line_keep_no_descriptor_from_others() {
        for is_json in [true, false] {
            let mut rig = Rig::with(Folder::new(), &["*.log"], |settings| settings.most_open = 10);
            rig.change_settings(|settings| settings.is_json = is_json);
            for n in 0..50u32 {
                rig.folder.write(&format!("{n}.log"), lines(n..n + 1) + "line ");
            }
            (0..10).for_each(|_| rig.pass());
            assert_eq!(rig.sorted(), expected(0..50));
            rig.folder.write("new.log", lines(50..51));
            (0..3).for_each(|_| rig.pass());
            assert_eq!(rig.sorted(), expected(0..51), "others have their turn");
            for n in 0..50u32 {
                rig.folder.append(&format!("{n}.log"), format!("{:06}\n", 51 + n));
            }
            (0..10).for_each(|_| rig.later(1));
            assert_eq!(rig.sorted(), expected(0..101), "the rest of a line comes to its beginning");
            let opens = rig.tail.opens;
            for n in 0..50u32 {
                rig.folder.append(&format!("{n}.log"), format!("line {:06}", 101 + n));
            }
            (0..30).for_each(|_| rig.later(1));
            // Lines that cannot be told from halves of them have waited long enough.
            let last = if is_json { 101 } else { 151 };
            assert_eq!(rig.sorted(), expected(0..last));
            assert!(rig.tail.opens - opens <= 150, "{} times", rig.tail.opens - opens);
            if is_json {
                rig.folder.rename("7.log", "7.log.1");
                (0..3).for_each(|_| rig.later(10));
                assert!(rig.sorted().contains(&"line 000108".to_owned()), "nothing is added to a rotated file");
            }
        }
    }

    #[test]
    fn a_packed_copy_and_a_file_that_was_cut_back_are_read_although_others_had_all_descriptors() {
        let mut rig = Rig::with(Folder::new(), &["*.log"], |settings| settings.most_open = 2);
        let pad = "x".repeat(250);
        let long = |name: char, lines: usize| format!("{name} {pad}\n").repeat(lines);
        let (first, second) = (lines(0..5000), lines(5000..10_000));
        for (name, text) in [("a.log", &long('a', 1)), ("b.log", &long('b', 1)), ("c.log", &first), ("d.log", &second)]
        {
            rig.folder.write(name, text);
        }
        (0..3).for_each(|_| rig.later(1));
        assert_eq!(rig.texts().len(), 10_002);
        // While nobody looks, one file is packed with a line more, one is cut back, and others get far more than a turn takes.
        let packed = super::super::tail_test::gzip(format!("{first}line more\n").as_bytes());
        rig.restart();
        rig.folder.write("c.log.1.gz", packed);
        rig.folder.remove("c.log");
        rig.folder.write("d.log", "line anew\n");
        rig.folder.append("a.log", long('a', 40_000));
        rig.folder.append("b.log", long('b', 40_000));
        (0..10).for_each(|_| rig.later(1));
        let texts = rig.sorted();
        assert_eq!(texts.iter().filter(|text| text.starts_with("line more")).count(), 1);
        assert_eq!(texts.iter().filter(|text| text.starts_with("line anew")).count(), 1);
        assert_eq!(texts.len(), 10_002 + 80_000 + 2);
    }
}
