//! Tries parked events again: those that are taken leave the queue, those that turn out to be poison become dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::connection::SinkConnection;
use super::cutter::Portion;
use super::deliver::{letter_of, sample};
use super::in_flight::{Flight, Next, Part, Trouble};
use super::parking::Due;
use crate::component::{RecordSlice, WriteBatch};
use crate::event::{Lines, Run};
use crate::journal::dead_letters::{DeadLetter, Number, Wanted};
use crate::journal::{Record, StreamId};

/// What became of parked events.
#[derive(Debug)]
pub struct Unparked {
    pub due: Due,
    pub delivered: u64,
    pub bytes: u64,
    pub duplicates: u64,
    pub dead_lettered: u64,
    /// Poison that was not to be kept.
    pub dropped: u64,
    pub was_empty: bool,
    /// How many there are still for the destination, where that was asked.
    pub left: Option<u64>,
    /// Why some of them stay, if they do.
    pub stays: Option<String>,
}

impl Unparked {
    fn new(due: Due) -> Unparked {
        let (delivered, bytes, duplicates, dead_lettered, dropped) = (0, 0, 0, 0, 0);
        Unparked {
            due,
            delivered,
            bytes,
            duplicates,
            dead_lettered,
            dropped,
            was_empty: false,
            left: None,
            stays: None,
        }
    }

    /// Events that are parked no longer.
    pub fn ended(&self) -> u64 {
        self.delivered + self.dead_lettered + self.dropped
    }
}

/// Tries the oldest events of a lot before `position`, or one of them.
pub async fn unpark(link: Arc<SinkConnection>, due: Due, position: u64, only: Option<Number>) -> Unparked {
    let mut unparked = Unparked::new(due);
    let letters = match only {
        Some(number) => {
            let has_passed = |letter: &DeadLetter| letter.letter.seq.is_none_or(|seq| seq < position);
            link.dead_letters.get(number).await.map(|letter| letter.into_iter().filter(has_passed).collect())
        }
        None => link.dead_letters.take(wanted(&link, &unparked.due, position)).await.map(|taken| {
            unparked.left = Some(taken.of);
            taken.letters
        }),
    };
    let letters: Vec<DeadLetter> = match letters {
        Ok(letters) => letters,
        Err(error) => {
            unparked.stays = Some(format!("the dead-letter queue cannot be read: {error}"));
            return unparked;
        }
    };
    let Some(first) = letters.first() else {
        unparked.was_empty = true;
        return unparked;
    };
    let received_at = first.letter.received_at;
    let cut = WriteBatch { slices: letters.iter().flat_map(|letter| cut_of(letter).slices).collect() };
    let mut flight = Flight::new(Portion { cut, filtered: 0, seq_end: 0, received_at });
    let mut open = try_all(&link, &mut flight, &mut unparked.stays).await;
    open.extend(seqs(&flight.rest()));
    (unparked.bytes, unparked.duplicates) = (flight.bytes, flight.duplicates);
    end(&link, flight, letters, open, &mut unparked).await;
    unparked.left = unparked.left.map(|left| left.saturating_sub(unparked.ended()));
    unparked
}

fn wanted(link: &SinkConnection, due: &Due, before: u64) -> Wanted {
    let batch = &link.policy.batch;
    Wanted {
        component: link.cx.name.to_string(),
        destination: due.destination.clone(),
        before,
        events: if due.is_probe { 1 } else { batch.events.get() },
        bytes: batch.bytes.to_usize(),
    }
}

/// Writes until each event is taken or refused, without patience: what else goes wrong ends it. Gives those refused.
async fn try_all(link: &SinkConnection, flight: &mut Flight, stays: &mut Option<String>) -> BTreeSet<u64> {
    let mut refused = BTreeSet::new();
    while !flight.is_done() {
        if !link.gate.is_open() {
            stays.get_or_insert_with(|| format!("`{}` does not deliver at the moment", link.cx.name));
            break;
        }
        let Some(pass) = link.gate.enter().await else { break };
        let sink = match link.sink().await {
            Ok(sink) => sink,
            Err(failure) => {
                *stays = Some(failure.answer().to_owned());
                super::deliver::not_opened(link, pass, failure);
                break;
            }
        };
        let Some(mut part) = flight.take() else { break };
        part.attempts += 1;
        let trouble = match link.attempt(&sink, &part).await {
            Ok(written) => {
                link.took(sample(&sink, &part, &[]));
                flight.wrote(&part, written);
                link.works(pass);
                continue;
            }
            Err(trouble) => trouble,
        };
        if matches!(trouble, Trouble::Panicked(_)) {
            link.forget_sink();
        }
        link.count(trouble.class(), false);
        let next = flight.failed(part, trouble, None);
        for event in flight.take_refused() {
            refused.extend(seqs(&event.cut));
            *stays = Some(event.answer);
        }
        match next {
            Next::GoOn => link.works(pass),
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
    link: &SinkConnection,
    flight: Flight,
    letters: Vec<DeadLetter>,
    open: BTreeSet<u64>,
    unparked: &mut Unparked,
) {
    let attempts: BTreeMap<u64, (Number, u32)> = letters
        .iter()
        .map(|letter| (letter.letter.seq.unwrap_or(0), (letter.number, letter.letter.attempts)))
        .collect();
    let (mut dead, mut poison) = (Vec::new(), Vec::new());
    for poisoned in &flight.poison {
        if let Some((number, before)) = attempts.get(&poisoned.cut.event(0).seq()) {
            let mut letter = letter_of(&link.cx.name, poisoned, None);
            letter.attempts += before;
            dead.push(letter);
            poison.push(*number);
        }
    }
    let has_ended =
        |letter: &&DeadLetter| !open.contains(&letter.letter.seq.unwrap_or(0)) && !poison.contains(&letter.number);
    let taken: Vec<Number> = letters.iter().filter(has_ended).map(|letter| letter.number).collect();
    let is_flooded = {
        let mut inner = link.lock();
        inner.window.note(false, taken.len() as u64);
        inner.window.note(true, poison.len() as u64);
        inner.window.is_flooded()
    };
    if !taken.is_empty() {
        // Whoever has dropped a letter meanwhile has counted it.
        match link.dead_letters.remove(taken).await {
            Ok(removed) => unparked.delivered = removed,
            Err(error) => unparked.stays = Some(format!("delivered, but not forgotten: {error}")),
        }
    }
    if poison.is_empty() {
        return;
    }
    if is_flooded {
        unparked.stays = Some(format!("more than half of the last 1000 events are refused: {}", dead[0].answer));
    } else if link.policy.dead_letter {
        match link.dead_letters.condemn(dead, poison).await {
            Ok(condemned) => unparked.dead_lettered = condemned,
            Err(refused) => unparked.stays = Some(refused.to_string()),
        }
    } else {
        match link.dead_letters.remove(poison).await {
            Ok(removed) => unparked.dropped = removed,
            Err(error) => unparked.stays = Some(error.to_string()),
        }
    }
}

fn seqs(cut: &WriteBatch) -> Vec<u64> {
    cut.events().map(|event| event.seq()).collect()
}

/// A letter as a cut of one event with the same id.
pub fn cut_of(letter: &DeadLetter) -> WriteBatch {
    let letter = &letter.letter;
    let mut bytes = BytesMut::with_capacity(letter.body.len() + 1);
    bytes.put_slice(&letter.body);
    bytes.put_u8(b'\n');
    let record = Record {
        stream: StreamId(0),
        first_seq: letter.seq.unwrap_or(0),
        stream_first: 0,
        received_at: letter.received_at,
        lines: Lines {
            ends: vec![bytes.len() as u32],
            bytes: bytes.freeze(),
            runs: vec![Run { seed: letter.seed, ordinals: vec![letter.ordinal] }],
        },
    };
    WriteBatch { slices: vec![RecordSlice { record: Arc::new(record), events: 0..1 }] }
}

/// A letter as a part to be written.
pub fn part_of(letter: &DeadLetter) -> Part {
    Part::new(cut_of(letter))
}
