//! Container runtime logs: program output in chunks of up to 16 KiB, each with time and stream.

use std::borrow::Cow;

use serde::Deserialize;

use super::shape::Shaped;
use crate::codec::framing::cut_mark;
use crate::event::escape::push_string;

/// Names by which the program itself may have said the time of its event.
const TIMES: [&str; 4] = ["time", "timestamp", "ts", "@timestamp"];

/// Which runtime wrote the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Docker's `json-file`: an object with `log`, `stream` and `time`; a chunk is what has no line feed at its end.
    Docker,
    /// containerd and CRI-O: time, stream, and `P` for a chunk or `F` for the end of a line.
    Cri,
    /// Either, decided line by line.
    Any,
}

/// What becomes of the text of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A JSON object is the event; other text is the event's `message`.
    Json,
    /// The text is the event's `message`.
    Text,
    /// The text is given to the codec as it is.
    Bare,
}

/// How container logs are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Containers {
    pub runtime: Runtime,
    pub message: Message,
}

/// One line of the file.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    time: Cow<'a, str>,
    stream: Cow<'a, str>,
    text: Cow<'a, [u8]>,
    /// The program's line goes on in the next entry of this stream.
    is_partial: bool,
}

/// A line of the program, of which further chunks may follow.
struct Open {
    time: String,
    stream: String,
    text: Vec<u8>,
    start: usize,
}

/// What is made of an entry or of several.
struct Made {
    start: usize,
    end: usize,
    text: Vec<u8>,
}

impl Containers {
    /// Joins the lines of a region. A chunk whose rest has not come is left, and so is what lies behind its start, unless
    /// nothing more will come (`complete`) or the line is longer than `line_bytes`.
    pub fn apply(self, region: &[u8], base: u64, line_bytes: usize, complete: bool) -> Shaped {
        let (mut made, mut open): (Vec<Made>, Vec<Open>) = (Vec::new(), Vec::new());
        let mut at = 0;
        for line in region.split_inclusive(|byte| *byte == b'\n') {
            let (start, end) = (at, at + line.len());
            at = end;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let Some(entry) = self.runtime.parse(line) else {
                // The codec says what is wrong with it.
                made.push(Made { start, end, text: line.to_vec() });
                continue;
            };
            let nth = match open.iter().position(|open| open.stream == entry.stream) {
                Some(nth) => nth,
                None => {
                    let (time, stream) = (entry.time.into_owned(), entry.stream.clone().into_owned());
                    open.push(Open { time, stream, text: Vec::new(), start });
                    open.len() - 1
                }
            };
            open[nth].text.extend_from_slice(&entry.text);
            if !entry.is_partial || open[nth].text.len() > line_bytes {
                let whole = open.remove(nth);
                if whole.text.is_empty() {
                    continue;
                }
                made.push(Made { start: whole.start, end, text: self.render(whole, line_bytes) });
            }
        }
        let mut used = region.len();
        if complete {
            made.extend(open.drain(..).map(|open| Made {
                start: open.start,
                end: region.len(),
                text: self.render(open, line_bytes),
            }));
        } else {
            used = open.iter().map(|open| open.start).min().unwrap_or(used);
            // What reaches over the cut is left as well, whole. They ended in this order.
            for made in made.iter().rev() {
                if made.end <= used {
                    break;
                }
                used = used.min(made.start);
            }
        }
        made.sort_by_key(|made| made.start);
        let mut shaped = Shaped { used, ..Shaped::default() };
        for one in made.into_iter().filter(|made| made.start < used) {
            let from = shaped.text.len();
            shaped.text.extend_from_slice(&one.text);
            shaped.frames.push(from..shaped.text.len());
            shaped.offsets.push(base + one.start as u64);
            shaped.text.push(b'\n');
        }
        shaped
    }

    fn render(self, mut line: Open, line_bytes: usize) -> Vec<u8> {
        if line.text.len() > line_bytes {
            line.text.truncate(super::shape::char_start(&line.text, line_bytes));
            line.text.extend_from_slice(cut_mark(line_bytes).as_bytes());
        }
        let trimmed = line.text.trim_ascii();
        match self.message {
            Message::Bare => line.text,
            Message::Json if trimmed.starts_with(b"{") && trimmed.ends_with(b"}") => {
                with_members(trimmed, &line).unwrap_or_else(|| wrapped(&line))
            }
            Message::Json | Message::Text => wrapped(&line),
        }
    }
}

/// The program's own object, with time and stream behind its members if it does not name them itself.
fn with_members(object: &[u8], line: &Open) -> Option<Vec<u8>> {
    let members: std::collections::BTreeMap<Cow<'_, str>, serde::de::IgnoredAny> =
        serde_json::from_slice(object).ok()?;
    let mut out = object[..object.len() - 1].to_vec();
    let mut separator: &[u8] = if members.is_empty() { b"" } else { b"," };
    let time = (!TIMES.iter().any(|name| members.contains_key(*name))).then_some(("time", &line.time));
    let stream = (!members.contains_key("stream")).then_some(("stream", &line.stream));
    for (name, value) in time.into_iter().chain(stream) {
        out.extend_from_slice(separator);
        push_string(&mut out, name);
        out.push(b':');
        push_string(&mut out, value);
        separator = b",";
    }
    out.push(b'}');
    Some(out)
}

fn wrapped(line: &Open) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.text.len() + 100);
    let text = String::from_utf8_lossy(&line.text);
    for (before, value) in [("{\"time\":", &*line.time), (",\"stream\":", &*line.stream), (",\"message\":", &*text)] {
        out.extend_from_slice(before.as_bytes());
        push_string(&mut out, value);
    }
    out.push(b'}');
    out
}

impl Runtime {
    fn parse(self, line: &[u8]) -> Option<Entry<'_>> {
        match self {
            Runtime::Docker => docker(line),
            Runtime::Cri => cri(line),
            Runtime::Any if line.first() == Some(&b'{') => docker(line),
            Runtime::Any => cri(line),
        }
    }
}

fn docker(line: &[u8]) -> Option<Entry<'_>> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        log: Cow<'a, str>,
        #[serde(borrow, default)]
        stream: Cow<'a, str>,
        #[serde(borrow, default)]
        time: Cow<'a, str>,
    }
    let Line { log, stream, time } = serde_json::from_slice(line).ok()?;
    let is_partial = !log.ends_with('\n');
    let end = log.strip_suffix('\n').map_or(log.len(), |text| text.strip_suffix('\r').unwrap_or(text).len());
    let text = match log {
        Cow::Borrowed(text) => Cow::Borrowed(&text.as_bytes()[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text.into_bytes())
        }
    };
    Some(Entry { time, stream, text, is_partial })
}

fn cri(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok().filter(|time| time.contains('T'))?;
    let stream = std::str::from_utf8(parts.next()?).ok().filter(|stream| matches!(*stream, "stdout" | "stderr"))?;
    // Further tags may stand behind the first, separated by colons.
    let is_partial = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    let text = Cow::Borrowed(parts.next().unwrap_or_default());
    Some(Entry { time: time.into(), stream: stream.into(), text, is_partial })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRI: Containers = Containers { runtime: Runtime::Cri, message: Message::Json };

    fn texts(shaped: &Shaped) -> Vec<String> {
        shaped.frames.iter().map(|r| String::from_utf8_lossy(&shaped.text[r.clone()]).into_owned()).collect()
    }

    #[test]
    fn pieces_of_a_cri_line_are_joined_by_stream_and_a_json_line_is_the_event() {
        let text = b"2026-01-01T00:00:00.1Z stdout P {\"a\":\n2026-01-01T00:00:00.2Z stderr F oh no\n\
            2026-01-01T00:00:00.3Z stdout F 1}\n2026-01-01T00:00:00.4Z stdout F {\"time\":5}\n";
        let shaped = CRI.apply(text, 100, 1000, false);
        assert_eq!(
            texts(&shaped),
            [
                r#"{"a":1,"time":"2026-01-01T00:00:00.1Z","stream":"stdout"}"#,
                r#"{"time":"2026-01-01T00:00:00.2Z","stream":"stderr","message":"oh no"}"#,
                r#"{"time":5,"stream":"stdout"}"#,
            ]
        );
        assert_eq!((shaped.offsets, shaped.used), (vec![100, 138, 211], text.len()));
    }

    #[test]
    fn what_is_not_whole_is_left_with_all_that_lies_behind_its_start() {
        let text = b"2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:00Z stdout P two\n\
            2026-01-01T00:00:00Z stderr F three\n";
        let shaped = CRI.apply(text, 0, 1000, false);
        assert_eq!((texts(&shaped).len(), shaped.used), (1, 34));
        assert_eq!(texts(&CRI.apply(text, 0, 1000, true)).len(), 3, "unless nothing more will come");
        // A line that began before and ends behind the cut is left whole.
        let woven = b"2026-01-01T00:00:00Z stderr P a\n2026-01-01T00:00:00Z stdout P b\n\
            2026-01-01T00:00:00Z stderr F c\n";
        assert_eq!(CRI.apply(woven, 0, 1000, false).used, 0);
    }

    #[test]
    fn dockers_pieces_have_no_line_feed_and_its_escapes_are_undone() {
        let docker = Containers { runtime: Runtime::Any, message: Message::Text };
        let text = br#"{"log":"one \"x\" ","stream":"stdout","time":"T1"}
{"log":"two\r\n","stream":"stdout","time":"T2"}
{"log":"{\"a\":1}\n","stream":"stderr","time":"T3"}
not docker's
"#;
        let shaped = docker.apply(text, 0, 1000, false);
        assert_eq!(
            texts(&shaped),
            [
                r#"{"time":"T1","stream":"stdout","message":"one \"x\" two"}"#,
                r#"{"time":"T3","stream":"stderr","message":"{\"a\":1}"}"#,
                "not docker's",
            ]
        );
        let bare = Containers { runtime: Runtime::Docker, message: Message::Bare };
        assert_eq!(texts(&bare.apply(text, 0, 1000, false))[1], r#"{"a":1}"#);
    }

    #[test]
    fn a_line_beyond_the_limit_is_cut_and_its_rest_begins_anew() {
        let text: String = (0..4).map(|_| format!("2026-01-01T00:00:00Z stdout P {}\n", "x".repeat(10))).collect();
        let shaped = CRI.apply(text.as_bytes(), 0, 25, true);
        assert_eq!(shaped.frames.len(), 2);
        assert!(texts(&shaped)[0].contains("xxxxx [cut: longer than 25 bytes]"), "{:?}", texts(&shaped));
    }
}
