//! Values assigned to names that announce a secret, in any notation: finds name, operator and value, and decides
//! whether the value is a secret or an expression.

mod announced;
mod bare;
mod bound;
mod calls;
mod chosen;
mod ends;
mod files;
mod frame;
mod line;
mod literal;
mod manifest;
mod operator;
mod pair;
mod printed;
mod prose;
mod raw;
mod scalar;
mod scheme;
mod secret;
mod spread;
mod table;
mod tested;
#[cfg(test)]
mod tests;
mod word;

use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;
use std::sync::LazyLock;

pub use calls::{CALL_WINDOWS, call_values, is_plausible_call};
pub use pair::{is_name_member, is_value_member};
pub use prose::login_values;
pub use raw::is_plausible;
pub use scheme::{basic, bearer};
pub use secret::{Role, is_code, may_be_secret};

use super::escapes::{is_after_escape, leading_slashes, trailing_slashes};
use super::marks;
use super::names::{Class, FOREIGN, is_name};
use super::random::is_random;
use super::reader::Reader;
use super::rules::{AUTHORIZATION, CREDENTIAL};
use super::shape;
use super::values::is_joint;
use announced::{class_of, class_of_file};
use literal::{Literal, literal};
use operator::{Operator, Sign, operator};

/// A value to be taken, and what decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub range: Range<usize>,
    pub rule: u16,
    pub why: &'static str,
}

/// The longest name that is looked at.
const MAX_NAME: usize = 64;
/// Bytes around a name that are looked at, at most.
const NEARBY: usize = 48;

/// What sets the name behind it to a literal, with nothing between them.
#[rustfmt::skip]
const SETTERS: &[&[u8]] = &[
    b"setx ", b"setenv ", b"SetEnv ", b"set -x ", b"set -gx ", b"set -Ux ", b"ENV ", b"set ", b"set $", b"set_header ",
    b"add_header ", b"gi_param ", b"setq ", b"(def ", b"#define ", b" :", b"{:",
];
/// A name that announces a secret.
#[derive(Clone, Debug)]
struct Name {
    range: Range<usize>,
    class: Class,
    /// The quotes around the name or around a longer key that it ends: where they begin, which, how many backslashes.
    quotes: Option<(usize, u8, usize)>,
    /// Where the name or its closing quote ends.
    end: usize,
    /// Whether it is written in another script.
    is_foreign: bool,
}

/// Finds the values of the name around `at`.
pub fn values(reader: &Reader<'_>, at: usize, found: &mut Vec<Found>) {
    reader.charge(4);
    let at = word_at(reader.text, at);
    if !reader.text.get(at).is_some_and(|byte| is_name(*byte)) {
        return;
    }
    // All parts of a name lead to it.
    let end = reader.run_end(shape::Class::named(b'b'), at);
    if reader.last_word.replace(end) == end {
        return;
    }
    reader.charge(NEARBY);
    if let Some(range) = name_ending(reader, at.max(end.saturating_sub(MAX_NAME)), end) {
        of_name(reader, range, found);
    }
}

/// Passes by the name around `at`, whose values are known.
pub fn skip(reader: &Reader<'_>, at: usize) {
    let at = word_at(reader.text, at);
    if reader.text.get(at).is_some_and(|byte| is_name(*byte)) {
        reader.last_word.set(reader.run_end(shape::Class::named(b'b'), at));
    }
}

/// Finds the values of a name in another script, the one with this number in the list, that begins at `at`.
pub fn foreign_values(reader: &Reader<'_>, at: usize, number: usize, found: &mut Vec<Found>) {
    /// For each word the longest words that hold it, and how far behind their beginning it stands.
    static AROUND: LazyLock<Vec<Vec<(usize, &'static str)>>> = LazyLock::new(|| {
        let around = |word: &&'static str| {
            let mut all: Vec<(usize, &str)> =
                FOREIGN.iter().filter_map(|longer| longer.find(*word).map(|place| (place, *longer))).collect();
            all.sort_by_key(|(_, longer)| std::cmp::Reverse(longer.len()));
            all
        };
        FOREIGN.iter().map(around).collect()
    });
    reader.charge(NEARBY);
    let stands = |(place, word): &&(usize, &str)| {
        at.checked_sub(*place)
            .and_then(|start| reader.text.get(start..))
            .is_some_and(|rest| rest.starts_with(word.as_bytes()))
    };
    if let Some((place, word)) = AROUND[number].iter().find(stands) {
        of_name(reader, at - place..at - place + word.len(), found);
    }
}

fn of_name(reader: &Reader<'_>, range: Range<usize>, found: &mut Vec<Found>) {
    // A name may hold several words that lead to it.
    if reader.last_name.replace(range.end) == range.end {
        return;
    }
    let Some(class) = class_of(reader, &range) else {
        of_file(reader, range, found);
        return;
    };
    if class == Class::Secret && manifest::values(reader, &range, found) {
        return;
    }
    // The user of a URL: its password is found by the `@` behind it.
    if reader.text[..range.start].closes_with(b"://") && reader.text.get(range.end) == Some(&b':') {
        return;
    }
    // The scheme of a URL.
    if reader.text[range.end..].begins_with(b"://") {
        return;
    }
    let name = with_quotes(reader, range, class);
    if let Some((start, _, _)) = name.quotes
        && memchr::memmem::find(&reader.text[start..name.range.start], b"::").is_some()
    {
        // `"AWS::IAM::AccessKey"` is a type.
        return;
    }
    let finder = Finder { reader, text: reader.text, name };
    match class {
        Class::Cookie => found.extend(finder.cookie()),
        Class::Authorization => found.extend(finder.authorization()),
        _ => finder.all(found),
    }
}

/// `secret_file` announces nothing, but what is written into it is a secret.
fn of_file(reader: &Reader<'_>, range: Range<usize>, found: &mut Vec<Found>) {
    let Some(class) = class_of_file(&reader.text[range.clone()]) else { return };
    let name = Name { end: range.end, range, class, quotes: None, is_foreign: false };
    found.extend(Finder { reader, text: reader.text, name }.redirected());
}

/// Where the word begins to be read whose part the filter has seen: its window may begin beside the word.
#[inline]
fn word_at(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take(3).take_while(|b| !is_name(**b)).count()
}

/// The name around a place within it, as far as it is looked at.
fn name_around(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let at = word_at(reader.text, at);
    name_ending(reader, at, reader.end_of(marks::NAME, at, MAX_NAME))
}

/// The name that holds `at` and ends at `end`.
fn name_ending(reader: &Reader<'_>, at: usize, mut end: usize) -> Option<Range<usize>> {
    let text = reader.text;
    let mut start = reader.start_of(marks::NAME, at, MAX_NAME);
    if is_after_escape(text, start + 1) && start < at {
        start += 1;
    }
    // `mot de passe` is one name in three words.
    if text[start..end].eq_ignore_ascii_case(b"mot")
        && text[end..].len() >= 9
        && text[end..end + 9].eq_ignore_ascii_case(b" de passe")
    {
        end += 9;
    }
    // `clave de acceso`, too.
    if text[start..end].eq_ignore_ascii_case(b"clave") && text[end..].starts_with(b" de acceso") {
        end += 10;
    }
    while end > start && text[end - 1] == b'-' {
        end -= 1;
    }
    // Percent-encoded quotes and brackets around a name.
    if text[start..end].begins_with(b"22") && start > 0 && text[start - 1] == b'%' {
        start += 2;
    }
    (start < end).then_some(start..end)
}

/// Looks for the quotes of a name, and for the key that it ends: `"spark.hadoop.fs.secret.key"`.
fn with_quotes(reader: &Reader<'_>, range: Range<usize>, class: Class) -> Name {
    let text = reader.text;
    let is_foreign = !text[range.clone()].is_ascii();
    let none = Name { end: range.end, range: range.clone(), class, quotes: None, is_foreign };
    if !matches!(text.get(range.end), Some(b'"' | b'\'' | b'`' | b'\\')) {
        return none;
    }
    let level = leading_slashes(&text[range.end..], 7);
    let Some(quote) = text.get(range.end + level).copied().filter(|b| b"\"'`".contains(b)) else { return none };
    let start = reader.start_of(marks::KEY, range.start, MAX_NAME);
    let slashes = trailing_slashes(&text[..start.saturating_sub(1)], 7);
    if start == 0 || text[start - 1] != quote || slashes != level {
        return none;
    }
    // `{""password"": ""x""}` in a cell of CSV.
    let doubled = level == 0 && start > 1 && text[start - 2] == quote && text.get(range.end + 1) == Some(&quote);
    if doubled && text.get(range.end + 2) != Some(&quote) {
        return Name { end: range.end + 2, range, class, quotes: Some((start - 2, quote, level)), is_foreign };
    }
    Name { end: range.end + level + 1, range, class, quotes: Some((start - 1 - level, quote, level)), is_foreign }
}

/// Looks for the values of one name.
struct Finder<'r, 'a> {
    reader: &'r Reader<'a>,
    text: &'a [u8],
    name: Name,
}

impl Finder<'_, '_> {
    /// Where the name begins, its quotes included.
    fn start(&self) -> usize {
        self.name.quotes.map_or(self.name.range.start, |(start, _, _)| start)
    }

    /// Whether the value is a secret, as the name announces one.
    fn may_be(&self, value: &[u8], role: Role) -> bool {
        self.reader.charge(value.len().min(secret::MAX_EXAMINED));
        may_be_secret(self.name.class, value, role)
    }

    fn found(&self, range: Range<usize>, why: &'static str) -> Found {
        let rule = if self.name.class == Class::Authorization { AUTHORIZATION } else { CREDENTIAL };
        Found { range, rule, why }
    }

    fn all(&self, found: &mut Vec<Found>) {
        if let Some(value) =
            self.redirected().or_else(|| self.annotated()).or_else(|| self.pair_of_login()).or_else(|| self.printed())
        {
            found.push(value);
            return;
        }
        if let Some(operator) = operator(self.reader, &self.name) {
            let known = found.len();
            self.behind(&operator, found);
            if found.len() == known {
                self.items_below(&operator, found);
                self.accounts_below(&operator, found);
            }
            if found.len() == known && operator.sign == Sign::Assign {
                found.extend(self.bound_parameter(blanks(self.text, operator.end)));
            }
            if found.len() > known {
                return;
            }
        }
        let known = found.len();
        self.named_pair(found);
        self.columns(found);
        self.csv(found);
        // In the head of a table or alone in a title no sign of a program follows a name.
        let signs = const { &ByteSet::of(b"=().[]{}<>!&?+/#%@^~$'") };
        let heads = self.text.get(self.name.end).is_none_or(|next| !signs.has(next));
        if found.len() == known && heads {
            self.table(found);
        }
        if found.len() == known {
            if heads {
                self.frame(found);
            }
            self.rows_before(found);
        }
        if found.len() == known {
            let beside = self.next_line().or_else(|| self.reversed()).or_else(|| self.next_argument());
            let beside = beside.or_else(|| self.led_to());
            let beside = beside.or_else(|| if heads { self.below_title() } else { None });
            let beside = beside.or_else(|| self.among_targets()).or_else(|| self.element_beside());
            let beside = beside.or_else(|| self.refused_input()).or_else(|| self.commented());
            let beside = beside.or_else(|| self.asserted()).or_else(|| self.documented()).or_else(|| self.echoed());
            let beside = beside.or_else(|| self.answered()).or_else(|| self.in_parentheses());
            found.extend(beside.or_else(|| self.announced_below()));
        }
    }

    /// What stands behind an operator.
    fn behind(&self, operator: &Operator, found: &mut Vec<Found>) {
        let at = self.past_blanks(operator);
        if let Some(typed) = operator.typed {
            let value = blanks(self.text, typed);
            if let Some(literal) = literal(self.reader, value) {
                let operator = Operator { sets: true, ..operator.clone() };
                found.extend(self.quoted(&literal, &operator, "a literal behind a type"));
                return;
            }
            let known = found.len();
            self.expression(value, operator, found);
            if found.len() > known {
                return;
            }
        }
        if operator.sign == Sign::Call && self.text.get(operator.end) == Some(&b')') {
            found.extend(self.returned(operator));
            return;
        }
        if operator.sign == Sign::Call && self.name.class == Class::Token {
            self.expression(operator.end - 1, operator, found);
            return;
        }
        // `widgets.Password(value="x")`
        if operator.sign == Sign::Call
            && self.name.class.is_password()
            && self.text[at..].begins_with(b"value=")
            && let Some(literal) = literal(self.reader, at + 6)
        {
            let operator = Operator { sets: true, ..operator.clone() };
            found.extend(self.quoted(&literal, &operator, "the value of a field for passwords"));
            return;
        }
        if operator.sign == Sign::Compare && self.text[..operator.end].closes_with(b"=~") {
            return;
        }
        match literal(self.reader, at) {
            Some(literal) => self.literals(&literal, operator, found),
            None if operator.sign == Sign::Assign && self.text[at..].begins_with(b"<<") => {
                found.extend(self.here_document(at));
            }
            None => {
                let known = found.len();
                self.by_keys(at, found);
                if found.len() == known {
                    self.expression(at, operator, found);
                }
                let opens = matches!(self.text.get(at), Some(b'[' | b'{'));
                if found.len() == known && opens {
                    found.extend(self.listed(at, operator));
                }
                if found.len() == known {
                    found.extend(self.bare(at, operator));
                }
            }
        }
    }

    /// Where the value begins; on the next line only where JSON or a bracket goes on.
    fn past_blanks(&self, operator: &Operator) -> usize {
        let mut at = blanks(self.text, operator.end);
        if operator.sign == Sign::Assign && self.text[at..].begins_with(b"\\\n") {
            // The line goes on.
            at += 2 + self.text[at + 2..].iter().take(32).take_while(|b| matches!(b, b' ' | b'\t')).count();
        }
        if !matches!(self.text.get(at), Some(b'\n' | b'\r')) || operator.sign == Sign::Space {
            return at;
        }
        // `const apiKey =` and the literal on the next line.
        let below = at + self.text[at..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count();
        let is_literal = below > at + 1 && matches!(self.text.get(below), Some(b'"' | b'\'' | b'`'));
        if matches!(operator.sign, Sign::Call) || operator.sign == Sign::Assign && is_literal || self.is_json_key() {
            return at + self.text[at..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count();
        }
        at
    }

    /// `PASSWORD 'x'`
    fn is_keyword_of_sql(&self, literal: &Literal, operator: &Operator) -> bool {
        let capitals = self.text[self.name.range.clone()].iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
        // `%any : PSK "x"` of IPsec.
        let quoted = literal.quote == b'\'' || &self.text[self.name.range.clone()] == b"PSK";
        operator.sign == Sign::Space && quoted && capitals && self.name.class != Class::Token
    }

    /// Whether a command sets the name to what follows: `setx API_KEY "x"`.
    fn is_set(&self) -> bool {
        let before = &self.text[..self.name.range.start];
        let name = &self.text[self.name.range.clone()];
        SETTERS.iter().any(|set| before.ends_with(set)) || name == b"requirepass" || name == b"masterauth"
    }

    /// Whether a name for passwords and the literal are all that the line says, as settings of some servers have it.
    fn is_all_of_line(&self, literal: &Literal) -> bool {
        let start = self.reader.context(self.name.range.start).line_start;
        let before = &self.text[start..self.name.range.start];
        let joined = self.text[self.name.range.clone()].iter().any(|b| b"_-".contains(b));
        (self.name.class == Class::Password || self.name.class == Class::Short && joined)
            && self.name.quotes.is_none()
            && literal.quote == b'"'
            && blanks(self.text, self.name.range.end) + 1 == literal.start
            && before.len() < NEARBY
            && before.iter().all(|b| matches!(b, b' ' | b'\t'))
            && matches!(self.text.get(literal.after), None | Some(b'\n' | b'\r' | b';'))
    }

    /// Whether the name is an option of a command: `--password`.
    fn is_option(&self) -> bool {
        self.text[self.name.range.clone()].begins_with(b"-") || self.text[..self.name.range.start].closes_with(b"--")
    }

    /// Whether the name is a key as in JSON: in quotes, behind a brace, comma or line break.
    fn is_json_key(&self) -> bool {
        let Some((start, _, _)) = self.name.quotes else { return false };
        let before = self.text[..start].iter().rev().take(64).find(|b| !b.is_ascii_whitespace());
        matches!(before, None | Some(b'{' | b','))
    }

    /// The literal behind the operator, or of several the one that belongs to the name.
    fn literals(&self, first: &Literal, operator: &Operator, found: &mut Vec<Found>) {
        if !self.opens(first) {
            return;
        }
        let nth = self.targets_before(operator);
        let mut literal_now = first.clone();
        for _ in 0..nth {
            let comma = blanks(self.text, literal_now.after);
            match (self.text.get(comma), literal(self.reader, blanks(self.text, comma + 1))) {
                (Some(b','), Some(next)) => literal_now = next,
                _ => break,
            }
        }
        let mut operator = operator.clone();
        if operator.sign == Sign::Call && operator.sets {
            literal_now = self.last_argument(literal_now);
        }
        if operator.sign == Sign::Comma && self.name.quotes.is_none() && !self.is_option() {
            operator.sets = self.is_compared();
            if !operator.sets {
                return;
            }
        } else if operator.sign == Sign::Comma {
            if self.is_list_of_names(&literal_now) {
                return;
            }
            operator.sets = self.is_argument_pair(&literal_now);
        }
        // `CURLOPT_USERPWD, "bob:x"`
        if self.text[self.name.range.clone()].closes_with(b"_USERPWD") {
            let colon = memchr::memchr(b':', &self.text[literal_now.start..literal_now.end]);
            literal_now.start += colon.map_or(0, |colon| colon + 1);
        }
        let known = found.len();
        found.extend(self.quoted(&literal_now, &operator, "a literal given to the name"));
        if found.len() == known {
            found.extend(self.stood_in(&(literal_now.start..literal_now.end)));
        }
        // `password = "old" -> "new"`, as a plan of changes says it.
        if found.len() > known && self.text[literal_now.after..].begins_with(b" -> ") {
            let next = literal(self.reader, literal_now.after + 4);
            found.extend(next.and_then(|next| self.quoted(&next, &operator, "what a literal is changed to")));
        }
    }

    /// How many targets stand in front of the name in `user, password = "bob", "x"`.
    fn targets_before(&self, operator: &Operator) -> usize {
        if operator.sign != Sign::Assign || self.name.quotes.is_some() {
            return 0;
        }
        let here = self.reader.context(self.name.range.start);
        let line = here.string.map_or(here.line_start, |(_, open)| open + 1);
        let from = line.max(self.name.range.start.saturating_sub(NEARBY));
        let before = self.text[from..self.name.range.start].trim_ascii();
        let targets = before.iter().all(|b| is_name(*b) || const { &ByteSet::of(b"., $") }.has(b) || *b >= 0x80);
        let in_bracket = here.bracket.is_some_and(|(_, open)| open >= line);
        if targets && before.closes_with(b",") && !in_bracket { memchr::memchr_iter(b',', before).count() } else { 0 }
    }

    /// Whether the literal's quote opens a string; where the name stands in a string, the same quote closes it.
    fn opens(&self, literal: &Literal) -> bool {
        if self.name.quotes.is_some() {
            return true;
        }
        // `\"Password:\"\n`: in JSON within JSON the quote closes what the name stands in, and the line ends.
        if literal.level > 0 && self.text[literal.start..].begins_with(b"\\n") {
            return false;
        }
        let here = self.reader.context(self.name.range.start);
        let closes = here.string.is_some_and(|(quote, _)| quote == literal.quote && literal.level == 0);
        // `"f('Password:')"`: within a string of another quote, too.
        let within = here.string.is_some_and(|(quote, _)| quote != literal.quote);
        if within && self.text.get(literal.start).is_some_and(|b| b")]},;".contains(b)) {
            return false;
        }
        // Behind a quote that closes a string no word can begin.
        !closes || self.text.get(literal.start).is_some_and(u8::is_ascii_alphanumeric)
    }

    pub(super) fn quoted(&self, literal: &Literal, operator: &Operator, why: &'static str) -> Option<Found> {
        let value = &self.text[literal.start..literal.end];
        let role = match operator.sign {
            _ if operator.sets || self.is_option() || self.is_keyword_of_sql(literal, operator) => Role::Assigned,
            Sign::Space if self.is_set() || self.is_all_of_line(literal) => Role::Assigned,
            // `"password" -> "x"` of Scala, and a sentence that quotes what the password is.
            Sign::Cell if self.name.quotes.is_some() && self.text[..operator.end].closes_with(b"->") => Role::Assigned,
            Sign::Space if operator.mentions && self.name.class == Class::Password => Role::Setting,
            Sign::Space if self.is_quoted_to_somebody(value, operator) => Role::Setting,
            Sign::Comma | Sign::Space | Sign::Cell | Sign::Call => Role::Beside,
            _ => Role::Assigned,
        };
        let formatted = literal.formatted && value.contains(&b'{');
        // An object of JSON names its own secrets.
        let object = value.begins_with(b"{\"") || value.begins_with(b"{\\");
        let word = || role == Role::Assigned && self.is_key_of_letters(value);
        (!formatted && !object && !is_joint(value) && (self.may_be(value, role) || word()))
            .then(|| self.found(literal.start..literal.end, why))
    }
}

/// Where spaces and tabs end.
#[inline]
fn blanks(text: &[u8], at: usize) -> usize {
    match text.get(at) {
        Some(b' ' | b'\t') => at + 1 + text[at + 1..].iter().take(31).take_while(|b| matches!(b, b' ' | b'\t')).count(),
        _ => at,
    }
}
