//! Private keys: PEM with a plausible body, PGP, and PuTTY files.

use super::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use super::random::randomness;
use super::reader::Reader;

/// The longest private key.
const MAX_KEY: usize = 64 * 1024;
/// The longest line of a body: some tools write it in one.
const MAX_LINE: usize = 16 * 1024;

/// The private key whose first line has `BEGIN` at or shortly behind `at`.
pub fn private_key(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    reader.charge(80);
    let head = &text[at..text.len().min(at + 80)];
    let begin = memchr::memmem::find(head, b"BEGIN ")?;
    let space = usize::from(text[..at + begin].closes_with(b"- "));
    let dashes = space + text[..at + begin - space].iter().rev().take(5).take_while(|b| **b == b'-').count();
    let label = &head[begin + 6..];
    let label_len = memchr::memmem::find(label, b"---")?;
    let label = &label[..label_len];
    memchr::memmem::find(label, b"PRIVATE KEY")?;
    let start = at + begin - dashes;
    let body = at + begin + 6 + label_len;
    let body = body + text[body..].iter().take(6).take_while(|b| **b == b'-').count();
    let end = body_end(text, body)?;
    reader.charge(end - body);
    let close = &text[end..text.len().min(end + 100)];
    // The last line, if it is this key's.
    let after = memchr::memmem::find(close, b"END ")
        .filter(|place| close[..*place].iter().all(|b| !b.is_ascii_alphanumeric() || b"nrt".contains(b)));
    let len = after.and_then(|place| {
        let line = &close[place..];
        let label = memchr::memmem::find(line, b"PRIVATE KEY")?;
        let dashes = label + memchr::memmem::find(&line[label..], b"--")?;
        Some(place + dashes + line[dashes..].iter().take(6).take_while(|b| **b == b'-').count())
    });
    Some(start..end + len.unwrap_or(0))
}

/// Where the lines of base64 end that begin at `at`; nothing if they are no key.
fn body_end(text: &[u8], at: usize) -> Option<usize> {
    let reach = text.len().min(at + MAX_KEY);
    let (mut here, mut end, mut body, mut odd) = (at, at, Vec::new(), 0);
    while here < reach {
        here += decoration(&text[here..reach]);
        let line = text[here..reach]
            .iter()
            .take(MAX_LINE)
            .take_while(|b| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"+/=_") }.has(b))
            .count();
        let word = &text[here..here + line];
        if line == 0 {
            break;
        }
        let rest = &text[here + line..reach];
        if rest.first() == Some(&b':') || rest.first() == Some(&b'-') {
            // `Proc-Type: 4,ENCRYPTED` and other lines in front of the body.
            let header = &text[here..reach];
            let known = [
                &b"Proc-Type"[..],
                b"DEK-Info",
                b"Version:",
                b"Comment:",
                b"Hash:",
                b"Charset:",
                b"Subject:",
                b"Encryption:",
            ]
            .iter()
            .any(|name| header.starts_with(name));
            if !known || !body.is_empty() {
                break;
            }
            here += header.iter().take(200).position(|b| matches!(b, b'\n' | b'\\')).unwrap_or(header.len().min(200));
            continue;
        }
        // Padding ends a body; elsewhere it is an assignment.
        let digits = word.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
        if word[..digits].contains(&b'=') || line - digits > 2 {
            break;
        }
        // A line of base64 is followed by a line break, a quote or the end, not by another word.
        let ends = rest.first().is_none_or(|b| const { &ByteSet::of(b"\r\n\\\"'`,;)]}<&% \t") }.has(b));
        let spaced = rest.first() == Some(&b' ') && line < 16 && !rest.trim_ascii_start().begins_with(b"-");
        if !ends || spaced {
            break;
        }
        odd += usize::from(line < 40);
        body.extend_from_slice(&word[..word.len().min(256)]);
        here += line;
        end = here;
    }
    is_key(&body, odd).then_some(end)
}

/// What stands between the lines of a key: line breaks, also written out, quotes, comments, operators.
fn decoration(text: &[u8]) -> usize {
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'\\' if text.get(at + 1).is_some_and(|b| b"nrt".contains(b)) => at += 2,
            b if b.is_ascii_whitespace() || const { &ByteSet::of(b"\\\"'`#>*|,;.()") }.has(&b) => at += 1,
            b'/' if text.get(at + 1) == Some(&b'/') => at += 2,
            b'+' if text.get(at + 1).is_some_and(u8::is_ascii_whitespace) => at += 1,
            b'%' if text[at..].begins_with(b"%0A") || text[at..].begins_with(b"%0D") => at += 3,
            b'&' if text[at..].begins_with(b"&#10;") || text[at..].begins_with(b"&#xA;") => at += 5,
            _ => break,
        }
    }
    at
}

/// Whether the lines together are a key: the beginnings that keys have, or random text in lines of a length.
fn is_key(body: &[u8], short_lines: usize) -> bool {
    let der = [&b"MI"[..], b"MC", b"MF", b"MG", b"MH", b"b3Bl", b"lQ", b"xc", b"lI", b"lF", b"lN"]
        .iter()
        .any(|head| body.starts_with(head));
    let sample = &body[..body.len().min(200)];
    der && short_lines < 3 || body.len() >= 40 && randomness(sample) >= 20 && short_lines < 4
}

/// Whether raw JSON may hold the first line of a private key whose `BEGIN` stands at `at`.
pub fn is_plausible(raw: &[u8], at: usize) -> bool {
    memchr::memmem::find(&raw[at..raw.len().min(at + 80)], b"PRIVATE").is_some()
}

/// How far behind the beginning of `Private-Lines` the filter sees it.
pub const PUTTY_WINDOW: usize = 5;

/// The private lines of a key of PuTTY, seen from `Private-Lines`.
pub fn putty(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    reader.charge(32);
    let rest = text.get(at..)?;
    if !rest.begins_with(b"Private-Lines: ") {
        return None;
    }
    let digits = rest[15..].iter().take(4).take_while(|b| b.is_ascii_digit()).count();
    let body = at + 15 + digits;
    let end = body_end(text, body)?;
    reader.charge(end - body);
    let start = body + decoration(&text[body..end]);
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<&str> {
        let at = text.find("-----BEGIN").expect("begins");
        private_key(&Reader::new(text.as_bytes()), at).map(|range| &text[range])
    }

    #[test]
    fn a_private_key_is_taken_to_its_end_or_as_far_as_it_goes() {
        let text = "x -----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- y";
        assert_eq!(key(text), Some(&text[2..text.len() - 2]));
        for cut in ["-----BEGIN PRIVATE KEY-----\nMIIEabc", "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBg\\n"] {
            assert_eq!(key(cut), Some(cut.strip_suffix("\\n").unwrap_or(cut)));
        }
        let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB12\n\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n-----END RSA PRIVATE KEY-----";
        assert_eq!(key(legacy), Some(legacy));
    }

    #[test]
    fn code_between_the_lines_of_a_key_stays() {
        for text in [
            "# -----BEGIN PRIVATE KEY-----\nimport os\nos.system('x')\n# -----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nbreak\npass\nreturn\n-----END PRIVATE KEY-----",
            "-----BEGIN CERTIFICATE-----\nMIIE",
            "-----BEGIN PUBLIC KEY-----\nMIIE",
            "if line == '-----BEGIN PRIVATE KEY-----':\n    go()",
            "-----BEGIN PRIVATE KEY----------END PRIVATE KEY-----",
        ] {
            assert_eq!(key(text), None, "{text}");
        }
        let partly = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nx = f(1)\n-----END PRIVATE KEY-----";
        assert!(!key(partly).expect("a key").contains("f(1)"));
    }
}
