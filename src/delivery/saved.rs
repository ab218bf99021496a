//! What a sink left behind, put together again: position, totals and memory, of which a crash may have saved the
//! memory alone.

use bytes::{BufMut, Bytes, BytesMut};

use super::feed::Feed;
use super::totals;
use crate::telemetry::Counts;

#[derive(Debug, PartialEq, Eq)]
pub struct Saved {
    /// The first `seq` that has not ended.
    pub position: u64,
    pub totals: Vec<u8>,
    pub memory: Option<Bytes>,
}

impl Saved {
    pub fn read(feed: &impl Feed) -> Saved {
        let (position, totals) = (feed.position(), feed.totals());
        let Some(stored) = feed.memory().and_then(Stored::read) else {
            return Saved { position, totals, memory: None };
        };
        // A cursor that somebody has put back lies before its own totals. It is believed; one that a crash has left
        // behind its memory is not, for what the memory covers has ended.
        let was_put_back = totals::decode(&totals, &mut Counts::default()).is_some_and(|settled| position < settled);
        let (position, totals) = match stored.seq_end > position && !was_put_back {
            true => (stored.seq_end, stored.totals),
            false => (position, totals),
        };
        Saved { position, totals, memory: Some(stored.memory) }
    }

    /// What is kept as memory: it carries the position and the totals of its own moment.
    pub fn write(seq_end: u64, totals: &[u8], memory: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(10 + totals.len() + memory.len());
        out.put_u64_le(seq_end);
        out.put_u16_le(totals.len() as u16);
        out.put_slice(totals);
        out.put_slice(memory);
        out.freeze()
    }
}

struct Stored {
    seq_end: u64,
    totals: Vec<u8>,
    memory: Bytes,
}

impl Stored {
    fn read(stored: Bytes) -> Option<Stored> {
        let (seq_end, rest) = stored.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let totals = rest.get(..u16::from_le_bytes(*len) as usize)?.to_vec();
        Some(Stored { seq_end: u64::from_le_bytes(*seq_end), memory: stored.slice(10 + totals.len()..), totals })
    }
}
