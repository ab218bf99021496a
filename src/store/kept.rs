//! What a part has answered, kept for the next who asks the same: parts never change.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

use super::cache::{ANSWERS, Key};
use super::groups::PartialGroups;
use super::part::Part;
use super::search::{Place, covers};
use crate::query::request::{AggregateRequest, Filter, GroupKey};
use crate::visibility::Visibility;

/// The groups of one part are kept if they take no more bytes.
const MAX_GROUPS_BYTES: usize = 24 * 1024;
const GROUPS: u16 = ANSWERS;
const COUNT: u16 = ANSWERS + 1;

/// A question without its time, for parts that lie within it.
pub struct Question {
    text: Arc<str>,
    section: u16,
    hash: u64,
}

/// The text tells two questions with the same hash apart.
struct Answer<T> {
    question: Arc<str>,
    value: T,
}

/// How far a part has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    pub count: u64,
    /// The chunks before this one are left.
    pub left: usize,
}

impl Question {
    /// `None` where a key is of a zone without a name.
    pub fn of_groups(request: &AggregateRequest, visibility: &Visibility) -> Option<Question> {
        let keys: Vec<String> = request.group_by.iter().map(name_of_key).collect::<Option<_>>()?;
        let asked = format!("{keys:?} {} {}", request.with_durations, request.with_percentiles);
        Some(Question::new(GROUPS, &request.filter, visibility, &asked))
    }

    pub fn of_count(filter: &Filter, visibility: &Visibility) -> Question {
        Question::new(COUNT, filter, visibility, "")
    }

    fn new(section: u16, filter: &Filter, visibility: &Visibility, asked: &str) -> Question {
        static HASHES: OnceLock<RandomState> = OnceLock::new();
        let expr = filter.query.as_ref().map(|query| query.expr());
        let text: Arc<str> = format!("{visibility:?} {:?} {expr:?} {asked}", filter.equals).into();
        let hash = HASHES.get_or_init(RandomState::new).hash_one((&text, section));
        Question { text, section, hash }
    }

    fn key(&self, part: &Part) -> Key {
        Key { part: part.number, section: self.section, column: self.hash as u32, block: (self.hash >> 32) as u32 }
    }

    fn answer<T: Clone + Send + Sync + 'static>(&self, part: &Part) -> Option<T> {
        let answer: Arc<Answer<T>> = part.cache().kept(self.key(part))?;
        (answer.question == self.text).then(|| answer.value.clone())
    }

    fn keep<T: Send + Sync + 'static>(&self, part: &Part, value: T, bytes: usize) {
        let answer = Answer { question: self.text.clone(), value };
        // Answers share the text of their question, and each counts all of it.
        let bytes = bytes + self.text.len() + std::mem::size_of::<Answer<T>>();
        part.cache().keep(self.key(part), &Arc::new(answer), bytes);
    }

    pub fn groups(&self, part: &Part) -> Option<Arc<PartialGroups>> {
        self.answer(part)
    }

    pub fn keep_groups(&self, part: &Part, groups: Arc<PartialGroups>) {
        if fits(&groups) {
            let bytes = groups.weight();
            self.keep(part, groups, bytes);
        }
    }

    pub fn count(&self, part: &Part) -> Option<Counted> {
        self.answer(part)
    }

    pub fn keep_count(&self, part: &Part, counted: Counted) {
        self.keep(part, counted, 0);
    }
}

/// Whether groups of one part are few enough to be kept.
pub fn fits(groups: &PartialGroups) -> bool {
    groups.weight() <= MAX_GROUPS_BYTES
}

/// Tells a key from all others.
fn name_of_key(by: &GroupKey) -> Option<String> {
    let (kind, zone) = match by {
        GroupKey::Field(path) => return Some(format!("{path:?}")),
        GroupKey::Day(zone) => ("day".to_owned(), zone),
        GroupKey::Hour(zone) => ("hour".to_owned(), zone),
        GroupKey::Interval { micros, zone } => (micros.to_string(), zone),
    };
    match zone.0.to_fixed_offset() {
        Ok(offset) => Some(format!("{kind} {}", offset.seconds())),
        Err(_) => zone.0.iana_name().map(|zone| format!("{kind} {zone}")),
    }
}

/// The part, if the filter's time says nothing about its events.
pub fn part_within<'p>(place: &'p Place, filter: &Filter) -> Option<&'p Part> {
    match place {
        Place::Part(part) if covers(filter, place.times()) => Some(part),
        _ => None,
    }
}
