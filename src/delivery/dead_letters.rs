//! Dead letters on their way back to the sink: replayed by an operator, or parked and due.

use tokio::time::Instant;

use super::in_flight::Unsent;
use super::parking::{At, Due};
use super::unpark::{self, Unparked};
use super::{Done, Feed, Loop, Replay, Reply, TICK, add, add_discarded, deliver, saved};
use crate::journal::dead_letters::Number;
use crate::telemetry::{Counts, ParkedEnds};

/// What has ended although no portion has: dead letters that were sent again.
#[derive(Default)]
pub struct Again {
    pub delivered: u64,
    pub bytes: u64,
    pub duplicates: u64,
    /// Taken by the target and not kept.
    pub discarded: u64,
    /// Of these, those whose id the target has with other content.
    pub conflicts: u64,
    /// How all parked events have ended so far, if some ended now.
    pub parked: Option<ParkedEnds>,
}

impl Again {
    pub fn is_any(&self) -> bool {
        self.delivered > 0 || self.discarded > 0 || self.parked.is_some()
    }
}

impl<F: Feed> Loop<F> {
    /// Takes up what is parked, and brings the accounting in line with it. `false` when the sink stops before.
    pub(super) async fn take_up(&mut self, position: u64, settled: u64) -> bool {
        let Some(resumed) = self.connection.resume(position, settled).await else { return false };
        let parked: u64 = resumed.lots.iter().map(|lot| lot.dead_letters).sum();
        self.connection.metrics.update(|counts| {
            self.ends_saved = counts.parked_ends;
            counts.end_parked(resumed.ends);
            // Dead letters that the disk has lost.
            add(&mut counts.dropped, "damage", counts.parked.saturating_sub(parked + resumed.come_again));
            counts.parked = parked;
            counts.waiting = saved::waiting(&self.feed, self.covered) + parked;
        });
        self.connection.lock().parking.resume(resumed.lots, Instant::now());
        true
    }

    pub(super) fn may_unpark(&self) -> bool {
        self.may_replay() && !self.stopping && self.connection.breaker.is_closed()
    }

    /// Writes that have ended, and only wait for room in the queue, do not keep dead letters from making it.
    pub(super) fn may_replay(&self) -> bool {
        self.opened && !self.unparking && self.tasks.len() < self.concurrency.limit() + self.connection.stuck()
    }

    pub(super) fn replay(&mut self, Replay { dead_letter, reply }: Replay) {
        if let Some(destination) = &dead_letter.content.parked {
            let due =
                Due { destination: destination.clone(), is_probe: true, additions: u64::MAX, refused_at: u64::MAX };
            return self.unpark(due, Some((dead_letter.number, reply)));
        }
        let connection = self.connection.clone();
        self.tasks.spawn(async move {
            let answer = deliver::once(&connection, Unsent::new(unpark::batch_of(&dead_letter))).await;
            Done::Replayed(answer, reply)
        });
    }

    pub(super) fn start_unparking(&mut self) {
        let now = Instant::now();
        let due = self.connection.lock().parking.due(now);
        if let Some(due) = due.filter(|_| self.may_unpark() && self.rate.not_before(now).is_none()) {
            self.unpark(due, None);
        }
    }

    pub(super) fn unpark(&mut self, due: Due, only: Option<(Number, Reply)>) {
        (self.unparking, self.had_their_turn) = (true, true);
        let (connection, position) = (self.connection.clone(), self.feed.saved_position());
        let (number, reply) = only.unzip();
        self.tasks.spawn(async move { Done::Unparked(unpark::unpark(connection, due, position, number).await, reply) });
    }

    pub(super) fn unparked(&mut self, unparked: Unparked, reply: Option<Reply>) {
        self.unparking = false;
        self.rate.spend(unparked.ended as usize, Instant::now());
        let (destination, now) = (&unparked.due.destination, Instant::now());
        let (chance, retry) = (self.connection.chance(), &self.connection.policy.retry);
        let mut inner = self.connection.lock();
        if let Some(left) = unparked.left {
            inner.parking.count(&unparked.due, left + unparked.ended);
        }
        match &unparked.stays {
            _ if unparked.was_empty => inner.parking.found_empty(&unparked.due),
            _ if unparked.not_yet => inner.parking.not_yet(destination, now + TICK),
            None => inner.parking.ended(destination, unparked.ended, now),
            Some(answer) => {
                inner.parking.ended(destination, unparked.ended, now);
                let at = At { now, evidence: inner.evidence.now() };
                inner.parking.refused(destination, answer, retry, chance, at);
            }
        }
        drop(inner);
        let (bytes, duplicates) = (unparked.bytes, unparked.duplicates);
        self.settle(Again { bytes, duplicates, parked: unparked.ends, ..Again::default() });
        self.connection.show_parked();
        if let Some(reply) = reply {
            #[expect(clippy::let_underscore_must_use, reason = "who asked may have gone")]
            let _ = reply.send(match unparked.stays {
                None if unparked.not_yet => Err("its batch is still being delivered; try again after that".into()),
                None if unparked.poison > 0 => Err("refused by the target".into()),
                None => Ok(()),
                Some(answer) => Err(answer),
            });
        }
    }
}

impl Again {
    pub fn enter(&self, counts: &mut Counts) {
        counts.delivered += self.delivered;
        counts.bytes_delivered += self.bytes;
        counts.duplicates += self.duplicates;
        add_discarded(counts, self.discarded, self.conflicts);
        if let Some(ends) = self.parked {
            counts.end_parked(ends);
        }
    }
}
