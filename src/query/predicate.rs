//! Evaluates a query: which events of a batch match.

use regex::{Regex, RegexBuilder};

use super::ast::{Bound, Check, Expr, Op, Path, Test, number, times};
use super::expression::Expression;
use super::glob::Glob;
use super::{MAX_REGEX_BYTES, MAX_REGEXES, QueryError, parse};
use crate::event::aliases::canonical;
use crate::event::escape::unescape;
use crate::event::names::{self, KNOWN, NameId, known};
use crate::event::raw::name_is;
use crate::event::{Batch, Kind, Raw};
use crate::units::Timestamp;

/// Fields that hold text rather than one value: `field:x` asks whether they contain it.
const LONG_TEXTS: &[NameId] = &[
    names::CODE,
    names::DESCRIPTION,
    names::ERROR_MESSAGE,
    names::ERROR_TRACE,
    names::USER_AGENT,
    names::MESSAGE,
    names::MSG,
    names::DETAILS,
    names::ERROR,
];

/// Names whose values a free text has to be, not only to be in.
const UNIQUE: &[NameId] = &[names::ID, names::TIMESTAMP, names::RECEIVED_AT];

/// Aliases whose values have other units or words than the canonical field's.
const OTHER_VALUES: &[NameId] = &[names::DURATION_SECONDS, names::DURATION_S, names::SUCCESS];

#[derive(Debug)]
pub struct Query {
    text: String,
    expr: Expr,
    plan: Node,
}

#[derive(Debug)]
enum Node {
    All,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    /// In any string of the event.
    Anywhere(Matcher),
    Field {
        path: Path,
        /// The canonical name that the path's first name is an alias of.
        canonical: Option<&'static str>,
        matcher: Matcher,
    },
}

#[derive(Debug)]
enum Matcher {
    Contains(Glob),
    Is { glob: Glob, number: Option<f64>, times: Option<(Timestamp, Timestamp)> },
    Range(Range),
    Exists,
    Regex(Expression),
}

/// Compiles a pattern within the bounds of a query.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    match RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build() {
        Ok(regex) => Ok(regex),
        Err(regex::Error::CompiledTooBig(_)) => Err("the pattern is too large".to_owned()),
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or("").trim().trim_start_matches("error: ");
            Err(format!("invalid pattern: {reason}"))
        }
    }
}

impl Query {
    pub fn parse(text: &str) -> Result<Query, QueryError> {
        let expr = parse::parse(text)?;
        let regexes = expr.tests().iter().filter(|test| matches!(test.check, Check::Matches(_))).count();
        if regexes > MAX_REGEXES {
            return Err(QueryError {
                query: text.to_owned(),
                range: 0..0,
                message: format!("more than {MAX_REGEXES} patterns"),
                hint: None,
            });
        }
        let plan = plan(&expr);
        Ok(Query { text: text.to_owned(), expr, plan })
    }

    /// A query that was put together, not written. Its patterns must be ones that `compile` takes.
    pub fn of(expr: Expr) -> Query {
        let plan = plan(&expr);
        Query { text: expr.to_string(), expr, plan }
    }

    /// The query as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The fields that the query asks for, each once.
    pub fn fields(&self) -> Vec<&Path> {
        let mut fields: Vec<&Path> = self.expr.tests().iter().filter_map(|test| test.field.as_ref()).collect();
        fields.sort();
        fields.dedup();
        fields
    }

    /// Whether the query is true, for each event of a split batch; `out` is overwritten.
    pub fn matches(&self, batch: &Batch, out: &mut Vec<bool>) {
        out.clear();
        out.extend((0..batch.len()).map(|event| self.plan.holds(&View::Event(batch, event))));
    }

    /// Whether the query is true of one event of a split batch.
    pub fn matches_event(&self, batch: &Batch, event: usize) -> bool {
        self.plan.holds(&View::Event(batch, event))
    }

    /// Whether the query is true of an event given as its line.
    pub fn matches_line(&self, line: Raw<'_>) -> bool {
        self.plan.holds(&View::Line(line))
    }
}

fn plan(expr: &Expr) -> Node {
    match expr {
        Expr::All => Node::All,
        Expr::And(parts) => Node::And(parts.iter().map(plan).collect()),
        Expr::Or(parts) => Node::Or(parts.iter().map(plan).collect()),
        Expr::Not(inner) => Node::Not(Box::new(plan(inner))),
        Expr::Test(Test { field: None, check }) => Node::Anywhere(matcher(check, true)),
        Expr::Test(Test { field: Some(path), check }) => {
            let first = path.first().and_then(|name| known(name.as_bytes()));
            let long = path.len() == 1 && first.is_some_and(|name| LONG_TEXTS.contains(&name));
            let canonical = first.filter(|name| !OTHER_VALUES.contains(name)).and_then(canonical);
            Node::Field {
                path: path.clone(),
                canonical: canonical.map(|name| KNOWN[name.0 as usize]),
                matcher: matcher(check, long),
            }
        }
    }
}

/// One test of a query, for those who look at values column by column.
#[derive(Debug)]
pub struct FieldTest {
    /// The member, by the name that was written.
    pub name: String,
    /// The name that it is an alias of, which counts where there is no member of the first.
    pub canonical: Option<&'static str>,
    /// Members below it.
    pub rest: Path,
    matcher: Matcher,
}

impl FieldTest {
    /// `None` if it is not one member that is tested, but the whole event.
    pub fn new(test: &Test) -> Option<FieldTest> {
        match plan(&Expr::Test(test.clone())) {
            Node::Field { path, canonical, matcher } => {
                let (name, rest) = path.split_first()?;
                Some(FieldTest { name: name.clone(), canonical, rest: rest.to_vec(), matcher })
            }
            _ => None,
        }
    }

    /// Whether the test is true of an event whose member has this value.
    pub fn accepts(&self, value: Raw<'_>) -> bool {
        value.path(&self.rest).is_some_and(|value| self.matcher.accepts(value))
    }

    /// The same for a JSON value of which most are not what is asked for: those are told by their bytes alone.
    pub fn accepts_json(&self, json: &[u8]) -> bool {
        if let Matcher::Is { glob, number: None, times: None } = &self.matcher
            && self.rest.is_empty()
            && glob.is_other(json)
        {
            return false;
        }
        self.accepts(Raw::valid(json))
    }

    /// Where within the JSON of many values those may be that are accepted: nothing where any may be.
    pub fn places_within(&self, json: &[u8]) -> Option<Vec<usize>> {
        match &self.matcher {
            Matcher::Is { glob, number: None, times: None } if self.rest.is_empty() => glob.places_within(json),
            Matcher::Contains(glob) if self.rest.is_empty() => glob.places_within(json),
            _ => None,
        }
    }

    /// Whether it is only asked for that the event has the member, and not null.
    pub fn is_of_presence(&self) -> bool {
        self.rest.is_empty() && matches!(self.matcher, Matcher::Exists)
    }

    /// The same for a number, where the test can tell without its spelling.
    pub fn accepts_number(&self, value: f64) -> Option<bool> {
        match &self.matcher {
            Matcher::Exists => Some(true),
            Matcher::Is { number: Some(number), .. } => Some(value == *number),
            Matcher::Range(range) => {
                range.end().is_none_or(|end| end.number.is_some()).then(|| range.holds_number(value))
            }
            _ => None,
        }
    }

    /// The same for a time that stands as a text.
    pub fn accepts_time(&self, value: Timestamp) -> Option<bool> {
        match (&self.matcher, self.times()) {
            (Matcher::Exists, _) => Some(true),
            (_, Some((first, last))) => Some(first <= value && value <= last),
            _ => None,
        }
    }

    /// The first and the last time of those that it accepts, all between them included; none where it asks for something
    /// else than a time.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        match &self.matcher {
            _ if !self.rest.is_empty() => None,
            // Every time that is spelt as the pattern is among them.
            Matcher::Is { times, number: None, .. } => *times,
            Matcher::Range(range) if range.end()?.number.is_none() && range.end()?.times.is_some() => {
                // Where the other end is no time, nothing is within.
                Some(range.times().unwrap_or((Timestamp(i64::MAX), Timestamp(i64::MIN))))
            }
            _ => None,
        }
    }

    /// Whether the test can be true of a value that stands within these bytes, beside others.
    pub fn may_accept_within(&self, json: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Contains(glob) => glob.may_be_within(json),
            Matcher::Regex(expression) => expression.may_match_within(json),
            _ => true,
        }
    }

    /// Whether the text has to be contained, rather than to be the value.
    pub fn is_contained(&self) -> bool {
        matches!(self.matcher, Matcher::Contains(_))
    }
}

/// A test of the whole event, for those who look at values column by column.
#[derive(Debug)]
pub struct AnywhereTest(Matcher);

impl AnywhereTest {
    /// `None` if it is one member that is tested.
    pub fn new(test: &Test) -> Option<AnywhereTest> {
        match plan(&Expr::Test(test.clone())) {
            Node::Anywhere(matcher) => Some(AnywhereTest(matcher)),
            _ => None,
        }
    }

    /// Whether the test is true of an event that has this member.
    pub fn accepts(&self, name: &str, value: Raw<'_>) -> bool {
        if UNIQUE.iter().any(|one| KNOWN[one.0 as usize] == name) {
            return self.0.is_whole(value);
        }
        any_string(value, &mut |inside| self.0.finds(inside))
    }

    /// Whether the test can be true of a member with this name and a text of so many bytes.
    pub fn may_accept_text(&self, name: &str, len: usize) -> bool {
        let is_unique = UNIQUE.iter().any(|one| KNOWN[one.0 as usize] == name);
        match &self.0 {
            _ if !is_unique => true,
            Matcher::Contains(glob) | Matcher::Is { glob, .. } => glob.may_have_len(len),
            _ => false,
        }
    }

    /// What stands, in some case, in every accepted string without escapes.
    pub fn piece(&self) -> Option<&str> {
        match &self.0 {
            Matcher::Contains(glob) | Matcher::Is { glob, .. } => Some(glob.probe()),
            _ => None,
        }
    }

    /// Whether the test can be true of a value that stands within these bytes, beside others.
    pub fn may_accept_within(&self, json: &[u8]) -> bool {
        match &self.0 {
            Matcher::Contains(glob) | Matcher::Is { glob, .. } => glob.may_be_within(json),
            Matcher::Regex(expression) => expression.may_match_within(json),
            _ => true,
        }
    }

    /// Tells each place within these bytes at which a value may be accepted; `next` says from where on another one counts.
    /// False where any value may be.
    pub fn each_place_within(&self, json: &[u8], next: impl FnMut(usize) -> usize) -> bool {
        match &self.0 {
            Matcher::Contains(glob) | Matcher::Is { glob, .. } => glob.each_place_within(json, next),
            _ => !self.may_accept_within(json),
        }
    }

    /// Whether it can be true of a string in which all bytes are of this kind.
    pub fn may_accept(&self, is_of_kind: impl Fn(u8) -> bool) -> bool {
        match &self.0 {
            Matcher::Contains(glob) | Matcher::Is { glob, .. } => glob.may_be_in(is_of_kind),
            Matcher::Regex(expression) => expression.may_match_text_of(&is_of_kind),
            _ => true,
        }
    }
}

fn matcher(check: &Check, long: bool) -> Matcher {
    match check {
        // Every text contains the empty one.
        Check::Is(pattern) if long && pattern.literal() != Some("") => Matcher::Contains(Glob::new(pattern)),
        Check::Is(pattern) => Matcher::Is {
            glob: Glob::new(pattern),
            number: pattern.literal().and_then(number),
            times: pattern.literal().and_then(times),
        },
        Check::Compare(op, bound) => Matcher::Range(match op {
            Op::Less => Range { from: None, to: Some(End::of(bound, false)) },
            Op::LessOrEqual => Range { from: None, to: Some(End::of(bound, true)) },
            Op::Greater => Range { from: Some(End::of(bound, false)), to: None },
            Op::GreaterOrEqual => Range { from: Some(End::of(bound, true)), to: None },
        }),
        Check::Between(from, to) => {
            let included = |bound: &Option<Bound>| bound.as_ref().map(|bound| End::of(bound, true));
            Matcher::Range(Range { from: included(from), to: included(to) })
        }
        Check::Exists => Matcher::Exists,
        Check::Matches(pattern) => {
            Matcher::Regex(Expression::new(pattern, compile(pattern).expect("the parser has compiled it")))
        }
    }
}

// --- looking at events ---

enum View<'a> {
    Event(&'a Batch, usize),
    Line(Raw<'a>),
}

impl<'a> View<'a> {
    fn member(&self, name: &str) -> Option<Raw<'a>> {
        match self {
            View::Event(batch, event) => batch.get(*event, batch.find_name(name)?),
            View::Line(line) => line.get(name),
        }
    }

    /// The value at a path, by the name as written or by the canonical one.
    fn value(&self, path: &[String], canonical: Option<&str>) -> Option<Raw<'a>> {
        let (first, rest) = path.split_first()?;
        let top = self.member(first).or_else(|| self.member(canonical?))?;
        top.path(rest)
    }

    /// Whether a member of the event is one of these. Each event has another id and other times, of which nobody
    /// knows a part: those are given to `unique`.
    fn any_value(&self, mut unique: impl FnMut(Raw<'a>) -> bool, mut other: impl FnMut(Raw<'a>) -> bool) -> bool {
        match self {
            View::Event(batch, event) => batch
                .fields(*event)
                .any(|(name, value)| if UNIQUE.contains(&name) { unique(value) } else { other(value) }),
            View::Line(line) => line.members().any(|(name, value)| {
                let is_unique = UNIQUE.iter().any(|one| name_is(name, KNOWN[one.0 as usize]));
                if is_unique { unique(value) } else { other(value) }
            }),
        }
    }
}

impl Node {
    fn holds(&self, event: &View<'_>) -> bool {
        match self {
            Node::All => true,
            Node::And(parts) => parts.iter().all(|part| part.holds(event)),
            Node::Or(parts) => parts.iter().any(|part| part.holds(event)),
            Node::Not(inner) => !inner.holds(event),
            Node::Anywhere(matcher) => event
                .any_value(|value| matcher.is_whole(value), |value| any_string(value, &mut |text| matcher.finds(text))),
            Node::Field { path, canonical, matcher } => match event.value(path, *canonical) {
                None => false,
                Some(value) => matcher.accepts(value),
            },
        }
    }
}

/// Whether some string within a value, at any depth, is one of these, decided from the text inside its quotes.
fn any_string(value: Raw<'_>, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    match value.kind() {
        Kind::String => value.inside().is_some_and(&mut *holds),
        Kind::Array => value.elements().any(|value| any_string(value, holds)),
        Kind::Object => value.members().any(|(_, value)| any_string(value, holds)),
        Kind::Null | Kind::Bool | Kind::Number => false,
    }
}

impl Matcher {
    /// Whether the string with this inside contains what is looked for.
    fn finds(&self, inside: &[u8]) -> bool {
        match self {
            Matcher::Contains(glob) | Matcher::Is { glob, .. } => glob.is_in_json(inside),
            Matcher::Regex(expression) => expression.is_match(&unescape(inside)),
            Matcher::Range(_) | Matcher::Exists => false,
        }
    }

    /// Whether the value is this and nothing more.
    fn is_whole(&self, value: Raw<'_>) -> bool {
        match self {
            Matcher::Contains(glob) | Matcher::Is { glob, .. } => value.as_str().is_some_and(|text| glob.is(&text)),
            Matcher::Regex(_) | Matcher::Range(_) | Matcher::Exists => false,
        }
    }

    fn accepts(&self, value: Raw<'_>) -> bool {
        if let Matcher::Exists = self {
            return !value.is_null();
        }
        if value.kind() == Kind::Array {
            return value.elements().any(|element| self.accepts(element));
        }
        match self {
            Matcher::Contains(_) => any_string(value, &mut |text| self.finds(text)),
            Matcher::Is { glob, number, times } => match value.kind() {
                Kind::Object => false,
                Kind::Number if number.is_some() => value.as_f64() == *number,
                _ => {
                    let text = value.display();
                    glob.is(&text)
                        || times.is_some_and(|(from, to)| time(&text).is_some_and(|at| from <= at && at <= to))
                }
            },
            Matcher::Range(range) => range.holds(value),
            Matcher::Regex(expression) => match value.kind() {
                Kind::Object | Kind::Null => false,
                _ => expression.is_match(&value.display()),
            },
            Matcher::Exists => true,
        }
    }
}

/// A text that is a time; looked at only where it can be one.
fn time(text: &str) -> Option<Timestamp> {
    if text.len() < 10 || !text.starts_with(|c: char| c.is_ascii_digit()) {
        None
    } else {
        times(text).map(|(from, _)| from)
    }
}

// --- ranges ---

/// The two ends; none is open.
#[derive(Debug)]
struct Range {
    from: Option<End>,
    to: Option<End>,
}

/// One end, read once: as text in lower case, as a number, and as the first and last microsecond of a time or day.
#[derive(Debug)]
struct End {
    text: String,
    number: Option<f64>,
    times: Option<(Timestamp, Timestamp)>,
    is_included: bool,
}

impl End {
    fn of(bound: &Bound, is_included: bool) -> End {
        End { text: bound.0.to_lowercase(), number: bound.number(), times: bound.times(), is_included }
    }
}

impl Range {
    /// The end that says what is compared.
    fn end(&self) -> Option<&End> {
        self.from.as_ref().or(self.to.as_ref())
    }

    fn holds(&self, value: Raw<'_>) -> bool {
        let Some(end) = self.end() else {
            return !value.is_null();
        };
        let text = match value.kind() {
            Kind::Number | Kind::String => value.display(),
            _ => return false,
        };
        // The bound says what is compared; a string may hold a number or a time as well.
        if end.number.is_some() {
            return number(&text).is_some_and(|value| self.holds_number(value));
        }
        if end.times.is_some() {
            return time(&text).is_some_and(|value| self.holds_time(value));
        }
        let text = text.to_lowercase();
        let above = |end: &End| text > end.text || (end.is_included && text == end.text);
        let below = |end: &End| text < end.text || (end.is_included && text == end.text);
        self.from.as_ref().is_none_or(above) && self.to.as_ref().is_none_or(below)
    }

    fn holds_number(&self, value: f64) -> bool {
        let above = |end: &End| end.number.is_some_and(|bound| value > bound || (end.is_included && value == bound));
        let below = |end: &End| end.number.is_some_and(|bound| value < bound || (end.is_included && value == bound));
        self.from.as_ref().is_none_or(above) && self.to.as_ref().is_none_or(below)
    }

    fn holds_time(&self, value: Timestamp) -> bool {
        self.times().is_some_and(|(first, last)| first <= value && value <= last)
    }

    /// The first and the last time within; none where an end is no time. After a day is after its end, from a day on is
    /// from its beginning.
    fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let from = match &self.from {
            None => Timestamp(i64::MIN),
            Some(End { times, is_included: true, .. }) => (*times)?.0,
            Some(End { times, .. }) => Timestamp((*times)?.1.0.saturating_add(1)),
        };
        let to = match &self.to {
            None => Timestamp(i64::MAX),
            Some(End { times, is_included: true, .. }) => (*times)?.1,
            Some(End { times, .. }) => Timestamp((*times)?.0.0.saturating_sub(1)),
        };
        Some((from, to))
    }
}
