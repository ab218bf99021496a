//! Indexer acknowledgements: writes wait for theirs, and one request asks for all of them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Uri};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use super::SplunkHec;
use super::answer::HecAnswer;
use crate::component::Failure;

/// How often Splunk is asked at least while a write lasts.
const LEAST_ASKED: u32 = 4;

pub struct Acks {
    uri: Uri,
    interval: Duration,
    inner: Mutex<Inner>,
    /// Whoever holds it asks.
    turn: tokio::sync::Mutex<()>,
}

/// As many numbers as there are requests of writes on their way.
#[derive(Default)]
struct Inner {
    waiting: BTreeSet<u64>,
    /// Splunk forgets what it has said, so it is kept until the write hears of it.
    acked: BTreeSet<u64>,
    asked: Option<Instant>,
}

/// Forgets the numbers of a write that ends or is given up.
struct Waiting<'a> {
    acks: &'a Acks,
    ids: &'a [u64],
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut inner = self.acks.lock();
        for id in self.ids {
            inner.waiting.remove(id);
            inner.acked.remove(id);
        }
    }
}

impl Acks {
    /// However rarely Splunk is to be asked, it is asked a few times before a write ends.
    pub fn new(uri: Uri, interval: Duration, patience: Duration) -> Acks {
        let interval = interval.min(patience / LEAST_ASKED);
        Acks { uri, interval, inner: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    /// Whether Splunk acknowledges at all.
    pub async fn look(&self, splunk: &SplunkHec) -> Result<(), Failure> {
        match self.ask(splunk, &[]).await {
            // To ask for nothing may be wrong in itself.
            Ok(_) | Err(Failure::Poison { .. }) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Waits until an indexer has everything behind these numbers for good, or for as long as it may; gives those that
    /// were not acknowledged, with the reason if there is another than the time.
    pub async fn wait(&self, splunk: &SplunkHec, ids: &[u64], deadline: Instant) -> (BTreeSet<u64>, Option<Failure>) {
        self.lock().waiting.extend(ids);
        let _waiting = Waiting { acks: self, ids };
        let asking = async {
            while !self.has_all(ids) {
                sleep(self.interval).await;
                let _turn = self.turn.lock().await;
                if self.has_all(ids) || self.lock().asked.is_some_and(|asked| asked.elapsed() < self.interval / 2) {
                    continue;
                }
                let all: Vec<u64> = self.lock().waiting.iter().copied().collect();
                match self.ask(splunk, &all).await {
                    Ok(acked) => self.lock().acked.extend(acked),
                    // Who does not answer now may before the deadline.
                    Err(Failure::Transient { .. }) => {}
                    // The events are with Splunk: a question that it does not understand says nothing about them.
                    Err(failure) => {
                        let answer = format!("Splunk did not answer the acknowledgement query: {}", failure.answer());
                        return Some(Failure::Configuration { answer });
                    }
                }
                self.lock().asked = Some(Instant::now());
            }
            None
        };
        let failure = timeout_at(deadline, asking).await.unwrap_or(None);
        let inner = self.lock();
        (ids.iter().copied().filter(|id| !inner.acked.contains(id)).collect(), failure)
    }

    fn has_all(&self, ids: &[u64]) -> bool {
        let inner = self.lock();
        ids.iter().all(|id| inner.acked.contains(id))
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

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
