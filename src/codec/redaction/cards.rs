//! Payment card numbers, distinguished from ids, timestamps, arrays and numeric tables.

use super::byte_set::ByteSet;
use std::ops::Range;

use super::escapes::{is_after_escape, past_escape};
use super::reader::Reader;
use super::verify;

/// How cards are written in groups.
const GROUPINGS: &[&[usize]] = &[&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 1], &[6, 13]];
/// How far before a number the words are read that say what it is.
const BEFORE: usize = 64;

/// Numbers that issuers publish for tests: whoever tries redaction takes one of these.
#[rustfmt::skip]
const PUBLISHED: &[&str] = &[
    "4111111111111111", "4242424242424242", "4012888888881881", "4222222222222", "4000056655665556",
    "5555555555554444", "5105105105105100", "5200828282828210", "2223003122003222", "378282246310005",
    "371449635398431", "6011111111111117", "6011000990139424", "30569309025904", "38520000023237",
    "3530111333300000", "3566002020360505", "6200000000000005", "5454545454545454", "4444333322221111",
    "6037991111111117",
];

/// Words that announce a card.
#[rustfmt::skip]
const CARD_WORDS: &[&str] = &[
    "card", "visa", "master", "amex", "american express", "maestro", "discover", "diners", "jcb", "unionpay",
    "credit", "debit", "ccn", "cc_num", "ccnum", "cc:", "cc=", "pan:", "pan=", "pan\"", "pan'", "pan ", "payment",
    "kart", "carte", "tarjeta", "cartao", "карт", "کارت", "شماره", "بطاقة", "卡", "カード", "카드", "pay with",
    "paid with", "charge",
];
/// Words that announce any other number.
#[rustfmt::skip]
const OTHER_WORDS: &[&str] = &[
    "id", "ids", "no", "num", "nr", "ts", "time", "timestamp", "epoch", "seq", "offset", "order", "request", "req",
    "trace", "span", "txn", "tx", "transaction", "invoice", "ref", "reference", "session", "user", "account",
    "uid", "gid", "pid", "hash", "size", "bytes", "count", "total", "sum", "index", "key", "col", "row", "seed",
    "version", "v", "build", "isbn", "ean", "upc", "gtin", "imei", "serial", "ns", "us", "ms", "at", "start",
    "end", "begin", "created", "updated", "since", "until", "snowflake", "message", "msg", "channel", "guild",
    "tweet", "status", "video", "post", "object", "address", "ptr", "pointer", "0x", "tracking", "shipment",
    "package", "batch", "job", "task", "event", "record", "item", "sku", "line", "lsn", "xid", "oid", "block",
    "height", "nonce", "amount", "value", "val", "balance", "price", "mean", "std", "max", "min", "loss", "step",
    "n", "x", "y", "i", "len", "length", "range", "np", "array", "tensor", "int", "long", "float", "double",
    "bigint", "generation", "rv", "resourceversion", "uuid", "code", "number", "data", "result", "out", "shape",
];

/// The fewest digits of a card.
const SHORTEST: usize = 13;

/// Whether the run of digits, blanks and hyphens at `at` has too few digits for a card: times and dates have.
pub fn is_short(text: &[u8], at: usize) -> bool {
    let run = text[at..].iter().take(3 * SHORTEST).take_while(|b| b.is_ascii_digit() || b" -".contains(b));
    run.filter(|b| b.is_ascii_digit()).take(SHORTEST).count() < SHORTEST
}

/// Tells where raw JSON may hold cards: any that pass their check, whatever stands around them.
pub fn plausible(raw: &[u8], at: usize, mut found: impl FnMut(usize)) {
    let mut digits: Vec<u8> = Vec::new();
    for byte in raw[at..].iter().take_while(|b| b.is_ascii_digit() || b" -".contains(b)) {
        if byte.is_ascii_digit() {
            digits.push(*byte);
        }
    }
    for start in 0..digits.len() {
        if (13..=19).any(|len| digits.get(start..start + len).is_some_and(verify::is_card)) {
            found(at + start);
            return;
        }
    }
}

/// The cards in the run of digits, single blanks and hyphens that begins at `at`.
pub fn cards(reader: &Reader<'_>, at: usize, mut found: impl FnMut(Range<usize>)) {
    let text = reader.text;
    let (mut groups, mut from): (Vec<Range<usize>>, usize) = (Vec::new(), past_escape(text, at));
    loop {
        let len = text[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        groups.push(from..from + len);
        let end = from + len;
        let goes_on = matches!(text.get(end), Some(b' ' | b'-')) && text.get(end + 1).is_some_and(u8::is_ascii_digit);
        if len == 0 || !goes_on {
            break;
        }
        from = end + 1;
    }
    reader.charge(from - at + 1);
    // An unspaced number among others belongs to a table.
    let crowd = groups.len() > 7;
    let mut nth = 0;
    while nth < groups.len() {
        let used = card_at(reader, &groups, nth, crowd);
        if let Some(used) = used {
            found(groups[nth].start..groups[nth + used - 1].end);
        }
        nth += used.unwrap_or(1);
    }
}

fn card_at(reader: &Reader<'_>, groups: &[Range<usize>], nth: usize, crowd: bool) -> Option<usize> {
    let text = reader.text;
    let rest = &groups[nth..];
    let whole = &rest[0];
    if (13..=19).contains(&whole.len()) && !crowd && stands_alone(text, whole) && verify::is_card(&text[whole.clone()])
    {
        return is_announced(reader, whole, true).then_some(1);
    }
    for grouping in GROUPINGS {
        if rest.len() < grouping.len() || rest.iter().zip(*grouping).any(|(group, len)| group.len() != *len) {
            continue;
        }
        let card = &rest[..grouping.len()];
        let range = card[0].start..card[card.len() - 1].end;
        let sign = text[card[0].end];
        let consistent = card[1..].iter().all(|group| text[group.start - 1] == sign);
        let joined =
            |at: usize| text.get(at).is_some_and(|b| *b == sign) && text.get(at + 1).is_some_and(u8::is_ascii_digit);
        let joined_before = range.start >= 2 && text[range.start - 1] == sign && text[range.start - 2].is_ascii_digit();
        let alone = sign == b'-' && !joined(range.end) && !joined_before
            || sign == b' ' && (!is_among_numbers(reader, &range) || is_called_card(text, range.start));
        let digits: Vec<u8> = card.iter().flat_map(|group| &text[group.clone()]).copied().collect();
        if consistent && alone && stands_alone(text, &range) && verify::is_card(&digits) {
            return Some(grouping.len());
        }
    }
    None
}

/// Whether no letter touches the digits and they are no decimals.
fn stands_alone(text: &[u8], range: &Range<usize>) -> bool {
    let before = range.start.checked_sub(1).map(|at| text[at]);
    let two_before = range.start.checked_sub(2).map(|at| text[at]);
    let (after, two_after) = (text.get(range.end), text.get(range.end + 1));
    let touches = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$';
    let decimals = matches!(before, Some(b'.' | b',')) && two_before.is_some_and(|b| b.is_ascii_digit());
    let has_decimals = matches!(after, Some(b'.' | b',')) && two_after.is_some_and(u8::is_ascii_digit);
    let negative = before == Some(b'-') && !two_before.is_some_and(|b| b.is_ascii_alphanumeric());
    (is_after_escape(text, range.start) || !before.is_some_and(touches))
        && !after.is_some_and(|b| touches(*b))
        && !decimals
        && !has_decimals
        && !negative
}

/// Whether groups of digits are elements of an array or columns of a table: in brackets, beside other numbers, or
/// with lines of numbers above or below.
fn is_among_numbers(reader: &Reader<'_>, range: &Range<usize>) -> bool {
    let text = reader.text;
    reader.charge(2 * BEFORE);
    let near_digit = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_digit());
    let before = text[..range.start].iter().rev().take(8).find(|b| !const { &ByteSet::of(b" \t,;|[({") }.has(b));
    let after = text[range.end..].iter().take(8).find(|b| !const { &ByteSet::of(b" \t,;|])}") }.has(b));
    let bracket = text[..range.start].iter().rev().take(4).find(|b| !b.is_ascii_whitespace());
    if near_digit(before) || near_digit(after) || matches!(bracket, Some(b'[' | b'{')) {
        return true;
    }
    let numbers = |line: &[u8]| {
        let line = line.trim_ascii();
        let digits = line.iter().filter(|b| b.is_ascii_digit()).count();
        digits > 3 && digits * 2 > line.len()
    };
    let above = &text[range.start.saturating_sub(2 * BEFORE)..range.start];
    let below = &text[range.end..text.len().min(range.end + 2 * BEFORE)];
    let mut above = above.rsplit(|b| *b == b'\n').skip(1);
    let mut below = below.split(|b| *b == b'\n').skip(1);
    above.next().is_some_and(numbers) || below.next().is_some_and(numbers)
}

/// Whether the word right before a number is `card` or the like.
fn is_called_card(text: &[u8], at: usize) -> bool {
    let before = &text[at.saturating_sub(24)..at];
    let end = before.iter().rposition(|b| !const { &ByteSet::of(b" :=#\"'") }.has(b)).map_or(0, |at| at + 1);
    let word = before[..end].to_ascii_lowercase();
    ["card", "visa", "amex", "maestro", "کارت", "karte", "carte", "tarjeta"]
        .iter()
        .any(|known| word.ends_with(known.as_bytes()))
}

/// Whether the words before an unspaced number allow it to be a card's.
fn is_announced(reader: &Reader<'_>, range: &Range<usize>, in_text: bool) -> bool {
    let text = reader.text;
    reader.charge(BEFORE);
    let number = &text[range.clone()];
    let published = PUBLISHED.iter().any(|published| published.as_bytes() == number);
    if published && !is_among_numbers(reader, range) || is_called_card(text, range.start) {
        return true;
    }
    let before = text[range.start.saturating_sub(BEFORE)..range.start].to_ascii_lowercase();
    let line = &before[memchr::memrchr(b'\n', &before).map_or(0, |at| at + 1)..];
    // A searcher made for each word would cost more than the line.
    let holds = |word: &&str| {
        let word = word.as_bytes();
        memchr::memchr_iter(word[0], line).any(|at| line[at..].starts_with(word))
    };
    let has = |words: &[&str]| words.iter().any(holds);
    let other_number = is_among_numbers(reader, range);
    if has(CARD_WORDS) {
        return !other_number;
    }
    if !in_text || other_number {
        return false;
    }
    // The nearest word: `order 4111…`, `"user_id": 4111…`; in a sentence it may be any.
    let near = line.trim_ascii_end();
    let sign = near.last().copied();
    if matches!(
        sign,
        Some(
            b':' | b'='
                | b'"'
                | b'\''
                | b'('
                | b'['
                | b','
                | b'{'
                | b'#'
                | b'/'
                | b'>'
                | b'|'
                | b';'
                | b'+'
                | b'*'
                | b'<'
        ) | None
    ) {
        return false;
    }
    let word = near.rsplit(|b| !(b.is_ascii_alphanumeric() || *b >= 0x80)).next().unwrap_or(b"");
    let word = String::from_utf8_lossy(word).into_owned();
    !word.is_empty()
        && !word.bytes().any(|b| b.is_ascii_digit())
        && !OTHER_WORDS.contains(&word.as_str())
        && word.len() > 1
        && near.len() > word.len()
}

/// Whether the digits of a number of JSON are a card's, by the name of its member.
pub fn is_card_member(name: &str, digits: &[u8]) -> bool {
    let name = name.to_lowercase();
    let published = PUBLISHED.iter().any(|published| published.as_bytes() == digits);
    let named = CARD_WORDS.iter().any(|word| word.len() > 3 && name.contains(word))
        || matches!(name.as_str(), "pan" | "cc" | "ccn");
    verify::is_card(digits) && (published || named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> usize {
        let at = text.find(|c: char| c.is_ascii_digit()).expect("has a digit");
        let mut count = 0;
        cards(&Reader::new(text.as_bytes()), at, |_| count += 1);
        count
    }

    #[test]
    fn cards_are_found_as_people_write_them() {
        for text in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "3782 822463 10005",
            "card 6037991234567893",
            "paid with 4539578763621486 yesterday",
            "my visa: 4539578763621486",
            "کارت ۱: 6037991234567893",
            "see 4539-5787-6362-1486",
        ] {
            assert_eq!(count(text), 1, "{text}");
        }
    }

    #[test]
    fn other_numbers_stay() {
        for text in [
            "4111111111111112",
            "1735689600000000",
            "4111111111111111a",
            "4111 1111 1111 111",
            "[4539 5787 6362 1486]",
            "4539 5787 6362 1486 4539 5787 6362 1486",
            "0 4539 5787 6362 1486",
            "1234 4539 5787 6362 1486",
            "x = 4539578763621486",
            "4539578763621486, 4539578763621486",
            "order 4539578763621486 shipped",
            "4539 5787 6362 1486\n1234 2345 3456 4567",
            "4539-5787-6362-1486-1234",
            "4539 5787-6362 1486",
        ] {
            assert_eq!(count(text), 0, "{text}");
        }
    }
}
