//! Write batches composed of parts of others.

use std::sync::Arc;

use crate::component::{RecordSlice, WriteBatch};

impl WriteBatch {
    /// The events at these ascending indices.
    pub(super) fn select(&self, indices: &[usize]) -> WriteBatch {
        let mut chosen = WriteBatch::default();
        let mut indices = indices.iter().copied().peekable();
        let mut before = 0;
        for slice in &self.slices {
            while let Some(index) = indices.next_if(|index| *index < before + slice.events.len()) {
                let at = slice.events.start + index - before;
                chosen.push(RecordSlice { record: slice.record.clone(), events: at..at + 1 });
            }
            before += slice.events.len();
        }
        chosen
    }

    /// The events of several batches in the order of their `seq`.
    pub(super) fn merge(batches: impl Iterator<Item = WriteBatch>) -> WriteBatch {
        let mut slices: Vec<RecordSlice> = batches.flat_map(|batch| batch.slices).collect();
        slices.sort_by_key(|slice| slice.record.first_seq + slice.events.start as u64);
        let mut merged = WriteBatch::default();
        slices.into_iter().for_each(|slice| merged.push(slice));
        merged
    }

    /// Adds a slice, to the last one if it follows it.
    pub(super) fn push(&mut self, slice: RecordSlice) {
        match self.slices.last_mut() {
            Some(last) if Arc::ptr_eq(&last.record, &slice.record) && last.events.end == slice.events.start => {
                last.events.end = slice.events.end;
            }
            _ => self.slices.push(slice),
        }
    }

    /// Each event as a batch of its own.
    pub(super) fn singles(&self) -> impl Iterator<Item = WriteBatch> + '_ {
        self.slices.iter().flat_map(|slice| {
            slice
                .events
                .clone()
                .map(|at| WriteBatch { slices: vec![RecordSlice { record: slice.record.clone(), events: at..at + 1 }] })
        })
    }
}
