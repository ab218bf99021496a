//! Comma-separated values (RFC 4180): each record becomes an event with one string per column.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;

use super::make::{Maker, Object};
use super::{Decoded, Decoder, Frames, Limits, Ordinals, frames};
use crate::event::Provenance;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Column names. Without them the first record is the header, which works only where the whole text arrives at
    /// once: a request body, or a file that fits into one chunk.
    pub columns: Vec<String>,
    /// Field delimiter, one ASCII character.
    pub delimiter: char,
}

impl Default for Config {
    fn default() -> Config {
        Config { columns: Vec::new(), delimiter: ',' }
    }
}

const NO_COLUMNS: &str = "csv without `columns` must be read from its beginning";

pub struct Csv {
    columns: Vec<String>,
    delimiter: u8,
}

impl Csv {
    /// A delimiter beyond ASCII is taken for a comma.
    pub fn new(config: &Config) -> Csv {
        let delimiter = u8::try_from(config.delimiter).ok().filter(u8::is_ascii).unwrap_or(b',');
        Csv { columns: config.columns.clone(), delimiter }
    }

    /// A record is as long as its quotes want, over lines if need be.
    fn document(&self, maker: &mut Maker, chunk: &[u8], start: usize) {
        let mut columns = Cow::Borrowed(&self.columns);
        let (mut at, mut values) = (start, Vec::new());
        while at < chunk.len() && !maker.is_full() {
            let start = at;
            match record(&chunk[at..], self.delimiter, &mut values) {
                Ok(len) => at += len,
                Err(reason) => {
                    let end = memchr::memchr(b'\n', &chunk[at..]).map_or(chunk.len(), |n| at + n);
                    maker.refuse(start..end, reason.to_owned());
                    at = end + 1;
                    continue;
                }
            }
            if values.len() == 1 && values[0].is_empty() {
                continue;
            }
            if columns.is_empty() {
                columns = Cow::Owned(values.iter().map(|name| text(name).into_owned()).collect());
            } else {
                maker.make(start..at, |event| event_of(&values, &columns, event));
            }
        }
    }
}

impl Decoder for Csv {
    fn decode(
        &self,
        chunk: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded {
        let is_document = *frames == Frames::Document;
        let start = frames::without_mark(&chunk, 0..chunk.len(), &ordinals).start;
        let from_the_beginning = ordinals.of(0, 0) == 0;
        let mut maker = Maker::new(&chunk, ordinals, *limits, is_document);
        if is_document || (*frames == Frames::Lines && self.columns.is_empty() && from_the_beginning) {
            self.document(&mut maker, &chunk, start);
            return maker.finish(provenance, split);
        }
        let mut values = Vec::new();
        for range in frames::cut(&chunk, frames) {
            let inside = range.start.max(start.min(range.end))..range.end;
            maker.make(range, |event| {
                if self.columns.is_empty() {
                    return Err(NO_COLUMNS.to_owned());
                }
                let len = record(&chunk[inside.clone()], self.delimiter, &mut values)?;
                if len < inside.len() {
                    return Err("more than one record".to_owned());
                }
                event_of(&values, &self.columns, event)
            });
        }
        maker.finish(provenance, split)
    }
}

fn event_of(values: &[Cow<[u8]>], columns: &[String], event: &mut Object) -> Result<(), String> {
    if values.len() != columns.len() {
        return Err(format!("{} values for {} columns", values.len(), columns.len()));
    }
    for (name, value) in columns.iter().zip(values) {
        event.string(name, &text(value));
    }
    Ok(())
}

fn text(value: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(value)
}

/// Reads the values of the record at the head of `text`; tells its length with the line break.
fn record<'a>(text: &'a [u8], delimiter: u8, values: &mut Vec<Cow<'a, [u8]>>) -> Result<usize, &'static str> {
    values.clear();
    let mut at = 0;
    loop {
        if text.get(at) == Some(&b'"') {
            at = quoted(text, at + 1, values)?;
        } else {
            let len = memchr::memchr2(delimiter, b'\n', &text[at..]).unwrap_or(text.len() - at);
            let end = at + len;
            let is_last = text.get(end) != Some(&delimiter);
            let value = &text[at..end];
            values.push(Cow::Borrowed(if is_last { value.strip_suffix(b"\r").unwrap_or(value) } else { value }));
            at = end;
        }
        match text.get(at) {
            None => return Ok(at),
            Some(b'\n') => return Ok(at + 1),
            Some(b'\r') if matches!(text.get(at + 1), None | Some(b'\n')) => return Ok((at + 2).min(text.len())),
            Some(byte) if *byte == delimiter => at += 1,
            Some(_) => return Err("text behind a closing quote"),
        }
    }
}

/// Reads a value up to its closing quote, two of which mean one; tells what follows it.
fn quoted<'a>(text: &'a [u8], start: usize, values: &mut Vec<Cow<'a, [u8]>>) -> Result<usize, &'static str> {
    let mut value = Cow::Borrowed(&text[start..start]);
    let mut at = start;
    loop {
        let len = memchr::memchr(b'"', &text[at..]).ok_or("unclosed quote")?;
        let end = at + len;
        match &mut value {
            Cow::Borrowed(value) => *value = &text[start..end],
            Cow::Owned(value) => value.extend_from_slice(&text[at..end]),
        }
        if text.get(end + 1) != Some(&b'"') {
            values.push(value);
            return Ok(end + 1);
        }
        value.to_mut().push(b'"');
        at = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{document, lines};
    use super::*;

    fn csv(columns: &[&str]) -> Csv {
        Csv::new(&Config { columns: columns.iter().map(|name| name.to_string()).collect(), ..Config::default() })
    }

    #[test]
    fn a_document_names_its_columns_and_quotes_may_span_lines() {
        let text = b"\xEF\xBB\xBFuser,code,n\r\nali,\"a = \"\"x\"\"\nprint(a)\",1\r\n\r\nbo,,\n";
        let (events, refused) = document(&csv(&[]), text);
        assert_eq!(
            events,
            [r#"{"user":"ali","code":"a = \"x\"\nprint(a)","n":"1"}"#, r#"{"user":"bo","code":"","n":""}"#]
        );
        assert!(refused.is_empty());
    }

    #[test]
    fn broken_records_are_refused_up_to_the_end_of_their_line() {
        let (events, refused) = document(&csv(&["a", "b"]), b"1\n\"x\"y,2\n3,4\n5,\"6\n7,8\n");
        assert_eq!(events, [r#"{"a":"3","b":"4"}"#, r#"{"a":"7","b":"8"}"#]);
        let reasons: Vec<_> = refused.into_iter().map(|(_, reason)| reason).collect();
        assert_eq!(reasons, ["1 values for 2 columns", "text behind a closing quote", "unclosed quote"]);
    }

    #[test]
    fn lines_need_columns_unless_they_begin_their_origin() {
        let (events, _) = lines(&csv(&["a", "b"]), b"1,2\n3,4\n");
        assert_eq!(events.len(), 2);
        let (events, _) = lines(&csv(&[]), b"a,b\n3,4\n");
        assert_eq!(events, [r#"{"a":"3","b":"4"}"#]);
        let decoded = super::super::tests::decode(&csv(&[]), b"3,4\n", Frames::Lines, Ordinals::Offset(100), true);
        assert_eq!(decoded.refused[0].reason, NO_COLUMNS);
    }
}
