//! Requests to a reader: a page, one event, or an aggregate.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

use super::Query;
use super::ast::{Check, Expr, Path, Pattern, Test};
use crate::units::Timestamp;

/// Which events are meant. All conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub query: Option<Arc<Query>>,
    /// Members that have exactly this value, as text.
    pub equals: Vec<(String, String)>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before this.
    pub to: Option<Timestamp>,
}

impl Filter {
    /// Adds a condition.
    pub fn and(&mut self, expr: Expr) {
        let known = self.query.take().map(|query| query.expr().clone());
        let parts = known.into_iter().chain([expr]).filter(|expr| *expr != Expr::All).collect::<Vec<_>>();
        if !parts.is_empty() {
            self.query = Some(Arc::new(Query::of(Expr::and(parts))));
        }
    }
}

/// The member is there and not null.
pub fn has(name: &str) -> Expr {
    Expr::Test(Test { field: Some(vec![name.to_owned()]), check: Check::Exists })
}

/// The member is this, in any case; a long text contains it.
pub fn is(name: &str, text: &str) -> Expr {
    Expr::Test(Test { field: Some(vec![name.to_owned()]), check: Check::Is(Pattern::text(text)) })
}

/// The member contains this text, in any case.
pub fn contains(name: &str, text: &str) -> Expr {
    let pattern = Pattern(vec![String::new(), text.to_owned(), String::new()]);
    Expr::Test(Test { field: Some(vec![name.to_owned()]), check: Check::Is(pattern) })
}

/// By what a page is ordered; equal ones by time, then by `seq`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// `timestamp`, ties by `seq`.
    #[default]
    Time,
    /// The order in which events were journalled.
    Seq,
    /// A member's value: numbers before texts, and events without it last.
    Field(String),
}

/// Where a page ended: the next one begins behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Keyset {
    pub key: SortKey,
    pub time: i64,
    pub seq: u64,
    /// The key of the row, in a table whose rows have no `seq`.
    pub row: Option<String>,
}

/// The value that an event is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub enum SortKey {
    /// The order is that of time or `seq` alone.
    None,
    Number(f64),
    /// A number as a table writes it, which may have more digits; the table compares it.
    Decimal(String),
    Text(String),
    Missing,
}

/// Texts are sorted by this many characters: a cursor contains them, and has to fit into a URL.
pub const SORTED_CHARS: usize = 256;

impl SortKey {
    /// The beginning of a text.
    pub fn text(text: &str) -> SortKey {
        let end = text.char_indices().nth(SORTED_CHARS).map_or(text.len(), |(end, _)| end);
        SortKey::Text(text[..end].to_owned())
    }

    /// Ascending; missing values come last in both directions.
    pub fn compare(&self, other: &SortKey, is_descending: bool) -> Ordering {
        let rank = |key: &SortKey| match key {
            SortKey::None | SortKey::Number(_) | SortKey::Decimal(_) => 0,
            SortKey::Text(_) => 1,
            SortKey::Missing => 2,
        };
        let ordered = match (self, other) {
            (SortKey::Number(a), SortKey::Number(b)) => a.total_cmp(b),
            (SortKey::Text(a), SortKey::Text(b)) => a.cmp(b),
            _ => {
                return match (rank(self), rank(other)) {
                    (2, 2) => Ordering::Equal,
                    (2, _) => Ordering::Greater,
                    (_, 2) => Ordering::Less,
                    (a, b) if is_descending => b.cmp(&a),
                    (a, b) => a.cmp(&b),
                };
            }
        };
        if is_descending { ordered.reverse() } else { ordered }
    }
}

#[derive(Clone, Debug)]
pub struct PageRequest {
    pub filter: Filter,
    pub sort: Sort,
    pub is_descending: bool,
    pub after: Option<Keyset>,
    pub offset: usize,
    pub limit: usize,
    pub deadline: Instant,
    /// Whether a page of what was found up to the deadline is of use; otherwise the deadline is an error.
    pub may_be_partial: bool,
}

/// An event of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// 0 in a table whose rows have none.
    pub seq: u64,
    pub time: Timestamp,
    /// Nothing in a table without a column for it.
    pub received_at: Option<Timestamp>,
    /// As text: the id of the event, or the key of the table that it is in.
    pub id: String,
    /// The event as a JSON object, as much of it as may be seen.
    pub line: Vec<u8>,
    /// Its position in the requested order.
    pub keyset: Keyset,
}

#[derive(Clone, Debug, Default)]
pub struct Page {
    pub rows: Vec<Row>,
    /// Whether there are more behind the last one.
    pub has_more: bool,
    /// Where to go on, if the deadline came before the page was full: the rows before that are all there.
    pub resume: Option<Keyset>,
}

impl Page {
    /// Where the next page begins.
    pub fn next(&self) -> Option<&Keyset> {
        let last = self.rows.last().filter(|_| self.has_more).map(|last| &last.keyset);
        self.resume.as_ref().or(last)
    }
}

/// How many events a filter means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    pub count: u64,
    /// Whether there may be more: counting all would have cost too much.
    pub is_at_least: bool,
}

/// How exactly to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountLimit {
    /// Up to so many.
    UpTo(u64),
    /// All of them, within the deadline.
    Exact,
}

/// By what events are grouped.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupKey {
    /// A member's value as text; events without it form a group without a key.
    Field(Path),
    /// Intervals of so many microseconds in local time (see [`interval_of`]); the key is the start. Where the clocks are
    /// changed within one, it is shorter or longer.
    Interval { micros: i64, zone: Zone },
    /// Calendar days in the zone; the key is `2026-01-31`.
    Day(Zone),
    /// Hours of the day in the zone, `0` to `23`.
    Hour(Zone),
}

/// The beginning of the interval that a local time lies in: counted from Thursday, 1970-01-01, and whole weeks from the
/// Monday behind it.
pub fn interval_of(local: i64, micros: i64) -> i64 {
    let first = first_interval(micros);
    (local - first).div_euclid(micros) * micros + first
}

/// Where intervals are counted from.
pub fn first_interval(micros: i64) -> i64 {
    const DAY: i64 = 86_400_000_000;
    if micros % (7 * DAY) == 0 { 4 * DAY } else { 0 }
}

/// A time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(pub jiff::tz::TimeZone);

impl Default for Zone {
    fn default() -> Zone {
        Zone(jiff::tz::TimeZone::UTC)
    }
}

impl Zone {
    /// Seconds east of UTC at a time.
    pub fn offset_at(&self, time: Timestamp) -> i64 {
        let at = jiff::Timestamp::from_microsecond(time.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        i64::from(self.0.to_offset(at).seconds())
    }

    /// The same for times between these: a fixed offset where the clocks are not changed meanwhile, which is less work.
    pub fn between(&self, first: Timestamp, last: Timestamp) -> Zone {
        let at = |time: Timestamp| jiff::Timestamp::from_microsecond(time.0);
        let (Ok(first), Ok(last)) = (at(first), at(last)) else { return self.clone() };
        match self.0.following(first).next() {
            Some(change) if change.timestamp() <= last => self.clone(),
            _ => Zone(jiff::tz::TimeZone::fixed(self.0.to_offset(first))),
        }
    }

    /// When the interval began in which a time lies (see [`interval_of`]).
    pub fn interval_start(&self, time: Timestamp, micros: i64) -> Timestamp {
        let offset = |time| self.offset_at(time) * 1_000_000;
        let begins = interval_of(time.0 + offset(time), micros);
        // Where the clocks were changed since then, it began by another offset than that of now.
        Timestamp(begins - offset(Timestamp(begins - offset(time))))
    }
}

#[derive(Clone, Debug)]
pub struct AggregateRequest {
    pub filter: Filter,
    /// None, one or two.
    pub group_by: Vec<GroupKey>,
    /// Whether durations are wanted. Where they are not, their column is not read, and what groups say of them is nothing.
    pub with_durations: bool,
    /// Whether percentiles of them are wanted: they cost memory.
    pub with_percentiles: bool,
    /// The most groups; beyond it the request is refused. Of groups that are not all wanted there may be more.
    pub max_groups: usize,
    /// Groups of fewer events are not wanted.
    pub min_count: u64,
    /// Which groups are wanted, if not all.
    pub top: Option<Top>,
    pub deadline: Instant,
}

type Compare = dyn Fn(&Group, &Group) -> Ordering + Send + Sync;

/// Which of two groups comes first.
#[derive(Clone)]
pub struct Order(Arc<Compare>);

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

/// What of a group its place in an order follows from, so that others need not be made to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranking {
    /// Its last event, the newest first.
    Newest,
    /// How many events it has, the most first.
    Most,
    /// More than that.
    Other,
}

/// The first groups in an order; only those that have a first key, unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Top {
    pub order: Order,
    pub limit: usize,
    /// How the first key begins, in any case.
    pub prefix: String,
    /// The most bytes of the first key.
    pub longest: usize,
    pub ranking: Ranking,
    /// Whether groups without a first key are wanted, too.
    pub with_missing: bool,
}

impl Top {
    pub fn new(limit: usize, order: impl Fn(&Group, &Group) -> Ordering + Send + Sync + 'static) -> Top {
        let order = Order(Arc::new(order));
        let (prefix, longest) = (String::new(), usize::MAX);
        Top { order, limit, prefix, longest, ranking: Ranking::Other, with_missing: false }
    }

    /// Those with the newest events.
    pub fn newest(limit: usize) -> Top {
        Top { ranking: Ranking::Newest, ..Top::new(limit, newest_first) }
    }

    /// Those with the most events, of all groups.
    pub fn most(limit: usize) -> Top {
        Top { ranking: Ranking::Most, with_missing: true, ..Top::new(limit, most_first) }
    }

    pub fn accepts(&self, group: &Group) -> bool {
        if self.with_missing && group.keys.first().is_none_or(Option::is_none) {
            return true;
        }
        let first = group.keys.first().and_then(Option::as_deref).filter(|key| key.len() <= self.longest);
        first.is_some_and(|key| self.prefix.is_empty() || key.to_lowercase().starts_with(&self.prefix.to_lowercase()))
    }

    /// Leaves the first groups only, in their order.
    pub fn cut(&self, groups: &mut Vec<Group>) {
        groups.sort_by(|a, b| (self.order.0)(a, b));
        groups.truncate(self.limit);
    }
}

/// The group with the newest event first.
pub fn newest_first(a: &Group, b: &Group) -> Ordering {
    b.last.cmp(&a.last).then_with(|| a.keys.cmp(&b.keys))
}

/// The group with the most events first.
pub fn most_first(a: &Group, b: &Group) -> Ordering {
    b.count.cmp(&a.count).then_with(|| a.keys.cmp(&b.keys))
}

impl AggregateRequest {
    pub fn wants(&self, group: &Group) -> bool {
        group.count >= self.min_count && self.top.as_ref().is_none_or(|top| top.accepts(group))
    }

    /// Whether every group is wanted.
    pub fn wants_all(&self) -> bool {
        self.min_count <= 1 && self.top.is_none()
    }

    /// Leaves the groups that are wanted.
    pub fn choose(&self, groups: &mut Vec<Group>) {
        groups.retain(|group| self.wants(group));
        if let Some(top) = &self.top {
            top.cut(groups);
        }
    }
}

/// What is known of the events of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// One for each key that was asked for.
    pub keys: Vec<Option<String>>,
    pub count: u64,
    pub successes: u64,
    /// `error`, `aborted`, `lost`.
    pub errors: u64,
    /// Over `duration_ms` where it is a number.
    pub durations: u64,
    pub sum_ms: f64,
    pub max_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub first: Option<Timestamp>,
    pub last: Option<Timestamp>,
}

impl Group {
    /// Adds the counts and sums of another group with the same keys; percentiles do not add up.
    pub fn add(&mut self, other: &Group) {
        self.count += other.count;
        self.successes += other.successes;
        self.errors += other.errors;
        self.durations += other.durations;
        self.sum_ms += other.sum_ms;
        self.max_ms = match (self.max_ms, other.max_ms) {
            (Some(max), Some(other)) => Some(max.max(other)),
            (max, other) => max.or(other),
        };
        self.first = self.first.into_iter().chain(other.first).min();
        self.last = self.last.into_iter().chain(other.last).max();
    }

    pub fn avg_ms(&self) -> Option<f64> {
        (self.durations > 0).then(|| self.sum_ms / self.durations as f64)
    }

    /// The share of successes, 0 to 100 with one decimal.
    pub fn success_rate(&self) -> f64 {
        rate(self.successes, self.count)
    }
}

/// A share in percent with one decimal; of nothing it is 0.
pub fn rate(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 * 1000.0 / whole as f64).round() / 10.0 }
}

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// It took too long.
    Deadline,
    /// The place cannot be read now; the text is for the operator.
    Unavailable(String),
    /// The place has nothing that could answer; the text says what is missing.
    Unsupported(String),
    /// The request cannot be answered as written.
    Invalid(String),
    /// The answer would take more memory than queries may hold.
    TooLarge(String),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Deadline => f.write_str("the query took too long"),
            ReadError::Unavailable(text)
            | ReadError::Unsupported(text)
            | ReadError::Invalid(text)
            | ReadError::TooLarge(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ReadError {}

/// The newest event whose member has this value.
pub fn newest_of(name: &str, value: &str) -> PageRequest {
    PageRequest {
        filter: Filter { equals: vec![(name.to_owned(), value.to_owned())], ..Filter::default() },
        sort: Sort::Time,
        is_descending: true,
        after: None,
        offset: 0,
        limit: 1,
        deadline: Instant::now() + std::time::Duration::from_secs(10),
        may_be_partial: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_changes_of_the_clocks_a_zone_is_an_offset_with_the_same_intervals() {
        let time = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().expect("a time").as_microsecond());
        let zone = |name: &str| Zone(jiff::tz::TimeZone::get(name).expect("a zone"));
        for (name, first, last, is_fixed) in [
            ("Asia/Tehran", "2023-01-01T00:00:00Z", "2026-11-30T00:00:00Z", true),
            ("Asia/Tehran", "2022-03-01T00:00:00Z", "2026-11-30T00:00:00Z", false),
            ("Europe/Berlin", "2026-01-01T00:00:00Z", "2026-03-29T00:59:59Z", true),
            ("Europe/Berlin", "2026-01-01T00:00:00Z", "2026-03-29T01:00:00Z", false),
            ("Europe/Berlin", "2026-03-29T01:00:00Z", "2026-10-25T00:59:59Z", true),
            ("UTC", "1970-01-01T00:00:00Z", "2199-01-01T00:00:00Z", true),
        ] {
            let (first, last, zone) = (time(first), time(last), zone(name));
            let found = zone.between(first, last);
            assert_eq!(found.0.to_fixed_offset().is_ok(), is_fixed, "{name} from {first}");
            let day = 86_400_000_000;
            for nth in 1..999 {
                let at = Timestamp(first.0 + day + (last.0 - first.0 - 2 * day) / 1000 * nth);
                for micros in [60_000_000, 3_600_000_000, day] {
                    assert_eq!(found.interval_start(at, micros), zone.interval_start(at, micros), "{name} at {at}");
                }
            }
        }
    }
}
