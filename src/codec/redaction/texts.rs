//! Redacts the plain texts of many events in stages, each for all of them.
//!
//! What redacts one event is more of the program than the processor's nearest memory holds, so that event by event the
//! program itself would be fetched again and again. Here all texts are decoded, then the filter looks at all of them in
//! one go, then the rules at one after another, and at last all of them are written.

use std::ops::Range;

use super::Engine;
use super::batch::{Pass, Spot};
use super::filter::{Hit, put_in_order};
use super::reader::Work;
use super::repeats::Repeated;
use super::search::{Looked, Span};
use crate::event::{Batch, escape};

/// The texts at hand, and what is known of them.
#[derive(Default)]
pub struct Texts {
    /// What they say, one after another, each followed by [`GAP`] zeros; and how much of it is used.
    decoded: Vec<u8>,
    used: usize,
    /// For texts with other escapes.
    other: Vec<u8>,
    texts: Vec<Text>,
    /// Where in each text what an escape says stands, text by text.
    escapes: Vec<u32>,
    hits: Vec<Hit>,
    spans: Vec<Span>,
    rules: Vec<u16>,
    events: Vec<Event>,
}

/// A string of an event.
struct Text {
    /// Its event among those at hand, and its field there.
    event: u32,
    nth: u32,
    /// Where it stands in what is decoded.
    start: u32,
    end: u32,
    /// Where its inside begins in what came in.
    raw: u32,
    /// Whether it was written as it would be written again.
    is_plain: bool,
    has_names: bool,
    looked: Looked,
    escapes: Range<u32>,
    hits: Range<u32>,
    spans: Range<u32>,
    /// The rules that found something, as often as they did.
    rules: Range<u32>,
}

/// An event whose texts are at hand.
struct Event {
    event: usize,
    /// What may still be spent on it.
    left: usize,
    remembers: bool,
    texts: Range<u32>,
    repeated: Vec<Repeated>,
}

/// Zeros between two texts: no window or run of the filter reaches from one into the next.
const GAP: usize = 8;
/// The most decoded text for which memory is kept.
const MAX_KEPT: usize = 256 << 10;
/// So many escapes are few.
const FEW: usize = 32;
/// A number that is shorter is no card.
const SHORT_NUMBER: usize = 13;
/// What a redacted event takes beyond what it had: masks, and the counts.
const MORE: usize = 128;

impl Texts {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// How many entries the longest of the lists has room for.
    pub fn longest_list(&self) -> usize {
        let found = self.spans.capacity().max(self.rules.capacity()).max(self.hits.capacity());
        found.max(self.texts.capacity()).max(self.events.capacity()).max(self.escapes.capacity())
    }

    /// Forgets texts from this one on.
    fn truncate(&mut self, texts: usize) {
        if let Some(first) = self.texts.get(texts) {
            self.used = first.start as usize;
            self.escapes.truncate(first.escapes.start as usize);
            self.texts.truncate(texts);
        }
    }

    /// Decodes a string of the event that comes next.
    fn push(&mut self, batch: &Batch, nth: usize, inside: Range<usize>) {
        let (start, escapes) = (self.used, self.escapes.len());
        let most = start + inside.len() + escape::SLACK;
        if self.decoded.len() < most {
            self.decoded.resize(most.next_power_of_two(), 0);
        }
        let out = &mut self.decoded[start..most];
        let plain = escape::unescape_plain(batch.input(), inside.clone(), out, &mut self.escapes);
        let len = plain.unwrap_or_else(|| {
            self.escapes.truncate(escapes);
            self.other.clear();
            escape::unescape_into(&batch.input()[inside.clone()], &mut self.other);
            out[..self.other.len()].copy_from_slice(&self.other);
            self.other.len()
        });
        let end = start + len;
        out[len..len + GAP].fill(0);
        self.used = end + GAP;
        self.texts.push(Text {
            event: self.events.len() as u32,
            nth: nth as u32,
            start: start as u32,
            end: end as u32,
            raw: inside.start as u32,
            is_plain: plain.is_some(),
            has_names: false,
            looked: Looked::Clean,
            rules: 0..0,
            escapes: escapes as u32..self.escapes.len() as u32,
            hits: 0..0,
            spans: 0..0,
        });
    }

    /// Gives each text its hits, counted from its own beginning.
    fn share_hits(&mut self, is_name: impl Fn(u16) -> bool) {
        let mut next = 0;
        for text in &mut self.texts {
            while self.hits.get(next).is_some_and(|hit| hit.at < text.start) {
                next += 1;
            }
            text.hits.start = next as u32;
            while let Some(hit) = self.hits.get_mut(next).filter(|hit| hit.at < text.end) {
                hit.at -= text.start;
                text.has_names |= hit.window().is_some_and(&is_name);
                next += 1;
            }
            text.hits.end = next as u32;
        }
    }
}

/// Whether nothing but the end of a name, a colon and blanks stands in front of a value.
fn joins(between: &[u8]) -> bool {
    match between {
        b"\":" | b"\": " => true,
        [b'"', rest @ ..] => rest.trim_ascii() == b":",
        _ => false,
    }
}

fn part<'a, T>(of: &'a [T], range: &Range<u32>) -> &'a [T] {
    &of[range.start as usize..range.end as usize]
}

impl Engine {
    /// Takes the texts of an event that have a spot, if it has spots in nothing but plain texts.
    pub(super) fn take_texts(&self, batch: &Batch, event: usize, spots: &[Spot], pass: &mut Pass) -> bool {
        let only_of_input = spots.last().is_some_and(|spot| !spot.made);
        only_of_input && self.take(batch, event, Some(spots), pass)
    }

    /// Takes all texts of an event, if it has nothing else in which a secret may be.
    pub(super) fn take_all_texts(&self, batch: &Batch, event: usize, pass: &mut Pass) -> bool {
        self.take(batch, event, None, pass)
    }

    fn take(&self, batch: &Batch, event: usize, spots: Option<&[Spot]>, pass: &mut Pass) -> bool {
        if self.fields.is_some() {
            return false;
        }
        let mut texts = std::mem::take(&mut pass.texts);
        let known = texts.texts.len();
        let taken = self.take_each(batch, event, spots, pass, &mut texts);
        match taken {
            Some((left, remembers)) => {
                let range = known as u32..texts.texts.len() as u32;
                texts.events.push(Event { event, left, remembers, texts: range, repeated: Vec::new() });
            }
            None => texts.truncate(known),
        }
        pass.texts = texts;
        taken.is_some()
    }

    /// Takes the texts; tells what may be spent on them, and whether one may repeat what another gives away.
    fn take_each(
        &self,
        batch: &Batch,
        event: usize,
        spots: Option<&[Spot]>,
        pass: &mut Pass,
        texts: &mut Texts,
    ) -> Option<(usize, bool)> {
        let (mut next, mut before, mut bytes) = (0, 0, 0);
        let (mut of_text, mut telling) = (0, 0);
        for nth in 0..batch.field_count(event) {
            let (id, place) = (batch.name_of(event, nth), batch.place(event, nth));
            let fact = pass.fact(batch, id);
            of_text += usize::from(fact.holds_text);
            telling += usize::from(fact.holds_text || fact.class.is_some());
            if fact.holds_name && pass.pair_of(batch, event).is_some() {
                return None;
            }
            let Some(key) = place.key else {
                // A value that came in under another name.
                let is_seen = |spots: &[Spot]| spots.iter().any(|spot| place.value.contains(&spot.at));
                if !place.made && spots.is_none_or(is_seen) {
                    return None;
                }
                continue;
            };
            if place.made || key < before {
                return None;
            }
            before = place.value.end;
            let value = &batch.input()[place.value.clone()];
            let is_string = value[0] == b'"';
            match spots {
                Some(spots) => {
                    while spots.get(next).is_some_and(|spot| spot.at < key) {
                        next += 1;
                    }
                    let Some(spot) = spots.get(next).filter(|spot| spot.at < place.value.end) else { continue };
                    if spot.at < place.value.start || fact.class.is_some() || !is_string {
                        return None;
                    }
                }
                None => {
                    // A name with an escape is longer than what it says.
                    let close = key + fact.len as usize + 1;
                    let between = batch.input().get(close..place.value.start).unwrap_or_default();
                    let is_quiet = joins(between) && pass.is_quiet(self, batch, id);
                    if !is_quiet || fact.class.is_some() || !is_string && !self.is_quiet(value) {
                        return None;
                    }
                    if !is_string {
                        continue;
                    }
                }
            }
            bytes += place.value.end - key;
            texts.push(batch, nth, place.value.start + 1..place.value.end - 1);
        }
        Some((Work::effort_for(bytes), self.remembers() && of_text > 0 && telling > 1))
    }

    /// Whether the filter sees nothing in a value that is no string.
    fn is_quiet(&self, value: &[u8]) -> bool {
        if self.own.is_empty() && value.len() < SHORT_NUMBER && !matches!(value[0], b'{' | b'[') {
            return true;
        }
        let mut hits = Vec::new();
        self.filter.scan(value, &mut hits);
        hits.is_empty()
    }

    /// Redacts all texts that were taken. So many portions like this one are left of the batch, with it.
    pub(super) fn redact_texts(&self, batch: &mut Batch, portions: usize, pass: &mut Pass) {
        let mut texts = std::mem::take(&mut pass.texts);
        let Texts { decoded, used, hits, .. } = &mut texts;
        self.filter.scan(&decoded[..*used], hits);
        put_in_order(hits);
        texts.share_hits(|window| self.names_at(window));
        // What looks at names is most of the program.
        for with_names in [false, true] {
            self.look_at_all(&mut texts, with_names, &mut pass.work);
        }
        batch.reserve_made(texts.used + MORE * texts.events.len(), portions);
        self.write(batch, &mut texts, pass);
        texts.clear();
        pass.texts = texts;
    }

    /// Looks at the texts with names, or at those without.
    fn look_at_all(&self, texts: &mut Texts, with_names: bool, work: &mut Work) {
        let Texts { decoded, texts, hits, spans, rules, events, .. } = texts;
        let mut found = std::mem::take(&mut work.spans);
        for text in texts.iter_mut().filter(|text| text.has_names == with_names && !text.hits.is_empty()) {
            let event = &mut events[text.event as usize];
            work.found.clear();
            work.resume(event.left, event.remembers, &mut event.repeated);
            found.clear();
            text.looked =
                self.look_at(part(decoded, &(text.start..text.end)), part(hits, &text.hits), work, &mut found);
            event.left = work.pause(&mut event.repeated);
            if matches!(text.looked, Looked::Secrets) {
                text.spans.start = spans.len() as u32;
                spans.extend_from_slice(&found);
                text.spans.end = spans.len() as u32;
            }
            text.rules.start = rules.len() as u32;
            rules.extend_from_slice(&work.found);
            text.rules.end = rules.len() as u32;
        }
        work.spans = found;
    }

    /// Writes the texts that have secrets, and what they had into the `redactions` of each event.
    fn write(&self, batch: &mut Batch, texts: &mut Texts, pass: &mut Pass) {
        let Texts { decoded, texts, escapes, spans, rules, events, .. } = texts;
        for Event { event, left, remembers, texts: range, repeated } in events {
            pass.work.begin();
            pass.work.resume(*left, *remembers, repeated);
            for text in &mut texts[range.start as usize..range.end as usize] {
                let says = part(decoded, &(text.start..text.end));
                pass.work.found.extend_from_slice(part(rules, &text.rules));
                match std::mem::replace(&mut text.looked, Looked::Clean) {
                    Looked::Clean => {}
                    Looked::Secrets if text.is_plain => {
                        let (spans, escapes) = (part(spans, &text.spans), part(escapes, &text.escapes));
                        batch.rewrite_nth(*event, text.nth as usize, |input, out| {
                            let raw = &input[text.raw as usize..];
                            self.push_with_masks(raw, says, escapes, spans, out);
                        });
                    }
                    Looked::Secrets => {
                        pass.work.begin_text(says.len());
                        let cleaned = self.replace(says, part(spans, &text.spans), &mut pass.work);
                        self.set_text(batch, *event, text, cleaned, &mut pass.work);
                    }
                    Looked::Cleaned(cleaned) => self.set_text(batch, *event, text, cleaned, &mut pass.work),
                }
            }
            if !pass.work.repeated.is_empty() {
                self.redact_repeated(batch, *event, pass);
            }
            self.count(batch, *event, pass);
        }
    }

    fn set_text(&self, batch: &mut Batch, event: usize, text: &Text, cleaned: Vec<u8>, work: &mut Work) {
        let json = self.as_string(cleaned, work);
        batch.set_nth(event, text.nth as usize, &json);
        work.give_back_buffer(json);
    }

    /// Appends the string with masks in the places of its secrets: what stands between is copied as it was written.
    fn push_with_masks(&self, raw: &[u8], says: &[u8], escapes: &[u32], spans: &[Span], out: &mut Vec<u8>) {
        out.push(b'"');
        let mut from = 0;
        // Each escape is one byte longer than what it says. A few are counted quicker than searched.
        let written = |at: usize| {
            at + match escapes.len() {
                0..=FEW => escapes.iter().map(|escape| usize::from((*escape as usize) < at)).sum(),
                _ => escapes.partition_point(|escape| (*escape as usize) < at),
            }
        };
        for span in spans {
            out.extend_from_slice(&raw[from..written(span.start)]);
            self.push_instead(span.rule, &says[span.start..span.end], out);
            from = written(span.end);
        }
        out.extend_from_slice(&raw[from..written(says.len())]);
        out.push(b'"');
    }
}

impl Texts {
    fn clear(&mut self) {
        let Texts { decoded, used, other, texts, escapes, hits, spans, rules, events } = self;
        *used = 0;
        other.clear();
        texts.clear();
        escapes.clear();
        hits.clear();
        spans.clear();
        rules.clear();
        events.clear();
        // One long text should not take memory for good.
        if decoded.capacity() > MAX_KEPT {
            *self = Texts::default();
        }
    }
}
