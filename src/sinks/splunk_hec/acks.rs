//! Acknowledgements of indexers: writes wait for theirs, and whoever asks asks for all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Uri};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::SplunkHec;
use super::verdict::Verdict;
use crate::component::Failure;

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

#[derive(Deserialize)]
struct Told {
    acks: BTreeMap<u64, bool>,
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
    pub fn new(uri: Uri, interval: Duration) -> Acks {
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

    /// Returns when an indexer has everything behind these numbers for good.
    pub async fn wait(&self, splunk: &SplunkHec, ids: &[u64], deadline: Instant) -> Result<(), Failure> {
        self.lock().waiting.extend(ids);
        let _waiting = Waiting { acks: self, ids };
        while !self.has_all(ids) {
            let next = Instant::now() + self.interval;
            if next > deadline {
                let answer = "the indexers have not acknowledged the events in time; they are sent again";
                return Err(Failure::transient(answer));
            }
            sleep_until(next).await;
            let _turn = self.turn.lock().await;
            if self.has_all(ids) || self.lock().asked.is_some_and(|asked| asked.elapsed() < self.interval / 2) {
                continue;
            }
            let all: Vec<u64> = self.lock().waiting.iter().copied().collect();
            match self.ask(splunk, &all).await {
                Ok(acked) => self.lock().acked.extend(acked),
                // Who does not answer now may before the deadline.
                Err(Failure::Transient { .. }) => {}
                Err(failure) => return Err(failure),
            }
            self.lock().asked = Some(Instant::now());
        }
        Ok(())
    }

    fn has_all(&self, ids: &[u64]) -> bool {
        let inner = self.lock();
        ids.iter().all(|id| inner.acked.contains(id))
    }

    async fn ask(&self, splunk: &SplunkHec, ids: &[u64]) -> Result<Vec<u64>, Failure> {
        let body = Bytes::from(json!({ "acks": ids }).to_string());
        let answer = splunk.ask(Method::POST, &self.uri, body, None).await?;
        Verdict::read(&answer).judge(&answer)?;
        let told: Told = serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::transient("the answer about acknowledgements is not what Splunk answers"))?;
        Ok(told.acks.into_iter().filter(|(id, acked)| *acked && ids.contains(id)).map(|(id, _)| id).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
