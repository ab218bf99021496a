//! Processes a job: from bytes to what is committed.
//!
//! A panic anywhere on the way costs the smallest part that can be blamed for it: the event, the frame, the line of a
//! document, and only if none of these can be separated the whole chunk. That part is refused with its reason.

use bytes::Bytes;

use super::flow::{Broken, Flow, Yield};
use crate::codec::{Decoded, Decoder, Frames, Limits, Ordinals, Refusal, frame_ranges, stamp};
use crate::component::{Chunk, Job, OnBad};
use crate::event::Batch;
use crate::telemetry::{Counts, panics};
use crate::units::Timestamp;

/// Lines of one document that may each be blamed for a panic; the document from the next one on is refused as a whole.
const MAX_BLAMED_LINES: usize = 16;

/// What a job has come to before it is committed.
pub struct Work {
    pub result: Yield,
    pub refused: Vec<Refusal>,
    /// What the source adds to its counts once the job is committed.
    pub counts: Counts,
    pub accepted: u64,
}

/// Decodes and runs the flow; fails with what was bad if the job takes nothing then.
pub fn process(flow: &Flow, job: &Job, limits: &Limits) -> Result<Work, Vec<Refusal>> {
    match panics::contain(|| run(flow, job, limits)) {
        Ok(Ok(work)) => work,
        Ok(Err(Broken)) | Err(_) => run_carefully(flow, job, limits),
    }
}

/// What a job's bytes hold that is no event.
pub fn refusals(flow: &Flow, job: &Job, limits: &Limits) -> Vec<Refusal> {
    decode_carefully(flow, job, limits).into_iter().flat_map(|decoded| decoded.refused).collect()
}

type Processed = Result<Work, Vec<Refusal>>;

fn run(flow: &Flow, job: &Job, limits: &Limits) -> Result<Processed, Broken> {
    let chunks: Vec<Decoded> = job.chunks.iter().map(|chunk| decode(flow, job, chunk, limits)).collect();
    let chunks = placed(job, chunks);
    if let Some(refused) = rejected(job, &chunks) {
        return Ok(Err(refused));
    }
    let mut work = Work::new(flow);
    for decoded in chunks {
        work.count(job, &decoded);
        work.refused.extend(decoded.refused);
        flow.run(decoded.batch, &mut work.result)?;
    }
    Ok(Ok(work))
}

/// The same event by event, with everything contained.
fn run_carefully(flow: &Flow, job: &Job, limits: &Limits) -> Processed {
    let mut work = Work::new(flow);
    let mut items = 0;
    let mut chunks = decode_carefully(flow, job, limits);
    for decoded in &mut chunks {
        let mut good = Vec::with_capacity(decoded.batch.len());
        for event in 0..decoded.batch.len() {
            match flow.run_alone(&decoded.batch, event, &mut work.result) {
                Ok(()) => good.push(event),
                Err(panic) => decoded.refused.push(blamed(&decoded.batch, event, items + event as u64, &panic)),
            }
        }
        decoded.batch.retain(|event| good.binary_search(&event).is_ok());
        items += decoded.items;
    }
    if let Some(refused) = rejected(job, &chunks) {
        return Err(refused);
    }
    for decoded in chunks {
        work.count(job, &decoded);
        work.refused.extend(decoded.refused);
    }
    Ok(work)
}

impl Work {
    fn new(flow: &Flow) -> Work {
        let counts = Counts { last_event: Some(Timestamp::now()), ..Counts::default() };
        Work { result: flow.new_yield(), refused: Vec::new(), counts, accepted: 0 }
    }

    fn count(&mut self, job: &Job, decoded: &Decoded) {
        let (good, bad) = (decoded.batch.len() as u64, decoded.refused.len() as u64);
        self.counts.received += good + bad;
        self.counts.entered += good;
        match job.on_bad {
            OnBad::DeadLetter => self.counts.dead_lettered += bad,
            OnBad::Refuse | OnBad::RejectAll => self.counts.refused += bad,
        }
        self.accepted += good;
    }
}

/// What was bad, if the job takes nothing then.
fn rejected(job: &Job, chunks: &[Decoded]) -> Option<Vec<Refusal>> {
    let any = job.on_bad == OnBad::RejectAll && chunks.iter().any(|decoded| !decoded.refused.is_empty());
    any.then(|| chunks.iter().flat_map(|decoded| decoded.refused.iter().cloned()).collect())
}

fn decode(flow: &Flow, job: &Job, chunk: &Chunk, limits: &Limits) -> Decoded {
    let split = flow.needs_fields() || job.provenance.stamp.is_some();
    let decoder: &dyn Decoder = &*job.decoder;
    let (bytes, ordinals) = (chunk.bytes.clone(), chunk.ordinals.clone());
    let mut decoded = decoder.decode(bytes, &chunk.frames, ordinals, job.provenance.clone(), limits, split);
    decoded.batch.identify();
    stamp::apply(&mut decoded.batch);
    for refusal in &mut decoded.refused {
        match &chunk.ordinals {
            Ordinals::Offset(base) => refusal.offset += base,
            Ordinals::Given(_) => refusal.offset = chunk.ordinals.of(refusal.index, 0),
            Ordinals::Count(_) => {}
        }
    }
    decoded
}

/// Makes the indices of refusals count over the whole job.
fn placed(job: &Job, mut chunks: Vec<Decoded>) -> Vec<Decoded> {
    debug_assert!(chunks.len() >= job.chunks.len(), "every chunk is decoded");
    let mut items = 0;
    for decoded in &mut chunks {
        decoded.refused.iter_mut().for_each(|refusal| refusal.index += items);
        items += decoded.items;
    }
    chunks
}

/// Decodes every chunk; what cannot be decoded without a panic is a refusal.
fn decode_carefully(flow: &Flow, job: &Job, limits: &Limits) -> Vec<Decoded> {
    let mut all = Vec::with_capacity(job.chunks.len());
    for chunk in &job.chunks {
        match panics::contain(|| decode(flow, job, chunk, limits)) {
            Ok(decoded) => all.push(decoded),
            Err(panic) if chunk.frames == Frames::Document => all.push(document(flow, job, chunk, limits, panic)),
            Err(_) => all.extend(frame_ranges(&chunk.bytes, &chunk.frames).enumerate().map(|(nth, range)| {
                let ordinal = chunk.ordinals.of(nth as u64, range.start);
                let bytes = chunk.bytes.slice(range);
                let frames = Frames::At(std::iter::once(0..bytes.len()).collect());
                let frame = Chunk { bytes, frames, ordinals: Ordinals::Given(vec![ordinal]) };
                let decoded = panics::contain(|| decode(flow, job, &frame, limits));
                decoded.unwrap_or_else(|panic| nothing_but(job, &frame.bytes, ordinal, &panic))
            })),
        }
    }
    placed(job, all)
}

/// Decodes a document whose decoder panics. The first line that makes it panic is found by halving, refused, and
/// replaced by spaces, until the rest decodes.
fn document(flow: &Flow, job: &Job, chunk: &Chunk, limits: &Limits, mut panic: String) -> Decoded {
    let lines: Vec<_> = frame_ranges(&chunk.bytes, &Frames::Lines).collect();
    let mut text = chunk.bytes.to_vec();
    let mut blamed = Vec::new();
    let try_decode = |text: &[u8]| {
        let bytes = Bytes::copy_from_slice(text);
        panics::contain(|| decode(flow, job, &Chunk { bytes, ..chunk.clone() }, limits))
    };
    let mut blame = |range: std::ops::Range<usize>, panic: &str| {
        let (index, offset) = (blamed.len() as u64, chunk.ordinals.of(0, range.start));
        blamed.push(Refusal { index, offset, text: chunk.bytes.slice(range), reason: reason(panic) });
        blamed.len()
    };
    loop {
        let culprit = lines.partition_point(|line| try_decode(&text[..line.end]).is_ok());
        let Some(line) = lines.get(culprit).cloned() else {
            // No line can be blamed for it.
            return nothing_but(job, &chunk.bytes, chunk.ordinals.of(0, 0), &panic);
        };
        let whole = blame(line.clone(), &panic) > MAX_BLAMED_LINES;
        let range = if whole { line.start..text.len() } else { line };
        text[range].fill(b' ');
        match try_decode(&text) {
            Ok(mut decoded) => {
                let before = blamed.len() as u64;
                decoded.refused.iter_mut().for_each(|refusal| refusal.index += before);
                decoded.items += before;
                decoded.refused.splice(0..0, blamed);
                return decoded;
            }
            Err(_) if whole => return nothing_but(job, &chunk.bytes, chunk.ordinals.of(0, 0), &panic),
            Err(next) => panic = next,
        }
    }
}

/// A chunk of which nothing can be decoded.
fn nothing_but(job: &Job, bytes: &Bytes, ordinal: u64, panic: &str) -> Decoded {
    let batch = Batch::new(Bytes::new(), job.provenance.clone());
    let refusal = Refusal { index: 0, offset: ordinal, text: bytes.clone(), reason: reason(panic) };
    Decoded { batch, refused: vec![refusal], items: 1 }
}

/// An event that panics outside of any transform. Its text is as it came in: rendering it may be what fails.
fn blamed(batch: &Batch, event: usize, index: u64, panic: &str) -> Refusal {
    let text = Bytes::copy_from_slice(&batch.input()[batch.span(event)]);
    Refusal { index, offset: batch.ordinal(event), text, reason: reason(panic) }
}

fn reason(panic: &str) -> String {
    format!("a bug in weir: panic on this event: {panic}")
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
