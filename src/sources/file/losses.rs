//! Bytes truncated before they were read: found in a copy, or counted as lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::followed::Origin;

/// How long a copy may take to turn up.
const COPY_MAY_TAKE: Duration = Duration::from_secs(60);

/// Truncations that are remembered at once; beyond it the oldest counts as lost.
const MAX_TRUNCATIONS: usize = 1024;

#[derive(Default)]
pub struct Losses(Vec<Truncation>);

/// What nobody has read of a file that was truncated.
#[derive(Debug, PartialEq, Eq)]
pub struct Truncation {
    pub path: PathBuf,
    pub family: PathBuf,
    pub origin: Origin,
    /// Nothing at all was read of it, so that a copy cannot be known by its content.
    pub is_unknown: bool,
    pub bytes: u64,
    pub at: Instant,
}

impl Losses {
    pub fn add(&mut self, truncation: Truncation) {
        if truncation.bytes > 0 {
            self.0.push(truncation);
        }
    }

    /// A copy of these contents was found, and is read to its end.
    pub fn found(&mut self, origin: Origin) {
        self.0.retain(|truncation| truncation.origin != origin);
    }

    /// A generation that nobody knows was found: it may be what was never read.
    pub fn found_unknown(&mut self, family: &Path) {
        if let Some(at) = self.0.iter().position(|truncation| truncation.is_unknown && truncation.family == family) {
            self.0.remove(at);
        }
    }

    /// What will not come any more.
    pub fn take_due(&mut self, now: Instant) -> Vec<Truncation> {
        let too_many = self.0.len().saturating_sub(MAX_TRUNCATIONS);
        let is_due = |truncation: &Truncation| now.saturating_duration_since(truncation.at) >= COPY_MAY_TAKE;
        let due = self.0.iter().take_while(|truncation| is_due(truncation)).count();
        self.0.drain(..due.max(too_many)).collect()
    }
}
