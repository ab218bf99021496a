//! Ids that producers gave and that are no UUID or ULID: the events' own ids derive from them.

use std::borrow::Cow;

use memchr::memmem;

use super::{Batch, Event, MADE};
use crate::event::id::{Id, Seed};
use crate::event::names::ID;
use crate::event::raw::{Kind, Raw, value_end};

/// An event whose id derives from something of its own: what its producer calls it, or the event that it was made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identified {
    /// Where the event starts in the input.
    start: u32,
    pub(super) seed: Seed,
    pub(super) ordinal: u64,
    /// Whether a transform made it from another event.
    is_made: bool,
}

impl Batch {
    /// Derives the ids of such events from source, sender and what they are called, so that one that is sent again has the
    /// same id, whether its members are ever looked at or not. To be called before anything is changed.
    pub fn identify(&mut self) {
        let mut identified = Vec::new();
        let mut note = |batch: &Batch, event: usize, id: Raw<'_>| {
            if let Some(name) = foreign(id) {
                let (start, seed) = (batch.events[event].start, batch.provenance.identity(&name));
                identified.push(Identified { start, seed, ordinal: 0, is_made: false });
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
        identified.sort_unstable_by_key(|identified| identified.start);
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

    pub(super) fn identified_at(&self, start: u32) -> Option<&Identified> {
        let place = self.identified.binary_search_by_key(&start, |identified| identified.start).ok()?;
        Some(&self.identified[place])
    }

    /// What the event's id derives from if its producer calls it so, in its n-th field, a member `id`.
    pub fn identity(&self, event: usize, nth: usize, name: &str) -> Seed {
        let field = &self.table(event)[nth];
        let is_original = field.name == ID && field.key != MADE && !field.made;
        match self.identified_at(self.events[event].start) {
            Some(identified) if is_original => identified.seed,
            // It is another event than the one that it was made from, whoever has named it since.
            Some(Identified { seed, ordinal, is_made: true, .. }) => {
                Seed::derive(&[b"source_id", &seed.0, &ordinal.to_le_bytes(), name.as_bytes()])
            }
            _ => self.provenance.identity(name),
        }
    }

    /// Makes other events of these: their ids derive from what `other` makes of what they derived from.
    pub fn derive_those(&mut self, is_chosen: impl Fn(usize) -> bool, other: impl Fn(Seed) -> Seed) {
        let mut new = Vec::new();
        for event in (0..self.events.len()).filter(|event| is_chosen(*event)) {
            let (seed, ordinal) = self.origin(event);
            let start = self.events[event].start;
            let made = Identified { start, seed: other(seed), ordinal, is_made: true };
            match self.identified.binary_search_by_key(&start, |identified| identified.start) {
                Ok(place) => self.identified[place] = made,
                Err(_) => new.push(made),
            }
        }
        // Two runs in order, which are put together at once: to insert one by one is quadratic where they alternate.
        self.identified.append(&mut new);
        self.identified.sort_by_key(|identified| identified.start);
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
    use std::sync::Arc;

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
        let provenance = batch.provenance.clone();
        let named = |name: &str| provenance.identity(name);
        assert_eq!(batch.identity(1, 0, "order-5"), named("order-5"));
        let mut renamed = batch.clone();
        renamed.rename_nth(1, 0, batch.name_id("other"));
        renamed.rename_nth(1, 0, ID);
        assert_eq!(renamed.identity(1, 0, "order-5"), named("order-5"));
        let mut set = batch.clone();
        set.set_nth(1, 0, br#""order-6""#);
        assert_eq!(set.identity(1, 0, "order-6"), named("order-6"));
    }

    #[test]
    fn some_events_of_a_batch_become_others_whatever_names_them() {
        let mut batch = batch(|batch, range| batch.push_validated(range.clone(), range.start as u64));
        batch.split_all();
        batch.identify();
        let mut made = batch.clone();
        made.derive_those(|event| event % 2 == 1, |seed| Seed::derive(&[&seed.0]));
        for event in 0..LINES.len() {
            assert_eq!(batch.derived_id(event) == made.derived_id(event), event % 2 == 0, "{event}");
        }
        assert_eq!(made.identity(1, 0, "order-5").id(0), made.derived_id(1), "it is not that of the first event");
        assert_eq!(made.identity(4, 1, "17"), batch.identity(4, 1, "17"));
        made.set_nth(1, 0, br#""order-6""#);
        let other = made.identity(1, 0, "order-6");
        assert!(other != batch.provenance.identity("order-6") && other != made.origin(1).0);
    }
}
