//! Rendering: from a batch to the JSON lines that go into the journal.

use std::ops::Range;

use bytes::Bytes;

use super::{Batch, Event, Field, MADE};
use crate::event::escape;
use crate::event::lines::{Lines, Origins};
use crate::event::raw::value_end;

/// Bytes that two untouched members may have between them and be sure to have been neighbours: a member between
/// them would have taken at least `,"":1,`.
const NEIGHBOURS: u32 = 5;

impl Batch {
    /// The bytes of an event as they came in, if no transform has touched it.
    pub fn untouched(&self, event: usize) -> Option<&[u8]> {
        let Event { start, len, edited, .. } = self.events[event];
        (!edited).then(|| &self.input[start as usize..(start + len) as usize])
    }

    /// Appends an event as one JSON line, without the line break.
    pub fn render_event(&self, event: usize, out: &mut Vec<u8>) {
        if let Some(bytes) = self.untouched(event) {
            return out.extend_from_slice(bytes);
        }
        out.push(b'{');
        let mut rest = self.table(event);
        while let Some((field, behind)) = rest.split_first() {
            rest = behind;
            if field.made || field.key == MADE {
                self.render_field(field, out);
            } else {
                // Name, colon and value stand together in the input, and so may the members behind it.
                let mut end = field.value + field.len;
                while let Some((next, behind)) = rest.split_first()
                    && !next.made
                    && (end + 1..=end + NEIGHBOURS).contains(&next.key)
                {
                    end = next.value + next.len;
                    rest = behind;
                }
                out.extend_from_slice(&self.input[field.key as usize..end as usize]);
            }
            if !rest.is_empty() {
                out.push(b',');
            }
        }
        out.push(b'}');
    }

    /// A field of which a transform gave the name, the value or both.
    fn render_field(&self, field: &Field, out: &mut Vec<u8>) {
        if field.key == MADE {
            escape::push_string(out, self.name(field.name));
        } else {
            let key = &self.input[field.key as usize..];
            out.extend_from_slice(&key[..value_end(key)]);
        }
        out.push(b':');
        out.extend_from_slice(self.value_of(field).0);
    }

    /// Renders all events. Events that stand untouched one after another in the input are not copied.
    pub fn render(&self) -> Lines {
        let mut ends = Vec::with_capacity(self.events.len());
        let origins = self.origins();
        if let Some(range) = self.contiguous() {
            ends.extend(self.events.iter().map(|e| e.start + e.len + 1 - range.start as u32));
            return Lines { bytes: self.input.slice(range), ends, origins };
        }
        let mut out = Vec::with_capacity(self.rendered_len());
        for event in 0..self.events.len() {
            self.render_event(event, &mut out);
            out.push(b'\n');
            ends.push(u32::try_from(out.len()).expect("a chunk is far smaller than 4 GiB"));
        }
        Lines { bytes: Bytes::from(out), ends, origins }
    }

    /// About what rendering all events takes: names that transforms gave are guessed.
    fn rendered_len(&self) -> usize {
        let kept: usize = self.events.iter().map(|event| event.len as usize + 1).sum();
        kept + self.made.len() + 64 * self.events.len()
    }

    fn origins(&self) -> Origins {
        if self.identified.is_empty() {
            return Origins::of(self.provenance.seed, self.events.iter().map(|event| event.ordinal));
        }
        let mut origins = Origins::default();
        for event in 0..self.events.len() {
            let (seed, ordinal) = self.origin(event);
            origins.push(seed, [ordinal]);
        }
        origins
    }

    /// The range of the input that is exactly all events, each followed by one line feed.
    fn contiguous(&self) -> Option<Range<usize>> {
        let start = self.events.first()?.start;
        let mut next = start;
        for event in &self.events {
            if event.edited || event.start != next {
                return None;
            }
            next = event.start + event.len + 1;
            if self.input.get(next as usize - 1) != Some(&b'\n') {
                return None;
            }
        }
        Some(start as usize..next as usize)
    }
}
