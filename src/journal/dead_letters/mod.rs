//! The dead-letter queue: what could not go on, kept with its reason until it is replayed or dropped.
//!
//! Beside dead letters it keeps parked ones: events of a sink for a destination, such as a topic, that does not take them
//! at the moment. Their sink sends them again by itself.
//!
//! It never deletes by itself: at its bound it refuses, and whoever has a dead letter to write holds. One thread owns
//! the files; it takes every dead letter that waits while it is at it, so that many share one sync.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::telemetry::ParkedEnds;
use crate::units::Timestamp;

mod dead_letter;
mod ends;
mod parked;
mod said;
mod segment;
mod store;

#[cfg(test)]
mod tests;

pub use dead_letter::{DeadLetter, NewDeadLetter, Number};
use said::Said;
use store::DeadLetterStore;

/// The bound where nothing else is configured.
pub const DEFAULT_MAX_BYTES: u64 = 1024 * 1024 * 1024;
/// The bound of a queue in memory.
pub const MEMORY_MAX_BYTES: u64 = 8 * 1024 * 1024;
/// Requests that wait for the thread; more wait outside.
const MAX_REQUESTS: usize = 64;

/// The queue, for everybody; clones are cheap.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    requests: mpsc::Sender<Request>,
}

/// Why a dead letter was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The queue is at its bound.
    Full,
    /// It could not be written.
    Failed(String),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::Failed(format!("cannot write a dead letter: {error}"))
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::Full => f.write_str("the dead-letter queue is full"),
            Refused::Failed(message) => f.write_str(message),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub dead_letters: u64,
    /// Those of them that are parked.
    pub parked: u64,
    pub bytes: u64,
    pub max_bytes: u64,
    /// Damaged places found when the files were opened.
    pub damaged: u64,
    /// Dead letters of each component that has some.
    pub by_component: BTreeMap<String, u64>,
}

/// What is parked for one destination of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lot {
    pub destination: String,
    pub dead_letters: u64,
    /// When the oldest was parked, and what the other side said then.
    pub since: Timestamp,
    pub answer: String,
}

/// What a sink finds when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    pub lots: Vec<Lot>,
    /// How its parked events have ended, all in all.
    pub ends: ParkedEnds,
    /// Dead letters that were counted as parked, and come again because somebody has moved the cursor back.
    pub come_again: u64,
}

/// How a parked dead letter ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Delivered,
    DeadLettered,
    /// Refused for good, by a sink that keeps no dead letters.
    Poison,
    Dropped,
}

impl End {
    fn column(self, ends: &mut ParkedEnds) -> &mut u64 {
        match self {
            End::Delivered => &mut ends.delivered,
            End::DeadLettered => &mut ends.dead_lettered,
            End::Poison => &mut ends.poison,
            End::Dropped => &mut ends.dropped,
        }
    }
}

/// Parked dead letters of a sink that have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How many of those that were named.
    pub events: u64,
    /// How all have ended so far.
    pub ends: ParkedEnds,
}

/// Dead letters that were removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many there were, parked ones included.
    pub dead_letters: u64,
    /// Sinks that had some of them parked, and how their parked events have ended so far.
    pub parked: BTreeMap<String, ParkedEnds>,
}

type Reply<T> = oneshot::Sender<T>;
type Writer = (Vec<NewDeadLetter>, Reply<Result<(), Refused>>);

#[derive(Debug)]
enum Request {
    Append(Vec<NewDeadLetter>, Reply<Result<(), Refused>>),
    List(Option<Number>, usize, Reply<io::Result<Vec<DeadLetter>>>),
    Get(Number, Reply<io::Result<Option<DeadLetter>>>),
    Remove(Vec<Number>, Reply<io::Result<Removed>>),
    End(String, Vec<(Number, End)>, Reply<io::Result<Ended>>),
    Resume(String, u64, u64, Reply<io::Result<Resumed>>),
    Take(Wanted, Reply<io::Result<Taken>>),
    Condemn(String, Vec<NewDeadLetter>, Vec<Number>, Reply<Result<Ended, Refused>>),
    Clear(String, Reply<io::Result<u64>>),
    Waiting(Reply<BTreeMap<String, u64>>),
    Summary(Reply<Summary>),
}

/// Which parked dead letters are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub component: String,
    pub destination: String,
    /// Only of events before this `seq`.
    pub before: u64,
    pub events: usize,
    pub bytes: usize,
}

/// Parked dead letters, and how many there are for their destination.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub dead_letters: Vec<DeadLetter>,
    pub of: u64,
}

impl DeadLetters {
    /// Opens the queue in its folder, `<data_dir>/dlq`; made if it is not there.
    pub fn open(folder: &Path, max_bytes: u64) -> io::Result<DeadLetters> {
        DeadLetters::start(DeadLetterStore::open(folder, max_bytes)?)
    }

    /// A queue that is gone with the process.
    pub fn in_memory(max_bytes: u64) -> io::Result<DeadLetters> {
        DeadLetters::start(DeadLetterStore::in_memory(max_bytes))
    }

    fn start(store: DeadLetterStore) -> io::Result<DeadLetters> {
        let (requests, inbox) = mpsc::channel(MAX_REQUESTS);
        thread::Builder::new().name("weir-dlq".into()).spawn(move || serve(store, inbox))?;
        Ok(DeadLetters { requests })
    }

    /// Keeps dead letters, all or none; they are synced when this returns.
    pub async fn append(&self, dead_letters: Vec<NewDeadLetter>) -> Result<(), Refused> {
        self.ask(|reply| Request::Append(dead_letters, reply)).await.map_err(Refused::from)?
    }

    /// Dead letters behind `after`, oldest first.
    pub async fn list(&self, after: Option<Number>, limit: usize) -> io::Result<Vec<DeadLetter>> {
        self.ask(|reply| Request::List(after, limit, reply)).await?
    }

    pub async fn get(&self, number: Number) -> io::Result<Option<DeadLetter>> {
        self.ask(|reply| Request::Get(number, reply)).await?
    }

    /// Lets go of dead letters, because they were replayed or are to be dropped. A parked one may only be dropped after
    /// its sink's cursor has passed it on the disk.
    pub async fn remove(&self, numbers: Vec<Number>) -> io::Result<Removed> {
        self.ask(|reply| Request::Remove(numbers, reply)).await?
    }

    /// Ends parked dead letters of a sink, in one step of which a crash keeps all or nothing. The sink's cursor has to
    /// have passed them on the disk: what comes again from the journal must not have ended before.
    pub async fn end(&self, component: &str, ends: Vec<(Number, End)>) -> io::Result<Ended> {
        self.ask(|reply| Request::End(component.to_owned(), ends, reply)).await?
    }

    /// What is parked for a sink whose cursor is at `position`. What is parked from there on is forgotten, for it comes
    /// again; `settled` is the position that the sink's totals belong to.
    pub async fn resume(&self, component: &str, position: u64, settled: u64) -> io::Result<Resumed> {
        self.ask(|reply| Request::Resume(component.to_owned(), position, settled, reply)).await?
    }

    /// The oldest parked dead letters of a destination.
    pub async fn take(&self, wanted: Wanted) -> io::Result<Taken> {
        self.ask(|reply| Request::Take(wanted, reply)).await?
    }

    /// Keeps dead letters in the place of parked ones, which end by that.
    pub async fn condemn(
        &self,
        component: &str,
        dead_letters: Vec<NewDeadLetter>,
        parked: Vec<Number>,
    ) -> Result<Ended, Refused> {
        let request = |reply| Request::Condemn(component.to_owned(), dead_letters, parked, reply);
        self.ask(request).await.map_err(Refused::from)?
    }

    /// Lets go what is parked for a sink; tells how much it was.
    pub async fn clear(&self, component: &str) -> io::Result<u64> {
        self.ask(|reply| Request::Clear(component.to_owned(), reply)).await?
    }

    /// How many dead letters are parked for each sink.
    pub async fn waiting(&self) -> io::Result<BTreeMap<String, u64>> {
        self.ask(Request::Waiting).await
    }

    pub async fn summary(&self) -> io::Result<Summary> {
        self.ask(Request::Summary).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> io::Result<T> {
        let gone = || io::Error::other("the thread of the dead-letter queue has ended");
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// The thread. An answer that nobody waits for any more is no error.
fn serve(mut store: DeadLetterStore, mut inbox: mpsc::Receiver<Request>) {
    let (mut next, mut said) = (None, Said::default());
    while let Some(request) = next.take().or_else(|| inbox.blocking_recv()) {
        match request {
            Request::Append(dead_letters, reply) => {
                let mut writers = vec![(dead_letters, reply)];
                loop {
                    match inbox.try_recv() {
                        Ok(Request::Append(dead_letters, reply)) => writers.push((dead_letters, reply)),
                        Ok(other) => break next = Some(other),
                        Err(_) => break,
                    }
                }
                append_all(&mut store, writers, &mut said);
            }
            Request::List(after, limit, reply) => drop(reply.send(store.list(after, limit))),
            Request::Get(number, reply) => drop(reply.send(store.get(number).transpose())),
            Request::Remove(numbers, reply) => drop(reply.send(store.remove(&numbers))),
            Request::Resume(component, position, settled, reply) => {
                drop(reply.send(store.resume(&component, position, settled)));
            }
            Request::Take(wanted, reply) => drop(reply.send(store.take(&wanted))),
            Request::End(component, ends, reply) => drop(reply.send(store.end(&component, &ends))),
            Request::Condemn(component, dead_letters, parked, reply) => {
                let condemned = store.condemn(&component, dead_letters.clone(), &parked, Timestamp::now());
                if condemned.is_ok() {
                    said.note(dead_letters.iter(), Instant::now());
                }
                drop(reply.send(condemned));
            }
            Request::Clear(component, reply) => drop(reply.send(store.clear(&component))),
            Request::Waiting(reply) => drop(reply.send(store.waiting())),
            Request::Summary(reply) => drop(reply.send(store.summary())),
        }
    }
}

/// Appends what several writers gave with one sync; if that does not fit, each by itself.
fn append_all(store: &mut DeadLetterStore, writers: Vec<Writer>, said: &mut Said) {
    let (now, clock) = (Timestamp::now(), Instant::now());
    if writers.len() > 1 {
        let all = writers.iter().flat_map(|(dead_letters, _)| dead_letters.iter().cloned()).collect();
        if store.append(all, now).is_ok() {
            said.note(writers.iter().flat_map(|(dead_letters, _)| dead_letters), clock);
            return writers.into_iter().for_each(|(_, reply)| drop(reply.send(Ok(()))));
        }
    }
    for (dead_letters, reply) in writers {
        let kept = store.append(dead_letters.clone(), now);
        if kept.is_ok() {
            said.note(dead_letters.iter(), clock);
        }
        drop(reply.send(kept));
    }
}
