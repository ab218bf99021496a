//! Indexer acknowledgements: writes wait for theirs, and one request asks for all of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Uri};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::SplunkHec;
use super::answer::HecAnswer;
use super::progress::acked;
use crate::component::Failure;

/// How often Splunk is asked at least while a write lasts.
const LEAST_ASKED: u32 = 4;

pub struct Acks {
    uri: Uri,
    interval: Duration,
    inner: Known,
    /// Whoever holds it asks.
    turn: tokio::sync::Mutex<()>,
}

/// What is known of the numbers of one channel.
pub type Known = Arc<Mutex<Inner>>;

/// As many numbers as there are requests of writes on their way.
#[derive(Default)]
pub struct Inner {
    /// How often Splunk has begun to count anew.
    count: u64,
    /// The highest number of this count.
    highest: Option<u64>,
    /// Numbers of this count.
    waiting: BTreeSet<u64>,
    /// Counts and numbers. Splunk forgets what it has said, so it is kept until the write hears of it.
    acked: BTreeSet<(u64, u64)>,
    asked: Option<Instant>,
}

/// What was known when a request was sent.
#[derive(Clone, Copy)]
pub struct Before {
    count: u64,
    highest: Option<u64>,
}

/// The number of a request whose acknowledgement is waited for; it is forgotten when this is dropped.
pub struct Number {
    count: u64,
    id: u64,
    inner: Known,
}

impl Number {
    pub fn is_acked(&self) -> bool {
        lock(&self.inner).acked.contains(&(self.count, self.id))
    }

    /// Whether Splunk has forgotten it.
    pub fn is_lost(&self) -> bool {
        lock(&self.inner).count != self.count && !self.is_acked()
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        let mut inner = lock(&self.inner);
        inner.acked.remove(&(self.count, self.id));
        if inner.count == self.count {
            inner.waiting.remove(&self.id);
        }
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Acks {
    /// However rarely Splunk is to be asked, it is asked a few times before a write ends.
    pub fn new(uri: Uri, interval: Duration, patience: Duration, known: Known) -> Acks {
        let interval = interval.min(patience / LEAST_ASKED);
        Acks { uri, interval, inner: known, turn: tokio::sync::Mutex::default() }
    }

    /// What is known of the numbers on this channel, for who asks on.
    pub fn known(&self) -> Known {
        self.inner.clone()
    }

    /// Whether Splunk acknowledges at all.
    pub async fn look(&self, splunk: &SplunkHec) -> Result<(), Failure> {
        match self.ask(splunk, &[]).await {
            // To ask for nothing may be wrong in itself.
            Ok(_) | Err(Failure::Poison { .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// What to remember while a request is on its way.
    pub fn before(&self) -> Before {
        let inner = lock(&self.inner);
        Before { count: inner.count, highest: inner.highest }
    }

    /// Enters the number that a request was given. Splunk counts up, so one that is not above what was known when the request
    /// was sent, or that another request waits for, comes from a Splunk that has started again. It has forgotten what it
    /// owed, and the same numbers are now those of other events.
    pub fn enter(&self, before: Before, id: u64) -> Number {
        let mut inner = lock(&self.inner);
        let number = |count| Number { count, id, inner: self.inner.clone() };
        if before.count != inner.count {
            // It has started again since, and whether before or after this request cannot be known.
            return number(before.count);
        }
        if before.highest >= Some(id) || inner.waiting.contains(&id) {
            inner.count += 1;
            inner.highest = None;
            inner.waiting.clear();
        }
        inner.highest = inner.highest.max(Some(id));
        inner.waiting.insert(id);
        number(inner.count)
    }

    /// Waits until an indexer has every event behind these numbers for good, or for as long as it may. An event may be behind
    /// several. Tells why not, if there is another reason than the time.
    pub async fn wait(
        &self,
        splunk: &SplunkHec,
        waiting: &[(Number, Vec<usize>)],
        deadline: Instant,
    ) -> Option<Failure> {
        let asking = async {
            while !is_decided(waiting) {
                sleep(self.interval).await;
                let _turn = self.turn.lock().await;
                if is_decided(waiting)
                    || lock(&self.inner).asked.is_some_and(|asked| asked.elapsed() < self.interval / 2)
                {
                    continue;
                }
                if let Err(failure) = self.ask_for_all(splunk).await {
                    return Some(failure);
                }
            }
            let is_lost = lost(waiting).next().is_some();
            is_lost.then(|| {
                Failure::transient("Splunk has started again before it acknowledged the events; they are sent again")
            })
        };
        timeout_at(deadline, asking).await.unwrap_or(None)
    }

    /// Asks once for what has waited since an earlier write.
    pub async fn ask_again(&self, splunk: &SplunkHec, deadline: Instant) {
        let asking = async {
            let _turn = self.turn.lock().await;
            self.ask_for_all(splunk).await
        };
        // Whoever waits hears of a failure.
        drop(timeout_at(deadline, asking).await);
    }

    /// The failure is one that says nothing about the events.
    async fn ask_for_all(&self, splunk: &SplunkHec) -> Result<(), Failure> {
        let (count, all) = {
            let inner = lock(&self.inner);
            (inner.count, inner.waiting.iter().copied().collect::<Vec<u64>>())
        };
        match self.ask(splunk, &all).await {
            Ok(acked) => {
                let mut inner = lock(&self.inner);
                // Of a count that has ended meanwhile nothing is known.
                if inner.count == count {
                    inner.acked.extend(acked.into_iter().map(|id| (count, id)));
                }
            }
            // Who does not answer now may before the deadline.
            Err(Failure::Transient { .. }) => {}
            // The events are with Splunk: a question that it does not understand says nothing about them.
            Err(failure) => {
                let answer = format!("Splunk did not answer the acknowledgement query: {}", failure.answer());
                return Err(Failure::Configuration { answer });
            }
        }
        lock(&self.inner).asked = Some(Instant::now());
        Ok(())
    }

    async fn ask(&self, splunk: &SplunkHec, ids: &[u64]) -> Result<Vec<u64>, Failure> {
        let body = Bytes::from(json!({ "acks": ids }).to_string());
        let answer = splunk.ask(Method::POST, &self.uri, body, None).await?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        // An answer about acknowledgements has no code.
        let Some(acks) = body["acks"].as_object().filter(|_| answer.status.is_success()) else {
            return HecAnswer::read(&answer).classify(&answer).map(|()| Vec::new());
        };
        let acked = acks.iter().filter(|(_, acked)| **acked == true).filter_map(|(id, _)| id.parse().ok());
        Ok(acked.filter(|id| ids.contains(id)).collect())
    }
}

/// Whether nothing more can become of any event.
fn is_decided(waiting: &[(Number, Vec<usize>)]) -> bool {
    let open = waiting.iter().filter(|(number, _)| !number.is_acked() && !number.is_lost());
    let mut open = open.flat_map(|(_, events)| events).peekable();
    open.peek().is_none() || {
        let acked = acked(waiting);
        open.all(|nth| acked.contains(nth))
    }
}

/// Events that no request has brought for good, and none will.
fn lost(waiting: &[(Number, Vec<usize>)]) -> impl Iterator<Item = usize> {
    let acked = acked(waiting);
    let lost = waiting.iter().filter(|(number, _)| number.is_lost());
    lost.flat_map(|(_, events)| events).copied().filter(move |nth| !acked.contains(nth))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Acks {
        /// What an answer would say of a number.
        pub fn confirm(&self, id: u64) {
            let mut inner = lock(&self.inner);
            let count = inner.count;
            inner.acked.insert((count, id));
        }
    }

    fn acks() -> Acks {
        Acks::new(Uri::from_static("/"), Duration::from_secs(1), Duration::from_secs(9), Known::default())
    }

    fn are_lost(numbers: &[Number]) -> Vec<bool> {
        numbers.iter().map(Number::is_lost).collect()
    }

    #[test]
    fn answers_may_come_in_any_order_while_splunk_counts_on() {
        let acks = acks();
        let before: Vec<Before> = (0..4).map(|_| acks.before()).collect();
        let numbers: Vec<Number> = [2, 0, 3, 1].map(|id| acks.enter(before[0], id)).into();
        assert_eq!(are_lost(&numbers), [false; 4]);
        let next = acks.enter(acks.before(), 4);
        assert_eq!((are_lost(&numbers), next.is_lost()), (vec![false; 4], false));
        drop(numbers);
        assert_eq!(lock(&acks.inner).waiting.len(), 1);
    }

    #[test]
    fn a_number_that_is_not_above_the_known_ones_is_of_a_new_count() {
        for (known, new) in [(5, 0), (5, 5), (0, 0)] {
            let acks = acks();
            let old = acks.enter(acks.before(), known);
            let (sent_before, number) = (acks.before(), acks.enter(acks.before(), new));
            assert_eq!((old.is_lost(), number.is_lost()), (true, false), "{new} after {known}");
            assert!(acks.enter(sent_before, 9).is_lost(), "its count is not known");
        }
    }

    #[test]
    fn of_two_requests_with_one_number_the_first_is_of_before() {
        let acks = acks();
        let before = acks.before();
        let (old, new) = (acks.enter(before, 0), acks.enter(before, 0));
        assert_eq!((old.is_lost(), new.is_lost()), (true, false));
        lock(&acks.inner).acked.insert((new.count, 0));
        assert_eq!((old.is_acked(), new.is_acked()), (false, true));
        drop((old, new));
        assert!(lock(&acks.inner).waiting.is_empty() && lock(&acks.inner).acked.is_empty());
    }
}
