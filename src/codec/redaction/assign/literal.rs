//! String literals of programming languages: prefixes, escaped quotes, triple quotes.

use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::escapes::leading_slashes;
use crate::codec::redaction::marks;
use crate::codec::redaction::reader::Reader;

/// A string literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// The inside.
    pub start: usize,
    pub end: usize,
    /// Behind the closing quote.
    pub after: usize,
    pub quote: u8,
    /// Backslashes in front of the quotes.
    pub level: usize,
    /// The program fills in what stands in braces.
    pub formatted: bool,
}

/// The number of the first end that a reader remembers for quotes.
const QUOTE_ENDS: usize = 8;
/// The most backslashes in front of a quote.
const MAX_LEVEL: usize = 7;

/// How far a string is read for what is filled into it.
const MAX_FILLED: usize = 256;

/// The literal that begins at `at`.
pub fn literal(reader: &Reader<'_>, at: usize) -> Option<Literal> {
    let text = reader.text;
    let rest = text.get(at..)?;
    let first = *rest.first()?;
    // Most literals begin with a quote, and most of what is none with something else.
    let (mut level, mut prefix) = (0, 0);
    if first == b'\\' {
        level = leading_slashes(rest, MAX_LEVEL);
    } else if const { &ByteSet::of(b"fFrRbBuULN@$") }.has(&first) {
        prefix = 1 + rest.get(1).map_or(0, |b| usize::from(const { &ByteSet::of(b"fFrRbBuULN@$") }.has(b)));
    }
    let open = at + level + prefix;
    let quote = *text.get(open)?;
    if let Some(curly) = curly(text, open) {
        return Some(curly);
    }
    let number = b"\"'`".iter().position(|known| *known == quote)?;
    let triple = level == 0 && text[open..].starts_with(&[quote; 3]) && !text[open..].starts_with(b"''''");
    let start = open + if triple { 3 } else { 1 };
    if level == 0
        && !triple
        && text.get(start) == Some(&quote)
        && let Some(doubled) = doubled(text, open, quote)
    {
        return Some(doubled);
    }
    let kind = QUOTE_ENDS + 3 * if triple { MAX_LEVEL + 1 } else { level } + number;
    let end = if triple {
        reader.end(kind, start, || {
            memchr::memmem::find(&text[start..], &[quote; 3]).map_or(text.len(), |len| start + len)
        })
    } else {
        reader.end(kind, start, || closing(reader, start, quote, level))
    };
    // `x' of TeX and GNU: no backtick closes it.
    if quote == b'`' && !matches!(text.get(end), Some(b'`' | b'\\')) {
        return None;
    }
    let after = (end + if triple { 3 } else { level + 1 }).min(text.len());
    let inside = &text[start..end.max(start)];
    // Strings of Go have the same quotes, and nothing is filled into them.
    let filled = || memchr::memmem::find(&inside[..inside.len().min(MAX_FILLED)], b"${").is_some();
    let formatted = quote == b'`' && filled() || text[at..open].iter().any(|b| b"fF$".contains(b));
    let inner = inner_quotes(inside);
    let (start, end) = (start + inner, end - inner);
    Some(Literal { start, end, after, quote, level, formatted })
}

/// `''x''` within a string of SQL, `""x""` in a cell of CSV: quotes that are doubled once or twice.
fn doubled(text: &[u8], open: usize, quote: u8) -> Option<Literal> {
    let count = |at: usize| text[at..].iter().take(5).take_while(|b| **b == quote).count();
    let quotes = count(open);
    let start = open + quotes;
    let opens = |b: &u8| b.is_ascii_graphic() && !const { &ByteSet::of(b",;:)]}+.|&<>=") }.has(b);
    if !matches!(quotes, 2 | 4) || quote == b'`' || !text.get(start).is_some_and(opens) {
        return None;
    }
    let reach = &text[start..text.len().min(start + MAX_DOUBLED)];
    let len = memchr::memchr2(quote, b'\n', reach)?;
    // The quote around all of it may follow.
    let closed = reach[len] == quote && (quotes..=quotes + 1).contains(&count(start + len));
    closed.then_some(Literal {
        start,
        end: start + len,
        after: start + len + quotes,
        quote,
        level: 0,
        formatted: false,
    })
}

/// How long a value between doubled quotes is at most.
const MAX_DOUBLED: usize = 128;

/// How long the quotes are within a literal that belong to the text around the value: `"\"x\""`, `'"x"'`.
fn inner_quotes(inside: &[u8]) -> usize {
    if let [b'"', value @ .., b'"'] = inside {
        return usize::from(
            !value.is_empty() && value.len() <= MAX_DOUBLED && memchr::memchr2(b'"', b' ', value).is_none(),
        );
    }
    let len = leading_slashes(inside, MAX_LEVEL) + 1;
    let quoted = len > 1 && inside.len() > 2 * len && b"\"'".contains(&inside[len - 1]);
    if quoted && inside.ends_with(&inside[..len]) { len } else { 0 }
}

/// `“x”`, as word processors write it.
fn curly(text: &[u8], at: usize) -> Option<Literal> {
    let close: &[u8] = match text.get(at..at + 3)? {
        [0xE2, 0x80, 0x9C | 0x9E] => &[0xE2, 0x80],
        [0xC2, 0xAB, _] => &[0xC2, 0xBB],
        [0xE3, 0x80, 0x8C] => &[0xE3, 0x80, 0x8D],
        _ => return None,
    };
    let start = at + if text[at] == 0xC2 { 2 } else { 3 };
    let reach = &text[start..text.len().min(start + 128)];
    let len = memchr::memmem::find(reach, close)?;
    // French has blanks within its quotes, which may be of a kind that breaks no line.
    let blanks = [&b" "[..], b"\xC2\xA0", b"\xE2\x80\xAF"];
    let head = blanks.iter().find(|blank| reach[..len].starts_with(blank)).map_or(0, |blank| blank.len());
    let tail = blanks.iter().find(|blank| reach[..len].ends_with(blank)).map_or(0, |blank| blank.len());
    (!reach[..len].contains(&b'\n') && head + tail < len).then_some(Literal {
        start: start + head,
        end: start + len - tail,
        after: start + len + close.len(),
        quote: 0,
        level: 0,
        formatted: false,
    })
}

/// Where the inside of a string ends; one that is not closed ends with its line.
fn closing(reader: &Reader<'_>, start: usize, quote: u8, level: usize) -> usize {
    let (text, mut at, mut backslashes) = (reader.text, start, 0);
    loop {
        let next = reader.next(marks::QUOTE, at);
        if next > at {
            backslashes = 0;
        }
        match text.get(next) {
            None | Some(b'\n') => return next,
            Some(b'\\') => backslashes += 1,
            Some(byte) => {
                let closes = if level == 0 { backslashes % 2 == 0 } else { backslashes <= level };
                if *byte == quote && closes {
                    return next - backslashes.min(level);
                }
                backslashes = 0;
            }
        }
        at = next + 1;
    }
}
