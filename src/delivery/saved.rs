//! Restores what a sink saved: position, totals and memory. A crash may have saved the memory alone.

use bytes::{BufMut, Bytes, BytesMut};

use super::feed::Feed;
use super::totals;
use crate::component::StateTag;
use crate::telemetry::Counts;

/// A bit of the length of the totals: behind them stands what type of sink wrote the memory. Early versions did not say.
const TYPED: u16 = 1 << 15;

#[derive(Debug, PartialEq, Eq)]
pub struct Saved {
    /// The first `seq` that has not ended.
    pub position: u64,
    pub totals: Vec<u8>,
    pub memory: Option<Bytes>,
    /// Events that the totals have on top of the cursor's own.
    pub covered: u64,
}

/// Events that wait: those of the feed, but for what is counted as ended before a `seq` that its cursor has yet to reach.
pub fn waiting(feed: &impl Feed, (to, covered): (u64, u64)) -> u64 {
    let behind = if feed.position() < to { covered } else { 0 };
    feed.waiting_events().saturating_sub(behind)
}

/// Events that had passed the cursor by these totals.
fn passed(totals: &[u8]) -> u64 {
    let mut counts = Counts::default();
    totals::decode(totals, &mut counts);
    counts.addressed() + counts.parked
}

impl Saved {
    /// What a sink of another type left as memory is not for this one; how far that had come is.
    pub fn read(feed: &impl Feed, tag: StateTag) -> Saved {
        Saved::of(feed.position(), feed.totals(), feed.memory(), tag)
    }

    pub fn of(position: u64, totals: Vec<u8>, memory: Option<Bytes>, tag: StateTag) -> Saved {
        let Some(stored) = memory.and_then(Stored::read) else {
            return Saved { position, totals, memory: None, covered: 0 };
        };
        // A cursor that somebody has put back lies before its own totals. It is believed; one that a crash has left
        // behind its memory is not, for what the memory covers has ended.
        let was_put_back = totals::decode(&totals, &mut Counts::default()).is_some_and(|settled| position < settled);
        let (position, totals, covered) = match stored.seq_end > position && !was_put_back {
            true => {
                let covered = passed(&stored.totals).saturating_sub(passed(&totals));
                (stored.seq_end, stored.totals, covered)
            }
            false => (position, totals, 0),
        };
        let is_own = stored.tag.is_none_or(|written| written == *tag.bytes());
        Saved { position, totals, memory: is_own.then_some(stored.memory), covered }
    }

    pub fn waiting(&self, feed: &impl Feed) -> u64 {
        waiting(feed, (self.position, self.covered))
    }

    /// What is kept as memory: it carries the position and the totals of its own moment.
    pub fn write(seq_end: u64, totals: &[u8], tag: StateTag, memory: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(10 + totals.len() + StateTag::BYTES + memory.len());
        out.put_u64_le(seq_end);
        out.put_u16_le(totals.len() as u16 | TYPED);
        out.put_slice(totals);
        out.put_slice(tag.bytes());
        out.put_slice(memory);
        out.freeze()
    }
}

struct Stored {
    seq_end: u64,
    totals: Vec<u8>,
    tag: Option<[u8; StateTag::BYTES]>,
    memory: Bytes,
}

impl Stored {
    fn read(stored: Bytes) -> Option<Stored> {
        let (seq_end, rest) = stored.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let len = u16::from_le_bytes(*len);
        let (totals, rest) = rest.split_at_checked((len & !TYPED) as usize)?;
        let (tag, memory) = match len & TYPED {
            0 => (None, rest),
            _ => rest.split_first_chunk().map(|(tag, memory)| (Some(*tag), memory))?,
        };
        let memory = stored.slice_ref(memory);
        Some(Stored { seq_end: u64::from_le_bytes(*seq_end), totals: totals.to_vec(), tag, memory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_of_another_type_under_the_same_name_inherits_no_memory() {
        let written = Saved::write(7, b"totals", StateTag::of("file"), b"lengths");
        let read = |memory: &Bytes, tag| Saved::of(7, b"totals".to_vec(), Some(memory.clone()), StateTag::of(tag));
        assert_eq!(read(&written, "file").memory.as_deref(), Some(&b"lengths"[..]));
        let other = read(&written, "http");
        assert_eq!((other.position, &other.totals[..], other.memory), (7, &b"totals"[..], None));
        let early = [&7_u64.to_le_bytes()[..], &6_u16.to_le_bytes(), b"totals", b"lengths"].concat();
        assert_eq!(read(&early.into(), "http").memory.as_deref(), Some(&b"lengths"[..]), "it does not say whose it is");
    }
}
