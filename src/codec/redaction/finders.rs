//! Secrets that are more than a token: e-mail addresses, cards, IBANs, private keys, connection strings.

use std::ops::Range;

use super::reader::Reader;
use super::verify;

/// The longest part of an address before its `@` (RFC 5321).
const MAX_LOCAL: usize = 64;
/// How far before an `@` the scheme of a connection string may begin.
const MAX_CREDENTIALS: usize = 256;
/// The longest private key; what has no end within it is taken as far as it looks like a key.
const MAX_PEM: usize = 64 * 1024;
/// What looks like a domain but is a file (`logo@2x.png`).
const FILE_ENDINGS: &[&str] = &["png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "py", "ts", "json", "so"];

/// The address around the `@` at `at`.
pub fn email(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    let is_local = |b: &u8| b.is_ascii_alphanumeric() || b"._%+-".contains(b);
    let local = text[..at].iter().rev().take(MAX_LOCAL).take_while(|b| is_local(b)).count();
    let mut start = at - local;
    // The letter of an escape in a nested string is no part of the address.
    start += usize::from(is_after_escape(text, start + 1) && start + 1 < at);
    while start < at && b".-%+".contains(&text[start]) {
        start += 1;
    }
    if start == at || &text[start..at] == b"git" {
        return None;
    }
    let domain = &text[at + 1..];
    let len = domain.iter().take(255).take_while(|b| b.is_ascii_alphanumeric() || b".-".contains(b)).count();
    reader.charge(local + len);
    let labels: Vec<&[u8]> = domain[..len].split(|b| *b == b'.').collect();
    // A full stop or hyphen at the end belongs to the sentence.
    let whole = labels.iter().take_while(|label| is_label(label)).count();
    let (top, rest) = labels[..whole].split_last()?;
    if rest.is_empty() || top.len() < 2 || !top.iter().any(u8::is_ascii_alphabetic) {
        return None;
    }
    let top_text = std::str::from_utf8(top).unwrap_or("");
    if FILE_ENDINGS.iter().any(|ending| top_text.eq_ignore_ascii_case(ending)) {
        return None;
    }
    let end = at + 1 + rest.iter().map(|label| label.len() + 1).sum::<usize>() + top.len();
    Some(start..end)
}

fn is_label(label: &[u8]) -> bool {
    !label.is_empty() && label[0] != b'-' && label[label.len() - 1] != b'-'
}

/// The password in `scheme://user:password@host`, seen from any `@` of it.
pub fn connection(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    let scheme = reader.scheme_before(at).filter(|scheme| at - scheme <= MAX_CREDENTIALS)?;
    if scheme == 0 || !text[scheme - 1].is_ascii_alphanumeric() {
        return None;
    }
    let authority = scheme + 3;
    reader.charge(at.saturating_sub(authority));
    let colon = authority + memchr::memchr(b':', text.get(authority..at)?)?;
    if text[authority..colon].iter().any(|b| matches!(b, b'/' | b'?' | b'#')) {
        return None;
    }
    // A password may hold an `@` itself: the last one before the path ends it.
    let rest = &text[at..];
    let len =
        rest.iter().take(MAX_CREDENTIALS).position(|b| ends_word(*b) || matches!(b, b'/' | b'?' | b'#' | b',' | b')'));
    let len = len.unwrap_or(rest.len().min(MAX_CREDENTIALS));
    reader.charge(len);
    let end = at + memchr::memrchr(b'@', &rest[..len])?;
    let password = colon + 1..end;
    (!is_stand_in(&text[password.clone()])).then_some(password)
}

/// Whether no URL goes on behind this byte.
pub fn ends_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`')
}

/// Whether the byte before `at` ends a letter escape, as in `\nAKIA…` within nested JSON.
pub fn is_after_escape(text: &[u8], at: usize) -> bool {
    at >= 2 && text[at - 2] == b'\\' && b"nrtbf".contains(&text[at - 1])
}

/// Whether a value only stands where a secret will be put: `{password}`, `${PASSWORD}`, `%s`, `<secret>`, `***`.
pub fn is_stand_in(value: &[u8]) -> bool {
    let Some((first, last)) = value.first().zip(value.last()) else { return true };
    let inside = &value[1..value.len().max(2) - 1];
    match (first, last) {
        (b'{', b'}') | (b'<', b'>') => return inside.iter().all(|b| !b"\"'=".contains(b)),
        (b'$', b'}' | b')') if matches!(value.get(1), Some(b'{' | b'(')) => return true,
        (b'$', _) if value.len() > 1 && value[1..].iter().all(|b| b.is_ascii_uppercase() || *b == b'_') => return true,
        (b'%', b's' | b'd') if value.len() == 2 || value.get(1) == Some(&b'(') => return true,
        (b'%', b'%') if value.len() > 2 => return value.iter().all(|b| b.is_ascii_alphabetic() || b"_%".contains(b)),
        _ => {}
    }
    value.len() > 2 && b"*.x-_X".contains(first) && value.iter().all(|b| b == first)
}

/// The cards in the run of digits, single blanks and hyphens that begins at `at`.
pub fn cards(text: &[u8], at: usize, mut found: impl FnMut(Range<usize>)) {
    let (mut groups, mut from): (Vec<Range<usize>>, usize) = (Vec::new(), at);
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
    let mut nth = 0;
    while nth < groups.len() {
        match card_at(text, &groups[nth..]) {
            Some(used) => {
                found(groups[nth].start..groups[nth + used - 1].end);
                nth += used;
            }
            None => nth += 1,
        }
    }
}

/// How cards are written in groups.
const GROUPINGS: &[&[usize]] = &[&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4], &[4, 4, 4, 1]];

fn card_at(text: &[u8], groups: &[Range<usize>]) -> Option<usize> {
    if (13..=19).contains(&groups[0].len())
        && stands_alone(text, &groups[0])
        && verify::is_card(&text[groups[0].clone()])
    {
        return Some(1);
    }
    for grouping in GROUPINGS {
        if groups.len() < grouping.len() || groups.iter().zip(*grouping).any(|(group, len)| group.len() != *len) {
            continue;
        }
        let groups = &groups[..grouping.len()];
        let digits: Vec<u8> = groups.iter().flat_map(|group| &text[group.clone()]).copied().collect();
        if stands_alone(text, &(groups[0].start..groups[groups.len() - 1].end)) && verify::is_card(&digits) {
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
    let touches = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let escape = is_after_escape(text, range.start);
    let decimals = before == Some(b'.') && two_before.is_some_and(|b| b.is_ascii_digit());
    let has_decimals = after == Some(&b'.') && two_after.is_some_and(|b| (b'1'..=b'9').contains(b));
    (escape || !before.is_some_and(touches)) && !after.is_some_and(|b| touches(*b)) && !decimals && !has_decimals
}

/// The IBAN that begins at `at`, contiguous or in groups.
pub fn iban(text: &[u8], at: usize) -> Option<Range<usize>> {
    if at > 0 && text[at - 1].is_ascii_alphanumeric() && !is_after_escape(text, at) {
        return None;
    }
    let len = verify::iban_len(text.get(at..at + 2)?)?;
    let (mut letters, mut end) = (Vec::with_capacity(len), at);
    while letters.len() < len {
        match text.get(end)? {
            b if b.is_ascii_uppercase() || b.is_ascii_digit() => letters.push(*b),
            b' ' | b'-' if letters.len() % 4 == 0 && !matches!(text[end - 1], b' ' | b'-') => {}
            _ => return None,
        }
        end += 1;
    }
    let goes_on = text.get(end).is_some_and(u8::is_ascii_alphanumeric);
    (!goes_on && verify::iban(&letters)).then_some(at..end)
}

/// The private key whose first line has `BEGIN` at or shortly behind `at`.
pub fn private_key(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    reader.charge(80);
    let head = &text[at..text.len().min(at + 80)];
    let begin = memchr::memmem::find(head, b"-----BEGIN ")?;
    let label = &head[begin + 11..];
    let label = &label[..memchr::memmem::find(label, b"-----")?];
    memchr::memmem::find(label, b"PRIVATE KEY")?;
    let (start, body) = (at + begin, at + begin + 11 + label.len() + 5);
    let reach = &text[body..text.len().min(body + MAX_PEM)];
    let len = match memchr::memmem::find(reach, b"-----END ") {
        Some(end) => {
            let close = memchr::memmem::find(&reach[end + 9..], b"-----");
            close.map_or(reach.len(), |close| end + 9 + close + 5)
        }
        // Cut off: everything that can belong to a key.
        None => reach.iter().take_while(|b| b.is_ascii() && !b"<>{}()".contains(b)).count(),
    };
    Some(start..body + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> usize {
        text.find('@').expect("has an @")
    }

    #[test]
    fn addresses_are_told_from_decorators_images_and_remotes() {
        for (text, expected) in [
            ("mail alice.bob12@example.com now", "alice.bob12@example.com"),
            ("<a+b@mail.example.co.uk>", "a+b@mail.example.co.uk"),
            ("ask x_y@corp.example.org.", "x_y@corp.example.org"),
        ] {
            assert_eq!(&text[email(&Reader::new(text.as_bytes()), at(text)).expect(text)], expected);
        }
        for text in ["@app.route", "user@host", "logo@2x.png", "git@github.com:a/b", "a @ b.com", "x@1.2.3", "a@.com"] {
            assert_eq!(email(&Reader::new(text.as_bytes()), at(text)), None, "{text}");
        }
    }

    #[test]
    fn only_the_password_of_a_connection_string_is_taken() {
        for (text, expected) in [
            ("postgres://app:s3cret@db:5432/x", "s3cret"),
            ("redis://:hunter2@cache/0", "hunter2"),
            ("amqp://u:p@ss@host/v", "p@ss"),
            ("see https://bot:tok@example.com/x?y=a@b", "tok"),
        ] {
            assert_eq!(&text[connection(&Reader::new(text.as_bytes()), at(text)).expect(text)], expected);
        }
        for text in [
            "https://example.com/a:b@c",
            "postgres://app@db/x",
            "postgres://app:{password}@db",
            "x://a:$PASSWORD@b",
            "https://example.com a:b@c",
            "mailto:a@b.com",
        ] {
            assert_eq!(connection(&Reader::new(text.as_bytes()), at(text)), None, "{text}");
        }
    }

    #[test]
    fn cards_are_found_in_the_groups_they_are_written_in() {
        for text in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "3782 822463 10005",
            "12 4111 1111 1111 1111",
        ] {
            let mut count = 0;
            cards(text.as_bytes(), 0, |_| count += 1);
            assert_eq!(count, 1, "{text}");
        }
        for (text, start) in [
            ("0.4111111111111111", 2),
            ("x4111111111111111", 1),
            ("4111111111111112", 0),
            ("1735689600000000", 0),
            ("4111111111111111a", 0),
            ("4111 1111 1111 111", 0),
        ] {
            cards(text.as_bytes(), start, |found| panic!("{text}: {found:?}"));
        }
    }

    #[test]
    fn an_iban_ends_where_its_country_says() {
        for text in ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00, please", "NL91ABNA0417164300"] {
            assert!(iban(text.as_bytes(), 0).is_some(), "{text}");
        }
        for text in ["DE89370400440532013001", "DE8937040044053201300", "DE89370400440532013000X", "ZZ12 3456"] {
            assert_eq!(iban(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn a_private_key_is_taken_to_its_end_or_as_far_as_it_goes() {
        let text = "x -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- y";
        assert_eq!(private_key(&Reader::new(text.as_bytes()), 2), Some(2..text.len() - 2));
        let cut = "-----BEGIN PRIVATE KEY-----\nMIIEabc";
        assert_eq!(private_key(&Reader::new(cut.as_bytes()), 0), Some(0..cut.len()));
        assert_eq!(private_key(&Reader::new(b"-----BEGIN CERTIFICATE-----\nMIIE"), 0), None);
        assert_eq!(private_key(&Reader::new(b"-----BEGIN PUBLIC KEY-----\nMIIE"), 0), None);
    }
}
