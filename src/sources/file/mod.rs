//! `file`: tails files, follows them through every kind of rotation, and submits their lines.
//!
//! What to know before changing it:
//! - `tail` is a machine that never waits; the thread below steps it, and so do the tests.
//! - `ranges` decides what must be read again; `reader` makes chunks that depend on nothing but their offset.
//!   Together they keep the promise that no line is lost or doubled, through failures and restarts.
//! - `adopt` decides what a name that appeared means; `identity` says when a file is still the same.

mod adopt;
mod body;
mod buffers;
mod classify;
mod config;
mod container;
#[cfg(test)]
mod container_test;
mod content;
mod damage;
#[cfg(test)]
mod damage_test;
mod discover;
mod folders;
mod followed;
mod identity;
mod losses;
mod opened;
mod owners;
mod pace;
mod position;
mod reader;
#[cfg(test)]
mod reader_test;
#[cfg(test)]
mod rotation_test;
mod shape;
mod spool;
#[cfg(test)]
mod spool_test;
mod submit;
mod tail;
#[cfg(test)]
mod tail_test;
#[cfg(test)]
mod unseen_test;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use config::Config;
use tail::{Next, Settings, Tail};

use crate::component::{Check, Fatal, Source, SourceContext};
use crate::journal::{MemoryPermit, ReserveError};
use crate::net::Sockets;

/// How long a source that begins waits for the journal before it counts as reading.
const LONGEST_START: Duration = Duration::from_secs(2);

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

/// Waits for memory and journal space, and watches the files meanwhile. `None` if the source should end.
async fn reserve(tail: &mut Tail, cx: &SourceContext, bytes: usize) -> Option<Result<MemoryPermit, ReserveError>> {
    let permit = cx.intake.reserve(bytes);
    tokio::pin!(permit);
    loop {
        let next = tail.watch(Instant::now());
        tokio::select! {
            () = cx.shutdown.cancelled() => return None,
            permit = &mut permit => return Some(permit),
            () = tokio::time::sleep_until(next.into()) => {}
        }
    }
}

/// Steps the machine until the agent stops.
async fn follow(mut tail: Tail, cx: SourceContext) {
    // What comes and goes from now on counts as new, also for an agent that begins after a sudden end of this one: so the
    // journal must record since when we look before we report ready.
    tail.state_marks();
    tokio::select! {
        () = cx.shutdown.cancelled() => return,
        () = tail.all_landed() => {}
        () = tokio::time::sleep(LONGEST_START) => {}
    }
    cx.ready();
    while !cx.shutdown.is_cancelled() {
        match tail.step(Instant::now()) {
            Next::Step => {}
            Next::NeedsMemory(bytes) => match reserve(&mut tail, &cx, bytes).await {
                Some(Ok(permit)) => tail.grant(permit),
                Some(Err(ReserveError::Full(_))) => {}
                Some(Err(ReserveError::Closed)) | None => return,
            },
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
