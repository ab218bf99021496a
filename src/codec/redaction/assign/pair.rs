//! Values further away from their name: inside calls, behind `or`, in name/value pairs, in SQL.

use super::chosen::is_chosen;
use super::literal::literal;
use super::operator::{Operator, Sign};
use super::secret::{Role, may_be_secret};
use super::{Finder, Found, NEARBY, blanks, tested};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::literals::{Literals as _, Vocabulary};
use crate::codec::redaction::marks;
use crate::codec::redaction::names::{Class, is_name};
use crate::codec::redaction::values::{is_keyword, is_stand_in};

/// The most arguments of a call that are read.
const MAX_ARGUMENTS: usize = 8;
/// How far an expression is read.
const MAX_EXPRESSION: usize = 160;
/// Calls that look something up under the name they are given.
#[rustfmt::skip]
const LOOKUPS: &[&str] = &[
    "getenv", "get", "env", "environ", "fetch", "lookup", "find", "getproperty", "var", "getstring", "getpass",
    "prompt", "input", "read", "open", "load", "getenvironmentvariable", "get_secret", "getsecret", "secret",
    "config", "setting", "param", "require", "gettext", "_", "t", "translate", "i18n", "label", "print", "len",
    "format", "getattr", "query", "queryselector", "getelementbyid", "getitem", "xpath", "css", "select",
    "getparameter", "getheader", "header", "conf", "env_var", "os", "url_for", "import", "field", "column",
    "describe", "test", "it",
];
/// Members that hold the value of a pair whose name another member holds.
#[rustfmt::skip]
const VALUES: &[&str] = &[
    "value", "val", "default", "content", "data", "string", "parametervalue", "new", "text", "defaultvalue",
    "default_value", "secret", "v",
];
static VALUE_WORDS: Vocabulary = Vocabulary::of(VALUES);
/// Members that hold the name of a pair.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "name", "key", "id", "field", "var", "variable", "param", "parameter", "parameterkey", "header", "property",
    "k", "option", "attribute", "secretname", "n", "username_", "label", "description",
];
static NAME_WORDS: Vocabulary = Vocabulary::of(NAMES);

/// How longer names of such members end.
const LONG_NAMES: &[&[u8]] = &[b"OptionName", b"SettingName", b"VariableName", b"ParameterName", b"PropertyName"];

/// Signs that stand between a value and the name behind it.
#[rustfmt::skip]
const REVERSED: &[&[u8]] = &[
    b"->", b"!==", b"===", b"==", b"!=", b" AS", b" as", b"forKey:", b"forKey:@", b"forHTTPHeaderField:",
];

/// Whether a member of this name holds the value of a pair.
pub fn is_value_member(name: &str) -> bool {
    VALUE_WORDS.has(name.as_bytes())
}

/// Whether a member of this name holds the name of a pair.
pub fn is_name_member(name: &str) -> bool {
    NAME_WORDS.has(name.as_bytes())
}

impl Finder<'_, '_> {
    /// A value wrapped in a call, a list or parentheses, or behind `or`.
    pub(super) fn expression(&self, at: usize, operator: &Operator, found: &mut Vec<Found>) {
        if matches!(operator.sign, Sign::Cell | Sign::Tag) {
            return;
        }
        let Some(first) = self.text.get(at) else { return };
        // `getPassword = () => "x"`
        if self.text[at..].begins_with(b"() => ") || self.text[at..].begins_with(b"() -> ") {
            let operator = Operator { sign: Sign::Space, ..operator.clone() };
            found.extend(
                literal(self.reader, at + 6).and_then(|one| self.quoted(&one, &operator, "what a function returns")),
            );
            return;
        }
        match first {
            b'(' | b'[' => self.bracketed(at, operator, found),
            b'{' if operator.sign == Sign::Space || operator.sign == Sign::Assign => {
                let given = self.block(at, operator).or_else(|| self.in_braces(at, operator));
                found.extend(given.or_else(|| self.member_below(at + 1, &["default", "value", "string"])));
            }
            b'{' if operator.sign == Sign::Colon && self.name.quotes.is_some() => {
                found.extend(self.value_of_object(at + 1))
            }
            b if operator.sign == Sign::Comma && b.is_ascii_alphabetic() => found.extend(self.keyword_argument(at)),
            b if b.is_ascii_alphabetic() || const { &ByteSet::of(b"_$@&*!:") }.has(b) => self.call(at, operator, found),
            _ => {}
        }
    }

    /// `("x")`, `["x", "y"]`, and of a pair for credentials the right one.
    fn bracketed(&self, at: usize, operator: &Operator, found: &mut Vec<Found>) {
        let space = |at: usize| {
            at + self.text[at..].iter().take(64).take_while(|b| b.is_ascii_whitespace() || **b == b'(').count()
        };
        let mut next = space(at + 1);
        let user = self.text[next..].iter().take(40).take_while(|b| is_name(**b) || **b == b'.').count();
        if user > 0 && self.is_login() && self.text.get(next + user) == Some(&b',') {
            let second = literal(self.reader, space(next + user + 1));
            let second = second.filter(|one| self.text.get(space(one.after)) == Some(&b')'));
            if let Some(one) =
                second.filter(|one| may_be_secret(Class::Password, &self.text[one.start..one.end], Role::Assigned))
            {
                found.push(self.found(one.start..one.end, "the right one of a pair"));
            }
            return;
        }
        // A list within one that was read is a part of it.
        if at < self.reader.bracketed_to.get() {
            return;
        }
        let mut all = Vec::new();
        while let Some(one) = literal(self.reader, next) {
            // A string that its line leaves open is no element, and what follows belongs to no list.
            let is_open = matches!(self.text.get(one.end), None | Some(b'\n'));
            if is_open && !all.is_empty() {
                break;
            }
            let after = space(one.after);
            all.push(one);
            if all.len() > 64 {
                break;
            }
            // Literals without a comma between them are one text.
            next = if self.text.get(after) == Some(&b',') { space(after + 1) } else { after };
        }
        self.reader.bracketed_to.set(next);
        // `['required', 'min:8']` is a list of rules.
        if all.len() > 1 && all.iter().any(|one| is_keyword(&self.text[one.start..one.end])) {
            return;
        }
        if all.len() == 2 && self.is_login() {
            all.remove(0);
            let value = &self.text[all[0].start..all[0].end];
            if may_be_secret(Class::Password, value, Role::Assigned) {
                found.push(self.found(all[0].start..all[0].end, "the right one of a pair"));
            }
            return;
        }
        for one in all {
            found.extend(self.quoted(&one, operator, "a literal in brackets"));
        }
    }

    /// Whether the name announces a user and a password: `auth`, `credentials`.
    pub(super) fn is_login(&self) -> bool {
        let name = &self.text[self.name.range.clone()];
        let ends = |word: &&[u8]| {
            name.len().checked_sub(word.len()).is_some_and(|from| name[from..].eq_ignore_ascii_case(word))
        };
        let login = [&b"auth"[..], b"credentials", b"credential", b"creds"];
        self.name.class == Class::Token && login.iter().any(ends)
    }

    /// `SecretStr("x")`, `os.getenv("X", "x")`, `x or "y"`, `Field(default="x")`.
    fn call(&self, at: usize, operator: &Operator, found: &mut Vec<Found>) {
        let text = self.text;
        let reach = text.len().min(at + MAX_EXPRESSION);
        self.reader.charge(MAX_EXPRESSION / 4);
        // `lambda: "x"`
        if text[at..].begins_with(b"lambda") && matches!(text.get(at + 6), Some(b':' | b' ')) {
            let line = &text[at..self.reader.line_end(at).min(reach)];
            let colon = memchr::memchr(b':', line).map(|len| blanks(text, at + len + 1));
            let said = colon.and_then(|at| literal(self.reader, at));
            // Functions say what is no secret more often.
            let operator = Operator { sign: Sign::Space, ..operator.clone() };
            found.extend(said.and_then(|said| self.quoted(&said, &operator, "a literal that a function gives")));
            return;
        }
        let path = |b: &&u8| is_name(**b) || const { &ByteSet::of(b".:>$&@!?*<") }.has(b);
        let mut end = self.reader.end_of(marks::CALL, at, reach - at);
        // `new X(`, `await x(`
        for word in [&b"new "[..], b"await ", b"ConvertTo-SecureString "] {
            if text[at] == word[0] && text[at..].starts_with(word) {
                let from = at + word.len();
                if let Some(one) = literal(self.reader, blanks(text, from)) {
                    found.extend(self.quoted(&one, operator, "a literal in a call"));
                    return;
                }
                end = from + text[from..].iter().take(64).take_while(path).count();
            }
        }
        let mut rest = end;
        if matches!(text.get(end), Some(b'(' | b'[')) {
            let word = text[at..end].rsplit(|b| !b.is_ascii_alphanumeric() && *b != b'_').find(|word| !word.is_empty());
            let word = word.map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).unwrap_or_default();
            let space = |at: usize| at + text[at..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count();
            if let Some(one) = literal(self.reader, space(end + 1)) {
                let after = space(one.after);
                let lookup = LOOKUPS.contains(&word.as_str()) || text[end] == b'[';
                let login = self.is_login() && ["auth", "cred", "login"].iter().any(|part| word.contains(part));
                if text.get(after) == Some(&b',') && (lookup || login) {
                    let second = literal(self.reader, space(after + 1));
                    if let Some(second) = second.filter(|two| lookup || text.get(space(two.after)) == Some(&b')')) {
                        let class = if lookup { self.name.class } else { Class::Password };
                        if may_be_secret(class, &text[second.start..second.end], Role::Assigned) {
                            found.push(self.found(second.start..second.end, "the second of two arguments"));
                        }
                        return;
                    }
                } else if !lookup && matches!(text.get(after), Some(b')' | b'.' | b',')) {
                    let known = [
                        "str",
                        "string",
                        "from",
                        "bytes",
                        "secretstr",
                        "secret",
                        "password",
                        "some",
                        "ok",
                        "new",
                        "quote",
                        "b64decode",
                        "b64encode",
                        "option",
                        "field",
                        "encode",
                        "securestring",
                        "char",
                        "varchar",
                        "plain",
                        "raw",
                        "text",
                        "concat",
                        "sha256",
                        "md5",
                        "crypt",
                        "hash",
                        "passwordhash",
                        "password_hash",
                        "bcrypt",
                        "sensitive",
                    ];
                    let role = if known.contains(&word.as_str()) || word.ends_with("str") || word.ends_with("string") {
                        operator.sign
                    } else {
                        Sign::Space
                    };
                    let operator = Operator { sign: role, ..operator.clone() };
                    found.extend(self.quoted(&one, &operator, "a literal in a call"));
                    return;
                }
                // What follows within the call belongs to its arguments.
                let mut depth = 1;
                let close = text[after.min(reach)..reach].iter().position(|b| {
                    depth += i32::from(*b == text[end]) - i32::from(matches!(b, b')' | b']'));
                    depth == 0
                });
                let Some(close) = close else { return };
                rest = after + close + 1;
            } else if tested::falls_back(&word) {
                let inside = &text[end..self.reader.line_end(end).min(reach)];
                let last = memchr::memmem::rfind(inside, b", ").and_then(|at| literal(self.reader, end + at + 2));
                found.extend(
                    last.and_then(|one| self.quoted(&one, operator, "a literal that stands in for an absent value")),
                );
                return;
            } else if let Some(default) = text[end..text.len().min(end + 80)].place_of(b"default") {
                found.extend(self.member_below(end + default, &["default"]));
                return;
            }
        }
        let line = self.reader.line_end(rest).min(rest + MAX_EXPRESSION);
        let tail = &text[rest..line];
        let quoted = memchr::memchr3(b'"', b'\'', b'`', tail).is_some() || memchr::memchr2(0xC2, 0xE2, tail).is_some();
        if !quoted {
            return;
        }
        self.reader.charge(tail.len());
        for nth in 0..8 {
            let place = match nth {
                0 => tail.behind(b" or "),
                1 => tail.behind(b"|| "),
                2 => tail.behind(b"?? "),
                3 => tail.behind(b"?: "),
                4 => tail.behind(b" else "),
                5 => tail.behind(b"||"),
                6 => tail.behind(b"??"),
                _ => tail.behind(b":-"),
            };
            if let Some(one) = place.and_then(|place| literal(self.reader, blanks(text, rest + place))) {
                found.extend(self.quoted(&one, operator, "a literal that stands in for an absent value"));
                return;
            }
        }
    }

    /// The literal of a member with one of these names shortly behind `at`: `{ default = "x" }`.
    fn member_below(&self, at: usize, names: &[&str]) -> Option<Found> {
        let reach = &self.text[at..self.text.len().min(at + MAX_EXPRESSION)];
        self.reader.charge(reach.len());
        let stop = reach.iter().position(|b| *b == b'}').unwrap_or(reach.len());
        names.iter().find_map(|name| {
            let place = memchr::memmem::find(&reach[..stop], name.as_bytes())?;
            // `'default' => 'x'`
            let end = at + place + name.len();
            let end = end + usize::from(self.text.get(end) == Some(&b'\''));
            let sign =
                end + self.text[end..].iter().take(16).take_while(|b| const { &ByteSet::of(b" \t=:>") }.has(b)).count();
            let one = literal(self.reader, sign)?;
            let value = &self.text[one.start..one.end];
            self.may_be(value, Role::Assigned).then(|| self.found(one.start..one.end, "the default of the name"))
        })
    }

    /// `{"name": "DB_PASSWORD", "value": "x"}` in any notation, in either order.
    #[inline(never)]
    pub(super) fn named_pair(&self, found: &mut Vec<Found>) {
        let text = self.text;
        let start = self.start();
        // What stands before the name must be a member that holds names: `<name>fs.s3a.secret.key</name>`.
        let dotted = self.name.quotes.is_none() && self.text[..start].closes_with(b".");
        let start = if dotted { self.reader.start_of(marks::KEY, start, 2 * NEARBY) } else { start };
        let (key, element) = match self.key_before(start) {
            Some(known) => known,
            None => return,
        };
        let behind = &text[self.name.end..text.len().min(self.name.end + MAX_EXPRESSION)];
        self.reader.charge(MAX_EXPRESSION);
        let stop =
            memchr::memchr_iter(b'\n', behind).find(|at| behind.get(at + 1) == Some(&b'\n')).unwrap_or(behind.len());
        if let Some(value) = self.value_member(self.name.end, self.name.end + stop, element) {
            found.push(value);
            return;
        }
        let from = key.saturating_sub(MAX_EXPRESSION);
        self.reader.charge(MAX_EXPRESSION);
        if let Some(value) = self.value_before(from, key) {
            found.push(value);
        }
    }

    /// Where the member begins that holds the name, if it is one, and whether it is an element of XML.
    fn key_before(&self, start: usize) -> Option<(usize, bool)> {
        let before = &self.text[start.saturating_sub(40)..start];
        let end = before.trim_ascii_end();
        let (signs, element) = match end.last()? {
            b':' | b'=' => (1, false),
            b'>' if end.closes_with(b"=>") => (2, false),
            b'>' => (1, true),
            _ => return None,
        };
        let key = end[..end.len() - signs].trim_ascii_end();
        let key = key.strip_suffix(b"\"").or_else(|| key.strip_suffix(b"'")).unwrap_or(key);
        let key = key.strip_suffix(b"\\").unwrap_or(key);
        let word = key.iter().rev().take_while(|b| is_name(**b)).count();
        let word = &key[key.len() - word..];
        // `<env-entry-name>`, `"OptionName"`
        let names =
            NAME_WORDS.has(word) || word.ends_with(b"-name") || LONG_NAMES.iter().any(|name| word.ends_with(name));
        names.then(|| (start - before.len() + key.len() - word.len(), element))
    }

    /// The value of a pair behind its name.
    fn value_member(&self, from: usize, to: usize, element: bool) -> Option<Found> {
        let text = self.text;
        if (element
            || text[from..to].trim_ascii_start().begins_with(b"</")
            || text.get(from) == Some(&b'>')
            || text[from..to].begins_with(b"\">"))
            && let Some(found) = self.next_element(from, to)
        {
            return Some(found);
        }
        let mut at = from;
        while at < to {
            let word_start = at + text[at..to].iter().position(|b| b.is_ascii_alphabetic())?;
            let word_end = word_start + text[word_start..to].iter().take_while(|b| is_name(**b)).count();
            let word = &text[word_start..word_end];
            // In `arn:aws:secretsmanager:…:secret:x` nothing is a member.
            let urn = word_start > 1 && text[word_start - 1] == b':' && text[word_start - 2].is_ascii_alphanumeric();
            let is_value = !urn && VALUE_WORDS.has(word);
            if let Some(found) = is_value.then(|| self.member_value(word_end)).flatten() {
                return Some(found);
            }
            // A second name means that the pair has no value.
            if NAME_WORDS.has(word) && !word.eq_ignore_ascii_case(b"id") {
                return None;
            }
            at = word_end.max(at + 1);
            if text[word_start..at].is_empty() {
                return None;
            }
        }
        None
    }

    /// What a member is given whose name ends at `at`.
    fn member_value(&self, at: usize) -> Option<Found> {
        let text = self.text;
        let closing = at + text[at..].iter().take(8).take_while(|b| b"\\\"'".contains(b)).count();
        let sign = blanks(text, closing);
        let len = match text.get(sign..sign + 2)? {
            b"=>" | b":=" => 2,
            [b'=' | b':', _] => 1,
            [b'>', _] => 1,
            _ => return None,
        };
        let value = blanks(text, sign + len);
        if let Some(one) = literal(self.reader, value) {
            if self.name.class == Class::Authorization {
                let (credentials, known) = self.past_scheme(one.start..one.end);
                let secret = &text[credentials.clone()];
                let taken = known && !secret.contains(&b' ') && !is_stand_in(secret);
                return taken.then(|| self.found(credentials, "credentials behind a scheme"));
            }
            return self
                .may_be(&text[one.start..one.end], Role::Assigned)
                .then(|| self.found(one.start..one.end, "the value of a pair"));
        }
        let end = value
            + text[value..]
                .iter()
                .take(512)
                .take_while(|b| !b.is_ascii_whitespace() && !const { &ByteSet::of(b",)}<\\\"'") }.has(b))
                .count();
        let taken =
            end > value && text[value] != b'{' && text[value] != b'[' && self.may_be(&text[value..end], Role::Setting);
        taken.then(|| self.found(value..end, "the value of a pair"))
    }

    /// `<key>password</key><string>x</string>`, `<property name="password">x</property>`
    fn next_element(&self, from: usize, to: usize) -> Option<Found> {
        let text = self.text;
        let mut at = from;
        let mut start = None;
        while at < to {
            let close = at + memchr::memchr(b'>', &text[at..to])?;
            let next = close + 1 + text[close + 1..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count();
            if text.get(next) != Some(&b'<') {
                start = Some(next);
                break;
            }
            if text[next..].begins_with(b"<key") || text[next..].begins_with(b"<name") {
                return None;
            }
            at = next;
        }
        let start = start?;
        let len = memchr::memchr(b'<', &text[start..text.len().min(start + 512)])?;
        let value = text[start..start + len].trim_ascii_end();
        let taken = self.may_be(value, Role::Setting);
        taken.then(|| self.found(start..start + value.len(), "the element beside the name"))
    }

    /// The value of a pair in front of its name.
    fn value_before(&self, from: usize, key: usize) -> Option<Found> {
        let before = &self.text[from..key];
        let open = before
            .iter()
            .rposition(|b| b"{}<".contains(b))
            .or_else(|| memchr::memmem::rfind(before, b"- "))
            .map_or(0, |at| at + 1);
        let members = &before[open..];
        // Where each of the words stands last, found in one go.
        let mut places = [None; VALUES.len()];
        for (at, byte) in members.iter().enumerate().rev() {
            if !byte.is_ascii_alphabetic() || at > 0 && is_name(members[at - 1]) {
                continue;
            }
            for (nth, value) in VALUE_WORDS.beginning_with(*byte) {
                let word = members.get(at..at + value.len()).filter(|_| places[nth].is_none());
                places[nth] = places[nth].or(word.filter(|word| word.eq_ignore_ascii_case(value)).map(|_| at));
            }
        }
        VALUES.iter().zip(places).find_map(|(value, place)| {
            let at = from + open + place?;
            let alone = at == 0 || !is_name(self.text[at - 1]);
            // In `arn:aws:secretsmanager:…:secret:x` nothing is a member.
            let urn = at > 1 && self.text[at - 1] == b':' && self.text[at - 2].is_ascii_alphanumeric();
            if !alone || urn {
                return None;
            }
            self.member_value(at + value.len()).filter(|found| found.range.end <= key)
        })
    }

    /// `add_argument("--password", default="x")`
    fn keyword_argument(&self, at: usize) -> Option<Found> {
        let line = self.reader.line_end(at).min(at + MAX_EXPRESSION);
        let text = &self.text[at..line];
        let (place, len) = match text.place_of(b"default") {
            Some(place) => (place, 7),
            None if text.begins_with(b"fallback") => (0, 8),
            None if text.begins_with(b"with: ") => (0, 4),
            None => return None,
        };
        self.member_value(at + place + len)
    }

    /// Whether the literals that follow are a list of names, in which the next is no value.
    pub(super) fn is_list_of_names(&self, next: &super::Literal) -> bool {
        let value = &self.text[next.start..next.end];
        if self.is_option() {
            return value.begins_with(b"-");
        }
        let word = value.iter().all(|b| b.is_ascii_alphabetic() || const { &ByteSet::of(b"_- .") }.has(b));
        word && !self.is_argument_pair(next)
    }

    /// Whether the name is the first argument of a call that sets it to the next, or one of a pair.
    pub(super) fn is_argument_pair(&self, next: &super::Literal) -> bool {
        let here = self.reader.context(self.start());
        let Some((b'(' | b'[', open)) = here.bracket else { return false };
        let head = self.text[..open].iter().rev().take(40).take_while(|b| is_name(**b) || **b == b'.').count();
        let head = String::from_utf8_lossy(&self.text[open - head..open]).to_ascii_lowercase();
        let before = &self.text[open + 1..self.start()];
        let first = before.iter().all(|b| b.is_ascii_whitespace() || *b == b'\\');
        let near = before.len() < 40 && memchr::memchr_iter(b',', before).count() == 1;
        let sets = [
            "set", "define", "env", "get", "put", "fetch", "assign", "append", "header", "option", "property", "add",
            "with", "default", "config", "flag.",
        ];
        let pair = self.is_pair(next);
        let word = self.text[next.start..next.end].iter().all(|b| b.is_ascii_lowercase() || *b == b'_');
        let names = word && ["get", "with", "add"].iter().any(|verb| head.ends_with(verb)) && head.len() > 8;
        let mixed = self.text[next.start..next.end].iter().any(|b| !b.is_ascii_alphabetic() && *b != b'_');
        let set = sets.iter().any(|word| head.contains(word));
        // `('DB_PASSWORD', 'sunshine')`
        let name = &self.text[self.name.range.clone()];
        let variable = name.contains(&b'_') && name.iter().all(|b| b.is_ascii_uppercase() || *b == b'_');
        let told = mixed || variable && is_chosen(&self.text[next.start..next.end]);
        (first && head.len() > 2 && set && !names) || first && pair && told || near && pair && head.contains("set")
    }

    /// `"x" -> password`, `"x" == password`
    #[inline(never)]
    pub(super) fn reversed(&self) -> Option<Found> {
        // `"x" == settings.password`
        let owner = self.text[..self.start()].iter().rev().take(NEARBY);
        let owner = match self.text[..self.start()].last() {
            Some(b'.') => owner.take_while(|b| is_name(**b) || **b == b'.').count(),
            _ => 0,
        };
        let before = self.text[..self.start() - owner].trim_ascii_end();
        let before = REVERSED.iter().find_map(|sign| before.strip_suffix(*sign))?.trim_ascii_end();
        let before = before.strip_suffix(b",").unwrap_or(before);
        let quote = *before.last().filter(|b| b"\"'".contains(b))?;
        let end = before[..before.len() - 1].iter().rposition(|b| *b != b'\\').map_or(0, |at| at + 1);
        let from = end.saturating_sub(MAX_EXPRESSION);
        let start = from + memchr::memrchr(quote, &before[from..end])? + 1;
        self.may_be(&before[start..end], Role::Assigned).then(|| self.found(start..end, "a literal given to the name"))
    }

    /// Of several literals that a call is given the last: `set_password("service", "user", "x")`.
    pub(super) fn last_argument(&self, first: super::Literal) -> super::Literal {
        let space = |at: usize| at + self.text[at..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count();
        let mut last = first.clone();
        for _ in 0..MAX_ARGUMENTS {
            match self.text.get(space(last.after)) {
                Some(b')') => return last,
                Some(b',') => match literal(self.reader, space(space(last.after) + 1)) {
                    Some(next) => last = next,
                    None => return first,
                },
                _ => return first,
            }
        }
        first
    }

    /// The argument behind a string that ends with the name: `print("password:", "x")`.
    #[inline(never)]
    pub(super) fn next_argument(&self) -> Option<Found> {
        if self.name.quotes.is_some() {
            return None;
        }
        let rest = &self.text[self.name.end..];
        let gap = rest.iter().take(12).position(|b| b"\"'`".contains(b))?;
        let label = rest[..gap].iter().all(|b| b.is_ascii_lowercase() || const { &ByteSet::of(b" :=%-{}\\") }.has(b));
        let quote = self.name.end + gap;
        let comma = blanks(self.text, quote + 1);
        let before = &self.text[self.start().saturating_sub(NEARBY)..self.start()];
        let opened = memchr::memchr(self.text[quote], before).is_some();
        if !label || !opened || self.text.get(comma) != Some(&b',') {
            return None;
        }
        let next = literal(self.reader, blanks(self.text, comma + 1))?;
        let taken = self.may_be(&self.text[next.start..next.end], Role::Beside);
        taken.then(|| self.found(next.start..next.end, "the argument behind the name"))
    }

    /// Whether a bracket closes behind the literal: the name and it are all that it holds.
    fn is_pair(&self, next: &super::Literal) -> bool {
        let after = next.after + self.text[next.after..].iter().take(8).take_while(|b| b.is_ascii_whitespace()).count();
        matches!(self.text.get(after), Some(b')' | b']'))
    }
}
