//! What a further look at a text knows of the one before it, which has put masks into the text.

use std::ops::Range;

use super::assign;
use super::filter::Hit;
use super::reader::Reader;
use super::views::View;

/// How far from a mask a text may read differently for it.
const REACH: usize = 512;
/// The most of a text that is looked at more than twice, as a part of it, and how short a text may always be.
const MOST: usize = 4;
const SHORT: usize = 2048;

/// Masks in a text, and what around them is seen to the end; all in order.
#[derive(Default)]
pub struct Masked {
    pub masks: Vec<Range<usize>>,
    /// Where names stand whose values are masked.
    pub settled: Vec<usize>,
    /// The places around masks, apart from one another: all that has to be looked at.
    near: Vec<Range<usize>>,
}

/// Which of the masks and names come next, for one who asks from left to right.
#[derive(Default)]
pub struct Next {
    mask: usize,
    settled: usize,
}

impl Masked {
    pub fn clear(&mut self) {
        self.masks.clear();
        self.settled.clear();
        self.near.clear();
    }

    /// How many entries the longest of the lists has room for.
    pub fn longest_list(&self) -> usize {
        self.masks.capacity().max(self.settled.capacity()).max(self.near.capacity())
    }

    /// Sets off what is near the masks of a text of this length.
    pub fn look_around(&mut self, len: usize) {
        for mask in &self.masks {
            let place = mask.start.saturating_sub(REACH)..len.min(mask.end + REACH);
            match self.near.last_mut() {
                Some(last) if place.start <= last.end => last.end = place.end,
                _ => self.near.push(place),
            }
        }
    }

    /// Whether it is little enough of a text that masks may be followed through it from one to the next: who wants to,
    /// makes every mask give away another value.
    pub fn is_little_of(&self, len: usize) -> bool {
        len <= SHORT || self.near.iter().map(Range::len).sum::<usize>() <= len / MOST
    }

    /// Whether a part of the text is near a mask, or some of it.
    pub fn is_near(&self, part: &Range<usize>) -> bool {
        let next = self.near.partition_point(|place| place.end <= part.start);
        self.near.get(next).is_some_and(|place| place.start < part.end)
    }

    /// Whether the hit was seen to the end in the round before, belongs to a mask or is far from all of them.
    pub fn skips(&self, next: &mut Next, reader: &Reader<'_>, hit: Hit) -> bool {
        let at = hit.at as usize;
        while self.masks.get(next.mask).is_some_and(|mask| mask.end <= at) {
            next.mask += 1;
        }
        while self.settled.get(next.settled).is_some_and(|place| *place < at) {
            next.settled += 1;
        }
        if hit.window().is_none() {
            return !self.is_near(&(at..at + 1));
        }
        if self.settled.get(next.settled) == Some(&at) {
            assign::skip(reader, at);
            return true;
        }
        self.masks.get(next.mask).is_some_and(|mask| mask.start <= at) || !self.is_near(&(at..at + 1))
    }

    /// The same for what the part of the text says that begins at `start`.
    pub fn within(&self, start: usize, view: &View) -> Masked {
        self.mapped(&(start..start + view.source_len()), |at| view.place(at))
    }

    /// The same for a part of the text as it is.
    pub fn part(&self, part: &Range<usize>) -> Masked {
        self.mapped(part, |at| at.min(part.len()))
    }

    /// Only what stands in the part is read: a text may have as many parts as masks.
    fn mapped(&self, part: &Range<usize>, place: impl Fn(usize) -> usize) -> Masked {
        let place = |at: usize| at.checked_sub(part.start).map_or(0, &place);
        let places = |ranges: &[Range<usize>]| {
            let ranges = &ranges[ranges.partition_point(|range| range.end <= part.start)..];
            let within = ranges.iter().take_while(|range| range.start < part.end);
            within.map(|range| place(range.start)..place(range.end)).filter(|range| !range.is_empty()).collect()
        };
        let names = &self.settled[self.settled.partition_point(|name| *name < part.start)..];
        let names = names.iter().take_while(|name| **name < part.end).map(|name| place(*name));
        Masked { masks: places(&self.masks), settled: names.collect(), near: places(&self.near) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// JSON may have as many strings as masks: what each string is told must not grow with all of them.
    #[test]
    fn a_part_is_told_only_of_what_stands_in_it() {
        let every = |step: usize, len: usize| (0..1000).map(|nth| nth * step..nth * step + len).collect::<Vec<_>>();
        let all =
            Masked { masks: every(20, 10), settled: (0..1000).map(|nth| nth * 20 + 15).collect(), near: every(20, 18) };
        let part = all.part(&(405..445));
        assert_eq!(part.masks, [0..5, 15..25, 35..40]);
        assert_eq!(part.near, [0..13, 15..33, 35..40]);
        assert_eq!(part.settled, [10, 30]);
    }
}
