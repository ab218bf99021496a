//! Watches the journal: logs once when it stops accepting events and once when it accepts them again.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::agent::Agent;
use crate::journal::{Full, Shortage, Trouble};
use crate::telemetry::ComponentKind;
use crate::units::Timestamp;

/// How often the journal is looked at.
const EVERY: Duration = Duration::from_millis(250);
/// Checks until a lasting problem is logged again: a minute.
const REMINDED_AFTER: u32 = 240;
/// Looks that find the same before it is more than a moment's.
const LASTING: u32 = 2;

/// Looks without a shortage of space until it is over.
const OVER_AFTER: u32 = 40;

/// What keeps the journal from taking events, and since when.
#[derive(Clone, Debug)]
pub struct Standstill {
    pub trouble: Trouble,
    pub since: Timestamp,
}

/// Which folder a path leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    let folder = std::fs::metadata(path).ok()?;
    Some(Identity(folder.dev(), folder.ino()))
}

/// A journal that takes events, but none of some size.
#[derive(Default)]
struct ShortOfSpace {
    known: Option<Shortage>,
    looks_without: u32,
}

impl ShortOfSpace {
    fn look(&mut self, found: Option<Shortage>) {
        self.looks_without = if found.is_some() { 0 } else { self.looks_without + 1 };
        match (found, self.known) {
            (Some(shortage), None) => {
                let bytes = shortage.bytes;
                tracing::warn!(bytes, "the journal is nearly full: it accepts small events, but not large batches");
                self.known = found;
            }
            (None, Some(_)) if self.looks_without >= OVER_AFTER => {
                tracing::info!("the journal accepts large batches again");
                self.known = None;
            }
            _ => {}
        }
    }
}

/// Sinks whose own buffer is full, so that the sources that feed them wait.
#[derive(Default)]
struct FullBuffers {
    /// What the log said last.
    said: Vec<Arc<str>>,
    seen: Vec<Arc<str>>,
    looks: u32,
}

impl FullBuffers {
    /// What lasts is said once, and that it is over.
    fn look(&mut self, found: Vec<Arc<str>>) {
        self.looks = if found == self.seen { self.looks + 1 } else { 0 };
        self.seen = found;
        let after = if self.seen.is_empty() { OVER_AFTER } else { LASTING };
        if self.seen == self.said || self.looks + 1 < after {
            return;
        }
        self.said.clone_from(&self.seen);
        match &self.said[..] {
            [] => tracing::info!("no sink's `buffer` is full any more"),
            sinks => {
                let sinks = sinks.join(", ");
                tracing::warn!(sinks, "the sources that feed these sinks wait: their `buffer` is full");
            }
        }
    }
}

impl Agent {
    /// What keeps the journal from taking events, if something does.
    pub fn standstill(&self) -> Option<Standstill> {
        self.standstill.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refused_requests(&self) -> u64 {
        let sources = self.accounting.all().into_iter().filter(|metrics| metrics.kind == ComponentKind::Source);
        sources.map(|source| source.snapshot().requests_refused.values().sum::<u64>()).sum()
    }

    /// Watches until the agent stops.
    pub(super) async fn watch_journal(self: Arc<Agent>) {
        let folder = self.data_dir.join("journal");
        let own = self.is_durable().then(|| identity(&folder)).flatten();
        let (mut seen, mut looks, mut refused_before) = (None::<Trouble>, 0, 0);
        let (mut short, mut full_buffers) = (ShortOfSpace::default(), FullBuffers::default());
        while self.stopped.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if own.is_some() {
                let path = folder.clone();
                let found = tokio::task::spawn_blocking(move || identity(&path)).await.unwrap_or(own);
                let reason = (found != own).then(|| {
                    format!(
                        "the folder `{}` was removed or replaced: events written now would be lost at the next start",
                        folder.display()
                    )
                });
                self.context.journal.shut_out(reason);
            }
            let trouble = self.context.journal.trouble();
            let of_the_journal = |shortage: &Shortage| trouble.is_none() && shortage.full != Full::Buffer;
            short.look(self.context.journal.shortage().filter(of_the_journal));
            full_buffers.look(self.context.journal.full_buffers());
            looks = if trouble == seen { looks + 1 } else { 0 };
            seen = trouble;
            let known = self.standstill();
            match (&seen, &known) {
                (Some(trouble), None) if looks + 1 >= LASTING => {
                    refused_before = self.refused_requests();
                    self.stand_still(Some(Standstill { trouble: trouble.clone(), since: Timestamp::now() }));
                    tracing::error!(state = trouble.word(), reason = trouble.reason(), "the journal accepts no events");
                }
                (Some(trouble), Some(known)) if *trouble != known.trouble && looks + 1 >= LASTING => {
                    self.stand_still(Some(Standstill { trouble: trouble.clone(), since: known.since }));
                    tracing::error!(
                        state = trouble.word(),
                        reason = trouble.reason(),
                        "the journal still takes no events"
                    );
                }
                (Some(trouble), Some(known)) if looks > 0 && looks.is_multiple_of(REMINDED_AFTER) => {
                    let refused = self.refused_requests().saturating_sub(refused_before);
                    let (reason, since) = (trouble.reason(), known.since.to_string());
                    tracing::error!(
                        state = trouble.word(),
                        reason,
                        since,
                        refused,
                        "the journal still takes no events"
                    );
                }
                (None, Some(known)) if looks + 1 >= LASTING => {
                    self.stand_still(None);
                    let refused = self.refused_requests().saturating_sub(refused_before);
                    tracing::info!(since = known.since.to_string(), refused, "the journal accepts events again");
                }
                _ => {}
            }
        }
    }

    fn stand_still(&self, standstill: Option<Standstill>) {
        *self.standstill.write().unwrap_or_else(PoisonError::into_inner) = standstill;
    }
}
