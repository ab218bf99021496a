//! Parked dead letters in the store: the sink and destination each is waiting for.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::dead_letter::{DeadLetter, NewDeadLetter, Number};
use super::ends::MAX_ENDS;
use super::store::DeadLetterStore;
use super::{End, Ended, Lot, Refused, Removed, Resumed, Taken, Wanted};
use crate::telemetry::ParkedEnds;
use crate::units::Timestamp;

/// Numbers of parked dead letters by component and destination.
#[derive(Debug, Default)]
pub struct Index(BTreeMap<(String, String), BTreeSet<Number>>);

impl Index {
    pub fn add(&mut self, component: &str, destination: &str, number: Number) {
        self.0.entry((component.to_owned(), destination.to_owned())).or_default().insert(number);
    }

    pub fn remove(&mut self, number: Number) {
        self.0.retain(|_, numbers| {
            numbers.remove(&number);
            !numbers.is_empty()
        });
    }

    /// The sink that a parked dead letter waits for.
    fn component_of(&self, number: Number) -> Option<&str> {
        self.0.iter().find(|(_, numbers)| numbers.contains(&number)).map(|((component, _), _)| component.as_str())
    }

    fn has(&self, component: &str) -> bool {
        self.of(component).next().is_some()
    }

    fn lot(&self, component: &str, destination: &str) -> Option<&BTreeSet<Number>> {
        self.0.get(&(component.to_owned(), destination.to_owned()))
    }

    /// Destinations of a component, and what waits for them.
    fn of<'a>(&'a self, component: &'a str) -> impl Iterator<Item = (&'a String, &'a BTreeSet<Number>)> {
        let lots = self.0.range((component.to_owned(), String::new())..);
        lots.take_while(move |((name, _), _)| name == component).map(|((_, destination), lot)| (destination, lot))
    }
}

impl DeadLetterStore {
    /// Makes the index after the files were opened.
    pub fn find_parked(&mut self) {
        let numbers: Vec<Number> = self.parked_numbers().collect();
        for number in numbers {
            if let Some(Ok(DeadLetter {
                content: NewDeadLetter { component, parked: Some(destination), .. }, ..
            })) = self.get(number)
            {
                self.parked.add(&component, &destination, number);
            }
        }
    }

    /// What waits for a sink that begins at `position`. Dead letters from there on are removed: they come again from the
    /// journal. So are second dead letters of one event, which a failed sync may leave behind.
    pub fn resume(&mut self, component: &str, position: u64, settled: u64) -> io::Result<Resumed> {
        self.mark_ended()?;
        let mut resumed = Resumed { ends: self.ends.of(component), ..Resumed::default() };
        let (mut seen, mut again) = (BTreeSet::new(), Vec::new());
        for (destination, numbers) in self.parked.of(component) {
            let mut lot = Lot { destination: destination.clone(), ..Lot::default() };
            for number in numbers {
                let Some(dead_letter) = self.get(*number).transpose()? else { continue };
                let seq = dead_letter.content.seq.unwrap_or(0);
                let is_new = seen.insert(seq);
                if seq >= position || !is_new {
                    resumed.come_again += u64::from(is_new && seq < settled);
                    again.push(*number);
                    continue;
                }
                if lot.dead_letters == 0 {
                    (lot.since, lot.answer) = (dead_letter.time, dead_letter.content.answer);
                }
                lot.dead_letters += 1;
            }
            if lot.dead_letters > 0 {
                resumed.lots.push(lot);
            }
        }
        self.mark_done(&again)?;
        Ok(resumed)
    }

    /// The oldest dead letters that wait for a destination: at least one, if there is one.
    pub fn take(&self, wanted: &Wanted) -> io::Result<Taken> {
        let Some(lot) = self.parked.lot(&wanted.component, &wanted.destination) else { return Ok(Taken::default()) };
        let (mut dead_letters, mut size): (Vec<DeadLetter>, usize) = (Vec::new(), 0);
        for number in lot {
            let Some(dead_letter) = self.get(*number).transpose()? else { continue };
            if dead_letter.content.seq.is_some_and(|seq| seq >= wanted.before) {
                continue;
            }
            size += dead_letter.content.body.len();
            if dead_letters.len() == wanted.events || !dead_letters.is_empty() && size > wanted.bytes {
                break;
            }
            dead_letters.push(dead_letter);
        }
        Ok(Taken { dead_letters, of: lot.len() as u64 })
    }

    /// Ends parked dead letters of a sink. Those that are not there any more, or not parked for it, do not count.
    pub fn end(&mut self, component: &str, ends: &[(Number, End)]) -> io::Result<Ended> {
        let mut ended = Ended { events: 0, ends: self.ends.of(component) };
        for ends in ends.chunks(MAX_ENDS) {
            self.mark_ended()?;
            let ends: BTreeMap<Number, End> = ends.iter().copied().collect();
            let is_parked = |number: &Number| self.parked.of(component).any(|(_, lot)| lot.contains(number));
            let ends: Vec<(Number, End)> = ends.into_iter().filter(|(number, _)| is_parked(number)).collect();
            if ends.is_empty() {
                continue;
            }
            let mut more = ParkedEnds::default();
            for (_, end) in &ends {
                *end.column(&mut more) += 1;
            }
            let numbers: Vec<Number> = ends.iter().map(|(number, _)| *number).collect();
            self.ends.commit(component, more, numbers.clone(), |name| self.parked.has(name))?;
            // They have ended, whatever becomes of the marks.
            numbers.iter().for_each(|number| self.parked.remove(*number));
            ended = Ended { events: ended.events + numbers.len() as u64, ends: self.ends.of(component) };
            if let Err(error) = self.mark_ended() {
                tracing::warn!(%error, "dead letters that have ended could not be marked; this is tried again");
            }
        }
        Ok(ended)
    }

    /// Marks those that have ended and are not marked yet.
    pub(super) fn mark_ended(&mut self) -> io::Result<()> {
        let unmarked = self.ends.unmarked().to_vec();
        if !unmarked.is_empty() {
            self.mark_done(&unmarked)?;
            self.ends.all_marked();
        }
        Ok(())
    }

    /// Parked dead letters that turned out to be dead. Since they take each other's place, the bound does not matter.
    pub fn condemn(
        &mut self,
        component: &str,
        dead_letters: Vec<NewDeadLetter>,
        parked: &[Number],
        now: Timestamp,
    ) -> Result<Ended, Refused> {
        self.append_beyond_the_bound(dead_letters, now)?;
        let ends: Vec<(Number, End)> = parked.iter().map(|number| (*number, End::DeadLettered)).collect();
        self.end(component, &ends).map_err(Refused::from)
    }

    /// Lets go of dead letters, replayed or dropped by somebody. Parked ones count as dropped by their sinks.
    pub fn remove(&mut self, numbers: &[Number]) -> io::Result<Removed> {
        let mut dead: Vec<Number> = Vec::new();
        let mut parked: BTreeMap<String, Vec<(Number, End)>> = BTreeMap::new();
        for number in numbers {
            match self.parked.component_of(*number) {
                Some(component) => parked.entry(component.to_owned()).or_default().push((*number, End::Dropped)),
                None => dead.push(*number),
            }
        }
        let mut removed = Removed { dead_letters: self.mark_done(&dead)?, parked: BTreeMap::new() };
        for (component, ends) in parked {
            let ended = self.end(&component, &ends)?;
            removed.dead_letters += ended.events;
            removed.parked.insert(component, ended.ends);
        }
        Ok(removed)
    }

    /// Lets go what is parked for a sink that is no more; tells how much it was.
    pub fn clear(&mut self, component: &str) -> io::Result<u64> {
        let numbers: Vec<Number> = self.parked.of(component).flat_map(|(_, lot)| lot.iter().copied()).collect();
        self.mark_done(&numbers)
    }

    /// How many dead letters are parked, by component.
    pub fn waiting(&self) -> BTreeMap<String, u64> {
        let mut waiting = BTreeMap::new();
        for ((component, _), numbers) in &self.parked.0 {
            *waiting.entry(component.clone()).or_default() += numbers.len() as u64;
        }
        waiting
    }
}
