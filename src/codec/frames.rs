//! Where the frames of a chunk are, and the ordinals of their items.

use std::ops::Range;

use super::{Frames, Ordinals};

/// The byte order mark that some editors and Windows tools write before the first line.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// The frames of a chunk, in order. A document is taken as lines.
pub fn cut<'a>(chunk: &'a [u8], frames: &'a Frames) -> Box<dyn Iterator<Item = Range<usize>> + 'a> {
    match frames {
        Frames::At(ranges) => Box::new(ranges.iter().cloned()),
        Frames::Lines | Frames::Document => Box::new(lines(chunk)),
    }
}

/// The lines of a chunk that are not empty, without `\n` or `\r\n`.
pub fn lines(chunk: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let ends = memchr::memchr_iter(b'\n', chunk).chain((!chunk.ends_with(b"\n")).then_some(chunk.len()));
    let mut next = 0;
    ends.filter_map(move |end| {
        let start = std::mem::replace(&mut next, end + 1);
        let end = if end > start && chunk[end - 1] == b'\r' { end - 1 } else { end };
        (end > start).then_some(start..end)
    })
}

/// The range without a byte order mark, where it is the very beginning of its origin.
pub fn without_mark(chunk: &[u8], range: Range<usize>, ordinals: &Ordinals) -> Range<usize> {
    let is_beginning = range.start == 0 && ordinals.of(0, 0) == 0;
    let marked = is_beginning && chunk[range.clone()].starts_with(MARK);
    range.start + if marked { MARK.len() } else { 0 }..range.end
}

impl Ordinals {
    /// The ordinal of the item with this index that starts at this offset of the chunk.
    pub fn of(&self, index: u64, start: usize) -> u64 {
        match self {
            Ordinals::Offset(base) => base + start as u64,
            Ordinals::Count(base) => base + index,
            Ordinals::Given(ordinals) => ordinals.get(index as usize).copied().unwrap_or(index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_either_break_and_empty_ones_are_none() {
        let text = b"one\r\n\n\r\ntwo\n three \nfour";
        let found: Vec<_> = lines(text).map(|range| std::str::from_utf8(&text[range]).expect("text")).collect();
        assert_eq!(found, ["one", "two", " three ", "four"]);
        assert_eq!(lines(b"").count(), 0);
        assert_eq!(lines(b"\n").count(), 0);
        assert_eq!(lines(b"x\n").count(), 1);
    }

    #[test]
    fn the_mark_goes_at_the_start_of_the_origin_alone() {
        let text = b"\xEF\xBB\xBF{}";
        assert_eq!(without_mark(text, 0..5, &Ordinals::Offset(0)), 3..5);
        assert_eq!(without_mark(text, 0..5, &Ordinals::Offset(7)), 0..5);
        assert_eq!(without_mark(text, 0..5, &Ordinals::Given(vec![0])), 3..5);
    }
}
