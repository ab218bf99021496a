//! Whether raw JSON is worth decoding where the filter has matched. False positives are allowed, false negatives are
//! not.

use crate::codec::redaction::literals::Literals as _;
use std::sync::LazyLock;

use super::assign;
use super::disguises::is_disguise;
use super::email::email;
use super::escapes::{past_escape, trailing_slashes};
use super::filter::{Hit, Sign};
use super::names::FOREIGN;
use super::reader::Reader;
use super::shape::Class;
use super::tokens::{prefixed, wordless};
use super::views::may_speak;
use super::{Duty, Engine, cards, commands, flags, pem, places, verify};

/// How far before an `@` the scheme of a URL is searched.
const MAX_WORD: usize = 256;
/// Backslashes in front of an escape: so many has JSON within JSON within JSON.
const MAX_SLASHES: usize = 8;

impl Engine {
    /// Whether something may stand at a hit. The reader is the event's.
    pub(super) fn is_plausible(&self, reader: &Reader<'_>, hit: Hit) -> bool {
        let (raw, at) = (reader.text, hit.at as usize);
        match hit.sign() {
            Sign::At => {
                // What is no address has a slash or an escape in front of it.
                let near = &raw[at.saturating_sub(MAX_WORD)..at];
                raw[..at].closes_with(b"}")
                    || is_address(reader, at)
                    || places::login(reader, at).is_some()
                    || memchr::memchr2(b'/', b'\\', near).is_some() && (is_in_url(raw, at) || hides_login(raw, at))
            }
            Sign::Digits => {
                let mut any = false;
                cards::plausible(raw, past_escape(raw, at), |_| any = true);
                any
            }
            Sign::Country => verify::iban_at(raw, at).is_some(),
            Sign::Run => self.is_plausible_run(reader, at),
            Sign::Window(window) => self.duties(window).iter().any(|duty| match *duty {
                Duty::Token(token) => self.tokens[usize::from(token)].is_plausible(raw, at),
                Duty::Name => assign::is_plausible(reader, at),
                Duty::Login => {
                    raw[at..raw.len().min(at + 60)].iter().any(|b| b":/".contains(b))
                        || raw[..at].closes_with(b" to ")
                        || raw[at..].len() > 5 && raw[at..at + 5].eq_ignore_ascii_case(b"creds")
                }
                Duty::Port => places::pgpass(reader, at).is_some() || hides_line(raw, at),
                Duty::Call => assign::is_plausible_call(raw, at),
                Duty::PrivateKey => pem::is_plausible(raw, at),
                Duty::Flag => flags::is_plausible(reader, at),
                Duty::Command(number) => commands::is_plausible(raw, at, usize::from(number)),
                Duty::Foreign(..) | Duty::AccountKey | Duty::Putty | Duty::Own => true,
                Duty::EscapedForeign(word, offset) => is_escaped_word(raw, at, usize::from(offset), usize::from(word)),
                Duty::Digits => {
                    raw[at] != b'u' || raw.get(at + 5..at + 9).is_some_and(|next| next.begins_with(b"\\u06"))
                }
                Duty::Bearer => matches!(raw.get(at + 6), Some(b' ' | b'\\' | b'%' | b',')),
                Duty::Basic => raw.get(at + 5) == Some(&b' ') && assign::basic(reader, at).is_some(),
                Duty::Disguise => is_disguise(raw, at),
            }),
        }
    }

    fn is_plausible_run(&self, reader: &Reader<'_>, at: usize) -> bool {
        let raw = reader.text;
        let end = reader.run_end(Class::named(b'r'), at);
        if self.runs.spares(raw, &(at..end)) {
            return false;
        }
        let start = past_escape(raw, at).min(end);
        self.runs.is_plausible(raw, at..end, &self.tokens)
            || may_speak(&raw[at..end])
            || start > at && may_speak(&raw[start..end])
            || prefixed(raw, start..end).is_some()
            || wordless(raw, &(start..end)).is_some()
            || is_behind_escape(raw, at)
    }
}

/// Whether a sign that joins the parts of a token stands in front of the run, and an escape shortly before it: how long
/// the first part is shows only once that is decoded.
fn is_behind_escape(raw: &[u8], at: usize) -> bool {
    let joined = at > 0 && matches!(raw[at - 1], b'.' | b':' | b'|');
    joined && memchr::memchr(b'\\', &raw[at.saturating_sub(MAX_PART)..at]).is_some()
}

/// The longest first part of a token that has no beginning of its own, with an escape in front of it.
const MAX_PART: usize = 48;

fn is_address(reader: &Reader<'_>, at: usize) -> bool {
    let raw = reader.text;
    // The `n` of an escaped line break is no address.
    let decorator = |start: usize| start + 1 == at && start > 0 && raw[start - 1] == b'\\';
    // What an escape hides may belong to the address.
    let escaped = raw.get(at + 1) == Some(&b'\\') && raw.get(at + 2) == Some(&b'u');
    escaped
        || at >= 6 && raw[at - 6..].begins_with(b"\\u")
        || email(reader, at).is_some_and(|found| !decorator(found.start))
        || hides_domain(raw, at)
}

/// Whether the domain behind an `@` has an escape in it.
fn hides_domain(raw: &[u8], at: usize) -> bool {
    let len = raw[at + 1..]
        .iter()
        .take(MAX_WORD)
        .take_while(|b| b.is_ascii_alphanumeric() || b".-".contains(b) || **b >= 0x80)
        .count();
    len > 0 && raw[at + 1 + len..].begins_with(b"\\u")
}

/// Whether the word in front of an `@` may be a login some of whose letters are escaped.
fn hides_login(raw: &[u8], at: usize) -> bool {
    let word = raw[..at].iter().rev().take(MAX_WORD).take_while(|b| !b.is_ascii_whitespace() && **b != b'"').count();
    let word = &raw[at - word..at];
    memchr::memchr2(b'/', b':', word).is_some() && memchr::memmem::find(word, b"\\u").is_some()
}

/// Whether a line of passwords may stand around `at` of which some letters are escaped, or a colour in front of it.
fn hides_line(raw: &[u8], at: usize) -> bool {
    let goes_on = |b: &&u8| !b.is_ascii_whitespace() && **b != b'"';
    let line = raw[at..].iter().take(MAX_WORD).take_while(goes_on).count();
    let before = raw[..at].iter().rev().take(MAX_WORD).take_while(goes_on).count();
    memchr::memmem::find(&raw[at - before..at + line], b"\\u").is_some()
}

/// Whether a `//` stands in front of the `@`, in the same word.
fn is_in_url(raw: &[u8], at: usize) -> bool {
    let word =
        raw[..at].iter().rev().take(MAX_WORD).take_while(|b| !b.is_ascii_whitespace() && !b"\"<>".contains(b)).count();
    let word = &raw[at - word..at];
    memchr::memmem::find(word, b"//").is_some()
        || memchr::memmem::find(word, b"\\/").is_some()
        || memchr::memmem::find(word, b"\\u002").is_some()
}

/// Whether a word in another script stands in JSON around one of its letters, whose escape has its `u` at `at` and so many
/// bytes of the word before that. JSON within JSON has more backslashes.
fn is_escaped_word(raw: &[u8], at: usize, offset: usize, word: usize) -> bool {
    // Made once: texts in these scripts are full of windows of such words.
    static ESCAPED: LazyLock<Vec<String>> = LazyLock::new(|| FOREIGN.iter().map(|word| escaped(word)).collect());
    let stands = |start: usize, word: &[u8]| {
        raw.get(start..).and_then(|rest| rest.get(..word.len())).is_some_and(|part| part.eq_ignore_ascii_case(word))
    };
    let slashes = trailing_slashes(&raw[..at], MAX_SLASHES);
    let word = &ESCAPED[word];
    if slashes <= 1 {
        return stands(at.wrapping_sub(offset), word.as_bytes());
    }
    let more = |text: &str| text.replace('\\', &"\\".repeat(slashes));
    stands(at.wrapping_sub(slashes + more(&word[..offset - 1]).len()), more(word).as_bytes())
}

fn escaped(word: &str) -> String {
    word.chars().map(|c| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", c as u32) }).collect()
}
