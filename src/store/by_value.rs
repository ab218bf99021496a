//! Groups and counts of a part from the sums of one member's values: of its rows, only durations are read, for percentiles.

use std::io;
use std::sync::{Arc, Mutex};

use super::aggregate::{Outcome, outcome};
use super::bits::Packed;
use super::candidates::Needs;
use super::dictionary::Dictionary;
use super::duration_key::key_of;
use super::groups::{Failed, Groups, Hidden, KeyValue, Keys, Partial, PartialGroups, key_value};
use super::layout::{Encoding, Section};
use super::lock;
use super::part::Part;
use super::plan::Accepted;
use super::rows::RowFilter;
use super::search::Place;
use super::summary::{OF_CHUNKS, OF_PART, Tally};
use super::value_sums::ValueSums;
use super::value_tops::ValueTops;
use crate::event::Raw;
use crate::query::request::{AggregateRequest, Filter, GroupKey};
use crate::query::{FieldTest, Test};
use crate::visibility::Visibility;

/// A dictionary with more bytes has more than one value, or a long one: it is not opened to find out.
const MAX_CONSTANT_BYTES: usize = 512;
/// Rows of a code that is in no group.
const NO_GROUP: u32 = u32::MAX;

/// A part all of which lies within the time of a question, where its sums know every group.
pub struct ByValue<'p> {
    place: &'p Place,
    part: &'p Part,
    /// The member whose values have sums: its place among [`OF_PART`].
    member: usize,
    sums: Arc<Option<ValueSums>>,
    accepted: Accepted,
    /// Values of the keys; none for the key that is the member.
    keys: [Option<KeyValue>; 2],
    durations: Measure,
}

/// What is told of durations.
enum Measure {
    Nothing,
    /// The greatest of each value.
    Tops(Arc<ValueTops>),
    All(Durations),
}

/// Where durations are read from.
struct Durations {
    kind: Kind,
    /// Of each shape whether it has one, and the shapes of rows; none where every row has one.
    shapes: Option<(Vec<bool>, Arc<Packed>)>,
}

enum Kind {
    Numbers(Arc<Packed>, super::value::NumberStyle),
    /// The duration that each code stands for.
    Codes(Arc<Packed>, Vec<Option<i32>>),
}

/// Whether a filter asks of nothing but members that have sums, which mostly know then how many rows it accepts.
pub fn is_of_sums(filter: &Filter) -> bool {
    let has_sums = |name: &str| OF_PART.contains(&name) || name == OF_CHUNKS;
    let is_of_sums = |test: &Test| {
        FieldTest::new(test).is_some_and(|test| has_sums(&test.name) && test.canonical.is_none_or(has_sums))
    };
    filter.equals.iter().all(|(name, _)| has_sums(name))
        && filter.query.as_ref().is_none_or(|query| query.expr().tests().into_iter().all(is_of_sums))
}

/// How many rows of a part a filter accepts, whatever their time, if sums know.
pub fn count(place: &Place, rows: &RowFilter<'_>) -> io::Result<Option<u64>> {
    let Place::Part(part) = place else { return Ok(None) };
    let column = |name: &str| part.column(name).map(|(column, _)| column);
    if let Some(accepted) = rows.accepted(column(OF_CHUNKS)) {
        let sums = part.chunk_sums()?;
        let chunks: Option<Vec<&[Tally]>> = (0..part.chunks()).map(|chunk| sums.chunk(chunk)).collect();
        let count = |tallies: &[Tally]| -> u64 {
            tallies.iter().filter(|tally| accepted.accepts(tally.code)).map(|tally| tally.count).sum()
        };
        return Ok(chunks.map(|chunks| chunks.into_iter().map(count).sum()));
    }
    for (member, name) in OF_PART.iter().enumerate() {
        if let Some(accepted) = rows.accepted(column(name)) {
            let sums = part.value_sums(member)?;
            let Some(sums) = sums.as_ref() else { return Ok(None) };
            return Ok(Some(tallies(part, sums, &accepted)?.iter().map(|(_, tally)| tally.count).sum()));
        }
        if let Some([accepted, statuses]) = rows.accepted_by_two([column(name), column(OF_CHUNKS)])
            && let Some(count) = count_of(part, &statuses)?
        {
            let sums = part.value_sums(member)?;
            let Some(sums) = sums.as_ref() else { return Ok(None) };
            return Ok(Some(tallies(part, sums, &accepted)?.iter().map(|(_, tally)| count(tally)).sum()));
        }
    }
    Ok(None)
}

/// Which of the counts of a sum.
type CountOf = fn(&Tally) -> u64;

/// What sums count of events with these statuses, if these are all that mean success, or all that mean an error.
fn count_of(part: &Part, accepted: &Accepted) -> io::Result<Option<CountOf>> {
    let Accepted::Codes(codes) = accepted else { return Ok(Some(|tally| tally.count)) };
    let Some((column, _)) = part.column(OF_CHUNKS) else { return Ok(Some(|_| 0)) };
    let statuses = part.dictionary(column)?;
    let outcome_of = |code: usize| outcome(statuses.get(code as i64).map(Raw::valid));
    let is_all = |of: Outcome| codes.iter().enumerate().all(|(code, accepted)| *accepted == (outcome_of(code) == of));
    Ok(match codes.contains(&true) {
        false => Some(|_| 0),
        true if codes.len() != statuses.len() + 1 => None,
        true if is_all(Outcome::Error) => Some(|tally| tally.errors),
        true if is_all(Outcome::Success) => Some(|tally| tally.successes),
        true => None,
    })
}

/// The sums of the values that are accepted, each with its place among all.
fn tallies(part: &Part, sums: &ValueSums, accepted: &Accepted) -> io::Result<Vec<(usize, Tally)>> {
    let tallies: Vec<(usize, Tally)> = match accepted {
        Accepted::All => sums.all().into_iter().enumerate().collect(),
        Accepted::Codes(codes) => {
            let accepted = codes.iter().enumerate().filter(|(_, is_accepted)| **is_accepted);
            let places = accepted.filter_map(|(code, _)| sums.place_of(code as u32));
            places.map(|place| (place, sums.get(place))).collect()
        }
    };
    let is_possible = |(_, tally): &(usize, Tally)| {
        let most = tally.successes.max(tally.errors).max(tally.durations);
        most <= tally.count && tally.count <= part.events() as u64
    };
    match tallies.iter().all(is_possible)
        && tallies.iter().map(|(_, tally)| tally.count).sum::<u64>() <= part.events() as u64
    {
        true => Ok(tallies),
        false => Err(part.damaged("its sums do not fit its rows")),
    }
}

impl<'p> ByValue<'p> {
    /// `None` where rows have to be read for more than their durations. Of members with so many values
    /// the greatest durations are enough, where the part keeps them.
    pub fn of(
        place: &'p Place,
        part: &'p Part,
        request: &AggregateRequest,
        visibility: &Visibility,
        most_tops: usize,
    ) -> io::Result<Option<ByValue<'p>>> {
        if !part.has_sums() || request.group_by.len() > 2 {
            return Ok(None);
        }
        let (mut keys, mut member) = ([Some(KeyValue::Missing), Some(KeyValue::Missing)], None);
        for (key, by) in keys.iter_mut().zip(&request.group_by) {
            let Some(name) = name_of(by) else { return Ok(None) };
            *key = constant(part, name)?;
            if key.is_none() {
                let known = OF_PART.iter().position(|known| *known == name);
                if known.is_none() || member.is_some_and(|member| Some(member) != known) {
                    return Ok(None);
                }
                member = known;
            }
        }
        let filter = RowFilter::new(place, &request.filter, visibility)?;
        for nth in member.map_or(0..OF_PART.len(), |member| member..member + 1).rev() {
            let column = part.column(OF_PART[nth]).map(|(column, _)| column);
            let Some(accepted) = filter.accepted(column) else { continue };
            let sums = part.value_sums(nth)?;
            if sums.is_none() {
                continue;
            }
            let is_enough = sums.as_ref().as_ref().is_some_and(|sums| sums.len() <= most_tops);
            let kept = if request.with_percentiles && is_enough { part.value_tops(nth)? } else { None };
            let durations = match kept {
                _ if !request.with_percentiles => Measure::Nothing,
                Some(tops) => Measure::Tops(tops),
                None => match Durations::of(part)? {
                    Some(durations) => durations.map_or(Measure::Nothing, Measure::All),
                    None => return Ok(None),
                },
            };
            return Ok(Some(ByValue { place, part, member: nth, sums, accepted, keys, durations }));
        }
        Ok(None)
    }

    /// The groups of the part; its rows are looked for in the chunks that have what is needed.
    pub fn groups(
        &self,
        request: &AggregateRequest,
        needs: &Needs,
        partial: &mut Partial,
        groups: &Mutex<Groups>,
    ) -> Result<PartialGroups, Failed> {
        let sums = self.sums.as_ref().as_ref().expect("there are sums");
        let mut tallies = tallies(self.part, sums, &self.accepted)?;
        let has_key = self.keys.contains(&None);
        let (mut found, mut group_of): (Vec<(Keys, Tally)>, Vec<u32>) = (Vec::new(), Vec::new());
        let values = if has_key { self.dictionary()? } else { None };
        let keys_of = |tally: &Tally| {
            let value = values.as_deref().and_then(|values| values.get(i64::from(tally.code)));
            self.keys.each_ref().map(|key| match key {
                Some(known) => known.clone(),
                None => key_value(value.map(Raw::valid)),
            })
        };
        let slice = lock(groups).slice.clone();
        if has_key && !slice.is_whole() {
            tallies.retain(|(_, tally)| slice.has(&keys_of(tally)));
        }
        if has_key && tallies.len() > request.max_groups {
            return Err(Failed::TooMany);
        }
        let durations: u64 = tallies.iter().map(|(_, tally)| tally.durations).sum();
        let durations = if matches!(self.durations, Measure::Nothing) { 0 } else { durations as usize };
        partial.hold(groups, if has_key { tallies.len() } else { 1 }, durations)?;
        for (_, tally) in &tallies {
            let group = if has_key { found.len() } else { 0 };
            match found.get_mut(group) {
                Some((_, known)) => known.join(tally),
                None => found.push((keys_of(tally), *tally)),
            }
            let code = tally.code as usize;
            group_of.resize(group_of.len().max(code + 1), NO_GROUP);
            group_of[code] = group as u32;
        }
        let ends = found.iter().scan(0, |end, (_, tally)| {
            *end += tally.durations as usize;
            Some(*end)
        });
        let ends: Vec<usize> = ends.collect();
        let (keys, sums): (Vec<Keys>, Vec<Tally>) = found.into_iter().unzip();
        match &self.durations {
            Measure::Tops(tops) => self.with_tops(tops, keys, sums, &tallies),
            Measure::All(durations) if durations_of(&sums) > 0 => {
                let durations = self.read_durations(durations, needs, has_key, &group_of, &ends)?;
                Ok(PartialGroups::of(keys, sums, durations, ends))
            }
            _ => {
                let ends = vec![0; keys.len()];
                Ok(PartialGroups::of(keys, sums, Vec::new(), ends))
            }
        }
    }

    /// Groups with the greatest durations of their values; values and groups have the same order.
    fn with_tops(
        &self,
        tops: &ValueTops,
        keys: Vec<Keys>,
        sums: Vec<Tally>,
        tallies: &[(usize, Tally)],
    ) -> Result<PartialGroups, Failed> {
        let damaged = || self.part.damaged("its greatest durations do not fit its sums");
        let of_group = if keys.len() == 1 { tallies.len().max(1) } else { 1 };
        let (mut durations, mut ends, mut hidden) = (Vec::new(), Vec::new(), Vec::new());
        for values in tallies.chunks(of_group) {
            let mut of_all: Option<Hidden> = None;
            for (place, tally) in values {
                if *place >= tops.len() {
                    return Err(damaged().into());
                }
                let start = durations.len();
                tops.each(*place, |key| durations.push(key));
                let Some(count) = tally.durations.checked_sub((durations.len() - start) as u64) else {
                    return Err(damaged().into());
                };
                if count > 0 {
                    let most = durations[start..].last().copied().unwrap_or(i32::MAX);
                    let before = of_all.unwrap_or(Hidden { count: 0, most });
                    of_all = Some(Hidden { count: before.count + count as u32, most: before.most.max(most) });
                }
            }
            ends.push(durations.len());
            hidden.push(of_all);
        }
        Ok(PartialGroups::of(keys, sums, durations, ends).hiding(hidden))
    }

    fn dictionary(&self) -> io::Result<Option<Arc<Dictionary>>> {
        self.part.column(OF_PART[self.member]).map(|(column, _)| self.part.dictionary(column)).transpose()
    }

    /// The durations of all groups, one group behind the other.
    fn read_durations(
        &self,
        durations: &Durations,
        needs: &Needs,
        has_key: bool,
        group_of: &[u32],
        ends: &[usize],
    ) -> io::Result<Vec<i32>> {
        let mut out = vec![0; ends.last().copied().unwrap_or(0)];
        let mut places: Vec<usize> = std::iter::once(0).chain(ends.iter().copied()).take(ends.len()).collect();
        let column = self.part.column(OF_PART[self.member]).filter(|_| has_key || self.accepted != Accepted::All);
        let codes = column.map(|(column, _)| self.part.packed(Section::Codes, column)).transpose()?;
        let (mut in_chunk, mut rows, mut read) = (Vec::new(), Vec::new(), DurationReader::default());
        for chunk in self.place.candidates(needs)?.iter() {
            rows.clear();
            match &codes {
                None => rows.extend((0..self.place.chunk_len(chunk)).map(|row| (row, 0))),
                Some(codes) => {
                    codes.chunk(chunk, &mut in_chunk);
                    for (row, code) in in_chunk.iter().enumerate() {
                        let group = group_of.get(*code as usize).copied().unwrap_or(NO_GROUP);
                        if group != NO_GROUP {
                            rows.push((row, group));
                        }
                    }
                }
            }
            read.each(durations, chunk, &rows, |group, duration| {
                // A row too many is found below: another group has one too few, or the end is reached.
                if let Some(place) = places.get_mut(group as usize) {
                    if let Some(out) = out.get_mut(*place) {
                        *out = duration;
                    }
                    *place += 1;
                }
            });
        }
        match places == ends {
            true => Ok(out),
            false => Err(self.part.damaged("its sums do not fit its rows")),
        }
    }
}

fn durations_of(tallies: &[Tally]) -> u64 {
    tallies.iter().map(|tally| tally.durations).sum()
}

/// A key that is a member at the top of events.
pub fn name_of(by: &GroupKey) -> Option<&str> {
    match by {
        GroupKey::Field(path) => path.first().filter(|_| path.len() == 1).map(String::as_str),
        _ => None,
    }
}

/// The value that a member has in every row of the part, if it is known to be one.
fn constant(part: &Part, name: &str) -> io::Result<Option<KeyValue>> {
    let Some((column, described)) = part.column(name) else { return Ok(Some(KeyValue::Missing)) };
    let is_small = part.bytes_of(Section::Dictionary, column) <= MAX_CONSTANT_BYTES;
    if described.encoding != Encoding::Dictionary || !described.is_full || !is_small {
        return Ok(None);
    }
    let values = part.dictionary(column)?;
    Ok((values.len() == 1).then(|| key_value(values.get(1).map(Raw::valid))))
}

impl Durations {
    /// Nothing inside where no event has one; `None` where rows are to be asked one by one.
    fn of(part: &Part) -> io::Result<Option<Option<Durations>>> {
        let Some((column, described)) = part.column("duration_ms") else { return Ok(Some(None)) };
        let kind = match described.encoding {
            Encoding::Dictionary => {
                let values = part.dictionary(column)?;
                let of = |code: i64| values.get(code).and_then(|value| Raw::valid(value).as_f64()).map(key_of);
                Kind::Codes(part.packed(Section::Codes, column)?, (1..=values.len() as i64).map(of).collect())
            }
            Encoding::Number { .. } if part.exceptions(column)?.is_empty() => {
                let style = described.encoding.number_style().expect("it is a number");
                Kind::Numbers(part.packed(Section::Numbers, column)?, style)
            }
            _ => return Ok(None),
        };
        let shapes = match described.is_full {
            true => None,
            false => Some((part.in_shape(column), part.packed(Section::Shapes, 0)?)),
        };
        Ok(Some(Some(Durations { kind, shapes })))
    }
}

/// Reads durations of rows chunk by chunk.
#[derive(Default)]
struct DurationReader {
    numbers: Vec<usize>,
    values: Vec<i64>,
    shapes: Vec<i64>,
}

impl DurationReader {
    /// Gives each row's duration, where it has one, with what stands beside the row.
    fn each(&mut self, of: &Durations, chunk: usize, rows: &[(usize, u32)], mut give: impl FnMut(u32, i32)) {
        self.numbers.clear();
        self.numbers.extend(rows.iter().map(|(row, _)| *row));
        let (Kind::Numbers(packed, _) | Kind::Codes(packed, _)) = &of.kind;
        packed.rows(chunk, &self.numbers, &mut self.values);
        if let Some((_, packed)) = &of.shapes {
            packed.rows(chunk, &self.numbers, &mut self.shapes);
        }
        let has_one = |row: usize| match &of.shapes {
            None => true,
            Some((in_shape, _)) => in_shape.get(self.shapes[row] as usize).copied().unwrap_or(false),
        };
        for (row, group) in rows.iter().copied().filter(|(row, _)| has_one(*row)) {
            let value = self.values[row];
            let duration = match &of.kind {
                Kind::Numbers(_, style) => Some(key_of(style.to_f64(value))),
                Kind::Codes(_, known) => known.get((value - 1) as usize).copied().flatten(),
            };
            if let Some(duration) = duration {
                give(group, duration);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::tests::{Folder, START, Stored, all, events_strategy, fill, filter, later};
    use super::super::{Options, Store};
    use super::*;
    use crate::query::request::{CountLimit, Group};
    use crate::units::Timestamp;

    fn field(name: &str) -> GroupKey {
        GroupKey::Field(vec![name.to_owned()])
    }

    fn groups(store: &Store, request: &AggregateRequest, visibility: &Visibility) -> Vec<Group> {
        let mut groups = store.snapshot().aggregate(request, visibility).expect("groups");
        groups.sort_by(|a, b| a.keys.cmp(&b.keys));
        groups.iter_mut().for_each(|group| group.sum_ms = (group.sum_ms * 1e6).round() / 1e6);
        groups
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

        #[test]
        fn sums_say_the_same_as_rows(events in events_strategy(500), batch in 1usize..200, of_one_type: bool) {
            // No line is kept whole, so that parts have sums.
            let mut events: Vec<Stored> = events.into_iter().filter(|event| !event.line.contains("warning")).collect();
            for (nth, event) in events.iter_mut().enumerate() {
                let name = if of_one_type { "only" } else { ["first", "second"][nth % 2] };
                event.line.insert_str(1, &format!("\"event_type\":\"{name}\","));
            }
            let folders = [Folder::new(), Folder::new()];
            let [rows, sums] = folders.each_ref().map(|folder| Store::open(&Options::new(&folder.0)).expect("it opens").0);
            fill(&rows, &events, batch, usize::MAX);
            fill(&sums, &events, batch, 2);
            sums.seal_now().expect("a part is made");
            prop_assert!(events.is_empty() || sums.snapshot().parts.iter().all(|part| part.has_sums()));
            let mut asked = 0;
            for visibility in [all(), Visibility::Own("سارا".into())] {
                for query in ["", "user_id:ali", "user_id:ALI status:error", "-status:nothing", "event_type:only", "user_id:nobody", "status:error", "user_id:(ali OR reza)", "has:user_id", "user_id:ali status:(error OR lost)", "status:success user_id:(ali OR reza)", "event_type:first status:success", "user_id:ali status:(error OR success)", "-user_id:ali status:error"] {
                    for equals in [None, Some(("user_id", "Reza")), Some(("event_type", "first")), Some(("absent", "x"))] {
                        let mut filter = filter(query);
                        filter.equals.extend(equals.map(|(name, value)| (name.to_owned(), value.to_owned())));
                        let count = |store: &Store| store.snapshot().count(&filter, &visibility, CountLimit::Exact, later()).expect("a count");
                        prop_assert_eq!(count(&sums), count(&rows), "{} {:?}", query, equals);
                        for group_by in [vec![], vec![field("user_id")], vec![field("event_type")], vec![field("event_type"), field("user_id")], vec![field("absent"), field("event_type")]] {
                            let mut request = AggregateRequest {
                                filter: filter.clone(), group_by, with_durations: true, with_percentiles: asked % 2 == 0, max_groups: 1000, min_count: 0, top: None, deadline: later(),
                            };
                            asked += 1;
                            prop_assert_eq!(groups(&sums, &request, &visibility), groups(&rows, &request, &visibility), "{:?}", request);
                            request.filter.to = Some(Timestamp(START).plus(Duration::from_secs(2 * 86_400)));
                            prop_assert_eq!(groups(&sums, &request, &visibility), groups(&rows, &request, &visibility), "{:?}", request);
                        }
                    }
                }
            }
        }
    }
}
