//! Tests of panics in decoders and transforms: each costs only the text that caused it.

use std::sync::Arc;

use super::*;
use crate::codec::Codec;
use crate::component::{AnyTransform, Failure, Outputs, Wait};
use crate::event::{Provenance, Seed};
use crate::telemetry::{ComponentKind, ComponentMetrics};
use crate::topology::flow::{Beyond, Node, Port};

const LIMITS: Limits = Limits { event_bytes: 1 << 20, values: 100_000 };

/// Decodes JSON, and panics where a text has `panic` in it.
struct Fragile;

impl Decoder for Fragile {
    fn decode(
        &self,
        chunk: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded {
        assert!(!chunk.windows(5).any(|window| window == b"panic"), "no good text");
        Codec::Json.decoder().decode(chunk, frames, ordinals, provenance, limits, split)
    }
}

/// Breaks what it passes on where an event has `poison` in it, so that rendering panics behind it.
struct Corrupting;

impl AnyTransform for Corrupting {
    fn type_name(&self) -> &'static str {
        "corrupting"
    }
    fn outputs(&self) -> Vec<String> {
        Vec::new()
    }
    fn needs_fields(&self) -> bool {
        false
    }
    fn redact_text(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn apply(&self, mut batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        let poisoned = |n| String::from_utf8_lossy(&batch.input()[batch.span(n)]).contains("poison");
        if (0..batch.len()).any(poisoned) {
            batch = Batch::new(Bytes::new(), batch.provenance.clone());
            batch.push_validated(0..10, 0);
        }
        out.emit(batch);
        Ok(())
    }
}

fn flow() -> Flow {
    let node = Node {
        name: "t".into(),
        transform: Arc::new(Corrupting),
        metrics: Arc::new(ComponentMetrics::new("t".into(), ComponentKind::Transform, "corrupting")),
        ports: vec![Port { stream: Some(crate::journal::StreamId(1)), ..Port::default() }],
        input: None,
    };
    Flow::new(vec![node], vec![Port { next: vec![0], ..Port::default() }], Beyond::default())
}

fn job(text: &str, frames: Frames, ordinals: Ordinals, on_bad: OnBad) -> Job {
    let provenance =
        Provenance { source: "s".into(), seed: Seed::default(), received_at: Timestamp(0), peer: None, stamp: None };
    Job {
        chunks: vec![Chunk { bytes: Bytes::copy_from_slice(text.as_bytes()), frames, ordinals }],
        decoder: Arc::new(Fragile),
        provenance: Arc::new(provenance),
        marks: Vec::new(),
        on_bad,
        wait: Wait::Journal,
        key: None,
        permit: None,
        origin: None,
    }
}

/// The lines that are journalled, and index, ordinal and text of what is refused.
fn outcome(job: &Job) -> (Vec<String>, Vec<(u64, u64, String)>) {
    let work = process(&flow(), job, &LIMITS).unwrap_or_else(|_| panic!("something is taken"));
    let mut lines = Vec::new();
    for (_, entry) in &work.result.entries {
        lines.extend((0..entry.len()).map(|n| String::from_utf8(entry.line(n).to_vec()).unwrap()));
    }
    let counts = &work.counts;
    assert_eq!(counts.received, counts.entered + counts.refused + counts.dead_lettered);
    assert_eq!((counts.entered, work.accepted), (lines.len() as u64, lines.len() as u64));
    assert_eq!(work.result.deltas[0].entered, counts.entered, "what the transform saw and lost is not counted");
    assert!(work.refused.iter().all(|refusal| !refusal.reason.is_empty()));
    let text = |refusal: &Refusal| String::from_utf8(refusal.text.to_vec()).unwrap();
    (lines, work.refused.iter().map(|refusal| (refusal.index, refusal.offset, text(refusal))).collect())
}

#[test]
fn a_line_that_panics_in_its_decoder_costs_itself() {
    let text = "{\"n\":1}\nbad panic\n{\"n\":2}\nbad\n{\"n\":3}\n";
    let (lines, refused) = outcome(&job(text, Frames::Lines, Ordinals::Offset(100), OnBad::DeadLetter));
    assert_eq!(lines, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
    assert_eq!(refused, [(1, 108, "bad panic".into()), (3, 126, "bad".into())]);
}

#[test]
fn a_datagram_that_panics_in_its_decoder_costs_itself() {
    let frames = Frames::At(vec![0..7, 7..12, 12..19]);
    let (lines, refused) = outcome(&job("{\"n\":1}panic{\"n\":2}", frames, Ordinals::Count(40), OnBad::DeadLetter));
    assert_eq!(lines, [r#"{"n":1}"#, r#"{"n":2}"#]);
    assert_eq!(refused, [(1, 41, "panic".into())]);
}

#[test]
fn a_line_of_a_document_that_panics_costs_itself_and_values_may_span_the_others() {
    let text = "{\"n\":\n1}\n[{\"panic\":1}]\n[{\"n\":2},\n{\"n\":3}]\n\"panic\"\n{\"n\":4}";
    let (lines, refused) = outcome(&job(text, Frames::Document, Ordinals::Count(0), OnBad::Refuse));
    assert_eq!(lines, ["{\"n\": 1}", r#"{"n":2}"#, r#"{"n":3}"#, r#"{"n":4}"#]);
    assert_eq!(refused, [(0, 0, "[{\"panic\":1}]".into()), (1, 0, "\"panic\"".into())]);
}

#[test]
fn a_document_full_of_panics_is_refused_from_the_last_that_is_told_apart_on() {
    let text = format!("{{\"n\":1}}\n{}{{\"n\":2}}", "panic\n".repeat(1000));
    let (lines, refused) = outcome(&job(&text, Frames::Document, Ordinals::Count(0), OnBad::Refuse));
    assert_eq!((lines.len(), refused.len()), (1, MAX_BLAMED_LINES + 1));
    assert!(refused[MAX_BLAMED_LINES].2.starts_with("panic"));
}

#[test]
fn an_event_that_cannot_be_rendered_behind_a_transform_costs_itself() {
    let text = "{\"n\":1}\n{\"poison\":1}\n{\"n\":2}\n";
    let (lines, refused) = outcome(&job(text, Frames::Lines, Ordinals::Offset(0), OnBad::DeadLetter));
    assert_eq!(lines, [r#"{"n":1}"#, r#"{"n":2}"#]);
    assert_eq!(refused, [(1, 8, "{\"poison\":1}".into())]);
}

#[test]
fn a_job_that_takes_all_or_nothing_takes_nothing_beside_a_panic() {
    for pill in ["panic", "{\"poison\":1}"] {
        let text = format!("{{\"n\":1}}\n{pill}\n");
        let job = job(&text, Frames::Document, Ordinals::Count(0), OnBad::RejectAll);
        let refused = process(&flow(), &job, &LIMITS).err().expect("nothing is taken");
        assert_eq!(refused.len(), 1);
    }
}
