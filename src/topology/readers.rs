//! Readers of the API: which sink's target is queried, and when accepted events are visible there.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::agent::Agent;
use crate::component::{Readable, Reader};
use crate::stages::input_name;

/// How often a waiting request checks whether its event is visible.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The readers of the running sinks.
#[derive(Default)]
pub struct Readers(RwLock<BTreeMap<Arc<str>, Place>>);

type Place = (Readable, Arc<dyn Reader>);

impl Readers {
    /// Notes what can be read of a sink that was started.
    pub fn set(&self, sink: &Arc<str>, readable: Readable, reader: Option<Arc<dyn Reader>>) {
        let mut readers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match reader {
            Some(reader) => drop(readers.insert(sink.clone(), (readable, reader))),
            None => drop(readers.remove(sink)),
        }
    }

    /// The reader of this sink, or of the only one that is read without being named.
    fn get(&self, sink: Option<&str>) -> Option<(Arc<str>, Arc<dyn Reader>)> {
        let readers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = match sink {
            Some(sink) => readers.get_key_value(sink),
            None => {
                let mut read = readers.iter().filter(|(_, (readable, _))| *readable == Readable::ByDefault);
                read.next().filter(|_| read.next().is_none())
            }
        };
        found.map(|(name, (_, reader))| (name.clone(), reader.clone()))
    }
}

impl Agent {
    /// The place that the API reads.
    pub fn reader(&self) -> Option<Arc<dyn Reader>> {
        self.readers.get(self.settings.api.read.sink.as_deref()).map(|(_, reader)| reader)
    }

    /// Resolves when every stage has taken what is in the journal now, and what stages before it gave.
    async fn until_taken_by_stages(&self) {
        let journal = &self.context.journal;
        let stages: Vec<Arc<str>> =
            self.running.lock().await.stages.keys().map(|name| input_name(name).into()).collect();
        for _ in 0..stages.len() {
            let newest = journal.stats().synced_seq;
            let waits = |name| {
                let info = journal.cursor_info(name);
                info.is_some_and(|cursor| cursor.settled < newest && cursor.waiting_events > 0)
            };
            while stages.iter().any(waits) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Resolves when everything that is in the journal now can be read.
    pub async fn until_readable(&self) {
        let Some((sink, _)) = self.readers.get(self.settings.api.read.sink.as_deref()) else { return };
        let journal = &self.context.journal;
        self.until_taken_by_stages().await;
        let newest = journal.stats().synced_seq;
        // As long as this is held, sinks gather no larger batches.
        let hurry = journal.delivered(newest, &[]);
        while journal.cursor_info(&sink).is_some_and(|cursor| cursor.settled < newest && cursor.waiting_events > 0) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        drop(hurry);
    }
}
