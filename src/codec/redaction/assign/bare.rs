//! Unquoted values: accepted in settings, URLs, headers and command lines when they look like values; in code an
//! unquoted word is an expression.

use super::ends::{cell_end, cell_sign, tag_len, word_end};
use super::operator::{ENDING_VERBS, Operator, Sign};
use super::secret::{LONG_NUMBER, MAX_EXAMINED, Role, beginning, is_camel, is_short_choice, is_type};
use super::word::{
    is_behind_user, is_of_code, is_of_tests, is_opening_template, is_title, is_word_of_sentence, text_follows,
};
use super::{Finder, Found, blanks};
use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::context::{Kind, LineContext};
use crate::codec::redaction::marks;
use crate::codec::redaction::names::{Class, is_name};
use crate::codec::redaction::random::is_random;
use crate::codec::redaction::values::{is_stand_in, is_template};

/// How much of its line is read in front of a name.
pub(super) const MAX_BEFORE: usize = 160;
/// The most signs of a sentence behind a value: many names may stand in front of one long run of them.
const MAX_SIGNS: usize = 16;
/// Words in front of a name that set it to the next word.
#[rustfmt::skip]
const SETTERS: &[&[u8]] = &[
    b"ENV", b"ARG", b"\\set", b"SetEnv", b"setenv", b"setx", b"%env", b"-x", b"set", b"config", b"-gx", b"--global", b"configure",
    b"env", b"nmcli",
];
/// What follows `config` where a command sets the name to the next word.
const CONFIGURING: &[&[u8]] = &[b"set", b"create", b"update", b"add"];
/// Names of settings that stand in front of their value alone.
const SERVER_SETTINGS: &[&[u8]] = &[
    b"requirepass",
    b"masterauth",
    b"rootpw",
    b"bindpw",
    b"sv_password",
    b"rcon_password",
    b"AUTH",
    b"auth_pass",
    b"pre-shared-key",
];
/// Words of sentences that tell somebody a password, in front of its name.
const TELLING: &[&[u8]] = &[b"use", b"using", b"with", b"enter", b"type", b"try", b"Use", b"Enter", b"Try"];
/// The numbers of the ends that a reader remembers for values.
const URL_END: usize = 1;
const FIELD_END: usize = 2;
const WORD_END: usize = 3;
const TAG_END: usize = 4;
const COMMA_END: usize = 40;
const BAR_END: usize = 41;
pub(super) const LINE_WORDS_END: usize = 42;
const OPEN_TAG_END: usize = 43;

/// Where a value without quotes stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Behind a name in the query or fragment of a URL, or in a form.
    Url,
    /// Between semicolons, as in connection strings.
    Field,
    /// Between tags.
    Tag,
    /// A line of settings, or a command line.
    Setting,
    /// In a sentence or a log.
    Mention,
    /// Between commas, as in CSV.
    CommaCell,
    /// Between bars, as in a table of Markdown.
    BarCell,
    /// The same, where the name and the value are all that the row has.
    Row,
    /// Anywhere else.
    Word,
}

impl Finder<'_, '_> {
    pub(super) fn bare(&self, at: usize, operator: &Operator) -> Option<Found> {
        let first = *self.text.get(at)?;
        if matches!(operator.sign, Sign::Call | Sign::Compare)
            || operator.sign == Sign::Comma && self.name.quotes.is_some()
        {
            return None;
        }
        // `<password type="plain">x</password>`
        if operator.sign == Sign::Space && self.begins_tag() {
            // Tags may begin again and again on a line that closes none.
            let end = self.reader.line_end(at);
            let close = self
                .reader
                .end(OPEN_TAG_END, at, || memchr::memchr(b'>', &self.text[at..end]).map_or(end, |close| at + close));
            return if close < end { self.in_tag(close + 1) } else { None };
        }
        if first == b'{' && operator.sign == Sign::Assign && self.text[..self.start()].closes_with(b";") {
            return self.braced(at);
        }
        // `f"password={'x'}"`
        let open = at + usize::from(matches!(first, b'$' | b'#'));
        if self.text.get(open) == Some(&b'{')
            && let Some(inside) = super::literal(self.reader, open + 1)
            && self.text.get(inside.after) == Some(&b'}')
        {
            return self.quoted(&inside, &Operator { sets: true, ..operator.clone() }, "a literal that is filled in");
        }
        if first == b'<' && operator.sign == Sign::Colon {
            return self.between_signs(at);
        }
        if first == b'\n' || first == b'\r' || is_opening_template(&self.text[at..]) {
            return if operator.sign == Sign::Tag { self.in_tag(at) } else { self.below(at, operator, "") };
        }
        if operator.sign == Sign::Tag {
            return self.in_tag(at);
        }
        if operator.sign == Sign::Colon
            && matches!(first, b'|' | b'>' | b'!' | b'&' | b'#')
            && let Some(block) = self.marked(at, operator)
        {
            return block;
        }
        let here = self.reader.context(self.name.range.start);
        let (place, why) = self.place(at, operator, &here)?;
        let end = self.before_markup(at, self.end_of(at, place));
        if end <= at {
            return None;
        }
        if self.is_known_already(at, end) {
            return None;
        }
        let mut range = at..end;
        let value = beginning(&self.text[range.clone()]);
        self.reader.charge(value.len());
        // A number is a literal wherever it stands; `my pin is 4821` says one.
        let pin = self.name.class == Class::Short || self.text[..self.name.range.end].closes_with(b"code");
        let said = operator.mentions && (pin || value.len() > 5);
        if value.len() > 3 && value.iter().all(u8::is_ascii_digit) && (operator.sign != Sign::Space || said) {
            let password = self.name.class.is_password() || value.len() >= LONG_NUMBER;
            let taken = password && self.may_be(value, Role::Assigned);
            return taken.then(|| self.found(range, "a number given to the name"));
        }
        let role = match place {
            Place::Url | Place::Field | Place::Tag | Place::Setting | Place::Row => Role::Setting,
            Place::Mention => Role::Mention,
            Place::CommaCell if self.is_option() => Role::Setting,
            Place::CommaCell | Place::BarCell | Place::Word => Role::Word,
        };
        // A redaction ends where the value does: what a quote or call follows is no value.
        // Text that is percent-encoded as a whole is examined once it is decoded.
        let encoded = value[0] == b'+' && value[1..].iter().all(|b| b.is_ascii_alphabetic() || *b == b',')
            || memchr::memchr_iter(b'%', value).any(|at| {
                [&b"%0A"[..], b"%3C", b"%28", b"%7B", b"%60"].iter().any(|code| value[at..].starts_with(code))
            });
        let cut = value.closes_with(b"=") && value[..value.len() - 1].iter().all(|b| is_name(*b));
        let empty = !value.iter().any(|b| b.is_ascii_alphanumeric() || *b >= 0x80);
        if self.is_call(end) || is_template(value) || cut || empty || encoded {
            return None;
        }
        if value.begins_with(b"pass:") {
            range.start += 5;
        }
        // `%q(x)` of Ruby.
        if value.begins_with(b"%q(") || value.begins_with(b"%Q(") {
            range.start += 3;
        }
        // A masked or quoted value inside of a longer one.
        let ends: &[u8] = if matches!(role, Role::Word | Role::Mention) { b",.;:*`)_" } else { b",.;:" };
        if place != Place::Url {
            let behind_first = (range.start + 1).min(range.end);
            let signs = self.text[behind_first..range.end].iter().rev().take(MAX_SIGNS);
            range.end -= signs.take_while(|b| ends.contains(b)).count();
        }
        // `パスワードはsunshineです`: no blank ends the word.
        if operator.mentions && self.name.is_foreign && self.text[range.start].is_ascii() {
            let value = beginning(&self.text[range.clone()]);
            let verb = |at: &usize| ENDING_VERBS.iter().any(|verb| value[*at..].starts_with(verb.as_bytes()));
            let other = value.iter().position(|b| !b.is_ascii());
            // Chinese and Japanese go on without a blank: `密码是x,别外传`.
            let joined = self.text[self.name.range.start] >= 0xE3;
            if let Some(at) = other.filter(|at| joined || verb(at)) {
                let signs = value[..at].iter().rev().take_while(|b| b",.;".contains(b)).count();
                range.end = range.start + at - if joined { signs } else { 0 };
            }
        }
        // `**x**` of Markdown.
        if operator.sign == Sign::Space
            && self.text[range.clone()].begins_with(b"**")
            && self.text[range.end..].begins_with(b"**")
        {
            range.start += 2;
        }
        // `user/password: bob/x`
        if matches!(operator.sign, Sign::Colon | Sign::Assign)
            && matches!(self.text[..self.name.range.start], [.., b'a'..=b'z' | b'A'..=b'Z', b'/'])
            && let Some(slash) = memchr::memchr(b'/', beginning(&self.text[range.clone()]))
        {
            range.start += slash + 1;
        }
        // `creds bob:x`
        if operator.sign == Sign::Space
            && self.is_login()
            && let Some(colon) = memchr::memchr(b':', beginning(&self.text[range.clone()]))
        {
            range.start += colon + 1;
        }
        if range.is_empty() || self.is_expression(&range, operator) {
            return None;
        }
        let said = operator.mentions && self.is_said_in_other_letters(&range) || self.is_told(&range, operator, role);
        let role = if said { Role::Setting } else { role };
        // A name with a hyphen in front of a colon is a header's.
        let sets = match operator.sign {
            Sign::Assign => matches!(place, Place::Url | Place::Field | Place::Setting),
            Sign::Colon => place == Place::Setting && self.text[self.name.range.clone()].contains(&b'-'),
            _ => false,
        };
        let value = &self.text[range.clone()];
        let word = || value.iter().all(|b| b.is_ascii_alphabetic() || *b == b'_');
        let keyword =
            operator.sign == Sign::Assign && place == Place::Setting && self.text[self.name.range.start] != b'-';
        if is_of_code(value) || keyword && word() && self.is_argument(&range) {
            return None;
        }
        let taken = self.may_be(value, role)
            || sets && self.name.class == Class::Token && is_short_choice(value) && !is_stand_in(value);
        let taken = taken || place == Place::Setting && self.is_of_header(&range, operator);
        let taken = taken || sets && operator.sign == Sign::Assign && self.is_key_of_letters(value);
        let taken = taken || self.is_beside_user(&range, operator) && self.may_be(value, Role::Setting);
        taken.then(|| self.found(range, why))
    }

    /// Whether what looks like a word of a setting is none: the type of a member, a variable, a path, a role of a document.
    fn is_expression(&self, range: &Range<usize>, operator: &Operator) -> bool {
        let rest = &self.text[range.end..];
        // No name of a type is longer.
        let value = &self.text[range.clone()];
        if value.len() > MAX_EXAMINED {
            return false;
        }
        if operator.mentions {
            // `the password is read from $HOME/.netrc`
            let path = value.strip_prefix(b"$").is_some_and(|name| name.iter().take(2).all(u8::is_ascii_uppercase));
            return path || value.starts_with(b"~/");
        }
        if operator.sign != Sign::Colon || self.name.quotes.is_some() {
            return false;
        }
        // ``pass :meth:`peek` a value``
        if value.iter().all(|b| b.is_ascii_alphabetic() || matches!(b, b':' | b'-')) && rest.starts_with(b":`") {
            return true;
        }
        let ends_line = rest.strip_prefix(b",").is_some_and(|rest| matches!(rest.first(), None | Some(b'\n' | b'\r')));
        let is_name_of_type = value.iter().all(|b| is_name(*b)) && is_type(value);
        is_name_of_type || ends_line && (value.starts_with(b"__") || is_camel(value))
    }

    /// Whether a sentence in another script says a word in Latin letters: `رمز عبور من sunshine است`, `пароль: это sunshine`.
    fn is_said_in_other_letters(&self, range: &Range<usize>) -> bool {
        let value = &self.text[range.clone()];
        let script = self.text[self.name.range.clone()].iter().any(|b| *b >= 0xCE);
        let before = self.text[self.name.end..range.start].trim_ascii_end();
        let says = |verb: &&str| before.ends_with(verb.as_bytes());
        let behind = &self.text[range.end..];
        let behind = &behind[blanks(behind, 0)..];
        // `Das Passwort lautet sunshine.`
        if before.ends_with(b"lautet") && value.iter().all(u8::is_ascii_alphabetic) {
            let ends = behind.strip_prefix(b".").unwrap_or(behind);
            return matches!(ends.first(), None | Some(b'\n' | b'\r' | b'"' | b'\''));
        }
        script
            && (5..=MAX_EXAMINED).contains(&value.len())
            && value.iter().all(|b| b.is_ascii_alphabetic() || *b == b'!')
            && (ENDING_VERBS.iter().any(|verb| behind.starts_with(verb.as_bytes()))
                || ["است", "是", "为", "は", "это", "—", "هي", "هو"].iter().any(says))
    }

    /// `;password={x};` of ODBC and JDBC, where the same signs fill in a variable: only what is random is a value.
    fn braced(&self, at: usize) -> Option<Found> {
        let len = memchr::memchr(b'}', &self.text[at..self.text.len().min(at + MAX_BEFORE)])?;
        let value = at + 1..at + len;
        is_random(&self.text[value.clone()]).then(|| self.found(value, "a field of a connection string"))
    }

    /// Whether the word is long, and shows nothing that its beginning shortly before has not shown.
    fn is_known_already(&self, at: usize, end: usize) -> bool {
        let (start, known_end) = self.reader.long_word.get();
        if end - at <= MAX_EXAMINED {
            return false;
        }
        if known_end == end && at >= start && at - start < MAX_EXAMINED / 2 {
            return true;
        }
        self.reader.long_word.set((at, end));
        false
    }

    /// Whether a call or an index follows.
    fn is_call(&self, end: usize) -> bool {
        matches!(self.text.get(end), Some(b'(' | b'['))
    }

    fn place(&self, at: usize, operator: &Operator, here: &LineContext) -> Option<(Place, &'static str)> {
        let start = self.start();
        let text = self.text;
        // No more than this of a long line, so that the effort stays in proportion.
        let before = &text[here.line_start.max(start.saturating_sub(MAX_BEFORE)).min(start)..start];
        let last = before.last().copied();
        let spaced = operator.spaced || at > operator.end;
        match operator.sign {
            Sign::Space if operator.mentions => return Some((Place::Mention, "what a sentence says")),
            Sign::Space => return self.spaced(at, before, here),
            Sign::Cell if cell_sign(&text[operator.end - 1..]) == 1 || cell_sign(&text[operator.end - 3..]) == 3 => {
                let after = blanks(text, self.end_of(at, Place::BarCell));
                let sign = cell_sign(&text[after..]);
                let last = sign > 0 && matches!(text.get(after + sign), None | Some(b'\n' | b'\r'));
                let first = before.iter().any(|b| matches!(b, b'|' | 0xE2))
                    && before.iter().all(|b| b"| *_`".contains(b) || *b >= 0x80);
                let row = first && last && self.name.class.is_password();
                return Some((if row { Place::Row } else { Place::BarCell }, "the cell beside the name"));
            }
            // `Temp password - x` in a chat.
            Sign::Cell => {
                let said = self.name.class.is_password() && self.reader.kind(here.line_start) != Kind::Code;
                return Some((if said { Place::Mention } else { Place::Word }, "the cell beside the name"));
            }
            Sign::Comma => return Some((Place::CommaCell, "the cell beside the name")),
            _ => {}
        }
        if operator.sign == Sign::Assign && !spaced {
            // `set /p PASSWORD=Enter password:`
            if before.closes_with(b" /p ") {
                return None;
            }
            if matches!(last, Some(b'?' | b'&' | b'#'))
                || last == Some(b'[') && before.closes_with(b"%5B")
                || self.joined_by_ampersand(at)
            {
                return Some((Place::Url, "a parameter of a URL or form"));
            }
            if self.is_field(before, at) {
                return Some((Place::Field, "a field of a connection string"));
            }
        }
        let name = &text[self.name.range.clone()];
        let slashed = operator.sign == Sign::Colon && !spaced && before.closes_with(b" /");
        if name.begins_with(b"-") || before.closes_with(b"--") || slashed {
            return Some((Place::Setting, "an option of a command"));
        }
        if name == b"IDENTIFIED" {
            return Some((Place::Setting, "what a statement sets"));
        }
        let inside = here.string.is_some();
        let in_call = matches!(here.bracket, Some((b'(', _))) && !inside;
        let begins_line =
            before.iter().all(|b| b.is_ascii_whitespace() || const { &ByteSet::of(b"-*>#|+\"'`") }.has(b));
        let ends = text.get(self.end_of(at, Place::Setting)).copied();
        let code_end = matches!(self.last_byte(at), Some(b',' | b';' | b')' | b'{'));
        let kind = self.reader.kind(here.line_start);
        match operator.sign {
            Sign::Assign if !spaced => {
                let capitals = name.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_-".contains(b));
                if capitals && !in_call {
                    return Some((Place::Setting, "a variable of the environment"));
                }
                if in_call && !inside {
                    return Some((Place::Word, "an argument that is no expression"));
                }
                if matches!(here.bracket, Some((b'{' | b'[', _))) && !inside {
                    // `{db_host=x, db_password=y}`, as Java prints a map.
                    let end = self.end_of(at, Place::Setting);
                    let of_map = self.name.class.is_password()
                        && matches!(here.bracket, Some((b'{', _)))
                        && (before.closes_with(b", ") || before.closes_with(b"{"))
                        && matches!(text.get(end), Some(b',' | b'}'));
                    let place = match kind {
                        _ if operator.spaced => Place::Word,
                        Kind::Code => Place::Word,
                        _ if of_map => Place::Setting,
                        _ => Place::Mention,
                    };
                    return Some((place, "a member that is no expression"));
                }
                if self.is_own(before) || code_end && kind == Kind::Code {
                    return Some((Place::Word, "a value that is no expression"));
                }
                Some((Place::Setting, "a setting without spaces"))
            }
            // Two words are no variable of a program, which one in any script may be.
            Sign::Assign if !name.is_ascii() && name.contains(&b' ') && self.is_whole_line(at) => {
                Some((Place::Setting, "a line of settings or a header"))
            }
            Sign::Assign => {
                let shell = last.is_none_or(|b| b.is_ascii_whitespace()) && begins_line;
                if kind == Kind::Settings && shell && !code_end && !in_call {
                    return Some((Place::Setting, "a line of settings"));
                }
                // `username = bob, password = x`
                if !in_call && self.name.class.is_password() && is_behind_user(before) {
                    return Some((Place::Mention, "what stands behind a user"));
                }
                // `root password = x`
                let titled = !inside && kind != Kind::Code && self.is_whole_line(at) && is_title(before);
                Some((if titled { Place::Mention } else { Place::Word }, "a value that is no expression"))
            }
            Sign::Colon if in_call => Some((Place::Word, "an argument that is no expression")),
            Sign::Colon => {
                let first_word = before.iter().all(|b| {
                    is_name(*b)
                        || b.is_ascii_whitespace()
                        || const { &ByteSet::of(b"-*>#|+\"'`$[]./,:{}()\\") }.has(b)
                        || *b >= 0x80
                });
                let foreign = !name.is_ascii();
                if self.name.quotes.is_some() && !begins_line && !matches!(here.bracket, Some((b'{', _))) {
                    return Some((Place::Word, "a value that is no expression"));
                }
                if !inside && code_end && !foreign && !matches!(ends, Some(b','))
                    || kind == Kind::Code && !inside && !foreign && !self.is_comment(before)
                {
                    return Some((Place::Word, "a value that is no expression"));
                }
                // `{"PASSWORD": mock_password}` of Python.
                let in_braces = self.name.quotes.is_some() && matches!(here.bracket, Some((b'{', _)));
                if in_braces
                    && self.text[at..self.end_of(at, Place::Setting)]
                        .iter()
                        .all(|b| b.is_ascii_alphabetic() || *b == b'_')
                {
                    return Some((Place::Word, "a value that is no expression"));
                }
                let whole_line = self.is_whole_line(at);
                // `--- PASS: TestParse` of a program that tests.
                if name == b"PASS" && is_of_tests(before, &self.text[at..]) {
                    return None;
                }
                // `la contraseña: una frase secreta`
                let goes_on = foreign && !whole_line && is_word_of_sentence(&self.text[at..]);
                if whole_line && (begins_line || first_word || inside) || foreign && !goes_on {
                    return Some((Place::Setting, "a line of settings or a header"));
                }
                if inside {
                    return Some((Place::Mention, "what a text says"));
                }
                Some((Place::Word, "a value behind the name"))
            }
            _ => None,
        }
    }

    /// `--password x`, `IDENTIFIED BY x`, `ENV X y`, `machine x login y password z`, `requirepass x`.
    fn spaced(&self, at: usize, before: &[u8], here: &LineContext) -> Option<(Place, &'static str)> {
        let name = &self.text[self.name.range.clone()];
        // `password=password dbname=x`: the word is itself what a name is given.
        if self.name.quotes.is_some() || before.closes_with(b"=") {
            return None;
        }
        let dashed = name.begins_with(b"-") || before.closes_with(b"-");
        if dashed {
            let next = self.text.get(at)?;
            // `-W, --password     force a prompt`: what an option is for.
            if at > self.name.end + 1 {
                return None;
            }
            // `mysql -pPASSWORD db`
            let glued = name.len() > 2 && name[0] == b'-' && name[1] == b'p' && name[2].is_ascii_uppercase();
            let metavar = glued
                || self.text[at..self.end_of(at, Place::Setting)]
                    .iter()
                    .all(|b| b.is_ascii_uppercase() || const { &ByteSet::of(b"_-[]<>") }.has(b));
            return (*next != b'-' && !metavar).then_some((Place::Setting, "an option of a command"));
        }
        let before = &before[..before.iter().rposition(|b| b.is_ascii_whitespace()).map_or(0, |at| at + 1)];
        self.reader.charge(before.len() / 4);
        let mut words = before.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let mut backwards = before.rsplit(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let command = words.next().unwrap_or_default();
        let last = backwards.next().unwrap_or_default();
        let (mut logs_in, mut of_user, mut configures) = (false, false, false);
        let mut before_last: &[u8] = b"";
        for word in std::iter::once(command).chain(words) {
            logs_in |= word == b"login";
            of_user |= matches!(word, b"user" | b"username");
            configures |= word == b"configure" || before_last == b"config" && CONFIGURING.contains(&word);
            before_last = word;
        }
        let sets = |word: &[u8]| SETTERS.contains(&word);
        // `this will set PWD automatically` is a sentence.
        let sentence = last == b"set" && !sets(command) && !backwards.next().is_some_and(sets);
        // `log in with password x`
        logs_in &= !matches!(last, b"with" | b"using");
        if sets(command) || sets(last) || logs_in || configures {
            let place = if sentence && !logs_in && !configures { Place::Mention } else { Place::Setting };
            return Some((place, "a command that sets the name"));
        }
        // Settings of servers that are this and nothing else, and `.netrc` on several lines.
        let alone = command.is_empty() && self.is_whole_line(at);
        let alone = alone || name == b"AUTH" && self.is_whole_line(at);
        let alone = alone || last == b"SET" && command == b"CONFIG";
        if alone && (SERVER_SETTINGS.contains(&name) || self.is_below_login(here.line_start)) {
            return Some((Place::Setting, "a line of settings"));
        }
        // `docker run -e POSTGRES_PASSWORD postgres:16` hands on what the environment has.
        if matches!(last, b"-e" | b"--env") {
            return None;
        }
        // `PASS x` of FTP and POP.
        let said = before.is_empty() || matches!(last, b"-->" | b"--->" | b"->" | b"command:" | b"C:");
        if name == b"PASS" && said && self.is_whole_line(at) {
            return Some((Place::Setting, "a command that sets the name"));
        }
        // `enable secret 0 x`, `username bob privilege 15 password 0 x` of routers.
        if matches!(self.text[self.name.end..at], [b' ', b'0' | b'5' | b'7', b' ']) && (last == b"enable" || of_user) {
            return Some((Place::Setting, "what a router is told"));
        }
        // `user bob, pass x`
        if self.name.class.is_password() && self.is_behind_login() {
            return Some((Place::Mention, "what stands behind a user"));
        }
        // `username admin secret x`, `enable secret x` of routers.
        if matches!(command, b"username" | b"enable") && self.name.class == Class::Secret && self.is_whole_line(at) {
            return Some((Place::Setting, "what a router is told"));
        }
        // `pass x` is a sentence more often than not.
        if self.name.class == Class::Short && last != b"login" && !of_user {
            return None;
        }
        if command.is_empty()
            && self.is_whole_line(at)
            && name.iter().all(|b| b.is_ascii_lowercase() || *b == b'-')
            && self.reader.kind(here.line_start) != Kind::Code
        {
            return Some((Place::Mention, "a line of settings"));
        }
        // `use password Welcome1 for the VPN`
        let told = TELLING.contains(&last)
            && self.reader.kind(here.line_start) != Kind::Code
            && text_follows(&self.text[self.end_of(at, Place::Mention)..]);
        let log = (name.contains(&b'_') || told)
            && self.reader.kind(here.line_start) != Kind::Code
            && memchr::memchr(b'(', before).is_none();
        Some((if log { Place::Mention } else { Place::Word }, "a word behind the name"))
    }

    /// Where the value that begins at `at` ends.
    pub(super) fn end_of(&self, at: usize, place: Place) -> usize {
        let reader = self.reader;
        match place {
            Place::Url => reader.end(URL_END, at, || reader.next(marks::URL_STOP, at)),
            Place::Field => reader.end(FIELD_END, at, || reader.next(marks::FIELD_STOP, at)),
            Place::Tag => reader.end(TAG_END, at, || at + tag_len(&self.text[at..])),
            Place::CommaCell => reader.end(COMMA_END, at, || cell_end(reader, at, b',')),
            Place::BarCell | Place::Row => reader.end(BAR_END, at, || cell_end(reader, at, b'|')),
            Place::Setting | Place::Mention | Place::Word => {
                reader.end(WORD_END, at, || word_end(reader, self.text, at))
            }
        }
    }
}
