//! Ids from message headers: written into events that do not already have them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Decoded, Decoder, Frames, Limits, Ordinals};
use crate::event::names::{ID, METADATA};
use crate::event::object::Rewrite;
use crate::event::{Batch, Id, Provenance, Raw};

/// The ids of one chunk's messages.
#[derive(Clone, Debug, Default)]
pub struct GivenIds {
    /// Offset of the message, its id, and how it is spelled.
    ids: Vec<(u64, Id, Range<usize>)>,
    text: String,
}

impl GivenIds {
    /// Takes the id of the message at an offset behind those before; what is no id is nobody's.
    pub fn push(&mut self, offset: u64, header: &[u8]) {
        let Ok(text) = std::str::from_utf8(header) else { return };
        let Some(id) = Id::parse(text) else { return };
        let start = self.text.len();
        self.text.push_str(text);
        self.ids.push((offset, id, start..self.text.len()));
    }

    /// A decoder that gives these ids to the events of the chunk.
    pub fn decoder(self, inner: &Arc<dyn Decoder>) -> Arc<dyn Decoder> {
        match self.ids.is_empty() {
            true => inner.clone(),
            false => Arc::new(Giving { inner: inner.clone(), given: self }),
        }
    }

    fn of(&self, offset: u64) -> Option<(Id, &str)> {
        let at = self.ids.binary_search_by_key(&offset, |(offset, ..)| *offset).ok()?;
        let (_, id, text) = &self.ids[at];
        Some((*id, &self.text[text.clone()]))
    }
}

struct Giving {
    inner: Arc<dyn Decoder>,
    given: GivenIds,
}

impl Decoder for Giving {
    fn decode(
        &self,
        chunk: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded {
        let mut decoded = self.inner.decode(chunk, frames, ordinals, provenance, limits, split);
        self.given.apply(&mut decoded.batch);
        decoded
    }
}

impl GivenIds {
    /// An event that has the id already stays as it came, and so does everything that Weir has sent after `normalize`.
    fn apply(&self, batch: &mut Batch) {
        let differs = |event: &usize| {
            let Some((id, _)) = self.of(batch.ordinal(*event)) else { return false };
            let own = Raw::valid(&batch.input()[batch.span(*event)]).get("id").and_then(|own| own.as_str());
            own.and_then(|own| Id::parse(&own)) != Some(id)
        };
        let events: Vec<usize> = (0..batch.len()).filter(differs).collect();
        batch.split_some(events.iter().copied());
        let mut rewrite = Rewrite::default();
        for event in events {
            let Some((_, text)) = self.of(batch.ordinal(event)) else { continue };
            if let Some(own) = batch.get(event, ID).filter(|own| !own.is_null()) {
                rewrite.begin(batch.get(event, METADATA), "metadata");
                rewrite.set("source_id", own);
                let metadata = rewrite.finish().to_vec();
                batch.set_json(event, METADATA, &metadata);
            }
            batch.set_str(event, ID, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::event::Seed;
    use crate::units::Timestamp;

    const UUID: &str = "6f1f64a3-2b7e-4c92-8a5d-0d9a0d5c7e11";
    const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

    fn decoded(messages: &[(&str, &str)], split: bool) -> Vec<String> {
        let (mut chunk, mut frames, mut given) = (Vec::new(), Vec::new(), GivenIds::default());
        for (nth, (header, line)) in messages.iter().enumerate() {
            frames.push(chunk.len()..chunk.len() + line.len());
            chunk.extend_from_slice(line.as_bytes());
            given.push(10 + nth as u64, header.as_bytes());
        }
        let provenance = Provenance {
            source: "kafka".into(),
            seed: Seed([7; 16]),
            received_at: Timestamp(0),
            peer: None,
            stamp: None,
        };
        let decoder = given.decoder(&Arc::from(Codec::Json.decoder()));
        let ordinals = Ordinals::Given((10..10 + messages.len() as u64).collect());
        let limits = Limits { event_bytes: 1000, values: 1000 };
        let decoded = decoder.decode(chunk.into(), &Frames::At(frames), ordinals, Arc::new(provenance), &limits, split);
        assert_eq!(decoded.batch.len(), messages.len());
        let lines = decoded.batch.render();
        (0..messages.len()).map(|nth| String::from_utf8(lines.line(nth).to_vec()).expect("text")).collect()
    }

    #[test]
    fn the_id_of_the_header_is_written_where_the_event_has_none_or_another() {
        for split in [false, true] {
            let lines = decoded(
                &[
                    (UUID, r#"{"a": 1}"#),
                    (UUID, &format!(r#"{{ "id":"{}" , "n":1e400}}"#, UUID.to_uppercase())),
                    (ULID, r#"{"id":17,"metadata":{"k":1}}"#),
                    (ULID, &format!(r#"{{"id":"{UUID}"}}"#)),
                    ("", r#"{"id":"order-5"}"#),
                    ("order-5", r#"{"b":2}"#),
                ],
                split,
            );
            let expected = [
                format!(r#"{{"a": 1,"id":"{UUID}"}}"#),
                format!(r#"{{ "id":"{}" , "n":1e400}}"#, UUID.to_uppercase()),
                format!(r#"{{"id":"{ULID}","metadata":{{"k":1,"source_id":17}}}}"#),
                format!(r#"{{"id":"{ULID}","metadata":{{"source_id":"{UUID}"}}}}"#),
                r#"{"id":"order-5"}"#.to_owned(),
                r#"{"b":2}"#.to_owned(),
            ];
            assert_eq!(lines, expected);
        }
    }
}
