//! Carries one portion to the sink until each of its events has ended or is parked: written, or kept as a letter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::circuit_breaker::Pass;
use super::connection::SinkConnection;
use super::in_flight::{Flight, Next, Part, Poisoned, Refused, Trouble};
use crate::component::{AnySink, Failure, Written};
use crate::journal::dead_letters::NewDeadLetter;
use crate::telemetry::{ComponentKind, ComponentState};
use crate::units::Timestamp;

/// A partial failure that lasts so many attempts shows in health.
const SHOWN_AFTER: u32 = 3;

/// What a portion came to.
#[derive(Debug)]
pub struct Ended {
    pub delivered: u64,
    pub filtered: u64,
    pub dead_lettered: u64,
    /// Poison that was not to be kept.
    pub dropped: u64,
    /// By destination, with what it said last.
    pub parked: BTreeMap<String, (u64, String)>,
    pub duplicates: u64,
    pub bytes: u64,
    pub seq_end: u64,
    pub received_at: Timestamp,
    /// What the sink remembers with this portion written.
    pub memory: Option<Bytes>,
    pub took: Duration,
    pub pushed_back: bool,
}

/// Returns when every event has ended, or with `None` when the sink stops first: then none of them has.
pub async fn deliver(link: Arc<SinkConnection>, mut flight: Flight) -> Option<Ended> {
    let (began, mut pushed_back) = (Instant::now(), false);
    while !flight.is_done() {
        let pass = link.gate.enter().await?;
        let sink = match link.sink().await {
            Ok(sink) => sink,
            Err(failure) => {
                link.count(Trouble::Write(failure.clone()).class(), true);
                not_opened(&link, pass, failure);
                continue;
            }
        };
        let flooded = link.lock().window.is_flooded();
        let Some(mut part) = (if flooded { flight.take_one() } else { flight.take() }) else { break };
        part.attempts += 1;
        match link.attempt(&sink, &part).await {
            Ok(written) => {
                let mut inner = link.lock();
                if flooded {
                    inner.window.clear();
                }
                inner.window.note(false, part.cut.len() as u64);
                drop(inner);
                link.took(sample(&sink, &part, &[]));
                flight.wrote(&part, written);
                link.works(pass);
            }
            Err(trouble) => {
                pushed_back |= failed(&link, &sink, pass, &mut flight, part, trouble, flooded).await?;
            }
        }
    }
    finish(&link, flight, began.elapsed(), pushed_back).await
}

/// Opens the sink, however long it takes; `None` when it stops before.
pub async fn open(link: &SinkConnection) -> Option<Arc<dyn AnySink>> {
    loop {
        let pass = link.gate.enter().await?;
        match link.sink().await {
            Ok(sink) => {
                link.works(pass);
                return Some(sink);
            }
            Err(failure) => {
                link.count(Trouble::Write(failure.clone()).class(), true);
                not_opened(link, pass, failure);
            }
        }
    }
}

pub fn not_opened(link: &SinkConnection, pass: Pass<'_>, failure: Failure) {
    match failure {
        Failure::Transient { answer, after } => link.struggles(pass, &answer, after),
        Failure::Configuration { answer } | Failure::Poison { answer } | Failure::Suspect { answer } => {
            link.held(pass, &answer)
        }
        Failure::Some(_) => link.held(pass, "the sink reports failures of events while it is opened"),
    }
}

/// Does what a failed attempt asks for; tells whether the target pushed back, or `None` when the sink stops.
async fn failed(
    link: &SinkConnection,
    sink: &Arc<dyn AnySink>,
    pass: Pass<'_>,
    flight: &mut Flight,
    part: Part,
    trouble: Trouble,
    flooded: bool,
) -> Option<bool> {
    let class = trouble.class();
    if matches!(trouble, Trouble::Panicked(_)) {
        link.forget_sink();
    }
    let (poison_before, delivered_before) = (flight.poison.len(), flight.delivered);
    if let Trouble::Write(Failure::Some(failures)) = &trouble {
        link.took(sample(sink, &part, failures));
    }
    let next = flight.failed(part, trouble, link.policy.retry.attempts.map(Into::into));
    let next = match flight.take_refused() {
        refused if refused.is_empty() => next,
        refused => park_or_hold(link, sink, flight, refused, next, delivered_before),
    };
    link.count(class, next != Next::GoOn);
    let poison = flight.poison.len() - poison_before;
    let is_flooded = {
        let mut inner = link.lock();
        inner.window.note(false, flight.delivered - delivered_before);
        inner.window.note(true, poison as u64);
        inner.window.is_flooded()
    };
    if is_flooded && poison > 0 {
        let last = flight.poison.last().map_or(String::new(), |poisoned| poisoned.answer.clone());
        flight.reopen();
        link.held(pass, &format!("more than half of the last 1000 events are refused: {last}"));
        return Some(true);
    }
    match next {
        Next::GoOn => {
            if !flooded {
                link.works(pass);
            }
            Some(false)
        }
        Next::Hold { answer } => {
            link.held(pass, &answer);
            Some(true)
        }
        Next::Wait { answer, after, whole: true, .. } => {
            link.struggles(pass, &answer, after);
            Some(true)
        }
        Next::Wait { answer, after, attempts, whole: false } => {
            // The target works; only these events have to wait.
            drop(pass);
            link.ledger.error(&*answer);
            if attempts >= SHOWN_AFTER {
                link.say(&answer, ComponentState::Retrying);
            }
            let wait = link.policy.retry.wait_or_asked(after, attempts, link.chance());
            link.gate.pause(Instant::now() + wait).await.then_some(true)
        }
    }
}

/// Parks refused events if the fault is their destinations' own; if not, they are written again once the sink works.
fn park_or_hold(
    link: &SinkConnection,
    sink: &Arc<dyn AnySink>,
    flight: &mut Flight,
    refused: Vec<Refused>,
    next: Next,
    delivered_before: u64,
) -> Next {
    let destinations: Option<Vec<String>> = refused.iter().map(|event| sink.destination(event.cut.event(0))).collect();
    let others_taken = flight.delivered > delivered_before;
    if let Some(destinations) = destinations
        && link.may_park(&destinations, others_taken)
    {
        flight.parked.extend(destinations.into_iter().zip(refused));
        return next;
    }
    let answer = refused[0].answer.clone();
    flight.put_back_refused(refused);
    // What only waits is tried first.
    if next == Next::GoOn { Next::Hold { answer } } else { next }
}

/// Where the first and the last of the events go that did not fail; what they show is shown by those between, too.
pub fn sample(sink: &Arc<dyn AnySink>, part: &Part, failures: &[(usize, Failure)]) -> Vec<String> {
    let failed: BTreeSet<usize> = failures.iter().map(|(index, _)| *index).collect();
    let mut taken = (0..part.cut.len()).filter(|index| !failed.contains(index));
    let ends = [taken.next(), taken.next_back()];
    ends.into_iter().flatten().filter_map(|index| sink.destination(part.cut.event(index))).collect()
}

async fn finish(link: &SinkConnection, flight: Flight, took: Duration, pushed_back: bool) -> Option<Ended> {
    let poisoned = flight.poison.len() as u64;
    let (dead_lettered, dropped) = if link.policy.dead_letter { (poisoned, 0) } else { (0, poisoned) };
    let mut letters: Vec<NewDeadLetter> = Vec::new();
    if link.policy.dead_letter {
        letters.extend(flight.poison.iter().map(|poisoned| letter_of(&link.cx.name, poisoned, None)));
    }
    let mut parked: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for (destination, Refused { cut, answer, attempts }) in &flight.parked {
        let reason = "its destination does not take it";
        let event = Poisoned { cut: cut.clone(), reason, answer: answer.clone(), attempts: *attempts };
        letters.push(letter_of(&link.cx.name, &event, Some(destination.clone())));
        let lot = parked.entry(destination.clone()).or_default();
        *lot = (lot.0 + 1, answer.clone());
    }
    if !link.keep(letters).await {
        return None;
    }
    let portion = &flight.portion;
    let ended = flight.delivered + poisoned + flight.parked.len() as u64;
    debug_assert_eq!(ended, portion.cut.len() as u64, "each event ends in one place");
    Some(Ended {
        delivered: flight.delivered,
        filtered: portion.filtered,
        dead_lettered,
        dropped,
        parked,
        duplicates: flight.duplicates,
        bytes: flight.bytes,
        seq_end: portion.seq_end,
        received_at: portion.received_at,
        memory: link.lock().memory.as_ref().map(|(_, memory)| memory.clone()),
        took,
        pushed_back,
    })
}

/// An event as a letter: a dead one, or one that is parked.
pub fn letter_of(component: &str, poisoned: &Poisoned, parked: Option<String>) -> NewDeadLetter {
    let event = poisoned.cut.event(0);
    let (seed, ordinal) = event.record.lines.origin(event.index);
    NewDeadLetter {
        component: component.to_owned(),
        kind: ComponentKind::Sink,
        body: Bytes::copy_from_slice(event.line()),
        event_id: Some(event.id()),
        seed,
        ordinal,
        seq: Some(event.seq()),
        received_at: event.record.received_at,
        stamp: None,
        reason: poisoned.reason.to_owned(),
        answer: poisoned.answer.clone(),
        attempts: poisoned.attempts,
        origin: None,
        parked,
    }
}

/// Writes a part once, without patience: for the replay of a dead letter.
pub async fn once(link: &SinkConnection, part: Part) -> Result<Written, String> {
    if !link.gate.is_open() {
        return Err(format!("`{}` does not deliver at the moment", link.cx.name));
    }
    let pass = link.gate.enter().await.ok_or("the sink stops")?;
    let sink: Arc<dyn AnySink> = match link.sink().await {
        Ok(sink) => sink,
        Err(failure) => {
            let answer = failure.answer().to_owned();
            not_opened(link, pass, failure);
            return Err(answer);
        }
    };
    match link.attempt(&sink, &part).await {
        Ok(written) => {
            link.works(pass);
            Ok(written)
        }
        Err(trouble) => {
            link.count(trouble.class(), false);
            Err(trouble.to_string())
        }
    }
}
