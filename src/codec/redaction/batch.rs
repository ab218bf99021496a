//! The hot path: redacts all events of a batch in one pass.

use std::ops::{Range, RangeInclusive};
use std::sync::{Mutex, PoisonError};

use super::assign::{is_name_member, is_value_member};
use super::filter::Hit;
use super::json::{Above, FreeNames, Only, named_class, narrowed};
use super::names::{Class, classify};
use super::reader::{Reader, Work};
use super::repeats::is_text_field;
use super::report::push_counts;
use super::rules::SECRET_FIELD;
use super::texts::Texts;
use super::{Action, Engine, Report};
use crate::event::names::REDACTIONS;
use crate::event::raw::Raw;
use crate::event::{Batch, Kind, NameId};

/// Events that stand this close together in the input are scanned in one go.
const GAP: usize = 64;
/// So many bytes of events are redacted in one round; more would not stay in the processor's second memory. The first
/// round only tells how many events have secrets.
const PORTION: usize = 64 << 10;
const FIRST_PORTION: usize = 4 << 10;
/// Fields among which the name of a pair is looked for.
pub const MAX_PAIR: usize = 16;

/// A place worth a look.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    event: usize,
    /// In what transforms made, not in the input.
    pub made: bool,
    pub at: usize,
}

impl Engine {
    /// Redacts every event; those that change get their `redactions`, and `report` the sum.
    pub fn redact_batch(&self, batch: &mut Batch, report: &mut Report) {
        let mut pass = self.passes.take();
        pass.names.clear();
        pass.counts.clear();
        pass.counts.resize(self.names.len(), 0);
        if self.look_everywhere {
            batch.split_all();
            for event in 0..batch.len() {
                self.redact_event(batch, event, None, &mut pass);
            }
        } else {
            self.redact_where_something_is(batch, &mut pass);
        }
        for (rule, count) in pass.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            report.add(&self.names[rule], *count);
        }
        self.passes.give_back(pass);
    }

    /// Redacts the events in which the filter sees something, portion by portion.
    fn redact_where_something_is(&self, batch: &mut Batch, pass: &mut Pass) {
        let (mut of_transforms, mut spots) = (Vec::new(), std::mem::take(&mut pass.spots));
        self.scan_made(batch, &mut of_transforms);
        self.scan_given_names(batch, &mut of_transforms);
        of_transforms.sort_unstable();
        let (mut from, mut len) = (0, FIRST_PORTION);
        while from < batch.len() {
            let to = end_of_portion(batch, from, len);
            let first = of_transforms.partition_point(|spot: &Spot| spot.event < from);
            let known = of_transforms[first..].iter().take_while(|spot| spot.event < to);
            spots.clear();
            spots.extend(known);
            if pass.is_dense && spots.is_empty() {
                self.take_whole_events(batch, from..to, pass);
            } else {
                self.scan_input(batch, from..to, pass, &mut spots);
                put_in_order(&mut spots);
                if !spots.is_empty() {
                    batch.split_some(spots.iter().map(|spot| spot.event));
                }
                for spots in spots.chunk_by(|a, b| a.event == b.event) {
                    if !self.take_texts(batch, spots[0].event, spots, pass) {
                        self.redact_event(batch, spots[0].event, Some(spots), pass);
                    }
                }
            }
            if !pass.texts.is_empty() {
                let portions = 1 + (batch.len() - to) / (to - from);
                self.redact_texts(batch, portions, pass);
            }
            // Where nearly every event has a secret, it does not pay to ask first which have one.
            pass.is_dense = pass.changed * 8 >= (to - from) * 7;
            (pass.changed, from, len) = (0, to, PORTION);
        }
        pass.spots = spots;
    }

    /// Takes the texts of all these events, without a look at their bytes as they came in.
    fn take_whole_events(&self, batch: &mut Batch, events: Range<usize>, pass: &mut Pass) {
        let (mut hits, mut spots) = (Vec::new(), Vec::new());
        batch.split_some(events.clone());
        for event in events {
            if self.take_all_texts(batch, event, pass) {
                continue;
            }
            let span = batch.span(event);
            hits.clear();
            self.filter.scan(&batch.input()[span.clone()], &mut hits);
            spots.clear();
            spots.extend(hits.iter().map(|hit| Spot { event, made: false, at: span.start + hit.at as usize }));
            spots.sort_unstable();
            if !spots.is_empty() {
                self.redact_event(batch, event, Some(&spots), pass);
            }
        }
    }

    /// Finds the spots in the bytes that came in.
    fn scan_input(&self, batch: &Batch, events: Range<usize>, pass: &mut Pass, spots: &mut Vec<Spot>) {
        let (mut event, hits) = (events.start, &mut pass.hits);
        let mut reader = pass.reader.take().unwrap_or_else(|| Reader::new(&[]));
        while event < events.end {
            let first = event;
            let mut range = batch.span(event);
            event += 1;
            while event < events.end && follows(&range, &batch.span(event)) {
                range.end = batch.span(event).end;
                event += 1;
            }
            hits.clear();
            self.filter.scan(&batch.input()[range.clone()], hits);
            let (mut holder, mut last) = (first, usize::MAX);
            let mut string = 0..0;
            for hit in hits.iter() {
                let at = range.start + hit.at as usize;
                // Hits are nearly in order, so the event is the last one or one of the next.
                while holder > first && batch.span(holder).start > at {
                    holder -= 1;
                }
                while batch.span(holder).end <= at && holder + 1 < event {
                    holder += 1;
                }
                let span = batch.span(holder);
                // What belongs to the string of the last spot is looked at anyway.
                if !span.contains(&at) || string.contains(&at) {
                    continue;
                }
                let inside = hit.moved_back(span.start - range.start);
                if last != holder {
                    last = holder;
                    reader = reader.turn_to(&batch.input()[span]);
                }
                if self.is_plausible(&reader, inside) {
                    spots.push(Spot { event: holder, made: false, at });
                    let rest = &batch.input()[at..range.end];
                    string = at..at + memchr::memchr2(b'"', b'\n', rest).map_or(rest.len(), |end| end + 1);
                }
            }
        }
        pass.reader = Some(reader.turn_to(&[]));
    }

    /// Finds the spots in values that transforms have set.
    fn scan_made(&self, batch: &Batch, spots: &mut Vec<Spot>) {
        if batch.made().is_empty() {
            return;
        }
        let mut hits = Vec::new();
        self.filter.scan(batch.made(), &mut hits);
        let reader = Reader::new(batch.made());
        let mut places: Vec<usize> =
            hits.iter().filter(|hit| self.is_plausible(&reader, **hit)).map(|hit| hit.at as usize).collect();
        if places.is_empty() {
            return;
        }
        places.sort_unstable();
        for event in (0..batch.len()).filter(|event| batch.is_split(*event)) {
            for nth in 0..batch.field_count(event) {
                let place = batch.place(event, nth);
                if !place.made {
                    continue;
                }
                let from = places.partition_point(|at| *at < place.value.start);
                let inside = places[from..].iter().take_while(|at| **at < place.value.end);
                spots.extend(inside.map(|at| Spot { event, made: true, at: *at }));
            }
        }
    }

    /// Finds the fields to which a transform has given a secret-looking name.
    fn scan_given_names(&self, batch: &Batch, spots: &mut Vec<Spot>) {
        if !self.enabled[usize::from(SECRET_FIELD)] {
            return;
        }
        let secret: Vec<NameId> =
            batch.other_names().filter(|(_, name)| classify(name.as_bytes()).is_some()).map(|(id, _)| id).collect();
        if secret.is_empty() {
            return;
        }
        for event in (0..batch.len()).filter(|event| batch.is_split(*event) && batch.untouched(*event).is_none()) {
            for nth in 0..batch.field_count(event) {
                let place = batch.place(event, nth);
                if (place.made || place.key.is_none()) && secret.contains(&batch.nth(event, nth).0) {
                    spots.push(Spot { event, made: place.made, at: place.value.start });
                }
            }
        }
    }

    /// Whether the filter sees nothing in a member of this name, whatever its value is.
    fn sees_nothing_in(&self, name: &str) -> bool {
        let mut hits = Vec::new();
        // What a window sees may begin in the name and end in the value.
        for value in ["", "a", "1", " ", "-", "\\"] {
            self.filter.scan(format!("\"{name}\":\"{value}").as_bytes(), &mut hits);
        }
        hits.is_empty()
    }

    /// Redacts the fields of an event that have a spot, or all of them.
    fn redact_event(&self, batch: &mut Batch, event: usize, spots: Option<&[Spot]>, pass: &mut Pass) {
        let only: Only<'_> = self.fields.as_ref().map(|paths| paths.iter().map(Vec::as_slice).collect());
        let pair = pass.pair_of(batch, event);
        pass.work.begin();
        pass.work.remembers = self.remembers() && pass.has_texts(batch, event);
        let mut edit = Edit { event, removed: Vec::new(), names: None, pair };
        // Most fields of most events stand in front of all that was seen or behind it.
        let seen = spots.and_then(|spots| spots.first().zip(spots.last()));
        let reach = seen.filter(|(first, last)| !first.made && !last.made).map(|(first, last)| first.at..=last.at);
        for nth in 0..batch.field_count(event) {
            let place = batch.place(event, nth);
            let outside = |reach: &RangeInclusive<usize>| {
                place.value.end <= *reach.start() || place.key.is_some_and(|key| key > *reach.end())
            };
            if !place.made && pair.is_none() && reach.as_ref().is_some_and(outside) && place.key.is_some() {
                continue;
            }
            // Between a name and its value nothing is seen.
            let behind = |key| if place.made { batch.key_end(key) } else { place.value.start };
            let key = place.key.map(|key| key..behind(key));
            let in_name = spots.is_none_or(|spots| key.clone().is_none_or(|key| has_spot(spots, false, key)));
            let in_value = spots.is_none_or(|spots| has_spot(spots, place.made, place.value.clone()));
            let paired = pair.is_some() && pass.fact(batch, batch.nth(event, nth).0).holds_value;
            if in_name && key.is_some() || in_value || paired {
                pass.work.allow(place.value.len() + key.map_or(0, |key| key.len()));
                self.redact_field(batch, nth, &only, in_name, pass, &mut edit);
            }
        }
        for name in edit.removed {
            batch.remove(event, name);
        }
        if !pass.work.repeated.is_empty() {
            self.redact_repeated(batch, event, pass);
        }
        self.count(batch, event, pass);
    }

    /// Redacts in the texts of an event the secrets that another of its fields gave away.
    pub(super) fn redact_repeated(&self, batch: &mut Batch, event: usize, pass: &mut Pass) {
        for nth in 0..batch.field_count(event) {
            let (id, value) = batch.nth(event, nth);
            if pass.fact(batch, id).holds_text
                && let Some(cleaned) = self.without_repeated(batch.name(id), value, &mut pass.work)
            {
                batch.set_nth(event, nth, &cleaned);
            }
        }
    }

    /// Writes what was found into the event's `redactions`, and adds it to the sum.
    pub(super) fn count(&self, batch: &mut Batch, event: usize, pass: &mut Pass) {
        let found = &mut pass.work.found;
        if found.is_empty() {
            return;
        }
        pass.changed += 1;
        found.iter().for_each(|rule| pass.counts[usize::from(*rule)] += 1);
        if found.len() > 1 {
            found.sort_unstable_by_key(|rule| self.order[usize::from(*rule)]);
        }
        let counted = found.chunk_by(|a, b| a == b).map(|same| (self.names[usize::from(same[0])].as_str(), same.len()));
        if let Some(before) = batch.get(event, REDACTIONS) {
            let mut report = Report::default();
            counted.for_each(|(rule, count)| report.add(rule, count as u64));
            report.trust_numbers(before);
            batch.set_json(event, REDACTIONS, &report.to_json());
            return;
        }
        let counted = counted.map(|(rule, count)| (rule, count as u64));
        batch.set_with(event, REDACTIONS, |out| push_counts(counted, out));
    }

    /// Redacts one field; its name only where something was seen in it.
    fn redact_field(
        &self,
        batch: &mut Batch,
        nth: usize,
        only: &Only<'_>,
        in_name: bool,
        pass: &mut Pass,
        edit: &mut Edit,
    ) {
        let (id, value) = batch.nth(edit.event, nth);
        let fact = pass.fact(batch, id);
        let name = batch.name(id);
        let Some(below) = narrowed(only, name) else { return };
        let work = &mut pass.work;
        let whole = below.is_none();
        let renamed = (whole && in_name).then(|| self.clean(name.as_bytes(), work)).flatten();
        let class = edit.pair.filter(|_| fact.holds_value).or(fact.class);
        let secret = whole && class.is_some_and(|class| self.is_secret_member(name, class, value));
        let cleaned = match secret {
            true => {
                work.found.push(SECRET_FIELD);
                self.remember_member(value, work);
                Some(self.hidden(value))
            }
            false => {
                let class = fact.class.filter(|_| self.enabled[usize::from(SECRET_FIELD)]);
                let class = class.filter(|_| value.kind() != Kind::String);
                self.clean_value(Raw::valid(value.as_bytes()), &Above { only: below, name, class }, work)
            }
        };
        if let Some(renamed) = renamed {
            let free = edit.free_name(batch, &String::from_utf8_lossy(&renamed));
            batch.rename_nth(edit.event, nth, free);
        }
        match cleaned {
            Some(_) if secret && *self.action(SECRET_FIELD) == Action::Remove => {
                edit.removed.push(batch.nth(edit.event, nth).0);
            }
            Some(cleaned) => {
                batch.set_nth(edit.event, nth, &cleaned);
                pass.work.give_back_buffer(cleaned);
            }
            None => {}
        }
    }
}

/// What the events of a batch share while they are redacted.
#[derive(Default)]
pub struct Pass {
    pub work: Work,
    pub texts: Texts,
    /// What is known of each name, by its number.
    names: Vec<Option<Fact>>,
    /// How often each rule was right.
    counts: Vec<u64>,
    hits: Vec<Hit>,
    spots: Vec<Spot>,
    /// What reads the bytes that came in; kept, so that it is not made for each portion.
    reader: Option<Reader<'static>>,
    /// Whether nearly every event that was looked at last had a secret.
    is_dense: bool,
    /// How many events of the portion at hand had a secret.
    changed: usize,
}

/// What batches were redacted with, kept for the next ones: its lists would be large for the allocator.
#[derive(Default)]
pub struct Passes(Mutex<Vec<Pass>>);

/// The longest lists that are kept.
const MAX_HITS: usize = 16 << 10;
/// The most that are kept: as many as threads may redact at the same time on most machines.
const MAX_PASSES: usize = 16;

impl Passes {
    fn take(&self) -> Pass {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, mut pass: Pass) {
        pass.hits.shrink_to(MAX_HITS);
        pass.spots.shrink_to(MAX_HITS);
        // What one text full of secrets took is not kept for good.
        if pass.work.longest_list().max(pass.texts.longest_list()) > MAX_HITS {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_PASSES {
            kept.push(pass);
        }
    }
}

/// What a name of a field says.
#[derive(Clone, Copy)]
pub struct Fact {
    pub class: Option<Class>,
    /// Whether the field holds the name of a pair, or its value.
    pub holds_name: bool,
    holds_value: bool,
    /// Whether the field holds what people and programs write.
    pub holds_text: bool,
    /// How long the name is, and whether the filter sees nothing in it.
    pub len: u32,
    pub is_quiet: Option<bool>,
}

impl Pass {
    /// Whether an event has a text that may repeat what another of its texts says, or a member with a telling name.
    fn has_texts(&mut self, batch: &Batch, event: usize) -> bool {
        let (mut texts, mut others) = (0, 0);
        for id in batch.field_names(event) {
            let fact = self.fact(batch, id);
            texts += usize::from(fact.holds_text);
            others += usize::from(fact.holds_text || fact.class.is_some());
        }
        texts > 0 && others > 1
    }

    pub fn fact(&mut self, batch: &Batch, id: NameId) -> Fact {
        let number = id.0 as usize;
        if self.names.len() <= number {
            self.names.resize((number + 1).next_power_of_two(), None);
        }
        *self.names[number].get_or_insert_with(|| {
            let name = batch.name(id);
            Fact {
                class: classify(name.as_bytes()),
                holds_name: is_name_member(name),
                holds_value: is_value_member(name),
                holds_text: is_text_field(name),
                len: name.len() as u32,
                is_quiet: None,
            }
        })
    }

    /// Whether the filter sees nothing in a member of this name.
    pub fn is_quiet(&mut self, engine: &Engine, batch: &Batch, id: NameId) -> bool {
        let known = self.names[id.0 as usize].as_mut().expect("the fact is known");
        *known.is_quiet.get_or_insert_with(|| engine.sees_nothing_in(batch.name(id)))
    }

    /// What an event's `value` is if the event is a pair: `{"name": "DB_PASSWORD", "value": "x"}`.
    pub fn pair_of(&mut self, batch: &Batch, event: usize) -> Option<Class> {
        let names = batch.field_names(event).take(MAX_PAIR).enumerate();
        names.filter_map(|(nth, id)| self.fact(batch, id).holds_name.then_some(nth)).find_map(|nth| {
            let (_, value) = batch.nth(event, nth);
            named_class(value)
        })
    }
}

/// An event while its fields are redacted.
struct Edit {
    event: usize,
    removed: Vec<NameId>,
    /// The names of the event, once one of them had to change.
    names: Option<FreeNames>,
    /// What the event says the name of its value is, if it is a pair of name and value.
    pair: Option<Class>,
}

impl Edit {
    /// A name that the event does not have yet.
    fn free_name(&mut self, batch: &mut Batch, wanted: &str) -> NameId {
        let event = self.event;
        let taken = || batch.field_names(event).map(|id| batch.name(id).to_owned()).collect();
        let free = self.names.get_or_insert_with(|| FreeNames::new(taken())).take(wanted);
        batch.name_id(&free)
    }
}

/// The event behind those from this one on that make up so many bytes.
fn end_of_portion(batch: &Batch, from: usize, len: usize) -> usize {
    let (mut event, mut bytes) = (from, 0);
    while event < batch.len() && bytes < len {
        bytes += batch.span(event).len();
        event += 1;
    }
    event
}

/// Puts spots in order that are nearly so: what the filter sees at its end stands a little further in front.
fn put_in_order(spots: &mut [Spot]) {
    for nth in 1..spots.len() {
        let mut at = nth;
        while at > 0 && spots[at] < spots[at - 1] {
            spots.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// Whether one of the spots stands in a range.
fn has_spot(spots: &[Spot], made: bool, range: Range<usize>) -> bool {
    let first = spots.partition_point(|spot| (spot.made, spot.at) < (made, range.start));
    spots.get(first).is_some_and(|spot| spot.made == made && spot.at < range.end)
}

/// Whether the next event can be scanned together with those before.
fn follows(before: &Range<usize>, next: &Range<usize>) -> bool {
    next.start >= before.end && next.start - before.end <= GAP
}
