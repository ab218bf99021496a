//! Whether the journal takes events at all, and why not: for whoever looks after it.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Journal;
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

impl Journal {
    /// What keeps the journal from taking events now; a failed write or sync counts until one succeeds.
    pub fn trouble(&self) -> Option<Trouble> {
        let shared = &self.shared;
        if let Some(reason) = shared.shut_out.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Some(Trouble::Failing(reason));
        }
        let fault = shared.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_full = shared.holds_back(1, &[]);
        match fault {
            Some((reason, true)) if is_full => Some(Trouble::Full(reason)),
            Some((reason, false)) => Some(Trouble::Failing(reason)),
            _ if is_full => {
                let bytes = crate::units::ByteSize(shared.options.max_bytes);
                Some(Trouble::Full(format!("sinks have yet to pass all that fits into `journal.max_bytes` ({bytes})")))
            }
            _ => None,
        }
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
