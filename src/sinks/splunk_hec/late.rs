//! Requests whose acknowledgement has not come in time: it still counts when their events are sent again.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::acks::Number;
use crate::component::WriteBatch;

/// Requests that are remembered; the oldest are forgotten first.
const MOST: usize = 64;

#[derive(Default)]
pub struct Late(Mutex<Vec<(Number, Vec<u64>)>>);

impl Late {
    /// What waits of requests with events of this batch, with their places in it.
    pub fn take(&self, batch: &WriteBatch) -> Vec<(Number, Vec<usize>)> {
        let mut late = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if late.is_empty() {
            return Vec::new();
        }
        let places: BTreeMap<u64, usize> = batch.events().enumerate().map(|(nth, event)| (event.seq(), nth)).collect();
        let (mut taken, mut rest) = (Vec::new(), Vec::new());
        for (number, seqs) in late.drain(..) {
            let events: Vec<usize> = seqs.iter().filter_map(|seq| places.get(seq).copied()).collect();
            match events.is_empty() {
                true => rest.push((number, seqs)),
                false => taken.push((number, events)),
            }
        }
        *late = rest;
        taken
    }

    /// Remembers requests with those of their events, by their places in the batch, that no request has brought for good.
    pub fn keep(&self, batch: &WriteBatch, waiting: Vec<(Number, Vec<usize>)>, is_open: impl Fn(usize) -> bool) {
        if waiting.is_empty() {
            return;
        }
        let seqs: Vec<u64> = batch.events().map(|event| event.seq()).collect();
        let mut late = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, events) in waiting.into_iter().filter(|(number, _)| !number.is_lost()) {
            let open: Vec<u64> = events.into_iter().filter(|nth| is_open(*nth)).map(|nth| seqs[nth]).collect();
            if !open.is_empty() {
                late.push((number, open));
            }
        }
        let over = late.len().saturating_sub(MOST);
        late.drain(..over);
    }
}
