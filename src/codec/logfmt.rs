//! logfmt: `level=info msg="started up" took=5ms`, as Go and Heroku programs write it.

use std::sync::Arc;

use bytes::Bytes;

use super::make::{self, Object};
use super::{Decoded, Decoder, Frames, Limits, Ordinals};
use crate::event::Provenance;

/// Values become strings; a name without a value is `true`. Text in quotes may hold `\"`, `\\`, `\n`, `\r` and `\t`.
pub struct Logfmt;

impl Decoder for Logfmt {
    fn decode(
        &self,
        piece: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded {
        make::each_frame(&piece, frames, ordinals, limits, read).finish(provenance, split)
    }
}

fn read(line: &[u8], event: &mut Object) -> Result<(), String> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let mut rest = line.trim();
    if rest.is_empty() {
        return Err("no pair of name and value".to_owned());
    }
    while !rest.is_empty() {
        let name_len = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
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
                    quoted(&value[1..]).ok_or_else(|| format!("the text of `{name}` is not closed"))?;
                event.string(name, &text);
                behind
            }
            Some(value) => {
                let (text, behind) = value.split_at(value.find(char::is_whitespace).unwrap_or(value.len()));
                event.string(name, text);
                behind
            }
        };
        if rest.starts_with(|c: char| !c.is_whitespace()) {
            return Err(format!("expected a space behind `{name}`"));
        }
        rest = rest.trim_start();
    }
    Ok(())
}

/// The text up to the closing quote, decoded, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                c @ ('"' | '\\') => out.push(c),
                other => out.extend(['\\', other]),
            },
            c => out.push(c),
        }
    }
    None
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
    fn broken_lines_are_refused_with_their_reason() {
        let (events, refused) = lines(&Logfmt, b"=x\na=\"open\nb=\"x\"y\n   \nok=1\n\xff=1");
        assert_eq!(events, [r#"{"ok":"1"}"#]);
        assert_eq!(
            refused,
            [
                (0, "expected a name at byte 0".to_owned()),
                (1, "the text of `a` is not closed".to_owned()),
                (2, "expected a space behind `b`".to_owned()),
                (3, "no pair of name and value".to_owned()),
                (5, "not UTF-8".to_owned()),
            ]
        );
    }
}
