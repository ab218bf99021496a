//! What live streams show: some streams of the journal, as far as the sinks that read them take their events.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::event::Raw;
use crate::journal::StreamId;
use crate::query::Query;
use crate::telemetry::panics;

#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// For each stream the queries of which one has to match; none where every event is taken.
    taken: BTreeMap<StreamId, Vec<Arc<Query>>>,
    /// Whether the place that the API reads takes these events and no others.
    pub is_read: bool,
}

impl Shown {
    /// Nothing yet.
    pub fn new(is_read: bool) -> Shown {
        Shown { is_read, ..Shown::default() }
    }

    /// Every event of these streams.
    pub fn all(streams: impl IntoIterator<Item = StreamId>) -> Shown {
        Shown { taken: streams.into_iter().map(|stream| (stream, Vec::new())).collect(), is_read: false }
    }

    /// Adds what a sink takes of these streams.
    pub fn add(&mut self, streams: impl IntoIterator<Item = StreamId>, filter: Option<&Arc<Query>>) {
        for stream in streams {
            match (self.taken.get_mut(&stream), filter) {
                (None, filter) => drop(self.taken.insert(stream, filter.into_iter().cloned().collect())),
                (Some(filters), None) => filters.clear(),
                // Another sink takes all of them.
                (Some(filters), Some(_)) if filters.is_empty() => {}
                (Some(filters), Some(filter)) => filters.push(filter.clone()),
            }
        }
    }

    pub fn streams(&self) -> Vec<StreamId> {
        self.taken.keys().copied().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Whether an event of a stream is shown. One over which a query panics is delivered, and shown too.
    pub fn shows(&self, stream: StreamId, line: &[u8]) -> bool {
        let Some(filters) = self.taken.get(&stream).filter(|filters| !filters.is_empty()) else { return true };
        let matches = |query: &Arc<Query>| panics::contain(|| query.matches_line(Raw::valid(line))).unwrap_or(true);
        filters.iter().any(matches)
    }
}

impl PartialEq for Shown {
    fn eq(&self, other: &Shown) -> bool {
        let texts = |shown: &Shown| -> Vec<(StreamId, Vec<String>)> {
            let texts = |filters: &[Arc<Query>]| filters.iter().map(|query| query.text().to_owned()).collect();
            shown.taken.iter().map(|(stream, filters)| (*stream, texts(filters))).collect()
        };
        texts(self) == texts(other) && self.is_read == other.is_read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_shown_that_some_sink_takes() {
        let query = |text: &str| Arc::new(Query::parse(text).expect("a query"));
        let (one, two) = (StreamId(1), StreamId(2));
        let mut shown = Shown::default();
        shown.add([one, two], Some(&query("k:<5")));
        shown.add([one], Some(&query("k:>8")));
        let of = |shown: &Shown, stream| {
            let is_shown = |k: &u32| shown.shows(stream, format!("{{\"k\":{k}}}").as_bytes());
            (0..10).filter(is_shown).collect::<Vec<u32>>()
        };
        assert_eq!((of(&shown, one), of(&shown, two)), (vec![0, 1, 2, 3, 4, 9], vec![0, 1, 2, 3, 4]));
        let before = shown.clone();
        shown.add([two], None);
        shown.add([two], Some(&query("k:1")));
        assert_eq!(of(&shown, two).len(), 10);
        assert!(shown != before && before == before.clone());
        assert_eq!(shown.streams(), [one, two]);
    }
}
