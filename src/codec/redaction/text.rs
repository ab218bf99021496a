//! Finds the secrets in one decoded text and replaces them.

use super::filter::{Hit, Sign};
use super::reader::{Reader, Unfinished, Work};
use super::rules::{self, TOKENS};
use super::views::{Disguises, View, decode_run, hex_pair, may_speak};
use super::{Action, Duty, Engine, Token, assign, finders};
use crate::event::escape::hex4;

/// A secret, or where one stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    pub rule: u16,
}

/// How deep text may be hidden in text.
const MAX_DEPTH: usize = 3;
/// The most that a pattern of the user's own may find in one text.
const MAX_OWN_SPANS: usize = 10_000;
/// How often a changed text is looked at again.
const MAX_ROUNDS: usize = 4;

impl Engine {
    /// The text without its secrets, or nothing if it has none.
    pub(super) fn clean(&self, text: &[u8], work: &mut Work) -> Option<Vec<u8>> {
        let mut cleaned: Option<Vec<u8>> = None;
        for _ in 0..MAX_ROUNDS {
            let current = cleaned.as_deref().unwrap_or(text);
            let Ok(spans) = self.find(current, work) else {
                work.found.push(rules::UNFINISHED);
                return Some(self.instead(rules::UNFINISHED, text));
            };
            if spans.is_empty() {
                break;
            }
            work.found.extend(spans.iter().map(|span| span.rule));
            cleaned = Some(self.replace(current, &spans));
        }
        cleaned
    }

    /// Secrets in order, none touching another.
    fn find(&self, text: &[u8], work: &mut Work) -> Result<Vec<Span>, Unfinished> {
        let mut spans = Vec::new();
        self.search(text, 0, work, &mut spans)?;
        Ok(joined(text, spans))
    }

    fn search(&self, text: &[u8], depth: usize, work: &mut Work, spans: &mut Vec<Span>) -> Result<(), Unfinished> {
        work.spend(text.len())?;
        let mut hits = Vec::new();
        self.filter.scan(text, &mut hits);
        hits.sort_unstable_by_key(|hit| hit.at);
        let (first, mut covered, mut spent) = (spans.len(), 0, 0);
        let mut disguises = Disguises::default();
        let reader = Reader::new(text);
        for hit in hits {
            // What is replaced anyway needs no second reason.
            if (hit.at as usize) < covered && !matches!(hit.sign, Sign::Window(_)) {
                continue;
            }
            let known = spans.len();
            match hit.sign {
                Sign::Run if depth < MAX_DEPTH => self.search_run(&reader, hit.at as usize, depth, work, spans)?,
                _ => self.look(&reader, hit, covered, spans, &mut disguises),
            }
            covered = spans[known..].iter().map(|span| span.end).max().unwrap_or(0).max(covered);
            work.spend(reader.spent() - spent)?;
            spent = reader.spent();
        }
        for (number, own) in self.own.iter().enumerate() {
            let rule = self.first_own + number as u16;
            let (known, found) = (spans.len(), |range: std::ops::Range<usize>| {
                spans.push(Span { start: range.start, end: range.end, rule });
            });
            own.find(text, found).map_err(|_| Unfinished)?;
            if spans.len() - known > MAX_OWN_SPANS {
                return Err(Unfinished);
            }
        }
        // A mask is no secret, whatever it says.
        let found = spans.split_off(first);
        spans.extend(found.into_iter().filter(|span| !self.is_mask(&text[span.start..span.end])));
        if depth < MAX_DEPTH && disguises != Disguises::default() {
            self.search_view(text, disguises, depth, work, spans)?;
        }
        Ok(())
    }

    /// Searches what the run of base64 or hexadecimal digits at `at` says.
    fn search_run(
        &self,
        reader: &Reader<'_>,
        at: usize,
        depth: usize,
        work: &mut Work,
        spans: &mut Vec<Span>,
    ) -> Result<(), Unfinished> {
        let Some((decoded, len)) = decode_run(reader.text, at) else { return Ok(()) };
        work.spend(2 * len)?;
        let mut inner = Vec::new();
        self.search(&decoded, depth + 1, work, &mut inner)?;
        spans.extend(inner.first().map(|span| Span { start: at, end: at + len, rule: span.rule }));
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
        work.spend(2 * text.len())?;
        let view = View::of(text, disguises);
        if view.bytes.len() == text.len() {
            return Ok(());
        }
        let mut inner = Vec::new();
        self.search(&view.bytes, depth + 1, work, &mut inner)?;
        for span in inner {
            let (start, end) = view.origin(span.start, span.end);
            spans.push(Span { start, end, rule: span.rule });
        }
        Ok(())
    }

    /// Lets the rules that a hit calls for look at it.
    fn look(&self, reader: &Reader<'_>, hit: Hit, covered: usize, spans: &mut Vec<Span>, disguises: &mut Disguises) {
        let (text, at) = (reader.text, hit.at as usize);
        let mut found = |range: std::ops::Range<usize>, rule: u16| {
            if self.enabled[usize::from(rule)] {
                spans.push(Span { start: range.start, end: range.end, rule });
            }
        };
        match hit.sign {
            Sign::At => {
                if let Some(range) = finders::connection(reader, at) {
                    found(range, rules::CONNECTION);
                } else if let Some(range) = finders::email(reader, at) {
                    found(range, rules::EMAIL);
                }
            }
            Sign::Digits => finders::cards(text, at, |range| found(range, rules::CARD)),
            Sign::Country => {
                if let Some(range) = finders::iban(text, at) {
                    found(range, rules::IBAN);
                }
                reader.charge(64);
            }
            Sign::Run => {}
            Sign::Window(window) => {
                for duty in &self.duties[usize::from(window)] {
                    match *duty {
                        Duty::Disguise => notice(text, at, disguises),
                        Duty::Token(_) | Duty::Name | Duty::Bearer | Duty::PrivateKey if at < covered => {}
                        Duty::Token(token) => {
                            if let Some((start, end)) = self.token_at(reader, at, token) {
                                found(start..end, self.tokens[usize::from(token)].rule);
                            }
                        }
                        Duty::Name => {
                            if let Some((range, rule)) = assign::value(reader, at)
                                && !self.begins_with_mask(&text[range.start..])
                                && !self.is_in_mask(text, at)
                            {
                                found(range, rule);
                            }
                        }
                        Duty::Bearer => {
                            if let Some(range) = assign::bearer(reader, at) {
                                found(range, rules::AUTHORIZATION);
                            }
                        }
                        Duty::PrivateKey => {
                            if let Some(range) = finders::private_key(reader, at.saturating_sub(5)) {
                                found(range, rules::PRIVATE_KEY);
                            }
                        }
                        Duty::Own => {}
                    }
                }
            }
        }
    }

    /// The token whose window begins at `at`; no letter touches it from the left.
    fn token_at(&self, reader: &Reader<'_>, at: usize, token: u16) -> Option<(usize, usize)> {
        let (text, token) = (reader.text, &self.tokens[usize::from(token)]);
        let start = self.token_start(text, at, token)?;
        if start > 0 && text[start - 1].is_ascii_alphanumeric() && !finders::is_after_escape(text, start) {
            return None;
        }
        reader.charge(at - start);
        let end = token.shape.match_at(reader, start)?;
        (TOKENS[usize::from(token.number)].check)(&text[start..end]).then_some((start, end))
    }

    /// Where a token begins whose window begins at `at`.
    fn token_start(&self, text: &[u8], at: usize, token: &Token) -> Option<usize> {
        let start = at.checked_sub(token.offset)?;
        let Some((set, max)) = token.lead else { return Some(start) };
        Some(start - text[..start].iter().rev().take(max).take_while(|b| set.has(**b)).count())
    }

    /// Whether raw JSON is worth decoding here.
    pub(super) fn is_plausible(&self, raw: &[u8], hit: Hit) -> bool {
        let at = hit.at as usize;
        match hit.sign {
            Sign::At => {
                let back = &raw[at.saturating_sub(300)..at];
                // The `n` of an escaped line break is no address.
                let decorator = |start: usize| start + 1 == at && start > 0 && raw[start - 1] == b'\\';
                finders::email(&Reader::new(raw), at).is_some_and(|found| !decorator(found.start))
                    || memchr::memmem::rfind(back, b"//").is_some()
                    || memchr::memmem::rfind(back, b"/\\/").is_some()
            }
            Sign::Digits => {
                let mut any = false;
                finders::cards(raw, at, |_| any = true);
                any
            }
            Sign::Country => finders::iban(raw, at).is_some(),
            Sign::Run => {
                let start = at + usize::from(at > 0 && raw[at - 1] == b'\\');
                may_speak(raw, start)
            }
            Sign::Window(window) => self.duties[usize::from(window)].iter().any(|duty| match *duty {
                Duty::Token(token) => {
                    let entry = &self.tokens[usize::from(token)];
                    entry.has_slash
                        || self.token_start(raw, at, entry).is_some_and(|start| entry.shape.may_match(raw, start))
                }
                Duty::Name => assign::is_plausible(raw, at),
                Duty::Bearer => matches!(raw.get(at + 6), Some(b' ' | b'\\')),
                Duty::PrivateKey => true,
                Duty::Disguise => is_disguise(raw, at),
                Duty::Own => true,
            }),
        }
    }

    // --- replacing ---

    fn replace(&self, text: &[u8], spans: &[Span]) -> Vec<u8> {
        let (mut out, mut from) = (Vec::with_capacity(text.len()), 0);
        for span in spans {
            out.extend_from_slice(&text[from..span.start]);
            out.extend_from_slice(&self.instead(span.rule, &text[span.start..span.end]));
            from = span.end;
        }
        out.extend_from_slice(&text[from..]);
        out
    }

    /// What stands in the place of a secret.
    pub(super) fn instead(&self, rule: u16, secret: &[u8]) -> Vec<u8> {
        let name = &self.names[usize::from(rule)];
        match self.action(rule) {
            Action::Remove => Vec::new(),
            Action::Hash(key) => {
                let hash = blake3::keyed_hash(key, secret).to_hex();
                format!("[{name}:{}]", &hash[..HASH]).into_bytes()
            }
            Action::KeepLast(last) => {
                let secret = String::from_utf8_lossy(secret);
                let (len, last) = (secret.chars().count(), (*last).min(MAX_KEPT));
                if len < MIN_KEPT_OF || rule == rules::UNFINISHED || last == 0 {
                    return format!("[{name}]").into_bytes();
                }
                let tail = secret.chars().skip(len - last).map(|c| if c.is_ascii_alphanumeric() { c } else { '.' });
                format!("[{name} *{}]", tail.collect::<String>()).into_bytes()
            }
            Action::Mask => format!("[{name}]").into_bytes(),
        }
    }

    /// Whether the whole text is what this engine puts in the place of secrets.
    pub(super) fn is_mask(&self, text: &[u8]) -> bool {
        self.mask_len(text) == Some(text.len())
    }

    /// Whether a value that begins here is a mask and nothing more.
    fn begins_with_mask(&self, text: &[u8]) -> bool {
        let Some(len) = self.mask_len(text) else { return false };
        text.get(len).is_none_or(|b| b.is_ascii_whitespace() || b"\"'`\\<>;&,)]}".contains(b))
    }

    /// Whether the word at `at` is the name within a mask.
    pub(super) fn is_in_mask(&self, text: &[u8], at: usize) -> bool {
        let back = text[..at].iter().rev().take(super::report::MAX_RULE_NAME).take_while(|b| is_rule_byte(**b)).count();
        let start = at - back;
        start > 0 && self.mask_len(&text[start - 1..]).is_some()
    }

    fn mask_len(&self, text: &[u8]) -> Option<usize> {
        let inside = text.strip_prefix(b"[")?;
        let word = inside.iter().take(super::report::MAX_RULE_NAME).take_while(|b| is_rule_byte(**b)).count();
        let name = std::str::from_utf8(&inside[..word]).ok()?;
        if !self.names.iter().any(|known| known == name) {
            return None;
        }
        let rest = &inside[word..];
        let more = match rest {
            [b':', ..] => 1 + rest[1..].iter().take(HASH).take_while(|b| b.is_ascii_hexdigit()).count(),
            [b' ', b'*', ..] => 2 + rest[2..].iter().take(MAX_KEPT).take_while(|b| is_kept(**b)).count(),
            _ => 0,
        };
        (rest.get(more) == Some(&b']')).then_some(word + more + 2)
    }
}

/// Hexadecimal digits that are shown of a keyed hash.
const HASH: usize = 8;
/// The most characters that are left of a secret, and the shortest secret of which any are left.
const MAX_KEPT: usize = 4;
const MIN_KEPT_OF: usize = 12;

fn is_rule_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte)
}

fn is_kept(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.'
}

/// Joins spans that overlap under the rule of the longest, and widens them to whole characters.
fn joined(text: &[u8], mut spans: Vec<Span>) -> Vec<Span> {
    let within = |at: usize| text.get(at).is_some_and(|b| b & 0xC0 == 0x80);
    let valid = spans.is_empty() || std::str::from_utf8(text).is_ok();
    for span in &mut spans {
        while valid && within(span.start) {
            span.start -= 1;
        }
        while valid && within(span.end) {
            span.end += 1;
        }
    }
    spans.sort_unstable_by_key(|span| (span.start, std::cmp::Reverse(span.end)));
    let mut joined: Vec<(Span, usize)> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some((last, longest)) if span.start < last.end => {
                if span.end - span.start > *longest {
                    (last.rule, *longest) = (span.rule, span.end - span.start);
                }
                last.end = last.end.max(span.end);
            }
            _ => joined.push((span, span.end - span.start)),
        }
    }
    joined.into_iter().map(|(span, _)| span).collect()
}

// --- disguises ---

/// Takes note of a disguise in decoded text, seen at `at`.
fn notice(text: &[u8], at: usize, disguises: &mut Disguises) {
    match text[at] {
        b'u' => disguises.json |= at > 0 && text[at - 1] == b'\\',
        b'%' => disguises.percent |= is_percent(&text[at..]),
        b'&' => disguises.entity = true,
        _ => disguises.shape = true,
    }
}

/// `%` and the number of a letter, digit, `@`, `:` or `=`.
fn is_percent(text: &[u8]) -> bool {
    let Some(&[high, low]) = text.get(1..3) else { return false };
    hex_pair(high, low).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"@:=".contains(&byte))
}

/// Whether raw JSON hides something here: an escaped letter, or something without a width within a word.
fn is_disguise(raw: &[u8], at: usize) -> bool {
    match raw[at] {
        b'u' if at == 0 || raw[at - 1] != b'\\' => false,
        b'u' => is_escaped_disguise(raw, at),
        b'%' => is_percent(&raw[at..]),
        0xE2 => in_word(raw, at, at + 3),
        0xC2 => in_word(raw, at, at + 2),
        0xEF if raw.get(at + 1) == Some(&0xBB) => in_word(raw, at, at + 3),
        _ => true,
    }
}

fn is_escaped_disguise(raw: &[u8], at: usize) -> bool {
    match hex4(raw, at + 1) {
        0x1B => {
            let word = |at: usize| raw.get(at).is_some_and(u8::is_ascii_alphanumeric);
            at >= 2
                && word(at - 2)
                && !follows_color(raw, at - 1)
                && word(past_colors(raw, at - 1))
                && !finders::is_after_escape(raw, at - 1)
        }
        0xAD | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x2064 | 0xFEFF => in_word(raw, at - 1, at + 5),
        0x20..=0x7F | 0xFF01..=0xFF5E | 0xD835 => true,
        _ => false,
    }
}

/// Whether a terminal colour ends right before `at`, escaped as in JSON.
fn follows_color(raw: &[u8], at: usize) -> bool {
    let Some(end) = at.checked_sub(1).filter(|end| raw[*end] == b'm') else { return false };
    let parameters = raw[..end].iter().rev().take(16).take_while(|b| b.is_ascii_digit() || **b == b';').count();
    raw[..end - parameters].ends_with(b"1b[") || raw[..end - parameters].ends_with(b"1B[")
}

/// Where terminal colours end that follow one another from `at` on, escaped as in JSON.
fn past_colors(raw: &[u8], mut at: usize) -> usize {
    while raw[at..].starts_with(b"\\u001b[") || raw[at..].starts_with(b"\\u001B[") {
        let rest = &raw[at + 7..];
        let parameters = rest.iter().take(32).take_while(|b| (0x20..0x40).contains(*b)).count();
        at = raw.len().min(at + 7 + parameters + 1);
    }
    at
}

/// Whether letters, digits or further disguises touch both ends.
fn in_word(raw: &[u8], start: usize, end: usize) -> bool {
    let touches = |b: &u8| b.is_ascii_alphanumeric() || b"-_.@".contains(b);
    let before = start.checked_sub(1).is_some_and(|at| touches(&raw[at]));
    let escape = start >= 6 && raw[start - 6..].starts_with(b"\\u") || start >= 2 && raw[start - 2] == b'\\';
    let after = raw.get(end).is_some_and(|b| touches(b) || matches!(b, b'\\' | 0xC2 | 0xE2 | 0xEF));
    before && !escape && after
}
