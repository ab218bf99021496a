//! Finds tokens of a known format: at a filter window, or inside a long run of letters and digits.

use super::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::ops::Range;

use super::escapes::is_after_escape;
use super::names::{Fnv, classify};
use super::random::randomness;
use super::reader::Reader;
use super::rules::{self, TOKENS};
use super::shape::{Class, Lead, Set, Shape};
use super::values::is_crossed_out;
use super::verify;

/// A form of a token.
pub struct Token {
    pub rule: u16,
    /// Index into [`TOKENS`].
    number: u16,
    pub shape: Shape,
    lead: Option<Lead>,
    /// How far behind the token's beginning (or its lead) the window stands.
    offset: usize,
    /// The beginning is so telling that letters may touch it, and what goes on belongs to it.
    is_sure: bool,
}

impl Token {
    pub fn new(rule: u16, number: u16, shape: Shape, offset: usize) -> Token {
        let literal = shape.literal();
        let is_sure = literal.len() >= 4
            // `vipul-…` is no token of `pul-`.
            && literal.iter().any(|b| const { &ByteSet::of(b"_.:/") }.has(b) || *b == b'-' && literal.len() > 5)
            && !literal.begins_with(b"key-");
        Token { rule, number, lead: shape.lead(), shape, offset, is_sure }
    }

    /// The token whose window begins at `at`.
    pub fn at_window(&self, reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
        self.at(reader, at.checked_sub(self.offset)?)
    }

    /// The token whose first literal byte stands at `literal`.
    fn at(&self, reader: &Reader<'_>, literal: usize) -> Option<Range<usize>> {
        let text = reader.text;
        let start = self.start(text, literal)?;
        reader.charge(literal - start);
        if !self.is_sure && start > 0 && text[start - 1].is_ascii_alphanumeric() && !is_after_escape(text, start) {
            return None;
        }
        let mut end = self.shape.match_at(reader, literal)?;
        if self.shape.goes_on(text, end) && !self.is_sure {
            return None;
        }
        // A token that goes on is taken whole.
        let open = self.is_sure || self.shape.is_open();
        if open && text.get(end).is_some_and(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)) {
            end = end.max(reader.run_end(Class::named(b'b'), end));
        }
        let padding = text[end..].iter().take(2).take_while(|b| **b == b'=').count();
        let token = &text[start..end];
        ((TOKENS[usize::from(self.number)].check)(token) && !is_crossed_out(token)).then_some(start..end + padding)
    }

    /// Whether raw JSON may hold the token whose window begins at `at`.
    pub fn is_plausible(&self, raw: &[u8], at: usize) -> bool {
        let Some(literal) = at.checked_sub(self.offset) else { return false };
        self.start(raw, literal).is_some() && self.shape.may_match(raw, literal)
    }

    /// Where a token begins whose first literal byte stands at `literal`, if there is enough of its lead.
    fn start(&self, text: &[u8], literal: usize) -> Option<usize> {
        let Some(lead) = self.lead else { return Some(literal) };
        let len = text[..literal].iter().rev().take(lead.max).take_while(|b| lead.class.has(**b)).count();
        (len >= lead.min).then_some(literal - len)
    }
}

/// Tokens that stand in one run of at least so many characters of base64, by their first three bytes.
#[derive(Default)]
pub struct Runs {
    by_head: HashMap<[u8; 3], Vec<u16>, BuildHasherDefault<Fnv>>,
    /// Whether a form may stand in a UUID.
    in_uuids: bool,
    /// One bit for each pair of first bytes.
    pairs: Vec<u64>,
}

/// The shortest run that the filter reports.
pub const RUN: usize = super::filter::RUN as usize;
/// How long a UUID is.
const UUID: usize = 36;
/// The longest part of one between two hyphens.
const UUID_PART: usize = 12;
/// The most beginnings that one form may have to be found by them.
const MAX_HEADS: usize = 64;

impl Runs {
    /// Takes the form if it always stands in a long run and has a beginning; if not, it needs a window.
    pub fn add(&mut self, token: u16, shape: &Shape) -> bool {
        let fixed = shape.fixed();
        if shape.lead().is_some() || shape.run_len() < RUN || fixed.len() < 3 {
            return false;
        }
        let heads: usize = fixed[..3].iter().map(|set| set.iter().count()).product();
        if heads > MAX_HEADS {
            return false;
        }
        self.pairs.resize(65_536 / 64, 0);
        let hexadecimal = |set: &Set| set.iter().any(|byte| byte == b'-' || byte.is_ascii_hexdigit());
        let fits = shape.run_len() <= UUID && !shape.has_run_without(b'-', UUID_PART);
        self.in_uuids |= fits && fixed.iter().all(hexadecimal);
        for first in fixed[0].iter() {
            for second in fixed[1].iter() {
                let pair = u16::from_le_bytes([first, second]);
                self.pairs[usize::from(pair) / 64] |= 1 << (pair % 64);
                for third in fixed[2].iter() {
                    self.by_head.entry([first, second, third]).or_default().push(token);
                }
            }
        }
        true
    }

    /// The first place from `from` on where a token may begin that stands within the run, and those that may.
    fn next(&self, text: &[u8], from: usize, end: usize) -> Option<(usize, &[u16])> {
        let pairs: &[u64; 65_536 / 64] = self.pairs.as_slice().try_into().ok()?;
        for (at, head) in text.get(from..end)?.windows(3).enumerate() {
            let pair = u16::from_le_bytes([head[0], head[1]]);
            if pairs[usize::from(pair) / 64] >> (pair % 64) & 1 == 1
                && let Some(tokens) = self.by_head.get(&[head[0], head[1], head[2]])
            {
                return Some((from + at, tokens));
            }
        }
        None
    }

    /// Whether the run is a UUID, the commonest of all, and so no token.
    fn is_uuid(&self, text: &[u8], run: &Range<usize>) -> bool {
        let joined = || [8, 13, 18, 23].iter().all(|at| text[run.start + at] == b'-');
        // All of it is looked at, which is quicker than to ask behind each byte whether to go on.
        let hex = |all: bool, b: &u8| all & const { &ByteSet::of(b"0123456789abcdefABCDEF-") }.has(b);
        run.len() == UUID && !self.in_uuids && joined() && text[run.clone()].iter().fold(true, hex)
    }

    /// Finds the tokens in a run.
    pub fn find(
        &self,
        reader: &Reader<'_>,
        run: Range<usize>,
        tokens: &[Token],
        mut found: impl FnMut(Range<usize>, u16),
    ) {
        reader.charge(run.len());
        let mut from = run.start;
        while let Some((at, known)) = self.next(reader.text, from, run.end) {
            from = at + 1;
            for token in known {
                let token = &tokens[usize::from(*token)];
                if let Some(range) = token.at(reader, at) {
                    from = from.max(range.end);
                    found(range, token.rule);
                }
            }
        }
    }

    /// Whether raw JSON may hold one of the tokens in this run.
    pub fn is_plausible(&self, raw: &[u8], run: Range<usize>, tokens: &[Token]) -> bool {
        let mut from = run.start;
        while let Some((at, known)) = self.next(raw, from, run.end) {
            if known.iter().any(|token| tokens[usize::from(*token)].shape.may_match(raw, at)) {
                return true;
            }
            from = at + 1;
        }
        false
    }

    /// Whether a run that is a UUID says nothing, whatever stands before it.
    pub fn spares(&self, text: &[u8], run: &Range<usize>) -> bool {
        self.is_uuid(text, run) && (run.start == 0 || text[run.start - 1] != b'|')
    }
}

/// Tokens without a prefix, recognised by what surrounds a long run.
pub fn wordless(text: &[u8], run: &Range<usize>) -> Option<(Range<usize>, u16)> {
    let inside = &text[run.clone()];
    let before = |sign: u8, len: std::ops::RangeInclusive<usize>, is: fn(&u8) -> bool| {
        let end = run.start.checked_sub(1).filter(|end| text[*end] == sign)?;
        let count = text[..end].iter().rev().take(len.end() + 1).take_while(|b| is(b)).count();
        len.contains(&count).then_some(end - count)
    };
    let hex =
        |len: usize| inside.len() == len && inside.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    if inside.len() == 40 && inside[6] == b'_' && inside.closes_with(b"_mmk") {
        return Some((run.clone(), rules::MAXMIND));
    }
    if inside.len() == verify::NATS_SEED && inside[0] == b'S' && verify::is_nats_seed(inside) {
        return Some((run.clone(), rules::NATS_SEED));
    }
    if hex(64)
        && let Some(start) = before(b'.', 17..=17, u8::is_ascii_alphanumeric)
        && text[start..].begins_with(b"pat")
    {
        return Some((start..run.end, rules::AIRTABLE));
    }
    if hex(32)
        && let Some(start) = before(b':', 18..=56, |b| b.is_ascii_digit() || *b == b'/')
        && is_asana(&text[start..run.start - 1])
    {
        return Some((start..run.end, rules::ASANA));
    }
    if (27..=40).contains(&inside.len())
        && let Some(start) = before(b'|', 15..=16, u8::is_ascii_digit)
    {
        return Some((start..run.end, rules::FACEBOOK_APP));
    }
    discord(text, run).map(|range| (range, rules::DISCORD))
}

/// The numbers in front of a token of Asana: a short one, and one or two of at least 16 digits.
fn is_asana(numbers: &[u8]) -> bool {
    let mut parts = numbers.split(|b| *b == b'/');
    let first = parts.next().unwrap_or_default();
    let (count, long) = parts.fold((0, true), |(count, long), part| (count + 1, long && part.len() > 15));
    (1..=4).contains(&first.len()) && (1..=2).contains(&count) && long
}

/// A bot's number in base64, six letters and a checksum, with dots between.
fn discord(text: &[u8], run: &Range<usize>) -> Option<Range<usize>> {
    let dotted = |at: usize| {
        let len =
            text.get(at + 1..)?.iter().take(40).take_while(|b| b.is_ascii_alphanumeric() || b"-_".contains(b)).count();
        (text.get(at) == Some(&b'.')).then_some(at + 1 + len)
    };
    let first = (24..=28).contains(&run.len()) && b"MNO".contains(&text[run.start]);
    let middle = first.then(|| dotted(run.end)).flatten().filter(|middle| middle - run.end == 7)?;
    let end = dotted(middle).filter(|end| end - middle > 27)?;
    (randomness(&text[run.clone()]) > 12).then_some(run.start..end)
}

/// Parts of a prefix that say that a secret follows.
#[rustfmt::skip]
const PREFIXES: &[&str] = &[
    "sk", "rk", "pat", "tok", "token", "key", "apikey", "api", "secret", "auth", "oauth", "oat", "sat", "rt",
    "priv", "private", "access", "accesskey", "bot", "webhook", "cred", "password",
];
/// Parts that may stand between such a prefix and the secret.
#[rustfmt::skip]
const MIDDLES: &[&str] = &[
    "live", "test", "prod", "production", "sandbox", "dev", "v1", "v2", "v3", "staging", "us", "eu", "sec", "key",
    "token", "main", "stg", "admin", "service", "user", "read", "write", "id",
];
const ALPHANUMERIC: &ByteSet = &ByteSet::of(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
/// Letters and digits that the secret must have.
const MIN_SECRET: usize = 20;

/// A secret behind a prefix that says so, of whatever vendor: `acme_sk_live_…`, `foo-api-…`.
pub fn prefixed(text: &[u8], run: Range<usize>) -> Option<Range<usize>> {
    let run_text = &text[run.clone()];
    let body = run_text.iter().rev().take_while(|b| ALPHANUMERIC.has(b)).count();
    let start = run_text.len() - body;
    let goes_on = text.get(run.end).is_some_and(|b| b"=.:".contains(b))
        && text.get(run.end + 1).is_some_and(u8::is_ascii_alphanumeric);
    if body < MIN_SECRET || start == 0 || goes_on || !b"_-".contains(&run_text[start - 1]) {
        return None;
    }
    let secret = &run_text[start..];
    let head = run_text[..start - 1].rsplit(|b| !b.is_ascii_alphanumeric() && !b"_-".contains(b)).next()?;
    let mut words = head.rsplit(|b| matches!(b, b'_' | b'-'));
    let mut word = words.next()?;
    let is_one_of = |word: &[u8], list: &[&str]| list.iter().any(|known| known.as_bytes() == word);
    for _ in 0..2 {
        if is_one_of(word, MIDDLES) && !is_one_of(word, PREFIXES) {
            word = words.next()?;
        }
    }
    // `cache-key-` and a hash, `my-api-` and a commit: the whole prefix must announce a secret.
    let hex = secret.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    if matches!(word, b"key" | b"token" | b"access" | b"id") && classify(head).is_none()
        || hex && matches!(word, b"api" | b"auth" | b"webhook" | b"bot" | b"service")
    {
        return None;
    }
    let mixed = || secret.iter().any(u8::is_ascii_digit) && secret.iter().any(u8::is_ascii_alphabetic);
    let is_secret = is_one_of(word, PREFIXES) && mixed() && randomness(secret) >= 16;
    is_secret.then(|| run.start + start - 1 - head.len()..run.end)
}
