//! Finds the secrets in one decoded text.

use std::ops::Range;

use super::assign::{self, Found};
use super::byte_set::ByteSet;
use super::disguises::notice;
use super::filter::{Hit, Sign, put_in_order};
use super::json::Strings;
use super::names::is_name;
use super::near::Next;
use super::reader::{Reader, Unfinished, Work};
use super::shape::Class;
use super::views::{Disguises, View, decode_run};
use super::{Duty, Engine, cards, commands, connection, email, flags, pem, places, rules, tokens, verify};

/// A secret, or where one stands, and what decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    pub rule: u16,
    pub why: &'static str,
}

/// How deep text may be hidden in text.
const MAX_DEPTH: usize = 3;
/// The most that a pattern of the user's own may find in one text.
const MAX_OWN_SPANS: usize = 10_000;
/// Spans found last among which one is searched that covers a hit.
const NEAR: usize = 4;
/// What a look at a place costs beside what is read there, and what it costs to decode a byte, in bytes that are read.
const LOOK: usize = 16;
const VIEW: usize = 4;
/// How often a changed text is looked at again.
const MAX_ROUNDS: usize = 4;

/// What a text is, once it was looked at.
pub enum Looked {
    Clean,
    /// All its secrets are found.
    Secrets,
    /// More was found once some secrets were masked: this is the text without them.
    Cleaned(Vec<u8>),
}

/// What the rules have noted of a text besides its secrets.
struct Noted {
    disguises: Disguises,
    /// The values of one hit, in a list that is kept.
    values: Vec<Found>,
}

impl Engine {
    /// The text without its secrets, or nothing if it has none.
    pub(super) fn clean(&self, text: &[u8], work: &mut Work) -> Option<Vec<u8>> {
        let (hits, mut spans) = (self.hits(text, work), std::mem::take(&mut work.spans));
        spans.clear();
        let cleaned = match self.look_at(text, &hits, work, &mut spans) {
            Looked::Clean => None,
            Looked::Secrets => Some(self.replace(text, &spans, work)),
            Looked::Cleaned(cleaned) => Some(cleaned),
        };
        work.give_back(hits);
        work.spans = spans;
        cleaned
    }

    /// Looks at a text, whose hits are known, until all its secrets are found.
    pub(super) fn look_at(&self, text: &[u8], hits: &[Hit], work: &mut Work, spans: &mut Vec<Span>) -> Looked {
        work.begin_text(text.len());
        let mut found = work.spend(text.len()).and_then(|()| self.find_among(text, hits, work, spans));
        let mut cleaned: Option<Vec<u8>> = None;
        for round in 1.. {
            let current = cleaned.as_deref().unwrap_or(text);
            if found.is_err() {
                work.found.push(rules::UNFINISHED);
                let mut out = Vec::new();
                self.push_instead(rules::UNFINISHED, text, &mut out);
                return Looked::Cleaned(out);
            }
            if spans.is_empty() {
                break;
            }
            work.found.extend(spans.iter().map(|span| span.rule));
            let done = !work.look_again && spans.iter().all(|span| stands_apart(current, span));
            if done && round == 1 {
                return Looked::Secrets;
            }
            let next = self.replace(current, spans, work);
            work.give_back_buffer(cleaned.replace(next).unwrap_or_default());
            let current = cleaned.as_deref().unwrap_or(text);
            work.masked.look_around(current.len());
            if done || round == MAX_ROUNDS || round > 1 && !work.masked.is_little_of(current.len()) {
                break;
            }
            spans.clear();
            found = self.find_further(current, work, spans);
        }
        cleaned.map_or(Looked::Clean, Looked::Cleaned)
    }

    /// Secrets in order, none touching another.
    pub(super) fn find(&self, text: &[u8], work: &mut Work, spans: &mut Vec<Span>) -> Result<(), Unfinished> {
        work.spend(text.len())?;
        let hits = self.hits(text, work);
        let found = self.find_among(text, &hits, work, spans);
        work.give_back(hits);
        found
    }

    /// The same near the masks of the round before: what stands further away was read as it still is.
    fn find_further(&self, text: &[u8], work: &mut Work, spans: &mut Vec<Span>) -> Result<(), Unfinished> {
        work.known = Some(std::mem::take(&mut work.masked));
        let found = self.find(text, work, spans);
        if let Some(mut known) = work.known.take() {
            known.clear();
            work.masked = known;
        }
        found
    }

    /// Where the filter has seen something in the text, in order.
    fn hits(&self, text: &[u8], work: &mut Work) -> Vec<Hit> {
        let mut hits = work.take_hits();
        self.filter.scan(text, &mut hits);
        put_in_order(&mut hits);
        hits
    }

    fn find_among(&self, text: &[u8], hits: &[Hit], work: &mut Work, spans: &mut Vec<Span>) -> Result<(), Unfinished> {
        let is_json = self.search_among(text, hits, 0, work, spans)?;
        join(text, spans);
        if self.find_again(text, is_json, work, spans)? {
            join(text, spans);
        }
        Ok(())
    }

    pub(super) fn search(
        &self,
        text: &[u8],
        depth: usize,
        work: &mut Work,
        spans: &mut Vec<Span>,
    ) -> Result<(), Unfinished> {
        work.spend(text.len())?;
        let hits = self.hits(text, work);
        let found = self.search_among(text, &hits, depth, work, spans);
        work.give_back(hits);
        found.map(|_| ())
    }

    /// Searches a text whose hits are known; tells whether it is JSON.
    fn search_among(
        &self,
        text: &[u8],
        hits: &[Hit],
        depth: usize,
        work: &mut Work,
        spans: &mut Vec<Span>,
    ) -> Result<bool, Unfinished> {
        let is_json = depth < MAX_DEPTH && self.is_json(text, hits, work)?;
        if is_json && let Some(plain) = View::of_json(text) {
            self.search_plain(text, &plain, depth, work, spans)?;
            return Ok(true);
        }
        let (first, mut covered, mut spent) = (spans.len(), 0, 0);
        let mut noted = Noted { disguises: Disguises::default(), values: std::mem::take(&mut work.values) };
        let reader = work.reader(text);
        if !hits.iter().any(|hit| hit.is_at()) {
            reader.has_no_at();
        }
        let (known, mut next) = (work.known.take(), Next::default());
        let mut strings = Strings::of(text);
        let mut alone = if is_json { strings.next_alone() } else { None };
        for hit in hits.iter().copied() {
            #[cfg(test)]
            super::tests::reads::next_hit();
            // What a string of JSON says is looked at by itself, once it is decoded.
            while alone.as_ref().is_some_and(|string| string.end <= hit.at as usize) {
                alone = strings.next_alone();
            }
            if alone.as_ref().is_some_and(|string| string.start <= hit.at as usize) {
                continue;
            }
            if known.as_ref().is_some_and(|known| known.skips(&mut next, &reader, hit)) {
                continue;
            }
            // What is replaced anyway needs no second reason.
            let at = hit.at as usize;
            let covers = |span: &Span| span.start <= at && at < span.end;
            if at < covered && hit.window().is_none() && spans.iter().rev().take(NEAR).any(covers) {
                continue;
            }
            let known = spans.len();
            match hit.sign() {
                // A time is no number of a card.
                Sign::Digits if cards::is_short(text, at) => {}
                // Numbers are cards or not by the numbers beside them.
                Sign::Digits => {
                    work.look_again = true;
                    self.look(&reader, hit, covered, spans, &mut noted);
                }
                Sign::Run => self.search_run(&reader, hit.at as usize, depth, work, spans)?,
                _ => self.look(&reader, hit, covered, spans, &mut noted),
            }
            if depth == 0
                && self.is_name(hit)
                && let [value] = &spans[known..]
                && is_settled(text, value)
            {
                work.named.push((hit.at as usize, value.end));
            }
            let known = spans[known..].iter().filter(|span| span.rule != rules::PREFIXED);
            covered = known.map(|span| span.end).max().unwrap_or(0).max(covered);
            work.spend(reader.spent() - spent)?;
            spent = reader.spent();
        }
        let Noted { disguises, values } = noted;
        work.values = values;
        work.known = known;
        if is_json {
            // Each string is shorter than the text, so that JSON within JSON ends by itself.
            self.search_json(text, hits, depth.max(1), work, spans)?;
        }
        for optional in &self.optional {
            optional.find(&reader, work, spans)?;
        }
        self.find_own(text, spans)?;
        work.give_back_reader(reader);
        // A mask is no secret, whatever it says.
        let mut kept = first;
        for nth in first..spans.len() {
            let span = spans[nth];
            if !self.is_mask(&text[span.start..span.end]) {
                spans[kept] = span;
                kept += 1;
            }
        }
        spans.truncate(kept);
        let disguises = if is_json { disguises.of_json() } else { disguises };
        if depth < MAX_DEPTH && disguises != Disguises::default() {
            work.look_again = true;
            self.search_view(text, disguises, depth, work, spans)?;
        }
        Ok(is_json)
    }

    /// Searches JSON in which letters are escaped as the same JSON without such escapes.
    fn search_plain(
        &self,
        text: &[u8],
        plain: &View,
        depth: usize,
        work: &mut Work,
        spans: &mut Vec<Span>,
    ) -> Result<(), Unfinished> {
        work.spend(VIEW * text.len())?;
        let named = work.named.len();
        self.search_part(plain, 0, depth, work, spans)?;
        for (start, end) in &mut work.named[named..] {
            (*start, *end) = plain.origin(*start, *end);
        }
        self.find_own(text, spans)
    }

    /// Finds what patterns of the user's own match.
    fn find_own(&self, text: &[u8], spans: &mut Vec<Span>) -> Result<(), Unfinished> {
        for (number, own) in self.own.iter().enumerate() {
            let rule = self.first_own + number as u16;
            let (known, found) = (spans.len(), |range: Range<usize>| {
                spans.push(Span { start: range.start, end: range.end, rule, why: "a pattern of your own" });
            });
            own.find(text, found).map_err(|_| Unfinished)?;
            if spans.len() - known > MAX_OWN_SPANS {
                return Err(Unfinished);
            }
        }
        Ok(())
    }

    /// Whether the hit is a part of a name and nothing else.
    pub(super) fn is_name(&self, hit: Hit) -> bool {
        hit.window().is_some_and(|window| self.calls[usize::from(window)].only_name)
    }

    /// Whether a window calls for a look at a name, or what else is looked at in its way.
    pub(super) fn names_at(&self, window: u16) -> bool {
        self.calls[usize::from(window)].names
    }

    /// Searches the run of base64 or hexadecimal digits at `at`, and what it says.
    fn search_run(
        &self,
        reader: &Reader<'_>,
        at: usize,
        depth: usize,
        work: &mut Work,
        spans: &mut Vec<Span>,
    ) -> Result<(), Unfinished> {
        let run = at..reader.run_end(Class::named(b'r'), at);
        if self.enabled[usize::from(rules::PREFIXED)] {
            let known = spans.len();
            self.runs.find(reader, run.clone(), &self.tokens, |range, rule| {
                spans.push(Span { start: range.start, end: range.end, rule, why: "the form of the token" });
            });
            if spans.len() > known {
                return Ok(());
            }
            if let Some((range, rule)) = tokens::wordless(reader.text, &run) {
                spans.push(Span { start: range.start, end: range.end, rule, why: "the form of the token" });
                return Ok(());
            }
            if let Some(range) = tokens::prefixed(reader.text, run) {
                let why = "random text behind a prefix that announces a key";
                spans.push(Span { start: range.start, end: range.end, rule: rules::PREFIXED, why });
                return Ok(());
            }
        }
        if depth == MAX_DEPTH {
            return Ok(());
        }
        let Some(decoded) = decode_run(reader.text, at) else { return Ok(()) };
        work.spend(2 * decoded.len)?;
        let mut inner = Vec::new();
        self.search(&decoded.bytes, depth + 1, work, &mut inner)?;
        // Only the digits of the secret: what else the run says stays to be read.
        join(&decoded.bytes, &mut inner);
        for span in inner {
            let (start, end) = decoded.origin(span.start, span.end);
            spans.push(Span { start: at + start, end: at + end, rule: span.rule, why: "what the encoded text says" });
        }
        Ok(())
    }

    /// Searches what the text says once it is decoded.
    fn search_view(
        &self,
        text: &[u8],
        disguises: Disguises,
        depth: usize,
        work: &mut Work,
        spans: &mut Vec<Span>,
    ) -> Result<(), Unfinished> {
        work.spend(VIEW * text.len())?;
        let mut view = View::of(text, disguises);
        if view.bytes.len() == text.len() {
            return Ok(());
        }
        // `%252541`: what is encoded again and again in one way is searched once, however often.
        for _ in depth + 1..MAX_DEPTH {
            let again = disguises.again(self.disguises_in(&view.bytes, work));
            if again == Disguises::default() {
                break;
            }
            work.spend(VIEW * view.bytes.len())?;
            view = view.decoded(again);
        }
        self.search_part(&view, 0, depth + 1, work, spans)
    }

    /// Takes note of what hides something at a hit.
    pub(super) fn notice_at(&self, text: &[u8], hit: Hit, disguises: &mut Disguises) {
        let duties = hit.window().map_or(&[][..], |window| self.duties(window));
        for duty in duties {
            match duty {
                Duty::Disguise => notice(text, hit.at as usize, disguises),
                Duty::Digits if text[hit.at as usize] != b'u' => disguises.shape = true,
                Duty::Digits | Duty::EscapedForeign(..) => disguises.json = true,
                _ => {}
            }
        }
    }

    /// How a text hides what it says.
    fn disguises_in(&self, text: &[u8], work: &mut Work) -> Disguises {
        let (hits, mut disguises) = (self.hits(text, work), Disguises::default());
        hits.iter().for_each(|hit| self.notice_at(text, *hit, &mut disguises));
        work.give_back(hits);
        disguises
    }

    /// Searches what the part of a text says that begins at `start`, at a depth.
    pub(super) fn search_part(
        &self,
        view: &View,
        start: usize,
        depth: usize,
        work: &mut Work,
        spans: &mut Vec<Span>,
    ) -> Result<(), Unfinished> {
        let known = work.known.take();
        work.known = known.as_ref().map(|known| known.within(start, view));
        let mut inner = Vec::new();
        work.hold(view.bytes.len());
        self.search(&view.bytes, depth, work, &mut inner)?;
        work.let_go(view.bytes.len());
        work.known = known;
        // What the text repeats shows in what it says: an escaped letter is longer, and has other neighbours.
        join(&view.bytes, &mut inner);
        let is_json = view.bytes.first().is_some_and(|first| b"{[\"".contains(first));
        self.find_again(&view.bytes, is_json, work, &mut inner)?;
        for span in inner {
            let (from, to) = view.origin(span.start, span.end);
            spans.push(Span { start: start + from, end: start + to, ..span });
        }
        Ok(())
    }

    /// Lets the rules that a hit calls for look at it.
    fn look(&self, reader: &Reader<'_>, hit: Hit, covered: usize, spans: &mut Vec<Span>, noted: &mut Noted) {
        let (text, at) = (reader.text, hit.at as usize);
        let mut found = |range: Range<usize>, rule: u16, why: &'static str| {
            if self.enabled[usize::from(rule)] {
                spans.push(Span { start: range.start, end: range.end, rule, why });
            }
        };
        match hit.sign() {
            Sign::At => {
                if let Some(range) = connection::connection(reader, at) {
                    found(range, rules::CONNECTION, "the password of a URL");
                } else if let Some(range) = places::login(reader, at) {
                    found(range, rules::CONNECTION, "the password of a login");
                } else if let Some(range) = email::email(reader, at) {
                    found(range, rules::EMAIL, "an address with a domain");
                }
            }
            Sign::Digits => {
                cards::cards(reader, at, |range| found(range, rules::CARD, "an issuer, a length and the check digit"))
            }
            Sign::Country => {
                if let Some(range) = verify::iban_at(text, at) {
                    found(range, rules::IBAN, "the length of its country and the check digits");
                }
                reader.charge(64);
            }
            Sign::Run => {}
            Sign::Window(window) => {
                reader.charge(LOOK);
                for duty in self.duties(window) {
                    self.fulfil(*duty, reader, at, covered, spans, noted);
                }
            }
        }
    }

    fn fulfil(
        &self,
        duty: Duty,
        reader: &Reader<'_>,
        at: usize,
        covered: usize,
        spans: &mut Vec<Span>,
        noted: &mut Noted,
    ) {
        let text = reader.text;
        let Noted { disguises, values } = noted;
        let mut found = |range: Range<usize>, rule: u16, why: &'static str| {
            if self.enabled[usize::from(rule)] {
                spans.push(Span { start: range.start, end: range.end, rule, why });
            }
        };
        match duty {
            Duty::Disguise => notice(text, at, disguises),
            Duty::Digits if text[at] == b'u' => disguises.json |= at > 0 && text[at - 1] == b'\\',
            Duty::Digits => disguises.shape = true,
            Duty::EscapedForeign(..) => disguises.json |= at > 0 && text[at - 1] == b'\\',
            Duty::Own => {}
            // What is replaced anyway needs no second reason, but another token may begin before it or end behind it.
            _ if at < covered && !matches!(duty, Duty::Token(_)) => {}
            Duty::Token(token) => {
                let token = &self.tokens[usize::from(token)];
                if let Some(range) = token.at_window(reader, at) {
                    found(range, token.rule, "the form of the token");
                }
            }
            Duty::Name => assign::values(reader, at, values),
            Duty::Foreign(word, offset) => {
                assign::foreign_values(reader, at.wrapping_sub(usize::from(offset)), usize::from(word), values);
            }
            Duty::Login => assign::login_values(reader, at, values),
            Duty::Port => {
                if let Some(range) = places::pgpass(reader, at) {
                    found(range, rules::CREDENTIAL, "the last field of a line of passwords");
                }
            }
            Duty::Call => assign::call_values(reader, at, values),
            Duty::Flag => flags::values(reader, at, values),
            Duty::Command(number) => commands::values(reader, at, usize::from(number), values),
            Duty::AccountKey => {
                if let Some(range) = places::account_key(reader, at) {
                    found(range, rules::CREDENTIAL, "the key of an account");
                }
            }
            Duty::Bearer => {
                if let Some(range) = assign::bearer(reader, at) {
                    found(range, rules::AUTHORIZATION, "credentials behind `Bearer`");
                }
            }
            Duty::Basic => {
                if let Some(range) = assign::basic(reader, at) {
                    found(range, rules::AUTHORIZATION, "a user and a password in base64 behind `Basic`");
                }
            }
            Duty::PrivateKey => {
                if let Some(range) = pem::private_key(reader, at.saturating_sub(5)) {
                    found(range, rules::PRIVATE_KEY, "the first line and the body of a key");
                }
            }
            Duty::Putty => {
                if let Some(range) = pem::putty(reader, at.saturating_sub(pem::PUTTY_WINDOW)) {
                    found(range, rules::PRIVATE_KEY, "the private lines of a key");
                }
            }
        }
        for value in values.drain(..) {
            let in_mask =
                self.begins_with_mask(&text[value.range.start..]) || reader.has_brackets() && self.is_in_mask(text, at);
            if !in_mask && !self.is_masked(&text[value.range.clone()]) {
                found(value.range, value.rule, value.why);
            }
        }
    }
}

/// Whether a secret stands by itself, so that a mask in its place lets nothing around it read differently.
fn stands_apart(text: &[u8], span: &Span) -> bool {
    let opens = |b: &u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`=:>(,/") }.has(b);
    let closes = |b: &u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`<") }.has(b);
    let behind = match &text[span.end..] {
        [b'@', ..] => span.rule == rules::CONNECTION,
        // Another parameter, or another field of a connection.
        [b'&' | b';', rest @ ..] if rest.first().is_some_and(u8::is_ascii_alphabetic) => {
            let name = rest.iter().take(MAX_PARAMETER).take_while(|b| is_name(**b)).count();
            span.rule == rules::CREDENTIAL && rest.get(name) == Some(&b'=')
        }
        [b',' | b';' | b')', next, ..] => closes(next) || b",;)".contains(next),
        [next, ..] => closes(next),
        [] => true,
    };
    behind && span.start.checked_sub(1).is_none_or(|at| opens(&text[at]))
}

/// The longest name of a parameter behind a secret.
const MAX_PARAMETER: usize = 32;

/// Whether a name needs no second look once its value is masked: it has one, which ends where the text says so.
fn is_settled(text: &[u8], value: &Span) -> bool {
    let closes = |b: &u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`,;)<") }.has(b);
    value.rule == rules::CREDENTIAL && text.get(value.end).is_none_or(closes)
}

/// Whether a value begins where another ends.
fn touches(last: &Span, span: &Span) -> bool {
    span.start == last.end && [last.rule, span.rule] == [rules::CREDENTIAL; 2]
}

/// Joins spans that overlap under the rule of the longest, and widens them to whole characters.
fn join(text: &[u8], spans: &mut Vec<Span>) {
    let within = |at: usize| text.get(at).is_some_and(|b| b & 0xC0 == 0x80);
    let parts = spans.iter().any(|span| within(span.start) || within(span.end));
    if parts && std::str::from_utf8(text).is_ok() {
        for span in spans.iter_mut() {
            while within(span.start) {
                span.start -= 1;
            }
            while within(span.end) {
                span.end += 1;
            }
        }
    }
    if spans.len() < 2 {
        return;
    }
    spans.sort_unstable_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    let (mut kept, mut longest) = (0, 0);
    for nth in 0..spans.len() {
        let span = spans[nth];
        // Any rule that knows more gives its name.
        let len = if span.rule == rules::PREFIXED { 0 } else { span.end - span.start };
        match spans[..kept].last_mut() {
            // Two values that touch are one: where the first ends, no reader of masks could tell.
            Some(last) if span.start < last.end || touches(last, &span) => {
                if len > longest {
                    (last.rule, last.why, longest) = (span.rule, span.why, len);
                }
                last.end = last.end.max(span.end);
            }
            _ => {
                spans[kept] = span;
                (kept, longest) = (kept + 1, len);
            }
        }
    }
    spans.truncate(kept);
}
