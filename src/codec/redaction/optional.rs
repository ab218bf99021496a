//! The optional groups: phone numbers, national ids with check digits, IP addresses.

use crate::codec::redaction::literals::Literals as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::Group;
use super::reader::{Reader, Unfinished, Work};
use super::rules::{IP_ADDRESS, NATIONAL_ID, PHONE};
use super::search::Span;

/// A rule that searches every text, because nothing in it can be looked for.
pub struct Optional {
    rule: u16,
    regex: &'static LazyLock<Regex>,
    /// What has the last word on a text that has the form, given what precedes it.
    check: fn(&[u8], &Range<usize>) -> bool,
    why: &'static str,
}

static PHONES: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"(?:\+|\b00)[1-9](?:[ ./()-]{0,2}[0-9]){7,14}",
        r"|\b0[1-9][0-9]{1,3}[ -]?[0-9]{3}[ -]?[0-9]{4}\b",
        r"|\(?\b[2-9][0-9]{2}\)?[ .-]{1,2}[2-9][0-9]{2}[ .-][0-9]{4}\b",
    ))
});
static NATIONAL_IDS: LazyLock<Regex> = LazyLock::new(|| {
    regex(concat!(
        r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
        r"|\b[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}\b",
        r"|\b[0-9]{3}-[0-9]{6}-[0-9]\b",
        r"|\b[0-9]{17}[0-9Xx]\b|\b[0-9]{10,11}\b|\b[0-9]{8}-?[A-HJ-NP-TV-Z]\b",
    ))
});
static ADDRESSES: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b|(?:[0-9A-Fa-f]{1,4})?(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}\b")
});

fn regex(pattern: &str) -> Regex {
    regex::bytes::RegexBuilder::new(pattern).unicode(false).build().expect("the pattern is a constant")
}

/// The rules of the optional groups among these.
pub fn rules(groups: &[Group]) -> Vec<Optional> {
    let all = [
        (Group::Phone, Optional { rule: PHONE, regex: &PHONES, check: is_phone, why: "the form of a phone number" }),
        (
            Group::NationalId,
            Optional {
                rule: NATIONAL_ID,
                regex: &NATIONAL_IDS,
                check: is_national_id,
                why: "a form and its check digit",
            },
        ),
        (
            Group::IpAddress,
            Optional { rule: IP_ADDRESS, regex: &ADDRESSES, check: is_address, why: "the form of an address" },
        ),
    ];
    all.into_iter().filter(|(group, _)| groups.contains(group)).map(|(_, rule)| rule).collect()
}

impl Optional {
    pub fn find(&self, reader: &Reader<'_>, work: &mut Work, spans: &mut Vec<Span>) -> Result<(), Unfinished> {
        work.spend(reader.text.len())?;
        for hit in self.regex.find_iter(reader.text) {
            work.spend(BEFORE)?;
            let range = hit.range();
            if stands_alone(reader.text, &range) && (self.check)(reader.text, &range) {
                spans.push(Span { start: range.start, end: range.end, rule: self.rule, why: self.why });
            }
        }
        Ok(())
    }
}

/// How far before a number the words are read that say what it is.
const BEFORE: usize = 32;

/// Whether nothing goes on before or behind: no longer number, version, path or word.
fn stands_alone(text: &[u8], range: &Range<usize>) -> bool {
    let joins = |b: u8| b.is_ascii_alphanumeric() || b"_.-/+:".contains(&b);
    let before = range.start.checked_sub(1).map(|at| text[at]);
    let behind = &text[range.end..];
    let goes_on = match behind {
        [b'.' | b'-' | b'/' | b':', next, ..] => next.is_ascii_digit(),
        [next, ..] => next.is_ascii_alphanumeric() || *next == b'_',
        [] => false,
    };
    let named = before == Some(b':') || before == Some(b'/') && text[..range.start].closes_with(b"//");
    (named || before.is_none_or(|b| !joins(b))) && !goes_on
}

fn digits(text: &[u8]) -> Vec<u8> {
    text.iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect()
}

/// Whether words shortly before a place hold one of these.
fn is_announced(text: &[u8], at: usize, words: &[&str]) -> bool {
    let before = String::from_utf8_lossy(&text[at.saturating_sub(BEFORE)..at]).to_lowercase();
    words.iter().any(|word| before.contains(word))
}

fn is_phone(text: &[u8], range: &Range<usize>) -> bool {
    let number = &text[range.clone()];
    let count = number.iter().filter(|b| b.is_ascii_digit()).count();
    let grouped = number.iter().any(|b| !b.is_ascii_digit());
    let words =
        ["tel", "phone", "mobile", "call", "fax", "whatsapp", "sms", "تلفن", "موبایل", "همراه", "تماس", "handy"];
    // Unspaced, only what begins like a mobile number, or is named as one.
    let mobile = number.begins_with(b"09") && count == 11 || number.begins_with(b"+");
    (8..=15).contains(&count) && (grouped || mobile || is_announced(text, range.start, &words))
}

fn is_national_id(text: &[u8], range: &Range<usize>) -> bool {
    let id = &text[range.clone()];
    let digits = digits(id);
    let same = digits.iter().all(|digit| *digit == digits[0]);
    if same {
        return false;
    }
    match (id.len(), digits.len()) {
        (11, 9) if id[3] == b'-' && id[6] == b'-' => is_social_security(&digits),
        (14, 11) => is_cpf(&digits),
        (12, 10) if id[3] == b'-' => is_iranian(&digits),
        // A number of seconds since 1970 has ten digits too.
        (10, 10) => {
            let words = ["national", "melli", "id", "ssn", "کد ملی", "کدملی", "ملی", "شناسه"];
            is_iranian(&digits) && (id[0] != b'1' || is_announced(text, range.start, &words))
        }
        (11, 11) => is_turkish(&digits) && is_announced(text, range.start, &["kimlik", "tckn", "tc", "national", "id"]),
        (18, 17 | 18) => is_chinese(id),
        (9 | 10, 8) => is_spanish(&digits, id[id.len() - 1]),
        _ => false,
    }
}

/// Iran: the tenth digit is the remainder of a weighted sum by eleven, or eleven less it.
fn is_iranian(digits: &[u8]) -> bool {
    let sum: u32 = digits[..9].iter().zip((2..=10).rev()).map(|(digit, weight)| u32::from(*digit) * weight).sum();
    let (rest, check) = (sum % 11, u32::from(digits[9]));
    if rest < 2 { check == rest } else { check == 11 - rest }
}

/// The United States: areas, groups and serials that are given out.
fn is_social_security(digits: &[u8]) -> bool {
    let area = digits[..3].iter().fold(0, |number, digit| number * 10 + u32::from(*digit));
    area != 0 && area != 666 && area < 900 && digits[3..5] != [0, 0] && digits[5..] != [0, 0, 0, 0]
}

/// Brazil: two check digits.
fn is_cpf(digits: &[u8]) -> bool {
    let check = |count: usize| {
        let weights = (2..=count as u32 + 1).rev();
        let sum: u32 = digits[..count].iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum();
        sum * 10 % 11 % 10
    };
    check(9) == u32::from(digits[9]) && check(10) == u32::from(digits[10])
}

fn is_turkish(digits: &[u8]) -> bool {
    let sum = |places: [usize; 5]| places.iter().map(|place| u32::from(digits[*place])).sum::<u32>();
    let (odd, even) = (sum([0, 2, 4, 6, 8]), sum([1, 3, 5, 7, 7]) - u32::from(digits[7]));
    let all: u32 = digits[..10].iter().map(|digit| u32::from(*digit)).sum();
    digits[0] != 0 && (odd * 7 + 10 - even % 10) % 10 == u32::from(digits[9]) && all % 10 == u32::from(digits[10])
}

/// China: a date of birth in the middle and a check character by eleven.
fn is_chinese(id: &[u8]) -> bool {
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let sum: u32 = id[..17].iter().zip(WEIGHTS).map(|(digit, weight)| u32::from(digit - b'0') * weight).sum();
    let born = matches!(&id[6..8], b"19" | b"20") && matches!(&id[10..12], [b'0', _] | [b'1', b'0'..=b'2']);
    born && b"10X98765432"[(sum % 11) as usize] == id[17].to_ascii_uppercase()
}

fn is_spanish(digits: &[u8], letter: u8) -> bool {
    let number = digits.iter().fold(0usize, |number, digit| number * 10 + usize::from(*digit));
    b"TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == letter
}

fn is_address(text: &[u8], range: &Range<usize>) -> bool {
    let Ok(address) = std::str::from_utf8(&text[range.clone()]) else { return false };
    if let Ok(address) = address.parse::<Ipv4Addr>() {
        // `==1.2.3.4` and `v1.2.3.4` are versions; loopback and masks belong to nobody.
        let version = is_announced(text, range.start, &["version", "==", ">=", "~="]);
        return !version && !address.is_loopback() && !address.is_unspecified() && !address.is_broadcast();
    }
    let letters = address.bytes().any(|b| b.is_ascii_digit());
    letters && address.parse::<Ipv6Addr>().is_ok_and(|address| !address.is_loopback() && !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(group: Group, text: &str) -> Vec<String> {
        let mut spans = Vec::new();
        let reader = Reader::new(text.as_bytes());
        for rule in rules(&[group]) {
            assert!(rule.find(&reader, &mut Work::on(text.len()), &mut spans).is_ok(), "{text}");
        }
        spans.into_iter().map(|span| text[span.start..span.end].to_owned()).collect()
    }

    #[test]
    fn phone_numbers_are_told_from_other_numbers() {
        for text in [
            "+98 912 345 6789",
            "+1 (415) 555-2671",
            "09123456789",
            "(415) 555-2671",
            "0049 30 1234567",
            "+442071838750",
        ] {
            assert_eq!(found(Group::Phone, &format!("see {text}, x")), [text], "{text}");
        }
        for text in [
            "1735689600",
            "2024-01-01 00:00:00",
            "3.14159265358979",
            "x = 4155552671",
            "10.0.0.1",
            "v1.2.3",
            "12345-678-9012-345",
        ] {
            assert_eq!(found(Group::Phone, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn national_ids_pass_their_check() {
        for text in ["0084575948", "219-09-9999", "529.982.247-25", "11010519491231002X", "12345678Z"] {
            assert_eq!(found(Group::NationalId, &format!("see {text}, x")), [text], "{text}");
        }
        assert_eq!(found(Group::NationalId, "کد ملی: 1234567891").len(), 1);
        assert_eq!(found(Group::NationalId, "kimlik 10000000146").len(), 1);
        for text in [
            "0084575949",
            "1111111111",
            "000-12-3456",
            "529.982.247-26",
            "110105194912310021",
            "12345678A",
            "1735689600",
        ] {
            assert_eq!(found(Group::NationalId, text), [""; 0], "{text}");
        }
    }

    #[test]
    fn addresses_are_told_from_versions_times_and_paths() {
        for text in ["10.1.2.3", "203.0.113.7", "2001:db8::1", "fe80::1ff:fe23:4567:890a"] {
            assert_eq!(found(Group::IpAddress, &format!("from {text} port 1")), [text], "{text}");
        }
        assert_eq!(found(Group::IpAddress, "http://192.0.2.1/x"), ["192.0.2.1"]);
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "1.2.3",
            "1.2.3.4.5",
            "x==1.2.3.4",
            "12:34:56",
            "a::b",
            "std::fmt",
            "999.1.1.1",
            "::1",
        ] {
            assert_eq!(found(Group::IpAddress, text), [""; 0], "{text}");
        }
    }
}
