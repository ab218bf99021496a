//! Retries parked events: those accepted leave the queue, poison becomes a dead letter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::batcher::Pending;
use super::connection::SinkConnection;
use super::deliver::{classify, dead_letter_of};
use super::in_flight::{AttemptError, InFlight, Next};
use super::parking::Due;
use super::window::Outcomes;
use crate::component::{RecordSlice, WriteBatch};
use crate::event::{Lines, Origins};
use crate::journal::dead_letters::{DeadLetter, End, Ended, Number, Wanted};
use crate::journal::{Record, StreamId};
use crate::telemetry::ParkedEnds;

/// What became of parked events.
#[derive(Debug)]
#[must_use]
pub struct Unparked {
    pub due: Due,
    /// Events that have ended, and those of them that were poison.
    pub ended: u64,
    pub poison: u64,
    /// How all parked events of the sink have ended so far, if some ended now.
    pub ends: Option<ParkedEnds>,
    pub bytes: u64,
    pub duplicates: u64,
    pub was_empty: bool,
    /// There are some, and the cursor on the disk has not passed them.
    pub not_yet: bool,
    /// How many there are still for the destination, where that was asked.
    pub left: Option<u64>,
    /// Why some of them stay, if they do.
    pub stays: Option<String>,
}

impl Unparked {
    fn new(due: Due) -> Unparked {
        Unparked {
            due,
            ended: 0,
            poison: 0,
            ends: None,
            bytes: 0,
            duplicates: 0,
            was_empty: false,
            not_yet: false,
            left: None,
            stays: None,
        }
    }

    fn add(&mut self, ended: Ended) {
        self.ended += ended.events;
        self.ends = Some(ended.ends);
    }
}

/// Tries the oldest events of a lot before `position`, or one of them. `position` is that of the cursor on the disk: what
/// comes again after a crash must not have ended here.
pub async fn unpark(connection: Arc<SinkConnection>, due: Due, position: u64, only: Option<Number>) -> Unparked {
    let mut unparked = Unparked::new(due);
    let dead_letters = match only {
        Some(number) => connection.dead_letters.get(number).await.map(|dead_letter| {
            let has_passed = |dead_letter: &DeadLetter| dead_letter.content.seq.is_none_or(|seq| seq < position);
            unparked.not_yet = dead_letter.as_ref().is_some_and(|dead_letter| !has_passed(dead_letter));
            dead_letter.into_iter().filter(has_passed).collect()
        }),
        None => connection.dead_letters.take(wanted(&connection, &unparked.due, position)).await.map(|taken| {
            unparked.left = Some(taken.of);
            unparked.not_yet = taken.dead_letters.is_empty() && taken.of > 0;
            taken.dead_letters
        }),
    };
    let dead_letters: Vec<DeadLetter> = match dead_letters {
        Ok(dead_letters) => dead_letters,
        Err(error) => {
            unparked.stays = Some(format!("the dead-letter queue cannot be read: {error}"));
            return unparked;
        }
    };
    let Some(first) = dead_letters.first() else {
        unparked.was_empty = !unparked.not_yet;
        return unparked;
    };
    let received_at = first.content.received_at;
    let batch =
        WriteBatch { slices: dead_letters.iter().flat_map(|dead_letter| batch_of(dead_letter).slices).collect() };
    let pending = Pending { batch, filtered: 0, expired: 0, seq_end: 0, received_at };
    let mut in_flight = InFlight::ambiguous_since(pending, Some(unparked.due.refused_at));
    let mut open = try_all(&connection, &mut in_flight, &mut unparked.stays).await;
    open.extend(seqs(&in_flight.rest()));
    (unparked.bytes, unparked.duplicates) = (in_flight.bytes, in_flight.duplicates);
    end(&connection, in_flight, dead_letters, open, &mut unparked).await;
    unparked.left = unparked.left.map(|left| left.saturating_sub(unparked.ended));
    unparked
}

fn wanted(connection: &SinkConnection, due: &Due, before: u64) -> Wanted {
    let batch = &connection.policy.batch;
    Wanted {
        component: connection.cx.name.to_string(),
        destination: due.destination.clone(),
        before,
        events: if due.is_probe { 1 } else { batch.events.get() },
        bytes: batch.bytes.to_usize(),
    }
}

/// Writes until each event is taken or refused, without patience: what else goes wrong ends it. Gives those refused.
async fn try_all(connection: &SinkConnection, in_flight: &mut InFlight, stays: &mut Option<String>) -> BTreeSet<u64> {
    let mut refused = BTreeSet::new();
    while !in_flight.is_done() {
        if !connection.breaker.is_closed() {
            stays.get_or_insert_with(|| format!("`{}` is not delivering at the moment", connection.cx.name));
            break;
        }
        let Some(permit) = connection.breaker.enter().await else { break };
        let sink = match connection.sink().await {
            Ok(sink) => sink,
            Err(failure) => {
                *stays = Some(failure.answer().to_owned());
                super::deliver::not_opened(connection, permit, failure);
                break;
            }
        };
        let now = connection.lock().evidence.now();
        let Some(unsent) = in_flight.take(now) else { break };
        let error = match connection.attempt(&sink, &unsent).await {
            Ok(written) => {
                connection.note_taken(&sink, &unsent.batch, &[]);
                in_flight.wrote(&unsent, written);
                connection.works(permit);
                continue;
            }
            Err(error) => error,
        };
        if matches!(error, AttemptError::Panicked(_)) {
            connection.forget_sink();
        }
        connection.count(error.class(), false);
        let next = classify(connection, &sink, in_flight, unsent, error, None);
        for event in in_flight.take_refused() {
            refused.extend(seqs(&event.batch));
            *stays = Some(event.answer);
        }
        match next {
            Next::GoOn => connection.works(permit),
            Next::Split => drop(permit),
            Next::Wait { answer, .. } | Next::Hold { answer, .. } => {
                *stays = Some(answer);
                break;
            }
        }
    }
    refused
}

/// Takes out of the queue what has ended.
async fn end(
    connection: &SinkConnection,
    in_flight: InFlight,
    dead_letters: Vec<DeadLetter>,
    open: BTreeSet<u64>,
    unparked: &mut Unparked,
) {
    let attempts: BTreeMap<u64, (Number, u32)> = dead_letters
        .iter()
        .map(|dead_letter| (dead_letter.content.seq.unwrap_or(0), (dead_letter.number, dead_letter.content.attempts)))
        .collect();
    let (mut dead, mut poison) = (Vec::new(), Vec::new());
    for poisoned in &in_flight.poison {
        if let Some((number, before)) = attempts.get(&poisoned.batch.event(0).seq()) {
            let mut dead_letter = dead_letter_of(&connection.cx.name, poisoned, None);
            dead_letter.attempts += before;
            dead.push(dead_letter);
            poison.push(*number);
        }
    }
    let has_ended = |dead_letter: &&DeadLetter| {
        !open.contains(&dead_letter.content.seq.unwrap_or(0)) && !poison.contains(&dead_letter.number)
    };
    let taken: Vec<Number> = dead_letters.iter().filter(has_ended).map(|dead_letter| dead_letter.number).collect();
    let is_flooded = {
        let mut inner = connection.lock();
        let outcomes = Outcomes { events: (taken.len() + poison.len()) as u64, poison: poison.len() as u64 };
        inner.window.note(outcomes);
        inner.window.is_flooded_with(Outcomes::default())
    };
    if !taken.is_empty() {
        // Whoever has dropped a dead letter meanwhile has counted it.
        let ends = taken.into_iter().map(|number| (number, End::Delivered)).collect();
        match connection.dead_letters.end(&connection.cx.name, ends).await {
            Ok(ended) => unparked.add(ended),
            Err(error) => unparked.stays = Some(format!("delivered, but could not be removed from the queue: {error}")),
        }
    }
    if poison.is_empty() {
        return;
    }
    if is_flooded {
        unparked.stays = Some(format!("more than half of the last 1000 events are refused: {}", dead[0].answer));
    } else if connection.policy.dead_letter {
        match connection.dead_letters.condemn(&connection.cx.name, dead, poison).await {
            Ok(ended) => {
                unparked.poison = ended.events;
                unparked.add(ended);
            }
            Err(refused) => unparked.stays = Some(refused.to_string()),
        }
    } else {
        let ends = poison.into_iter().map(|number| (number, End::Poison)).collect();
        match connection.dead_letters.end(&connection.cx.name, ends).await {
            Ok(ended) => {
                unparked.poison = ended.events;
                unparked.add(ended);
            }
            Err(error) => unparked.stays = Some(error.to_string()),
        }
    }
}

fn seqs(batch: &WriteBatch) -> Vec<u64> {
    batch.events().map(|event| event.seq()).collect()
}

/// A dead letter as a batch of one event with the same id.
pub fn batch_of(dead_letter: &DeadLetter) -> WriteBatch {
    let dead_letter = &dead_letter.content;
    let mut bytes = BytesMut::with_capacity(dead_letter.body.len() + 1);
    bytes.put_slice(&dead_letter.body);
    bytes.put_u8(b'\n');
    let record = Record {
        stream: StreamId(0),
        first_seq: dead_letter.seq.unwrap_or(0),
        stream_first: 0,
        received_at: dead_letter.received_at,
        lines: Lines {
            ends: vec![bytes.len() as u32],
            bytes: bytes.freeze(),
            origins: Origins::of(dead_letter.seed, [dead_letter.ordinal]),
        },
    };
    WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events: 0..1 }] }
}
