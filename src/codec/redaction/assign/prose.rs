//! Passwords in sentences, chats and documents: phrases around the name, logins, headings, elements.

use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use super::chosen::is_chosen;
use super::secret::{Role, may_be_secret};
use super::{CREDENTIAL, Class, Finder, Found, Name, blanks};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::context::Kind;
use crate::codec::redaction::marks;
use crate::codec::redaction::names::is_name;
use crate::codec::redaction::reader::Reader;

/// Words that go on behind a name: `password for bob is`, `password has been reset to`.
#[rustfmt::skip]
const CONTINUING: &[&[u8]] = &[
    b"for", b"of", b"on", b"at", b"in", b"has", b"was", b"to", b"from", b"der", b"des", b"vom", b"von", b"du", b"de", b"del", b"do", b"da",
    b"dos", b"di", b"della", b"changed", b"set", b"reset", b"rotated", b"updated", b"you", b"wurde", "für".as_bytes(), "för".as_bytes(), "для".as_bytes(), b"til", b"za", b"voor",
];
/// Verbs behind such words in other languages.
const OTHER_VERBS: &[&[u8]] = &[b"ist", b"lautet", b"est", b"es", "é".as_bytes(), "è".as_bytes()];
/// What was done with a name, in front of a colon and the value.
const GIVEN: &[&[u8]] = &[
    b"provided",
    b"given",
    b"supplied",
    b"entered",
    b"received",
    b"used",
    b"specified",
    b"attempted",
    b"tried",
    b"sent",
    b"submitted",
    b"typed",
    b"created",
    b"generated",
    b"issued",
    b"found",
    b"leaked",
    b"value",
];
/// What was done for whom, in front of a colon and the value.
const MADE: &[&[u8]] =
    &[b"is generated for ", b"was generated for ", b"is set for ", b"was created for ", b"is created for "];
/// The most words, and how far they reach.
const MAX_WORDS: usize = 7;
const MAX_PHRASE: usize = 64;
/// Elements that hold a label of what stands in the next.
#[rustfmt::skip]
const LABELLING: &[&[u8]] = &[
    b"td", b"th", b"dt", b"b", b"strong", b"label", b"span", b"em", b"i", b"u", b"p", b"div", b"code", b"font", b"h2",
    b"h3", b"h4", b"h5", b"h6", b"summary", b"small", b"key",
];
/// The longest password of a login.
const MAX_LOGIN: usize = 512;
/// The longest phrase that says what a login is for.
const MAX_FOR: usize = 40;
/// The longest name in quotes of what a password is for.
const MAX_QUOTED: usize = 160;
/// What leads from a value to the name behind it.
const LEADING: &[&[u8]] = &[
    b" as the ",
    b" as your ",
    b" as my ",
    b" as ",
    b" when asked for the ",
    b" when asked for ",
    b" when prompted for the ",
    b" if asked for the ",
    b" (",
];

/// How answers begin that say what something is.
const SAYING: &[&[u8]] = &[b"it's ", b"it is ", b"its ", b"is ", b"It's ", b"It is "];

/// What answers a question for a password: `it asks for a password, enter x`.
const ASKED: &[&[u8]] = &[b", enter ", b", type ", b", use "];

/// Words for a login.
const LOGINS: &[&[u8]] = &[
    b"login",
    b"logins",
    b"creds",
    b"zugangsdaten",
    b"identifiants",
    b"credenciales",
    b"credenciais",
    b"credenziali",
    b"inloggegevens",
];
/// How those of them begin that mean a user and a password, and nothing else.
const CREDENTIALS: &[&[u8]] = &[b"cred", b"zugangsdaten", b"identifiants", b"inloggegevens"];
/// What stands between the word for a login and its user, and between the user and the password.
const INTRODUCING: &[&[u8]] = &[b":", b" is", b" are", b" =", b" with", b" as", b" using"];
/// Users that every system has: no word needs to introduce them.
const KNOWN_USERS: &[&[u8]] = &[b"admin", b"administrator", b"root", b"guest", b"demo"];
/// How values begin that name a way to log in.
const WAYS: &[&[u8]] =
    &[b"oauth", b"saml", b"ldap", b"oidc", b"openid", b"fido", b"totp", b"2fa", b"mfa", b"sso", b"web3"];
/// What one logs in to, in front of a user and a password.
const SERVICES: &[&[u8]] = &[b"vpn", b"wifi", b"ssh"];
/// What stands in front of a user and a password that somebody is told to try.
const TRYING: &[&[u8]] = &[b"try ", b"use ", b"with ", b"as "];
const JOINING: &[&[u8]] = &[b" / ", b"/", b":"];

/// Where a phrase ends behind a name, so that the value follows: ` for bob is`, ` (staging):`, ` has been reset to`.
pub(super) fn past_phrase(reader: &Reader<'_>, name: &Name, at: usize) -> Option<usize> {
    let text = reader.text;
    let reach = text.len().min(at + MAX_PHRASE);
    if text.get(at) == Some(&b',')
        && let Some(verb) = ASKED.iter().find(|verb| text[at..].starts_with(verb))
    {
        return Some(at + verb.len());
    }
    let mut at = blanks(text, at);
    if name.quotes.is_some() || at == name.end {
        return None;
    }
    if let Some(open @ (b'(' | b'[')) = text.get(at) {
        let close = if *open == b'(' { b')' } else { b']' };
        let len = text[at..reach].iter().take(32).position(|b| *b == close || *b == b'\n')?;
        let end = blanks(text, at + len + 1);
        let sign = text.get(end) == Some(&b':') || text.get(end) == Some(&b'=') && end > at + len + 1;
        return (text[at + len] == close && sign && text.get(end + 1) == Some(&b' ')).then_some(end + 1);
    }
    // `A temporary password is generated for root@localhost: x`
    if let Some(verb) = MADE.iter().find(|verb| text[at..].starts_with(verb)) {
        let said = &text[at + verb.len()..text.len().min(at + verb.len() + MAX_PHRASE)];
        let colon = said.iter().position(|b| matches!(b, b':' | b'\n')).filter(|colon| said[*colon] == b':');
        return colon.filter(|at| said.get(at + 1) == Some(&b' ')).map(|colon| at + verb.len() + colon + 1);
    }
    for nth in 0..MAX_WORDS {
        // `Password for 'https://bob@x.example': x`
        if nth == 1
            && let Some(quote @ (b'"' | b'\'')) = text.get(at)
        {
            let inside = &text[at + 1..text.len().min(at + 1 + MAX_QUOTED)];
            let len = memchr::memchr2(*quote, b'\n', inside)?;
            let end = at + 1 + len + 1;
            return text[end - 1..].starts_with(&[*quote, b':', b' ']).then_some(end + 1);
        }
        let accented = text[at..].starts_with("é ".as_bytes()) || text[at..].starts_with("è ".as_bytes());
        let other = ["für ", "för "].iter().find(|word| text[at..].starts_with(word.as_bytes()));
        let len = if let Some(word) = other {
            word.len() - 1
        } else if accented {
            2
        } else {
            reader.end_of(marks::WORD, at, reach.saturating_sub(at)) - at
        };
        let word = &text[at..at + len];
        let end = at + len;
        let colon = text.get(end) == Some(&b':');
        // `invalid password provided: "x"`
        if nth == 0 && colon && GIVEN.contains(&word) && text.get(end + 1) == Some(&b' ') {
            return Some(end + 1);
        }
        // `to pass to httplib2` is a verb.
        let verb = nth == 0 && &text[name.range.clone()] == b"pass" && matches!(word, b"to" | b"from" | b"in");
        if len == 0 || verb || nth == 0 && !CONTINUING.contains(&word) {
            return None;
        }
        let verb =
            matches!(word, b"is" | b"to") || nth == 0 && word == b"from" || nth > 1 && OTHER_VERBS.contains(&word);
        let verb = verb || nth == 1 && word == b"auf";
        match text.get(end + usize::from(colon)) {
            Some(b' ') if verb || colon => return Some(end + usize::from(colon)),
            // `passcode for the door - x`
            Some(b' ') if nth > 0 && text[end..].begins_with(b" - ") => return Some(end + 3),
            Some(b' ') => at = blanks(text, end),
            _ => return None,
        }
    }
    None
}

/// Whether what stands in front of a name may be a value that leads to it.
pub(super) fn is_led_to(text: &[u8], at: usize) -> bool {
    leading(text, at).is_some()
}

/// The words in front of a name that lead to it.
fn leading(text: &[u8], at: usize) -> Option<&'static [u8]> {
    // Most words end otherwise.
    let may_lead = matches!(text[..at], [.., b'('] | [.., b's' | b'e' | b'r' | b'y', b' ']);
    may_lead.then(|| LEADING.iter().copied().find(|words| text[..at].ends_with(words))).flatten()
}

/// What ends a word of a sentence, besides the blank behind it.
fn word_before(text: &[u8], end: usize) -> Range<usize> {
    let stops = |b: &u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`<>\\") }.has(b);
    let end = end - usize::from(end > 0 && const { &ByteSet::of(b"\"'`") }.has(&text[end - 1]));
    let len = text[..end].iter().rev().take(MAX_PHRASE + 1).take_while(|b| !stops(b)).count();
    end - len..end
}

impl Finder<'_, '_> {
    /// `x as the password`, `bob / x (password)`
    #[inline(never)]
    pub(super) fn led_to(&self) -> Option<Found> {
        let start = self.name.range.start;
        let words = leading(self.text, start)?;
        let range = word_before(self.text, start - words.len());
        if words == b" (" && self.text.get(self.name.end) != Some(&b')') || range.len() > MAX_PHRASE {
            return None;
        }
        // `INSERT INTO users (password) VALUES`
        let next = &self.text[self.name.end..self.text.len().min(self.name.end + 9)];
        if words == b" (" && next.len() > 7 && next[1..8].eq_ignore_ascii_case(b" values") {
            return None;
        }
        self.may_be(&self.text[range.clone()], Role::Mention).then(|| self.found(range, "what a sentence says"))
    }

    /// The line below a title: `Password:` or `### Password`.
    #[inline(never)]
    pub(super) fn below_title(&self) -> Option<Found> {
        let text = self.text;
        let here = self.reader.context(self.start()).line_start;
        if self.start() - here > MAX_PHRASE {
            return None;
        }
        let is_markup = |b: &u8| const { &ByteSet::of(b" \t#*_->\"'`") }.has(b);
        let colon = self.name.end + text[self.name.end..].iter().take(4).take_while(|b| b":*".contains(b)).count();
        let mut at = blanks(text, colon);
        let titled = colon > self.name.end || text[here..self.start()].contains(&b'#');
        if !titled || !text[here..self.start()].iter().all(is_markup) {
            return None;
        }
        let gap = text[at..].iter().take(6).take_while(|b| b.is_ascii_whitespace()).count();
        if memchr::memchr(b'\n', &text[at..at + gap]).is_none() || self.reader.kind(here) == Kind::Code {
            return None;
        }
        at += gap + text[at + gap..].iter().take(3).take_while(|b| **b == b'`').count();
        let end = self.reader.line_end(at);
        let value = text[at..end.min(at + MAX_PHRASE)].trim_ascii_end();
        let value = value.strip_suffix(b"`").unwrap_or(value);
        let alone = !value.contains(&b' ') && end - at <= MAX_PHRASE;
        (alone && self.may_be(value, Role::Mention)).then(|| self.found(at..at + value.len(), "the line below a title"))
    }

    /// `what is the password?`, and on the next line `bob: it's x`.
    #[inline(never)]
    pub(super) fn answered(&self) -> Option<Found> {
        let text = self.text;
        let end = self.reader.line_end(self.name.end);
        let asked = text[self.name.end..end].strip_suffix(b"\r").unwrap_or(&text[self.name.end..end]);
        if asked.len() > MAX_PHRASE / 2 || !asked.closes_with(b"?") || self.name.quotes.is_some() {
            return None;
        }
        let start = (end + 1).min(text.len());
        let line = &text[start..text.len().min(start + MAX_PHRASE)];
        let line = &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())];
        let speaker =
            memchr::memchr2(b':', b'>', &line[..line.len().min(24)]).filter(|at| line.get(at + 1) == Some(&b' '));
        let said = speaker.map_or(0, |at| at + 2);
        let says = SAYING.iter().find(|words| line[said..].starts_with(words)).map_or(0, |words| words.len());
        let at = start + said + says;
        let value = &text[at..start + line.len()];
        let value = &value[..value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len())];
        let value = value.strip_suffix(b".").or_else(|| value.strip_suffix(b",")).unwrap_or(value);
        let alone = says > 0 || at + value.len() == start + line.trim_ascii_end().len();
        (alone && self.may_be(value, Role::Mention))
            .then(|| self.found(at..at + value.len(), "the answer to a question"))
    }

    /// `<td>Password</td><td>x</td>`, `Password: <code>x</code>`
    #[inline(never)]
    pub(super) fn element_beside(&self) -> Option<Found> {
        let text = self.text;
        let space = |at: usize| at + text[at..].iter().take(32).take_while(|b| b.is_ascii_whitespace()).count();
        let past_tag = |at: usize| {
            let len = text.get(at..)?.iter().take(48).position(|b| *b == b'>')?;
            (text[at] == b'<').then_some(at + len + 1)
        };
        let colon = self.name.end + usize::from(text.get(self.name.end) == Some(&b':'));
        let mut at = space(colon);
        // `Your password is <strong>x</strong>`
        at = if text[at..].begins_with(b"is <") { at + 3 } else { at };
        // `pass <code>-Z x</code>` is a sentence.
        if self.name.class == Class::Short && colon == self.name.end && !text[at..].begins_with(b"</") {
            return None;
        }
        while text[at..].begins_with(b"</") {
            // An item of a list, a link or the head of a column says nothing of the next.
            let tag = &text[at + 2..text.len().min(at + 12)];
            let len = tag.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
            let next = text[at..].iter().take(16).position(|b| *b == b'>').map(|end| &text[space(at + end + 1)..]);
            let heads = &tag[..len] == b"th" && next.is_some_and(|next| next.begins_with(b"<th"));
            if heads || !LABELLING.contains(&&tag[..len]) {
                return None;
            }
            at = space(past_tag(at)?);
            at = space(at + usize::from(text.get(at) == Some(&b':')));
        }
        let mut opened = false;
        while text.get(at) == Some(&b'<') && !text[at..].begins_with(b"</") {
            (at, opened) = (space(past_tag(at)?), true);
        }
        if !opened {
            return None;
        }
        let len = memchr::memchr2(b'<', b'\n', &text[at..text.len().min(at + 128)])?;
        let value = text[at..at + len].trim_ascii_end();
        let taken = text[at + len..].begins_with(b"</") && self.may_be(value, Role::Setting);
        taken.then(|| self.found(at..at + value.len(), "the element beside the name"))
    }

    /// `wrong password (x) for bob`: a word that is no technique.
    #[inline(never)]
    pub(super) fn in_parentheses(&self) -> Option<Found> {
        let text = self.text;
        let inside = text[self.name.end..].strip_prefix(b" (").filter(|_| self.name.quotes.is_none())?;
        let inside = &inside[..inside.len().min(MAX_PHRASE)];
        let len =
            inside.iter().position(|b| b.is_ascii_whitespace() || const { &ByteSet::of(b"()\"'`<>=,") }.has(b))?;
        let value = &inside[..len];
        let follows = inside.get(len + 1).is_none_or(|b| b.is_ascii_whitespace() || b".,:;\"'".contains(b));
        let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
        let telling = value.iter().any(u8::is_ascii_lowercase) && (digits > 1 || !value.iter().all(|b| is_name(*b)));
        if inside[len] != b')' || !follows || !telling || !self.name.class.is_password() {
            return None;
        }
        let start = self.name.end + 2;
        let line = self.reader.context(self.name.range.start).line_start;
        let taken = self.reader.kind(line) != Kind::Code && self.may_be(value, Role::Mention);
        taken.then(|| self.found(start..start + len, "what stands in parentheses behind the name"))
    }

    /// `Use the following password to go on:` and below it nothing but the value.
    #[inline(never)]
    pub(super) fn announced_below(&self) -> Option<Found> {
        let text = self.text;
        let end = self.reader.line_end(self.name.end);
        let phrase = text[self.name.end..end.min(self.name.end + MAX_PHRASE + 1)].trim_ascii_end();
        let said =
            phrase.strip_suffix(b":").filter(|said| said.len() > 2 && said[0] == b' ' && phrase.len() <= MAX_PHRASE)?;
        let of_phrase = |b: &u8| b.is_ascii_alphabetic() || *b == b' ' || *b >= 0x80;
        if !self.name.class.is_password() || self.name.quotes.is_some() || !said.iter().all(of_phrase) {
            return None;
        }
        let gap = text[end..].iter().take(8).take_while(|b| b.is_ascii_whitespace()).count();
        let start = end + gap;
        let line = &text[start..self.reader.line_end(start)];
        let value = line[..line.len().min(MAX_PHRASE)].trim_ascii_end();
        let alone = gap > 0
            && line.len() <= MAX_PHRASE
            && !value.is_empty()
            && value.iter().all(|b| b.is_ascii_graphic() || *b >= 0x80);
        let here = self.reader.context(self.name.range.start).line_start;
        let taken = alone && self.reader.kind(here) != Kind::Code && self.may_be(value, Role::Mention);
        taken.then(|| self.found(start..start + value.len(), "the line below what announces it"))
    }

    /// The last value of a login: `creds: bob / x`, `credentials are bob:x`.
    pub(super) fn pair_of_login(&self) -> Option<Found> {
        self.is_login().then(|| login(self.reader, self.name.range.clone())).flatten()
    }
}

/// `login: bob / x`, `creds are bob:x`, `u: bob p: x`, whose first word holds `at`.
pub fn login_values(reader: &Reader<'_>, at: usize, found: &mut Vec<Found>) {
    let text = reader.text;
    reader.charge(16);
    if text[at..].begins_with(b" p: ") {
        let before = &text[at.saturating_sub(40)..at];
        if memchr::memmem::rfind(before, b"u: ").is_some() {
            found.extend(word_of_login(reader, at + 4, true));
        }
        return;
    }
    // `use ops / x for the vpn`
    if text[at..].begins_with(b" ") {
        let user = text[at + 5..].iter().take(24).take_while(|b| is_name(**b)).count();
        if user > 0 && text[at + 5 + user..].begins_with(b" / ") {
            found.extend(word_of_login(reader, at + 8 + user, false));
        }
        return;
    }
    let after = text[at..].iter().take(16).take_while(|b| b.is_ascii_alphabetic()).count();
    let before = text[..at].iter().rev().take(16).take_while(|b| is_name(**b)).count();
    let word = &text[at - before..at + after];
    // `use bob / x to get in`
    if let Some(rest) = text[..at - before].strip_suffix(b" to ") {
        found.extend(login_before(reader, rest.len()));
        return;
    }
    // `log in`, `sign in`
    if text[at + after..].len() > 3 && text[at + after..at + after + 3].eq_ignore_ascii_case(b" in") {
        let verb = word.eq_ignore_ascii_case(b"log") || word.eq_ignore_ascii_case(b"sign");
        found.extend(verb.then(|| login(reader, at - before..at + after + 3)).flatten());
        return;
    }
    // `try admin:x`, `admin / x`
    if word.eq_ignore_ascii_case(b"admin") {
        let start = at - before;
        if text[at + after..].begins_with(b" / ") {
            let alone = start == 0 || matches!(text[start - 1], b' ' | b'\n' | b'(' | b'"' | b'\'');
            found.extend(alone.then(|| word_of_login(reader, at + after + 3, false)).flatten());
            return;
        }
        let value = at + after + 1;
        let tries = TRYING.iter().any(|verb| text[..start].ends_with(verb)) || begins_sentence(text, start, value);
        let version = matches!(text.get(value..value + 2), Some([b'v' | b'0'..=b'9', b'0'..=b'9' | b'.']));
        if tries && !version && text.get(at + after) == Some(&b':') {
            found.extend(word_of_login(reader, value, false));
        }
        return;
    }
    if SERVICES.iter().any(|known| word.eq_ignore_ascii_case(known)) && text[at + after..].begins_with(b": ") {
        found.extend(login(reader, at - before..at + after));
        return;
    }
    if LOGINS.iter().any(|known| word.eq_ignore_ascii_case(known)) {
        match login(reader, at - before..at + after) {
            Some(password) => found.push(password),
            // `creds = ("bob", "x")`
            None if word.eq_ignore_ascii_case(b"creds") => super::values(reader, at, found),
            None => {}
        }
    }
}

/// `admin:x works on staging`
fn begins_sentence(text: &[u8], start: usize, value: usize) -> bool {
    let begins = start == 0 || text[start - 1] == b'\n';
    let word = text.get(value..).unwrap_or_default();
    let len = word.iter().take(MAX_PHRASE).take_while(|b| b.is_ascii_graphic()).count();
    let goes_on = matches!(word.get(len..len + 2), Some([b' ', b'a'..=b'z']));
    begins && goes_on && word[0].is_ascii_alphanumeric()
}

/// `use bob / x`, which ends at `end`.
fn login_before(reader: &Reader<'_>, end: usize) -> Option<Found> {
    let text = reader.text;
    reader.charge(MAX_PHRASE);
    let value = word_before(text, end);
    let user = word_before(text, text[..value.start].strip_suffix(b" / ")?.len());
    let tries = TRYING.iter().any(|verb| text[..user.start].ends_with(verb));
    let taken = tries && !user.is_empty() && may_be_secret(Class::Password, &text[value.clone()], Role::Mention);
    let why = "the password of a login in a sentence";
    taken.then_some(Found { range: value, rule: CREDENTIAL, why })
}

fn login(reader: &Reader<'_>, name: Range<usize>) -> Option<Found> {
    let text = reader.text;
    reader.charge(MAX_PHRASE);
    let mut at = name.end;
    // `creds for staging: admin / x`
    if text[at..].begins_with(b" for ") {
        let phrase = &text[at + 5..text.len().min(at + 5 + MAX_FOR)];
        let of_phrase = |b: &u8| is_name(*b) || const { &ByteSet::of(b" ./'") }.has(b) || *b >= 0x80;
        let len = phrase.iter().take_while(|b| of_phrase(b)).count();
        at += if phrase.get(len) == Some(&b':') { 5 + len } else { 0 };
    }
    let sign = INTRODUCING.iter().find(|sign| text[at..].starts_with(sign));
    let known = |at: usize| KNOWN_USERS.iter().any(|user| text[at..].starts_with(user));
    if sign.is_none() && !(text.get(at) == Some(&b' ') && known(at + 1)) {
        return None;
    }
    at = blanks(text, at + sign.map_or(1, |sign| sign.len()));
    let ticks = |at: usize| text[at..].iter().take(2).take_while(|b| matches!(b, b'`' | b'*')).count();
    // `Log in with Google / Facebook` says none.
    let begins = |word: &&[u8]| {
        text[name.start..].len() > word.len() && text[name.start..][..word.len()].eq_ignore_ascii_case(word)
    };
    let says = known(at + ticks(at)) || CREDENTIALS.iter().any(begins);
    at += ticks(at);
    let of_user = |b: &u8| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"_-.@+") }.has(b);
    let (first, user) = (at, text[at..].iter().take(40).take_while(|b| of_user(b)).count());
    at += user + ticks(at + user);
    let sign = JOINING.iter().find(|sign| text[at..].starts_with(sign)).filter(|_| user > 0)?;
    at += sign.len();
    // `credentials: Credentials::new`
    if text[at - 1..].starts_with(b"::") {
        return None;
    }
    // Base64 has slashes, too.
    let user = &text[first..first + user];
    let encoded = *sign == &b"/"[..] && (user.contains(&b'+') || super::is_random(user));
    word_of_login(reader, if encoded { first } else { at + ticks(at) }, says)
}

/// The password of a login. Where nothing else can stand it may be a word.
fn word_of_login(reader: &Reader<'_>, at: usize, says: bool) -> Option<Found> {
    let text = reader.text;
    let stops = |b: &u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`*<>\\,;()") }.has(b);
    let len = text[at..].iter().take(MAX_LOGIN).position(stops).unwrap_or((text.len() - at).min(MAX_LOGIN));
    let value = &text[at..at + len];
    let value = value.strip_suffix(b".").unwrap_or(value);
    let taken = !value.contains(&b'/') || super::is_random(value);
    let begins = |way: &&[u8]| value.len() >= way.len() && value[..way.len()].eq_ignore_ascii_case(way);
    let taken = taken && !WAYS.iter().any(begins);
    let word = says && is_chosen(value) && may_be_secret(Class::Password, value, Role::Setting);
    let taken = taken && (word || may_be_secret(Class::Password, value, Role::Mention));
    taken.then(|| Found { range: at..at + value.len(), rule: CREDENTIAL, why: "the password of a login" })
}
