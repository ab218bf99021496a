//! Syslog messages: RFC 5424, and RFC 3164 as devices actually send it.

use std::sync::Arc;

use bytes::Bytes;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::make::{self, Object};
use super::{Decoded, Decoder, Frames, Limits, Ordinals};
use crate::event::Provenance;
use crate::event::time::Moment;
use crate::units::Timestamp;

mod time;

/// Fields: `severity`, `facility`, `timestamp`, `host`, `app_name`, `proc_id`, `msg_id`, `structured_data` (an object of
/// objects), `message`. What follows no known form is a message whole: nothing is refused but empty lines.
/// A field that cannot be read costs that field: behind a time that no clock shows come host and program all the same.
pub struct Syslog {
    /// Of times that name none.
    zone: TimeZone,
}

/// How syslog messages are parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Config {
    /// Time zone of timestamps without one (RFC 3164), such as `Asia/Tehran`. Default: UTC.
    pub timezone: Option<String>,
}

impl Config {
    fn zone(&self) -> Result<TimeZone, String> {
        let Some(name) = &self.timezone else { return Ok(TimeZone::UTC) };
        crate::units::zone(name)
            .ok_or_else(|| format!("unknown time zone `{name}`: expected one such as `Asia/Tehran`"))
    }

    /// The error is for the operator.
    pub fn check(&self) -> Result<(), String> {
        self.zone().map(drop)
    }
}

impl Syslog {
    /// A zone that is not known was refused before.
    pub fn new(config: &Config) -> Syslog {
        Syslog { zone: config.zone().unwrap_or(TimeZone::UTC) }
    }
}

const SEVERITIES: [&str; 8] = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];
/// What RFC 3164 says of a message without a priority: user, notice.
const NO_PRIORITY: usize = 13;
/// The longest tag before a colon that is taken for the name of a program.
const LONGEST_TAG: usize = 48;

impl Decoder for Syslog {
    fn decode(
        &self,
        chunk: Bytes,
        frames: &Frames,
        ordinals: Ordinals,
        provenance: Arc<Provenance>,
        limits: &Limits,
        split: bool,
    ) -> Decoded {
        let received = provenance.received_at;
        let made =
            make::each_frame(&chunk, frames, ordinals, limits, |frame, event| read(frame, received, &self.zone, event));
        made.finish(provenance, split)
    }
}

fn read(frame: &[u8], received: Timestamp, zone: &TimeZone, event: &mut Object) -> Result<(), String> {
    let text = String::from_utf8_lossy(frame);
    if matches!(text, std::borrow::Cow::Owned(_)) {
        event.boolean("encoding_error", true);
    }
    let text = text.trim_end_matches(['\n', '\0']);
    if text.is_empty() {
        return Err("an empty message".to_owned());
    }
    let (priority, rest) = priority(text).unwrap_or((NO_PRIORITY, text));
    event.string("severity", SEVERITIES[priority % 8]);
    event.string("facility", FACILITIES[priority / 8]);
    if let Some(header) = rest.strip_prefix("1 ").and_then(modern) {
        header.write(event);
    } else {
        legacy(rest, received, zone, event);
    }
    Ok(())
}

/// `<134>` and what follows.
fn priority(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let priority = digits.parse().ok().filter(|_| is_number)?;
    (priority < 8 * FACILITIES.len()).then_some((priority, rest))
}

/// Names and values of one element of structured data.
type Pairs<'a> = Vec<(&'a str, String)>;

/// What RFC 5424 has behind the version.
struct Modern<'a> {
    timestamp: &'a str,
    named: [(&'static str, &'a str); 4],
    data: Vec<(&'a str, Pairs<'a>)>,
    message: &'a str,
}

fn modern(text: &str) -> Option<Modern<'_>> {
    let mut parts = text.splitn(6, ' ');
    let timestamp = parts.next()?;
    let named =
        [("host", parts.next()?), ("app_name", parts.next()?), ("proc_id", parts.next()?), ("msg_id", parts.next()?)];
    let rest = parts.next()?;
    let (data, rest) = structured_data(rest)?;
    let message = rest.strip_prefix(' ').unwrap_or(rest);
    Some(Modern { timestamp, named, data, message: message.strip_prefix('\u{feff}').unwrap_or(message) })
}

impl Modern<'_> {
    fn write(&self, event: &mut Object) {
        write_time(time::modern(self.timestamp), event);
        for (name, value) in self.named {
            if value != "-" && !value.is_empty() {
                event.string(name, value);
            }
        }
        if !self.data.is_empty() {
            event.object("structured_data", |event| {
                for (id, pairs) in &self.data {
                    event.object(id, |event| {
                        for (name, value) in pairs {
                            event.string(name, value);
                        }
                    });
                }
            });
        }
        event.string("message", self.message);
    }
}

/// `-`, or `[id name="value" …]…`, and what follows.
fn structured_data(text: &str) -> Option<(Vec<(&str, Pairs<'_>)>, &str)> {
    if let Some(rest) = text.strip_prefix('-') {
        return Some((Vec::new(), rest));
    }
    let mut elements = Vec::new();
    let mut rest = text;
    while let Some(inside) = rest.strip_prefix('[') {
        let (id, mut inside) = inside.split_at(inside.find([' ', ']'])?);
        let mut pairs = Vec::new();
        while let Some(pair) = inside.strip_prefix(' ') {
            let (name, value) = pair.split_once("=\"")?;
            let (value, behind) = parameter(value)?;
            pairs.push((name, value));
            inside = behind;
        }
        rest = inside.strip_prefix(']')?;
        elements.push((id, pairs));
    }
    (!elements.is_empty()).then_some((elements, rest))
}

/// The value up to its closing quote, in which `\"`, `\\` and `\]` are escapes, and what follows.
fn parameter(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                c @ ('"' | '\\' | ']') => out.push(c),
                other => out.extend(['\\', other]),
            },
            c => out.push(c),
        }
    }
    None
}

/// `Oct 11 22:14:15 host tag[pid]: message`, where all but the message may be missing.
fn legacy(text: &str, received: Timestamp, zone: &TimeZone, event: &mut Object) {
    let (time, rest) = match time::read(text, received, zone) {
        Some(found) => found,
        None => (None, text),
    };
    let has_time = rest.len() < text.len();
    write_time(time, event);
    let mut rest = rest;
    // A host follows the time, unless what follows is already the program.
    if has_time
        && let Some((host, behind)) = rest.split_once(' ')
        && !host.is_empty()
        && !host.ends_with(':')
        && !host.contains('[')
    {
        event.string("host", host);
        rest = behind;
    }
    if let Some((name, process, message)) = tag(rest) {
        event.string("app_name", name);
        if let Some(process) = process {
            event.string("proc_id", process);
        }
        rest = message;
    }
    event.string("message", rest);
}

fn write_time(time: Option<Moment>, event: &mut Object) {
    if let Some(time) = time {
        let mut text = Vec::new();
        time.write(&mut text);
        event.string("timestamp", &String::from_utf8_lossy(&text));
    }
}

/// `name:` or `name[pid]:` and the message behind it.
fn tag(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let end = text.find([':', ' ', '[']).filter(|end| (1..=LONGEST_TAG).contains(end))?;
    let (name, rest) = text.split_at(end);
    if let Some(message) = rest.strip_prefix(':') {
        return Some((name, None, message.strip_prefix(' ').unwrap_or(message)));
    }
    let (process, message) = rest.strip_prefix('[')?.split_once("]:")?;
    (!process.contains(' ')).then(|| (name, Some(process), message.strip_prefix(' ').unwrap_or(message)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::lines;
    use super::*;

    fn utc() -> Syslog {
        Syslog::new(&Config::default())
    }

    #[test]
    fn a_message_of_rfc_5424_comes_apart() {
        let line = br#"<165>1 2003-10-11T22:14:15.003+02:00 web-1 su 77 ID47 [a@1 iut="3" x="q\"\]\\"][b] started: ok"#;
        let (events, _) = lines(&utc(), line);
        let expected = r#"{"severity":"notice","facility":"local4","timestamp":"2003-10-11T20:14:15.003Z","host":"web-1","app_name":"su","proc_id":"77","msg_id":"ID47","structured_data":{"a@1":{"iut":"3","x":"q\"]\\"},"b":{}},"message":"started: ok"}"#;
        assert_eq!(events, [expected]);
        let (events, _) = lines(&utc(), b"<34>1 - - - - - -");
        assert_eq!(events, [r#"{"severity":"critical","facility":"auth","message":""}"#]);
    }

    #[test]
    fn a_field_that_cannot_be_read_costs_that_field() {
        let cases = [
            (
                "<13>Jan  1 00:00:03 1970 nb-1 sshd[7]: x",
                r#""host":"nb-1","app_name":"sshd","proc_id":"7","message":"x"}"#,
            ),
            ("<13>1970-01-01T00:00:00Z nb-1 app: x", r#""host":"nb-1","app_name":"app","message":"x"}"#),
            (
                "<13>1 1970-01-01T00:00:00Z nb-1 app 7 - - x",
                r#""host":"nb-1","app_name":"app","proc_id":"7","message":"x"}"#,
            ),
            ("<13>1 yesterday nb-1 app 7 - - x", r#""host":"nb-1","app_name":"app","proc_id":"7","message":"x"}"#),
            ("<13>Feb 31 10:00:00 nb-1 app: x", r#""host":"nb-1","app_name":"app","message":"x"}"#),
        ];
        for (line, expected) in cases {
            let received = Timestamp(1_767_225_600_000_000);
            let out = super::super::tests::decode_at(&utc(), line.as_bytes(), received).pop().expect("an event");
            assert_eq!(out, format!(r#"{{"severity":"notice","facility":"user",{expected}"#), "{line}");
        }
    }

    #[test]
    fn a_message_of_rfc_3164_comes_apart() {
        let cases = [
            (
                "<34>Jan  5 22:14:15 mymachine su[12]: 'su root' failed",
                r#"{"severity":"critical","facility":"auth","timestamp":"1999-01-05T22:14:15Z","host":"mymachine","app_name":"su","proc_id":"12","message":"'su root' failed"}"#,
            ),
            (
                "<13>Dec 31 23:59:59 app: bye",
                r#"{"severity":"notice","facility":"user","timestamp":"1998-12-31T23:59:59Z","app_name":"app","message":"bye"}"#,
            ),
            ("just text", r#"{"severity":"notice","facility":"user","message":"just text"}"#),
            ("<999>x", r#"{"severity":"notice","facility":"user","message":"<999>x"}"#),
            ("<14>1 nonsense", r#"{"severity":"info","facility":"user","message":"1 nonsense"}"#),
        ];
        for (line, expected) in cases {
            // Received in January 1999.
            let received = Timestamp(917_000_000_000_000);
            let mut out = super::super::tests::decode_at(&utc(), line.as_bytes(), received);
            assert_eq!(out.pop().as_deref(), Some(expected), "{line}");
        }
    }
}
