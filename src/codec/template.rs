//! Templates: text with event fields and time, such as `activity-{{ metadata.tenant }}-%Y.%m.%d`.

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
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
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
        write!(f, "the event has no `{}`, and the template has no default for it", self.0)
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
                    let message = "unclosed `{{`".into();
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
            _ => None,
        }
    }

    /// The texts that are the same for all events.
    pub fn fixed_texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| if let Part::Text(text) = part { Some(&**text) } else { None })
    }

    /// The fixed text at its beginning.
    pub fn prefix(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// How many bytes of an RFC 3339 time in UTC decide the text, if nothing else of the event does.
    pub fn time_bytes(&self) -> Option<usize> {
        let mut bytes = 0;
        for part in &self.parts {
            bytes = bytes.max(match part {
                Part::Text(_) => 0,
                Part::Field { .. } => return None,
                Part::Time('Y' | 'y') => 4,
                Part::Time('m') => 7,
                Part::Time('d' | 'j' | 'F') => 10,
                Part::Time('H') => 13,
                Part::Time('M') => 16,
                Part::Time(_) => 19,
            });
        }
        Some(bytes)
    }

    /// The text for one event, whose values `get` finds by their path. Null counts as missing.
    pub fn render<'a>(&self, get: impl Fn(&[String]) -> Option<Raw<'a>>) -> Result<String, Missing> {
        self.render_with(get, |out, value| out.push_str(value))
    }

    /// The same, with values and defaults escaped by `push` on their way into the text.
    pub fn render_with<'a>(
        &self,
        get: impl Fn(&[String]) -> Option<Raw<'a>>,
        push: impl Fn(&mut String, &str),
    ) -> Result<String, Missing> {
        let mut out = String::new();
        let mut time = None;
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field { path, default } => match get(path).filter(|value| !value.is_null()) {
                    Some(value) => push(&mut out, &value.display()),
                    None => push(&mut out, default.as_ref().ok_or_else(|| Missing(path.join(".")))?),
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
            return Err(format!("`{path}` is not a field: expected names separated by dots"));
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

/// The time that a value says, as RFC 3339 or an epoch number.
pub fn timestamp(value: Raw<'_>) -> Option<Timestamp> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"timestamp":"2025-03-01T23:30:05.5-01:00","user_id":"ali","n":5,"metadata":{"tenant":"\u0061cme"},"no":null}"#;

    fn render(template: &str) -> Result<String, String> {
        let template = Template::parse(template).map_err(|wrong| format!("{:?} {}", wrong.range, wrong.message))?;
        template.render(|path| Raw::valid(EVENT.as_bytes()).path(path)).map_err(|missing| missing.to_string())
    }

    #[test]
    fn fields_defaults_and_times_are_filled_in() {
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
            "the event has no `metadata.x`, and the template has no default for it"
        );
        let timeless = Template::parse("%Y").map(|template| template.render(|_| None));
        assert_eq!(timeless, Ok(Err(Missing("timestamp".into()))));
    }

    #[test]
    fn what_is_wrong_is_shown_where_it_is() {
        assert_eq!(render("ab {{ x").unwrap_err(), "3..7 unclosed `{{`");
        assert_eq!(render("é{{ a..b }}").unwrap_err(), "2..12 `a..b` is not a field: expected names separated by dots");
        assert_eq!(render("{{ }}").unwrap_err(), "0..5 `` is not a field: expected names separated by dots");
    }

    #[test]
    fn a_template_without_fields_is_a_constant() {
        assert_eq!(Template::parse("50%").expect("a template").constant(), Some("50%"));
        assert_eq!(Template::parse("%Y").expect("a template").constant(), None);
        assert_eq!(Template::parse("a-%Y").expect("a template").prefix(), "a-");
        assert_eq!(Template::parse("{{ a }}-").expect("a template").prefix(), "");
    }

    #[test]
    fn the_part_of_a_time_that_decides_is_known() {
        let of = |text| Template::parse(text).expect("a template").time_bytes();
        assert_eq!((of("a"), of("a-%Y.%m.%d"), of("%F-%H"), of("%s")), (Some(0), Some(10), Some(13), Some(19)));
        assert_eq!(of("%Y-{{ a }}"), None);
    }
}
