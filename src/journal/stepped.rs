//! A journal without threads, on a disk of its own making: whoever holds it makes each step. For tests of floors above.

use std::path::PathBuf;

use super::appender::Appender;
use super::recovery::{self, Opened};
use super::report::RecoveryReport;
use super::sim::Sim;
use super::{Journal, Options, house};

pub(crate) use super::sim::Random;
pub(crate) use super::tests::lines;

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
        Stepped { journal: Journal::without_threads(shared, guard), appender, disk, options }
    }

    /// Appends commits that are due, up to so many bytes; whether there were any.
    pub fn append(&mut self, bytes: usize) -> bool {
        let due = self.journal.shared().queue.lock().expect("no panic while it is held").take_due(bytes);
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

    /// What the journal does once in a while: bounds, cursors, the next segment.
    pub fn keep_house(&mut self) -> bool {
        house::keep_bounds(&self.journal.shared());
        house::save_cursors(&self.journal.shared());
        self.appender.prepare()
    }

    pub fn fail_next_sync(&self) {
        self.disk.fail_next_syncs(1);
    }

    pub fn fail_next_write(&self) {
        self.disk.fail_next_writes(1);
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
        Journal::without_threads(shared, guard)
    }

    /// The segments' bytes that hold something.
    pub fn used(&self, step: usize) -> Vec<(PathBuf, u64)> {
        let segments =
            self.disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "segment"));
        let bytes = segments.flat_map(|(path, len)| (0..len).step_by(step).map(move |offset| (path.clone(), offset)));
        bytes.filter(|(path, offset)| self.disk.is_used(path, *offset)).collect()
    }

    /// The journal as the next process finds it on a copy of the disk, with one byte flipped if that is wanted; it has
    /// room for what is read again while no cursor moves.
    pub fn restarted(&self, flip: Option<&(PathBuf, u64)>) -> (Stepped, RecoveryReport) {
        let disk = self.disk.copy();
        heal(&disk);
        if let Some((path, offset)) = flip {
            disk.flip(path, *offset);
        }
        disk.kill();
        let options = Options { max_bytes: 8 << 20, ..self.options.clone() };
        let Opened { shared, appender, guard, report } =
            recovery::open(options.clone(), disk.boot()).expect("a damaged journal opens");
        (Stepped { journal: Journal::without_threads(shared, guard), appender, disk, options }, report)
    }

    /// Who stands where, for whoever reads of a hang.
    pub fn why(&self) -> String {
        let shared = self.journal.shared();
        let capacity = shared.capacity.load(std::sync::atomic::Ordering::Acquire);
        format!("purse {}, capacity {capacity}, next {}", shared.purse.taken(), shared.state().next_seq)
    }
}

fn heal(disk: &Sim) {
    disk.set_free(None);
    disk.fail_next_syncs(0);
    disk.fail_next_writes(0);
}
