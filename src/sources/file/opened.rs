//! How many files are open at a time, and which are closed for others.

use super::followed::Followed;
use super::identity::Identity;
use super::tail::Tail;

/// Idle files of which the quietest are closed for others.
const CANDIDATES: usize = 64;

/// The part of all open files that is closed at a time, so that idle ones are not looked for anew for each file of many.
const SHARE: usize = 32;

impl Tail {
    /// Whether one more file may be opened; closes idle ones for it if need be.
    pub(super) fn may_open(&mut self) -> bool {
        let most = self.settings.most_open;
        if self.open.len() < most {
            return true;
        }
        let idle = |file: &&Followed| file.missing_since.is_none() && file.is_at_end();
        let files = self.open.iter().filter_map(|identity| self.files.get(identity)).map(Box::as_ref);
        let candidates = files.filter(idle).take(CANDIDATES.min(most));
        let mut candidates: Vec<_> = candidates.map(|file| (file.quiet_since, file.identity)).collect();
        candidates.sort_unstable();
        candidates.truncate((most / SHARE).clamp(1, CANDIDATES / 2));
        for (_, identity) in &candidates {
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
}
