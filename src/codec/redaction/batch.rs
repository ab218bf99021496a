//! The hot path: all events of a batch at once.

use std::ops::Range;

use super::assign::is_value_member;
use super::filter::Hit;
use super::json::{Above, FreeNames, Only, narrowed, pair_name};
use super::names::{Class, classify};
use super::reader::{Reader, Work};
use super::rules::SECRET_FIELD;
use super::{Action, Engine, Report};
use crate::event::names::REDACTIONS;
use crate::event::raw::Raw;
use crate::event::{Batch, Kind, NameId};

/// Events that stand this close together in the input are scanned in one go.
const GAP: usize = 64;

/// A place worth a look.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    event: usize,
    /// In what transforms made, not in the input.
    made: bool,
    at: usize,
}

impl Engine {
    /// Redacts every event; those that change get their `redactions`, and `report` the sum.
    pub fn redact_batch(&self, batch: &mut Batch, report: &mut Report) {
        if self.look_everywhere {
            batch.split_all();
            for event in 0..batch.len() {
                self.redact_event(batch, event, None, report);
            }
            return;
        }
        let mut spots = Vec::new();
        self.scan_input(batch, &mut spots);
        self.scan_made(batch, &mut spots);
        self.scan_given_names(batch, &mut spots);
        spots.sort_unstable();
        batch.split_some(spots.iter().map(|spot| spot.event));
        for spots in spots.chunk_by(|a, b| a.event == b.event) {
            self.redact_event(batch, spots[0].event, Some(spots), report);
        }
    }

    /// Finds the spots in the bytes that came in.
    fn scan_input(&self, batch: &Batch, spots: &mut Vec<Spot>) {
        let (mut event, mut hits) = (0, Vec::new());
        while event < batch.len() {
            let first = event;
            let mut range = batch.span(event);
            event += 1;
            while event < batch.len() && follows(&range, &batch.span(event)) {
                range.end = batch.span(event).end;
                event += 1;
            }
            hits.clear();
            self.filter.scan(&batch.input()[range.clone()], &mut hits);
            let mut holder = first;
            let mut reader: Option<(usize, Reader<'_>)> = None;
            for hit in &hits {
                let at = range.start + hit.at as usize;
                // Hits are nearly in order, so the event is the last one or one of the next.
                while holder > first && batch.span(holder).start > at {
                    holder -= 1;
                }
                while batch.span(holder).end <= at && holder + 1 < event {
                    holder += 1;
                }
                let span = batch.span(holder);
                if !span.contains(&at) {
                    continue;
                }
                let inside = Hit { at: (at - span.start) as u32, sign: hit.sign };
                if reader.as_ref().is_none_or(|(event, _)| *event != holder) {
                    reader = Some((holder, Reader::new(&batch.input()[span])));
                }
                let (_, reader) = reader.as_ref().expect("just made");
                if self.is_plausible(reader, inside) {
                    spots.push(Spot { event: holder, made: false, at });
                }
            }
        }
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

    /// Redacts the fields of an event that have a spot, or all of them.
    fn redact_event(&self, batch: &mut Batch, event: usize, spots: Option<&[Spot]>, report: &mut Report) {
        let only: Only<'_> = self.fields.as_ref().map(|paths| paths.iter().map(Vec::as_slice).collect());
        let pair = self.pair_of(batch, event);
        let mut edit = Edit { event, work: Work::on(0), removed: Vec::new(), names: None, pair };
        for nth in 0..batch.field_count(event) {
            let paired = pair.is_some() && is_value_member(batch.name(batch.nth(event, nth).0));
            if paired || spots.is_none_or(|spots| has_spot(batch, event, nth, spots)) {
                let place = batch.place(event, nth);
                edit.work.allow(place.value.len() + place.key.map_or(0, |key| batch.key_end(key) - key));
                self.redact_field(batch, nth, &only, &mut edit);
            }
        }
        for name in edit.removed {
            batch.remove(event, name);
        }
        if edit.work.found.is_empty() {
            return;
        }
        let mut own = Report::default();
        edit.work.found.iter().for_each(|rule| own.add(&self.names[usize::from(*rule)], 1));
        report.merge(&own);
        if let Some(before) = batch.get(event, REDACTIONS) {
            own.trust_numbers(before);
        }
        batch.set_json(event, REDACTIONS, &own.to_json());
    }

    /// What an event's `value` is if the event is a pair: `{"name": "DB_PASSWORD", "value": "x"}`.
    fn pair_of(&self, batch: &Batch, event: usize) -> Option<Class> {
        let mut fields = batch.fields(event).take(16);
        fields.find_map(|(id, value)| pair_name(batch.name(id), value))
    }

    fn redact_field(&self, batch: &mut Batch, nth: usize, only: &Only<'_>, edit: &mut Edit) {
        let (id, value) = batch.nth(edit.event, nth);
        let name = batch.name(id);
        let Some(below) = narrowed(only, name) else { return };
        let work = &mut edit.work;
        let whole = below.is_none();
        let renamed = whole.then(|| self.clean(name.as_bytes(), work)).flatten();
        let pair = edit.pair.filter(|_| is_value_member(name));
        let secret = self.is_secret_member(name, value, whole, pair);
        let cleaned = match secret {
            true => {
                work.found.push(SECRET_FIELD);
                Some(self.hidden(value))
            }
            false => {
                let class = classify(name.as_bytes()).filter(|_| self.enabled[usize::from(SECRET_FIELD)]);
                let class = class.filter(|_| value.kind() != Kind::String);
                let name = name.to_owned();
                self.clean_value(Raw::valid(value.as_bytes()), &Above { only: below, name: &name, class }, work)
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
            Some(cleaned) => batch.set_nth(edit.event, nth, &cleaned),
            None => {}
        }
    }
}

/// An event while its fields are redacted.
struct Edit {
    event: usize,
    work: Work,
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

/// Whether a field has one of these spots, in its name or in its value.
fn has_spot(batch: &Batch, event: usize, nth: usize, spots: &[Spot]) -> bool {
    let place = batch.place(event, nth);
    let within = |made: bool, range: Range<usize>| {
        let first = spots.partition_point(|spot| (spot.made, spot.at) < (made, range.start));
        spots.get(first).is_some_and(|spot| spot.made == made && spot.at < range.end)
    };
    within(place.made, place.value) || place.key.is_some_and(|key| within(false, key..batch.key_end(key)))
}

/// Whether the next event can be scanned together with those before.
fn follows(before: &Range<usize>, next: &Range<usize>) -> bool {
    next.start >= before.end && next.start - before.end <= GAP
}
