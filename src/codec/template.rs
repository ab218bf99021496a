<<<<<<< HEAD
//! Templates: text with the event's fields and its time in it, such as `activity-{{ metadata.tenant }}-%Y.%m.%d`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::event::Raw;
use crate::event::raw::Kind;
use crate::event::time::Moment;
use crate::units::Timestamp;

/// The conversions of strftime that are understood; a `%` before anything else but `%` is itself.
const CONVERSIONS: &str = "YymdjHMSFTs";

/// A checked template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
=======
//! Text with holes: `{{ metadata.tenant }}`, `{{ user_id | none }}`, and the event's time as in `%Y.%m.%d`.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::str::FromStr;

use crate::event::Raw;
use crate::units::Timestamp;

/// A template that was read; it renders without looking for anything but the fields it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    source: String,
>>>>>>> 450304a (The delivery loop: cut, write, retry, bisect, settle in order; blackhole and console)
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
<<<<<<< HEAD
    Field {
        path: Vec<String>,
        default: Option<String>,
    },
    /// One conversion of the event's `timestamp`, in UTC.
    Time(char),
}

/// What is wrong with a template, and with which bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    pub range: Range<usize>,
    pub message: String,
}

/// The field that an event would need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event has no `{}`, and the template no default for it", self.0)
    }
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, Malformed> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            let part = if let Some(inside) = rest.strip_prefix("{{") {
                let Some(len) = inside.find("}}") else {
                    let message = "`{{` is not closed by `}}`".into();
                    return Err(Malformed { range: at..text.len(), message });
                };
                let range = at..at + len + 4;
                at = range.end;
                Part::field(&inside[..len]).map_err(|message| Malformed { range, message })?
            } else if let Some(conversion) = conversion(rest) {
                at += 2;
                Part::Time(conversion)
            } else {
                let skip = if rest.starts_with("%%") { 2 } else { 0 };
                let next = rest.chars().next().expect("`at` is before the end");
                plain.push(next);
                at += skip.max(next.len_utf8());
                continue;
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(part);
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template { parts })
    }

    /// The text, if nothing in it depends on the event.
    pub fn constant(&self) -> Option<&str> {
        match &self.parts[..] {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
=======
    Field { path: Vec<String>, default: Option<String> },
    Time(char),
}

/// Where a template goes wrong, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Bytes of the template.
    pub at: Range<usize>,
    pub message: String,
}

/// The event lacks a field that the template has no default for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing<'a>(pub &'a [String]);

/// The letters of strftime that are understood; all of them in UTC.
const TIME: &str = "YmdHMSjyFTGVus";

impl Template {
    /// The text, if nothing in it depends on the event.
    pub fn constant(&self) -> Option<Cow<'_, str>> {
        match &self.parts[..] {
            [] => Some(Cow::Borrowed("")),
            [Part::Text(text)] => Some(Cow::Borrowed(text)),
>>>>>>> 450304a (The delivery loop: cut, write, retry, bisect, settle in order; blackhole and console)
            _ => None,
        }
    }

<<<<<<< HEAD
    /// The text for one event, whose values `get` finds by their path. Null counts as missing.
    pub fn render<'a>(&self, get: impl Fn(&[String]) -> Option<Raw<'a>>) -> Result<String, Missing> {
        let mut out = String::new();
=======
    /// The text before the first hole.
    pub fn literal_prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether any hole is filled from a field, not from the time alone.
    pub fn has_fields(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field { .. }))
    }

    /// The template as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Appends the text for an event. Where it has no readable `timestamp`, `received_at` stands in.
    pub fn render(&self, event: Raw<'_>, received_at: Timestamp, out: &mut String) -> Result<(), Missing<'_>> {
        self.render_with(event, received_at, out, |value, out| out.push_str(value))
    }

    /// The same with each field's value written by `put`, such as escaped.
    pub fn render_with(
        &self,
        event: Raw<'_>,
        received_at: Timestamp,
        out: &mut String,
        put: impl Fn(&str, &mut String),
    ) -> Result<(), Missing<'_>> {
>>>>>>> 450304a (The delivery loop: cut, write, retry, bisect, settle in order; blackhole and console)
        let mut time = None;
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
<<<<<<< HEAD
                Part::Field { path, default } => match get(path).filter(|value| !value.is_null()) {
                    Some(value) => out.push_str(&value.display()),
                    None => out.push_str(default.as_ref().ok_or_else(|| Missing(path.join(".")))?),
                },
                Part::Time(conversion) => {
                    if time.is_none() {
                        time = get(&["timestamp".to_string()]).and_then(timestamp);
                    }
                    push_time(&mut out, *conversion, time.ok_or_else(|| Missing("timestamp".into()))?);
                }
            }
        }
        Ok(out)
    }
}

impl Part {
    /// Reads what stands between the braces: a path, perhaps `|` and a default.
    fn field(inside: &str) -> Result<Part, String> {
        let (path, default) = match inside.split_once('|') {
            Some((path, default)) => (path.trim(), Some(unquoted(default.trim()).to_owned())),
            None => (inside.trim(), None),
        };
        let names: Vec<String> = path.split('.').map(str::to_owned).collect();
        if names.iter().any(|name| name.is_empty() || name.contains(char::is_whitespace)) {
            return Err(format!("`{path}` is no field; write a name, or names joined by dots"));
        }
        Ok(Part::Field { path: names, default })
    }
}

fn unquoted(text: &str) -> &str {
    let inside = |quote| text.strip_prefix(quote).and_then(|text: &str| text.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

fn conversion(text: &str) -> Option<char> {
    text.strip_prefix('%')?.chars().next().filter(|next| CONVERSIONS.contains(*next))
}

fn timestamp(value: Raw) -> Option<Timestamp> {
    let text: Cow<str> = value.display();
    let read = match value.kind() {
        Kind::Number => Moment::parse_epoch(&text),
        _ => Moment::parse(&text).or_else(|| Moment::parse_epoch(&text)),
    };
    read.map(|moment| moment.timestamp())
}

fn push_time(out: &mut String, conversion: char, time: Timestamp) {
    let text = time.to_string();
    match conversion {
        'Y' => out.push_str(&text[..4]),
        'y' => out.push_str(&text[2..4]),
        'm' => out.push_str(&text[5..7]),
        'd' => out.push_str(&text[8..10]),
        'H' => out.push_str(&text[11..13]),
        'M' => out.push_str(&text[14..16]),
        'S' => out.push_str(&text[17..19]),
        'F' => out.push_str(&text[..10]),
        'T' => out.push_str(&text[11..19]),
        's' => out.push_str(&time.0.div_euclid(1_000_000).to_string()),
        _ => out.push_str(&day_of_year(time, &text[..4])),
    }
}

fn day_of_year(time: Timestamp, year: &str) -> String {
    const DAY: i64 = 86_400_000_000;
    let start = Timestamp::parse(&format!("{year}-01-01T00:00:00Z")).unwrap_or(time);
    format!("{:03}", (time.0 - start.0) / DAY + 1)
=======
                Part::Field { path, default } => match event.path(path).filter(|value| !value.is_null()) {
                    Some(value) => put(&value.display(), out),
                    None => put(default.as_ref().ok_or(Missing(path))?, out),
                },
                Part::Time(letter) => {
                    let time = time.get_or_insert_with(|| Moment::of(event, received_at));
                    time.push(*letter, out);
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event has no `{}`", self.0.join("."))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at character {} of the template", self.message, self.at.start + 1)
    }
}

impl std::error::Error for Malformed {}

struct Moment {
    seconds: i64,
    time: jiff::civil::DateTime,
}

impl Moment {
    fn of(event: Raw<'_>, received_at: Timestamp) -> Moment {
        let stated = event.get("timestamp").and_then(|value| value.as_str()).and_then(|text| Timestamp::parse(&text));
        let moment = |time: Timestamp| jiff::Timestamp::from_microsecond(time.0).ok();
        let time = stated.and_then(moment).or_else(|| moment(received_at)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        Moment { seconds: time.as_second(), time: jiff::tz::Offset::UTC.to_datetime(time) }
    }

    fn push(&self, letter: char, out: &mut String) {
        let (time, week) = (self.time, self.time.date().iso_week_date());
        // Writing to a string does not fail.
        let _ = match letter {
            'Y' => write!(out, "{:04}", time.year()),
            'm' => write!(out, "{:02}", time.month()),
            'd' => write!(out, "{:02}", time.day()),
            'H' => write!(out, "{:02}", time.hour()),
            'M' => write!(out, "{:02}", time.minute()),
            'S' => write!(out, "{:02}", time.second()),
            'j' => write!(out, "{:03}", time.day_of_year()),
            'y' => write!(out, "{:02}", time.year().rem_euclid(100)),
            'F' => write!(out, "{:04}-{:02}-{:02}", time.year(), time.month(), time.day()),
            'T' => write!(out, "{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second()),
            'G' => write!(out, "{:04}", week.year()),
            'V' => write!(out, "{:02}", week.week()),
            'u' => write!(out, "{}", week.weekday().to_monday_one_offset()),
            's' => write!(out, "{}", self.seconds),
            other => unreachable!("`%{other}` is refused when the template is read"),
        };
    }
}

impl FromStr for Template {
    type Err = Malformed;

    fn from_str(source: &str) -> Result<Template, Malformed> {
        let (mut parts, mut text, mut at) = (Vec::new(), String::new(), 0);
        while let Some(next) = source[at..].chars().next() {
            let rest = &source[at..];
            if rest.starts_with("{{") {
                let end = rest.find("}}").ok_or_else(|| malformed(at..source.len(), "`{{` is not closed by `}}`"))?;
                flush(&mut parts, &mut text);
                parts.push(field(&rest[2..end], at + 2)?);
                at += end + 2;
            } else if next == '%' {
                match rest.chars().nth(1) {
                    Some('%') => text.push('%'),
                    Some(letter) if TIME.contains(letter) => {
                        flush(&mut parts, &mut text);
                        parts.push(Part::Time(letter));
                    }
                    other => {
                        let known: Vec<String> = TIME.chars().map(|letter| format!("%{letter}")).collect();
                        let message = format!("expected one of {} or %%", known.join(" "));
                        return Err(malformed(at..at + 1 + other.map_or(0, char::len_utf8), message));
                    }
                }
                at += 2;
            } else {
                text.push(next);
                at += next.len_utf8();
            }
        }
        flush(&mut parts, &mut text);
        Ok(Template { source: source.to_owned(), parts })
    }
}

fn malformed(at: Range<usize>, message: impl Into<String>) -> Malformed {
    Malformed { at, message: message.into() }
}

fn flush(parts: &mut Vec<Part>, text: &mut String) {
    if !text.is_empty() {
        parts.push(Part::Text(std::mem::take(text)));
    }
}

/// Reads what stands between the braces: a path, and a default behind `|`.
fn field(inside: &str, at: usize) -> Result<Part, Malformed> {
    let (path, default) = match inside.split_once('|') {
        Some((path, default)) => (path, Some(default.trim().to_owned())),
        None => (inside, None),
    };
    let names: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
    if names.iter().any(|name| name.is_empty() || name.contains(['{', '}', '"', ' '])) {
        return Err(malformed(at..at + path.len(), "expected the name of a field such as `metadata.tenant`"));
    }
    Ok(Part::Field { path: names, default })
}

impl<'de> serde::Deserialize<'de> for Template {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
        let text = <Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Text with `{{ field }}`, `{{ field | default }}` and the event's time in UTC as `%Y.%m.%d`.",
        })
    }
>>>>>>> 450304a (The delivery loop: cut, write, retry, bisect, settle in order; blackhole and console)
}

#[cfg(test)]
mod tests {
<<<<<<< HEAD
    use super::*;

    const EVENT: &str = r#"{"timestamp":"2025-03-01T23:30:05.5-01:00","user_id":"ali","n":5,"metadata":{"tenant":"\u0061cme"},"no":null}"#;

    fn render(template: &str) -> Result<String, String> {
        let template = Template::parse(template).map_err(|wrong| format!("{:?} {}", wrong.range, wrong.message))?;
        template.render(|path| Raw(EVENT.as_bytes()).path(path)).map_err(|missing| missing.to_string())
=======
    use proptest::prelude::*;

    use super::*;

    const EVENT: &str = r#"{"user_id":"ali","timestamp":"2026-03-09T07:05:01.5+02:00","n":12,"gone":null,"metadata":{"tenant":"a\u0062c"}}"#;

    fn render(template: &str) -> Result<String, String> {
        let template: Template = template.parse().map_err(|wrong: Malformed| wrong.to_string())?;
        let mut out = String::new();
        template.render(Raw(EVENT.as_bytes()), Timestamp(0), &mut out).map_err(|missing| missing.to_string())?;
        Ok(out)
>>>>>>> 450304a (The delivery loop: cut, write, retry, bisect, settle in order; blackhole and console)
    }

    #[test]
    fn fields_defaults_and_times_are_filled_in() {
<<<<<<< HEAD
        for (template, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{{ user_id }}/{{metadata.tenant}}.log", "ali/acme.log"),
            ("{{ no | none }}-{{ missing|'a b' }}-{{ missing | \"\" }}", "none-a b-"),
            ("{{ n }}{{ metadata }}", r#"5{"tenant":"\u0061cme"}"#),
            ("activity-%Y.%m.%d", "activity-2025.03.02"),
            ("%F %T %y %H:%M:%S %j %s", "2025-03-02 00:30:05 25 00:30:05 061 1740875405"),
            ("100% {x} %% }} %q é", "100% {x} % }} %q é"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_an_event_lacks_is_named() {
        assert_eq!(
            render("a-{{ metadata.x }}").unwrap_err(),
            "the event has no `metadata.x`, and the template no default for it"
        );
        let timeless = Template::parse("%Y").map(|template| template.render(|_| None));
        assert_eq!(timeless, Ok(Err(Missing("timestamp".into()))));
    }

    #[test]
    fn what_is_wrong_is_shown_where_it_is() {
        assert_eq!(render("ab {{ x").unwrap_err(), "3..7 `{{` is not closed by `}}`");
        assert_eq!(
            render("é{{ a..b }}").unwrap_err(),
            "2..12 `a..b` is no field; write a name, or names joined by dots"
        );
        assert_eq!(render("{{ }}").unwrap_err(), "0..5 `` is no field; write a name, or names joined by dots");
    }

    #[test]
    fn a_template_without_fields_is_a_constant() {
        assert_eq!(Template::parse("50%").expect("a template").constant(), Some("50%"));
        assert_eq!(Template::parse("%Y").expect("a template").constant(), None);
    }
=======
        assert_eq!(render("x/{{ metadata.tenant }}/{{user_id}}-{{ n }}.log").unwrap(), "x/abc/ali-12.log");
        assert_eq!(render("{{ nobody | none }}{{ gone | }}{{ nobody | a b }}").unwrap(), "nonea b");
        assert_eq!(render("activity-%Y.%m.%d").unwrap(), "activity-2026.03.09");
        assert_eq!(
            render("%F %T %H%M%S %j %y %G-W%V-%u %s 100%%").unwrap(),
            "2026-03-09 05:05:01 050501 068 26 2026-W11-1 1773032701 100%"
        );
    }

    #[test]
    fn a_field_that_is_missing_without_a_default_is_named() {
        assert_eq!(render("{{ metadata.project }}").unwrap_err(), "the event has no `metadata.project`");
        assert_eq!(render("{{ gone }}").unwrap_err(), "the event has no `gone`");
    }

    #[test]
    fn a_broken_template_is_refused_at_its_place() {
        let wrong = |text: &str| text.parse::<Template>().unwrap_err();
        assert_eq!(wrong("abc{{ user_id").at, 3..13);
        assert_eq!(wrong("{{ a }}{{  }}").at, 9..11);
        assert_eq!(wrong("{{ a b }}").at, 2..7);
        assert_eq!(wrong("a %Q").at, 2..4);
        assert_eq!(wrong("a %").to_string().split(" or ").last(), Some("%% at character 3 of the template"));
    }

    #[test]
    fn an_event_without_a_time_has_the_time_it_was_received() {
        let template: Template = "%F".parse().unwrap();
        let mut out = String::new();
        template.render(Raw(br#"{"timestamp":"soon"}"#), Timestamp(86_400_000_000), &mut out).unwrap();
        assert_eq!(out, "1970-01-02");
    }

    #[test]
    fn a_template_without_holes_is_known_as_a_constant() {
        assert_eq!("a.log".parse::<Template>().unwrap().constant().unwrap(), "a.log");
        assert_eq!("a-%Y.log".parse::<Template>().unwrap().constant(), None);
        assert_eq!("a-%Y.log".parse::<Template>().unwrap().literal_prefix(), "a-");
        assert!(!"a-%Y.log".parse::<Template>().unwrap().has_fields());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "[%{}|. a-zY\u{e9}]{0,24}") {
            if let Err(wrong) = text.parse::<Template>() {
                prop_assert!(text.get(wrong.at.clone()).is_some(), "{:?} in {text:?}", wrong.at);
            }
        }
    }
>>>>>>> 450304a (The delivery loop: cut, write, retry, bisect, settle in order; blackhole and console)
}
