//! Whether the journal accepts events, and if not, why.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Journal;
use super::memory::Full;
use super::state::Shared;

/// Why nothing is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room until sinks have passed more, or somebody makes some.
    Full(String),
    /// What is written does not last.
    Failing(String),
}

impl Trouble {
    /// One word for health.
    pub fn word(&self) -> &'static str {
        match self {
            Trouble::Full(_) => "full",
            Trouble::Failing(_) => "failing",
        }
    }

    pub fn reason(&self) -> &str {
        match self {
            Trouble::Full(reason) | Trouble::Failing(reason) => reason,
        }
    }
}

/// How long after a refusal for want of space there still counts as none.
const REFUSED_FOR: Duration = Duration::from_secs(2);

/// There is too little space for something of this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub full: Full,
    pub bytes: usize,
}

/// What was refused last for want of space, and how many wait for some.
#[derive(Debug, Default)]
pub struct Shortages {
    last: Mutex<Option<(Shortage, Instant)>>,
    waiting: AtomicUsize,
}

/// Somebody waits for space for as long as this lives.
pub struct Waits<'a>(&'a Shortages);

impl Shortages {
    pub fn refuse(&self, full: Full, bytes: usize) {
        *self.lock() = Some((Shortage { full, bytes }, Instant::now()));
    }

    pub fn wait(&self, full: Full, bytes: usize) -> Waits<'_> {
        self.refuse(full, bytes);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waits(self)
    }

    /// The shortage that lasts: somebody was refused a moment ago, or waits and still finds no space.
    fn now(&self, has_no_space: impl Fn(usize) -> bool) -> Option<Shortage> {
        let (shortage, at) = (*self.lock())?;
        let waits = self.waiting.load(Ordering::Acquire) > 0 && has_no_space(shortage.bytes);
        (waits || at.elapsed() < REFUSED_FOR).then_some(shortage)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Shortage, Instant)>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Journal {
    /// What keeps the journal from taking events now; a failed write or sync counts until one succeeds.
    pub fn trouble(&self) -> Option<Trouble> {
        let shared = &self.shared;
        if let Some(reason) = shared.shut_out.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Some(Trouble::Failing(reason));
        }
        let fault = shared.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_full = shared.holds_back(1, &[]).is_some();
        match fault {
            Some((reason, true)) if is_full => Some(Trouble::Full(reason)),
            Some((reason, false)) => Some(Trouble::Failing(reason)),
            _ if is_full => {
                let bytes = crate::units::ByteSize(shared.options.max_bytes);
                Some(Trouble::Full(format!("the journal holds `journal.max_bytes` ({bytes}) of undelivered events")))
            }
            _ => None,
        }
    }

    /// What is refused or kept waiting for its size, while the journal takes smaller events.
    pub fn shortage(&self) -> Option<Shortage> {
        self.shared.shortage.now(|bytes| self.shared.holds_back(bytes, &[]).is_some())
    }

    /// Sinks whose own `buffer` holds back what is to be delivered to them.
    pub fn full_buffers(&self) -> Vec<Arc<str>> {
        // Of the size that found no space last, while somebody waits with it or was refused a moment ago.
        let last = self.shared.shortage.now(|_| true).filter(|shortage| shortage.full == Full::Buffer);
        self.shared.state().full_buffers(last.map_or(1, |shortage| shortage.bytes as u64))
    }

    /// Takes nothing more while there is a reason that the journal cannot know of itself.
    pub fn shut_out(&self, reason: Option<String>) {
        self.shared.is_shut_out.store(reason.is_some(), Ordering::Release);
        *self.shared.shut_out.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        self.shared.changed.notify_waiters();
    }
}

impl Shared {
    /// Remembers that a write or a sync has failed. Tells whether that is news.
    pub fn note_fault(&self, doing: &str, error: &std::io::Error) -> bool {
        let no_space = super::fs::is_no_space(error);
        let reason =
            if no_space { "no space is left on the disk".to_owned() } else { format!("cannot {doing}: {error}") };
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = fault.as_ref().is_none_or(|(known, _)| *known != reason);
        *fault = Some((reason, no_space));
        is_news
    }

    /// What was written has lasted.
    pub fn forget_fault(&self) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
