//! `file`: tails files, follows them through every kind of rotation, and hands their lines in.
//!
//! What to know before changing it:
//! - `tail` is a machine that never waits; the thread below steps it, and so do the tests.
//! - `component::ranges` decides what must be read again; `cut` makes pieces that depend on nothing but their offset.
//!   Together they keep the promise that no line is lost or doubled, through failures and restarts.
//! - `adopt` decides what a name that appeared means; `identity` says when a file is still the same.

mod adopt;
mod body;
mod buffers;
mod config;
mod cut;
#[cfg(test)]
mod cut_test;
mod discover;
mod folders;
mod followed;
mod hand_in;
mod identity;
mod judge;
mod losses;
mod owners;
mod position;
#[cfg(test)]
mod rotation_test;
mod shape;
mod spool;
#[cfg(test)]
mod spool_test;
mod tail;
#[cfg(test)]
mod tail_test;
#[cfg(test)]
mod unseen_test;

use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use config::Config;
use tail::{Next, Settings, Tail};

use crate::component::{Check, Fatal, ReserveError, Source, SourceContext};
use crate::net::Sockets;

/// Tails files.
pub struct File {
    settings: Settings,
}

impl Source for File {
    const TYPE: &'static str = "file";
    const RESUMES: bool = true;
    type Config = Config;
    type Prepared = ();

    fn build(config: Config, check: &mut Check) -> Option<File> {
        config.settings(check).map(|settings| File { settings })
    }

    async fn prepare(&self, _: &Sockets) -> Result<(), Fatal> {
        Ok(())
    }

    /// Files are read on a thread of their own: reading them blocks, and a task switch for each read costs more
    /// than the read.
    async fn run(self: Arc<File>, (): (), cx: SourceContext) -> Result<(), Fatal> {
        let (ended, end) = oneshot::channel();
        let runtime = Handle::current();
        let name = format!("file {}", cx.name);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let tail = Tail::new(self.settings.clone(), cx.clone(), Instant::now());
            runtime.block_on(follow(tail, cx));
            // Nobody listens any more if the source was dropped.
            let _ = ended.send(());
        });
        thread.map_err(|error| Fatal(format!("cannot start a thread: {error}")))?;
        end.await.map_err(|_| Fatal("the thread that reads files has panicked".into()))
    }
}

/// Steps the machine until the agent stops.
async fn follow(mut tail: Tail, cx: SourceContext) {
    cx.ready();
    while !cx.shutdown.is_cancelled() {
        match tail.step(Instant::now()) {
            Next::Step => {}
            Next::MemoryPermit(bytes) => {
                tokio::select! {
                    () = cx.shutdown.cancelled() => return,
                    permit = cx.intake.reserve(bytes) => match permit {
                        Ok(permit) => tail.grant(permit),
                        Err(ReserveError::Closed) => return,
                        Err(ReserveError::Full) => {}
                    },
                }
            }
            Next::Wait(until) => {
                tokio::select! {
                    () = cx.shutdown.cancelled() => return,
                    () = tail.landed(Instant::now()) => {}
                    () = tokio::time::sleep_until(until.into()) => {}
                }
            }
        }
    }
}
