//! Ids that producers gave and that are no UUID or ULID: the events' own ids derive from them.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::memmem;

use super::{Batch, Event, MADE};
use crate::event::id::{Id, Seed};
use crate::event::names::ID;
use crate::event::raw::{Kind, Raw, value_end};

impl Batch {
    /// Derives the ids of such events from source, sender and what they are called, so that one that is sent again has the
    /// same id, whether its members are ever looked at or not. To be called before anything is changed.
    pub fn identify(&mut self) {
        let mut identified = Vec::new();
        let mut note = |batch: &Batch, event: usize, id: Raw<'_>| {
            if let Some(name) = foreign(id) {
                identified.push((batch.events[event].start, batch.provenance.identity(&name)));
            }
        };
        let is_split = self.events.first().is_some_and(|event| event.split);
        if is_split {
            for event in 0..self.events.len() {
                self.get(event, ID).into_iter().for_each(|id| note(self, event, id));
            }
        } else if let Some(ids) = &self.ids {
            let mut event = 0;
            for id in ids {
                while self.events[event].start + self.events[event].len <= *id {
                    event += 1;
                }
                let text = &self.input[*id as usize..];
                note(self, event, Raw::valid(&text[..value_end(text)]));
            }
        } else {
            self.look_through(&mut note);
        }
        self.ids = None;
        identified.sort_unstable_by_key(|(start, _)| *start);
        self.identified = identified;
    }

    /// Finds ids in events that are not split. The name is looked for in all of them at once.
    fn look_through(&self, note: &mut impl FnMut(&Batch, usize, Raw<'_>)) {
        let Some(Event { start: first, .. }) = self.events.first().copied() else { return };
        let is_ascending = self.events.is_sorted_by_key(|event| event.start);
        let mut behind = 0;
        for place in memmem::find_iter(&self.input[first as usize..], br#""id""#) {
            let place = first + place as u32;
            if place < behind || !is_ascending {
                continue;
            }
            let Some(event) = self.events.partition_point(|event| event.start <= place).checked_sub(1) else {
                continue;
            };
            let Event { start, len, .. } = self.events[event];
            behind = start + len;
            if place < behind {
                let line = Raw::valid(&self.input[start as usize..behind as usize]);
                line.get("id").into_iter().for_each(|id| note(self, event, id));
            }
        }
    }

    /// What [`Batch::identify`] has found that the event's id derives from, if its n-th field is that member `id`, unchanged.
    pub fn identity_of(&self, event: usize, nth: usize) -> Option<Seed> {
        let field = &self.table(event)[nth];
        let is_original = !self.is_derived && field.name == ID && field.key != MADE && !field.made;
        let start = self.events[event].start;
        let place = self.identified.binary_search_by_key(&start, |(start, _)| *start).ok().filter(|_| is_original)?;
        Some(self.identified[place].1)
    }

    /// Has the ids of all events derive from others.
    pub fn derive_from(&mut self, other: impl Fn(Seed) -> Seed) {
        let provenance = Arc::make_mut(&mut self.provenance);
        provenance.seed = other(provenance.seed);
        self.is_derived = true;
        self.identified.iter_mut().for_each(|(_, seed)| *seed = other(*seed));
    }
}

/// What a producer calls an event, if that is no id of ours.
fn foreign(id: Raw<'_>) -> Option<Cow<'_, str>> {
    if id.inside().is_some_and(|text| Id::parse_bytes(text).is_some()) {
        return None;
    }
    let text = id.display();
    let is_own = id.kind() == Kind::String && Id::parse(&text).is_some();
    (!is_own && !id.is_null() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{Provenance, Scanner};
    use crate::units::Timestamp;

    const LINES: [&str; 11] = [
        r#"{"a":1}"#,
        r#"{"id":"order-5"}"#,
        r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057"}"#,
        r#"{"a":{"id":"order-5"},"b":"\"id\":1"}"#,
        r#"{"a":["id"],"id" : 17}"#,
        r#"{"id":null}"#,
        r#"{"id":""}"#,
        r#"{"id":"17"}"#,
        r#"{"id":{"n":1}}"#,
        r#"{"id":5,"a":"id","ids":1,"id":"order-6","b":{"id":7},"c":[{"id":8}]}"#,
        r#"{"a":"}{\"id\":","b":[{"id":8}]}"#,
    ];

    fn batch(push: impl Fn(&mut Batch, std::ops::Range<usize>)) -> Batch {
        let provenance = Provenance {
            source: "web".into(),
            seed: Seed([3; 16]),
            received_at: Timestamp(0),
            peer: None,
            stamp: None,
        };
        let mut batch = Batch::new(Bytes::from(LINES.join("\n")), Arc::new(provenance));
        let mut start = 0;
        for line in LINES {
            push(&mut batch, start..start + line.len());
            start += line.len() + 1;
        }
        batch
    }

    #[test]
    fn what_a_producer_calls_an_event_gives_its_id_whether_it_is_split_or_not() {
        let pushed = || batch(|batch, range| batch.push_validated(range.clone(), range.start as u64));
        let scanned = |scanner: Scanner| {
            let scanner = std::cell::RefCell::new(scanner);
            batch(|batch, range| {
                scanner.borrow_mut().validate(&batch.input()[range.clone()]).expect("it is JSON");
                batch.push_scanned(range.clone(), range.start as u64, &scanner.borrow());
            })
        };
        let plain = pushed();
        let mut split = pushed();
        split.split_all();
        let mut all = [pushed(), split, scanned(Scanner::new()), scanned(Scanner::plain())];
        all.iter_mut().for_each(Batch::identify);
        let named = |name: &str| plain.provenance.identity(name).id(0);
        let expected: Vec<Id> = (0..LINES.len())
            .map(|event| match event {
                1 => named("order-5"),
                4 | 7 => named("17"),
                8 => named(r#"{"n":1}"#),
                9 => named("order-6"),
                _ => plain.derived_id(event),
            })
            .collect();
        for mut batch in all {
            let ids = |batch: &Batch| (0..batch.len()).map(|event| batch.derived_id(event)).collect::<Vec<_>>();
            assert_eq!(ids(&batch), expected);
            let lines = batch.render();
            assert_eq!((0..lines.len()).map(|n| lines.derived_id(n)).collect::<Vec<_>>(), expected);
            batch.retain(|event| event % 2 == 0);
            assert_eq!(ids(&batch), expected.iter().copied().step_by(2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_id_that_was_changed_since_is_identified_anew() {
        let mut batch = batch(|batch, range| batch.push_validated(range.clone(), range.start as u64));
        batch.split_all();
        batch.identify();
        let known = Some(batch.provenance.identity("order-5"));
        assert_eq!(batch.identity_of(1, 0), known);
        assert_eq!(batch.identity_of(2, 0), None, "an id of ours");
        assert_eq!(batch.identity_of(4, 0), None, "no id at all");
        let mut renamed = batch.clone();
        renamed.rename_nth(1, 0, batch.name_id("other"));
        renamed.rename_nth(1, 0, ID);
        let mut set = batch.clone();
        set.set_nth(1, 0, br#""order-6""#);
        let mut derived = batch.clone();
        derived.derive_from(|seed| seed);
        assert_eq!([renamed, set, derived].map(|batch| batch.identity_of(1, 0)), [None; 3]);
        assert_eq!(batch.identity_of(1, 0), known);
    }
}
