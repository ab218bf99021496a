//! Frames that need more than line feeds: other encodings, multi-line events, short limits.

use std::borrow::Cow;
use std::ops::Range;

use encoding_rs::Encoding;
use regex::bytes::Regex;

use super::container::Containers;
use crate::codec::framing::cut_mark;

/// Bytes without a mark that must agree before a file is taken for UTF-16.
const LEAST_WIDE: usize = 8;

/// How lines end in an encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    Byte,
    /// Two bytes for each unit, as in UTF-16.
    Wide {
        big: bool,
    },
}

impl LineEnd {
    pub fn of(encoding: Option<&'static Encoding>) -> LineEnd {
        match encoding {
            Some(e) if e == encoding_rs::UTF_16LE => LineEnd::Wide { big: false },
            Some(e) if e == encoding_rs::UTF_16BE => LineEnd::Wide { big: true },
            _ => LineEnd::Byte,
        }
    }

    /// The end of the first line in `bytes`, which begin at the start of a unit.
    pub fn first(self, bytes: &[u8]) -> Option<usize> {
        match self {
            LineEnd::Byte => memchr::memchr(b'\n', bytes).map(|at| at + 1),
            LineEnd::Wide { big } => {
                bytes.chunks_exact(2).position(|unit| is_line_feed(unit, big)).map(|unit| unit * 2 + 2)
            }
        }
    }

    /// The end of the last line in `bytes`.
    pub fn last(self, bytes: &[u8]) -> Option<usize> {
        match self {
            LineEnd::Byte => memchr::memrchr(b'\n', bytes).map(|at| at + 1),
            LineEnd::Wide { big } => {
                bytes.chunks_exact(2).rposition(|unit| is_line_feed(unit, big)).map(|unit| unit * 2 + 2)
            }
        }
    }
}

/// The byte order that a mark of UTF-16 at the beginning of a file says.
pub fn marked_order(head: &[u8]) -> Option<&'static Encoding> {
    match head {
        [0xFF, 0xFE, ..] => Some(encoding_rs::UTF_16LE),
        [0xFE, 0xFF, ..] => Some(encoding_rs::UTF_16BE),
        _ => None,
    }
}

/// The encoding of a file that begins with a mark of UTF-16, or with a NUL in every second place.
pub fn looks_wide(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xFF, 0xFE, ..] => return Some("utf-16le"),
        [0xFE, 0xFF, ..] => return Some("utf-16be"),
        _ => {}
    }
    let every = |from: usize, is_nul: bool| head.iter().skip(from).step_by(2).all(|byte| (*byte == 0) == is_nul);
    match head.len() >= LEAST_WIDE {
        true if every(0, false) && every(1, true) => Some("utf-16le"),
        true if every(0, true) && every(1, false) => Some("utf-16be"),
        _ => None,
    }
}

fn is_line_feed(unit: &[u8], big: bool) -> bool {
    unit == if big { [0, b'\n'] } else { [b'\n', 0] }
}

/// Which lines belong to one event.
#[derive(Clone, Debug)]
pub enum Grouping {
    /// An event begins with a line that matches.
    Start(Regex),
    /// A line that matches belongs to the event before it.
    Continues(Regex),
    /// Lines of container runtimes.
    Containers(Containers),
}

impl Grouping {
    fn begins(&self, line: &[u8]) -> bool {
        match self {
            Grouping::Start(pattern) => pattern.is_match(line),
            Grouping::Continues(pattern) => !pattern.is_match(line),
            Grouping::Containers(_) => true,
        }
    }
}

/// What lines are turned into.
#[derive(Clone, Debug)]
pub struct Shape {
    pub encoding: Option<&'static Encoding>,
    pub grouping: Option<Grouping>,
    pub line_bytes: usize,
}

/// Events as UTF-8.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shaped {
    pub text: Vec<u8>,
    pub frames: Vec<Range<usize>>,
    /// Where each frame starts in the file.
    pub offsets: Vec<u64>,
    /// Bytes of the region that the frames use up.
    pub used: usize,
}

impl Shape {
    /// Whether line feeds alone say where events end.
    pub fn is_plain(&self, chunk_bytes: usize) -> bool {
        self.encoding.is_none() && self.grouping.is_none() && self.line_bytes >= chunk_bytes
    }

    /// Shapes a region of whole lines that starts at `base`. Unless `complete`, the last group may go on behind it.
    pub fn apply(&self, region: &[u8], base: u64, complete: bool) -> Shaped {
        if let Some(Grouping::Containers(containers)) = &self.grouping {
            return containers.apply(region, base, self.line_bytes, complete);
        }
        let ends = LineEnd::of(self.encoding);
        let (mut out, mut at) = (Shaped::default(), 0);
        // Start in the text and offset in the region of the group that is open.
        let mut open: Option<(usize, usize)> = None;
        while at < region.len() {
            let len = ends.first(&region[at..]).unwrap_or(region.len() - at);
            let line = self.decode(&region[at..at + len]);
            let line = trim_line_end(&line);
            let goes_on = match (&self.grouping, open) {
                (Some(grouping), Some((start, _))) => {
                    !grouping.begins(line) && out.text.len() - start + line.len() < self.line_bytes
                }
                _ => false,
            };
            if goes_on {
                out.text.push(b'\n');
            } else {
                out.close(&mut open, base);
                open = Some((out.text.len(), at));
            }
            self.push(&mut out.text, line);
            at += len;
        }
        if complete || self.grouping.is_none() {
            out.close(&mut open, base);
            out.used = region.len();
        } else {
            let (start, from) = open.unwrap_or((out.text.len(), region.len()));
            out.text.truncate(start);
            out.used = from;
        }
        out
    }

    fn decode<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        match self.encoding {
            None => Cow::Borrowed(line),
            Some(encoding) => match encoding.decode_without_bom_handling(line).0 {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
        }
    }

    fn push(&self, text: &mut Vec<u8>, line: &[u8]) {
        if line.len() <= self.line_bytes {
            return text.extend_from_slice(line);
        }
        text.extend_from_slice(&line[..char_start(line, self.line_bytes)]);
        text.extend_from_slice(cut_mark(self.line_bytes).as_bytes());
    }
}

impl Shaped {
    fn close(&mut self, open: &mut Option<(usize, usize)>, base: u64) {
        if let Some((start, from)) = open.take()
            && start < self.text.len()
        {
            self.frames.push(start..self.text.len());
            self.offsets.push(base + from as u64);
            // Frames must not touch, so that a reader of lines would see them too.
            self.text.push(b'\n');
        }
    }
}

fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The last place up to `at` where a character starts.
pub fn char_start(text: &[u8], at: usize) -> usize {
    (at.saturating_sub(3)..=at).rev().find(|at| text.get(*at).is_none_or(|b| b & 0xC0 != 0x80)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(grouping: Option<Grouping>) -> Shape {
        Shape { encoding: None, grouping, line_bytes: 1000 }
    }

    fn texts(shaped: &Shaped) -> Vec<String> {
        shaped.frames.iter().map(|r| String::from_utf8_lossy(&shaped.text[r.clone()]).into_owned()).collect()
    }

    #[test]
    fn a_traceback_is_one_event_and_its_last_lines_are_awaited() {
        let start = shape(Some(Grouping::Start(Regex::new("^[0-9]{4}").unwrap())));
        let text = b"2024 one\r\n  at a\r\n2025 two\n  at b\n";
        let open = start.apply(text, 100, false);
        assert_eq!((texts(&open), open.offsets, open.used), (vec!["2024 one\n  at a".to_string()], vec![100], 18));
        let complete = start.apply(text, 100, true);
        assert_eq!(texts(&complete), ["2024 one\n  at a", "2025 two\n  at b"]);
        assert_eq!((complete.offsets, complete.used), (vec![100, 118], text.len()));
        let continues = shape(Some(Grouping::Continues(Regex::new(r"^\s").unwrap())));
        assert_eq!(texts(&continues.apply(text, 0, true)), ["2024 one\n  at a", "2025 two\n  at b"]);
    }

    #[test]
    fn utf_16_and_latin_1_become_utf_8_with_offsets_in_the_file() {
        let wide: Vec<u8> = "سلام\r\nhey\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf16 = Shape { encoding: Some(encoding_rs::UTF_16LE), ..shape(None) };
        let shaped = utf16.apply(&wide, 2, false);
        assert_eq!((texts(&shaped), shaped.offsets, shaped.used), (vec!["سلام".into(), "hey".into()], vec![2, 14], 20));
        let latin = Shape { encoding: Encoding::for_label(b"latin1"), ..shape(None) };
        assert_eq!(texts(&latin.apply(b"caf\xE9\n\n", 0, false)), ["café"]);
    }

    #[test]
    fn a_long_line_is_cut_on_a_character_and_says_so() {
        let short = Shape { line_bytes: 5, ..shape(None) };
        let shaped = short.apply("abcdé\nabcd\n".as_bytes(), 0, false);
        assert_eq!(texts(&shaped), [format!("abcd{}", cut_mark(5)), "abcd".into()]);
    }

    #[test]
    fn a_group_ends_at_the_limit() {
        let short = Shape { line_bytes: 10, ..shape(Some(Grouping::Continues(Regex::new("^ ").unwrap()))) };
        assert_eq!(texts(&short.apply(b"one\n two\n three\n four\n", 0, true)), ["one\n two", " three", " four"]);
    }
}
