//! A journal without threads on a simulated disk, driven step by step; for tests of higher layers.

use super::appender::Appender;
use super::recovery::{self, Opened};
use super::sim::Sim;
use super::{Journal, Options, housekeeping};
use crate::units::Timestamp;

pub(crate) use super::sim::Random;
pub(crate) use super::tests::{commit, lines};

pub(crate) struct Stepped {
    pub journal: Journal,
    appender: Appender,
    disk: Sim,
    options: Options,
}

impl Stepped {
    pub fn new(seed: u64, options: Options) -> Stepped {
        let disk = Sim::new(seed);
        let Opened { shared, appender, guard, .. } =
            recovery::open(options.clone(), disk.boot()).expect("an empty disk has room for a journal");
        Stepped { journal: Journal::without_threads(shared, Some(guard)), appender, disk, options }
    }

    /// Appends commits that are due, up to so many bytes; whether there were any.
    pub fn append(&mut self, bytes: usize) -> bool {
        let due = self.journal.shared().queue().take_due(bytes);
        let any = !due.is_empty();
        if any {
            self.appender.append(due);
            self.appender.prepare();
        }
        any
    }

    pub fn sync(&self) -> bool {
        self.journal.shared().sync_once()
    }

    /// What the journal does once in a while: bounds, cursors, the next segment, memory that nobody needs.
    pub fn keep_bounds(&mut self) -> bool {
        housekeeping::keep_bounds(&self.journal.shared());
        drop(housekeeping::save_cursors(&self.journal.shared()));
        housekeeping::remove_dropped(&self.journal.shared());
        housekeeping::forget_passed(&self.journal.shared(), Timestamp(i64::MAX));
        self.appender.prepare()
    }

    pub fn fail_next_sync(&self) {
        self.disk.fail_next_syncs(1);
    }

    pub fn fail_next_write(&self) {
        self.disk.fail_next_writes(1);
    }

    pub fn fail_reads(&self, fail: bool) {
        self.disk.fail_reads(fail);
    }

    pub fn fill_disk(&self) {
        self.disk.set_free(Some(0));
    }

    pub fn heal_disk(&self) {
        heal(&self.disk);
    }

    /// The journal as it would be found if the power went now.
    pub fn after_power_cut(&self) -> Journal {
        let disk = self.disk.copy();
        heal(&disk);
        disk.cut_power();
        let Opened { shared, guard, .. } =
            recovery::open(self.options.clone(), disk.boot()).expect("a journal opens after a power cut");
        Journal::without_threads(shared, Some(guard))
    }

    /// The same, to go on with.
    pub fn restarted(&self) -> Stepped {
        let disk = self.disk.copy();
        heal(&disk);
        disk.cut_power();
        let Opened { shared, appender, guard, .. } =
            recovery::open(self.options.clone(), disk.boot()).expect("a journal opens after a power cut");
        let options = self.options.clone();
        Stepped { journal: Journal::without_threads(shared, Some(guard)), appender, disk, options }
    }

    /// The same with one bit changed in a file that is used, and where; none where the byte that was hit is not used.
    pub fn with_a_flipped_byte(&self, random: &mut Random) -> Option<(Stepped, String)> {
        let disk = self.disk.copy();
        heal(&disk);
        disk.cut_power();
        let files = disk.files();
        let (path, len) = &files[random.below(files.len() as u64) as usize];
        let offset = random.below((*len).max(1));
        if !disk.is_used(path, offset) {
            return None;
        }
        disk.flip(path, offset);
        let place = format!("{} at {offset}", path.display());
        let Opened { shared, appender, guard, .. } =
            recovery::open(self.options.clone(), disk.boot()).expect("a damaged journal opens");
        let options = self.options.clone();
        Some((Stepped { journal: Journal::without_threads(shared, Some(guard)), appender, disk, options }, place))
    }

    /// Who stands where, for whoever reads of a hang.
    pub fn why(&self) -> String {
        let shared = self.journal.shared();
        let capacity = shared.capacity.load(std::sync::atomic::Ordering::Acquire);
        format!("intake {}, capacity {capacity}, next {}", shared.intake.taken(), shared.state().next_seq)
    }
}

fn heal(disk: &Sim) {
    disk.set_free(None);
    disk.fail_next_syncs(0);
    disk.fail_next_writes(0);
}
