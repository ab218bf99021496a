//! logfmt: `level=info msg="started up" took=5ms`, as Go and Heroku programs write it.

use std::sync::Arc;

use bytes::Bytes;

use super::make::{self, Object};
use super::{Decoded, Decoder, Frames, Limits, Ordinals};
use crate::event::Provenance;

/// Values become strings; a name without a value is `true`. Text in quotes may hold `\"`, `\\`, `\n`, `\r`, `\t`, `\xNN`
/// and `\uNNNN`, as Go writes what cannot be seen. The sign U+001D separates as a space does, as auditd writes it.
pub struct Logfmt;

/// What auditd puts between the fields of the kernel and its own.
const GROUP_SEPARATOR: char = '\u{1d}';

fn is_space(c: char) -> bool {
    c.is_whitespace() || c == GROUP_SEPARATOR
}

impl Decoder for Logfmt {
    fn decode(
        &self,
        chunk: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded {
        make::each_frame(&chunk, frames, ordinals, limits, read).finish(provenance, split)
    }
}

fn read(line: &[u8], event: &mut Object) -> Result<(), String> {
    let text = String::from_utf8_lossy(line);
    let has_broken = matches!(text, std::borrow::Cow::Owned(_));
    let line = &*text;
    let mut rest = line.trim_matches(is_space);
    if rest.is_empty() {
        return Err("expected `name=value`".to_owned());
    }
    while !rest.is_empty() {
        let name_len = rest.find(|c: char| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(name_len);
        if name.is_empty() || name.contains('"') {
            return Err(format!("expected a name at byte {}", line.len() - rest.len()));
        }
        rest = match behind.strip_prefix('=') {
            None => {
                event.boolean(name, true);
                behind
            }
            Some(value) if value.starts_with('"') => {
                let (text, behind) =
                    quoted(&value[1..]).ok_or_else(|| format!("unclosed quote in the value of `{name}`"))?;
                event.string(name, &text);
                behind
            }
            Some(value) => {
                let (text, behind) = value.split_at(value.find(is_space).unwrap_or(value.len()));
                event.string(name, text);
                behind
            }
        };
        if rest.starts_with(|c: char| !is_space(c)) {
            return Err(format!("expected a space after `{name}`"));
        }
        rest = rest.trim_start_matches(is_space);
    }
    if has_broken {
        event.boolean("encoding_error", true);
    }
    Ok(())
}

/// The text up to the closing quote, decoded, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out: Vec<u8> = Vec::new();
    let mut rest = text;
    loop {
        let at = rest.find(['"', '\\'])?;
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let is_end = rest.as_bytes()[at] == b'"';
        rest = &rest[at + 1..];
        if is_end {
            return Some((String::from_utf8_lossy(&out).into_owned(), rest));
        }
        let escaped = rest.chars().next()?;
        let digits = match escaped {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        rest = &rest[escaped.len_utf8()..];
        let hex = rest.get(..digits).filter(|hex| digits > 0 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match (escaped, hex.and_then(|hex| u32::from_str_radix(hex, 16).ok())) {
            ('n', _) => out.push(b'\n'),
            ('r', _) => out.push(b'\r'),
            ('t', _) => out.push(b'\t'),
            ('"' | '\\', _) => out.push(escaped as u8),
            // A byte, of which several may be one character.
            ('x', Some(byte)) => {
                out.push(byte as u8);
                rest = &rest[digits..];
            }
            ('u' | 'U', Some(code)) => {
                let decoded = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &rest[digits..];
            }
            (other, _) => {
                out.push(b'\\');
                out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::lines;
    use super::*;

    #[test]
    fn pairs_become_members_in_their_order() {
        let (events, refused) = lines(&Logfmt, br#"at=info msg="say \"hi\"\n\u" dry_run took=5ms empty= url=/a?b=c"#);
        let expected = r#"{"at":"info","msg":"say \"hi\"\n\\u","dry_run":true,"took":"5ms","empty":"","url":"/a?b=c"}"#;
        assert_eq!(events, [expected]);
        assert!(refused.is_empty());
    }

    #[test]
    fn auditd_and_go_write_what_cannot_be_seen_in_their_own_ways() {
        let (events, _) =
            lines(&Logfmt, b"type=LOGIN msg=\"\\xd8\\xb3\\u0644\\u200e\\x0a\\xzz\"\x1dUID=\"root\" AUID=\"ali\"");
        assert_eq!(events, ["{\"type\":\"LOGIN\",\"msg\":\"سل\u{200e}\\n\\\\xzz\",\"UID\":\"root\",\"AUID\":\"ali\"}"]);
    }

    #[test]
    fn broken_lines_are_refused_with_their_reason() {
        let (events, refused) = lines(&Logfmt, b"=x\na=\"open\nb=\"x\"y\n   \nok=1\na\xff=1");
        assert_eq!(events, [r#"{"ok":"1"}"#, "{\"a\u{fffd}\":\"1\",\"encoding_error\":true}"]);
        assert_eq!(
            refused,
            [
                (0, "expected a name at byte 0".to_owned()),
                (1, "unclosed quote in the value of `a`".to_owned()),
                (2, "expected a space after `b`".to_owned()),
                (3, "expected `name=value`".to_owned()),
            ]
        );
    }
}
