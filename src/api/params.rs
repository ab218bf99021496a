//! Typed query parameters: what a route accepts, and a 400 that names the parameter it does not.

use std::collections::BTreeMap;

use form_urlencoded::parse;
use jiff::civil;
use percent_encoding::percent_decode_str;

use crate::net::http::Problem;
use crate::query::request::Zone;
use crate::units::Timestamp;

/// One parameter of a route.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub kind: Kind,
    pub about: &'static str,
}

/// What a parameter's value must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Text,
    /// A number from the first to the second.
    Number(u64, u64),
    /// RFC 3339, a date, a local time, or an epoch number.
    Time,
    /// An IANA time zone.
    Zone,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The filter language.
    Query,
}

/// The longest value of a parameter, in bytes.
const MAX_VALUE: usize = 16 * 1024;

/// The parameters of one request, each of which its route understands.
#[derive(Debug, Default)]
pub struct Params {
    values: BTreeMap<&'static str, String>,
    zone: Zone,
}

impl Params {
    /// Reads a query string. `zone` is the one of times that name none.
    pub fn read(query: Option<&str>, known: &[&[Parameter]], zone: &Zone) -> Result<Params, Problem> {
        let mut params = Params { values: BTreeMap::new(), zone: zone.clone() };
        let query = query.unwrap_or("");
        let encoded = query.split('&').filter(|pair| !pair.is_empty());
        for ((name, value), encoded) in parse(query.as_bytes()).zip(encoded) {
            let Some(parameter) = known.iter().flat_map(|some| some.iter()).find(|known| known.name == name) else {
                let names: Vec<&str> = known.iter().flat_map(|some| some.iter()).map(|known| known.name).collect();
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(bad(&name, &format!("unknown parameter; expected {known}")));
            };
            if value.len() > MAX_VALUE {
                return Err(bad(&name, "the value is too long"));
            }
            if percent_decode_str(encoded).decode_utf8().is_err() {
                return Err(bad(&name, "the value is not UTF-8"));
            }
            params.check(parameter, &value)?;
            if params.values.insert(parameter.name, value.into_owned()).is_some() {
                return Err(bad(&name, "given more than once"));
            }
        }
        if let Some(name) = params.text("tz") {
            params.zone =
                zone_of(name).ok_or_else(|| bad("tz", "unknown time zone; expected one such as `Europe/Berlin`"))?;
        }
        Ok(params)
    }

    fn check(&self, parameter: &Parameter, value: &str) -> Result<(), Problem> {
        let name = parameter.name;
        match parameter.kind {
            Kind::Text | Kind::Query | Kind::Zone | Kind::Time => Ok(()),
            Kind::Number(min, max) => match value.parse::<u64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ => Err(bad(name, &format!("expected a number from {min} to {max}"))),
            },
            Kind::Choice(words) if words.contains(&value) => Ok(()),
            Kind::Choice(words) => Err(bad(name, &format!("expected one of {}", words.join(", ")))),
        }
    }

    /// The value, if there is one and it is not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether the parameter was given, even empty.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first moment of a time or date.
    pub fn from(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.span(name).map(|span| span.map(|(from, _)| from))
    }

    /// The moment behind a time or date, which belongs to the range.
    pub fn to(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.span(name).map(|span| span.map(|(_, to)| to))
    }

    fn span(&self, name: &str) -> Result<Option<(Timestamp, Timestamp)>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        span(text, &self.zone)
            .map(Some)
            .ok_or_else(|| bad(name, "expected a time such as `2026-01-31T08:00:00Z`, a date, or seconds since 1970"))
    }

    /// The parameters as given, for the audit record.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

/// A problem with one parameter.
pub fn bad(name: &str, message: &str) -> Problem {
    Problem::bad_request(format!("{name}: {message}"))
}

pub fn zone_of(name: &str) -> Option<Zone> {
    crate::units::zone(name).map(Zone)
}

/// The first moment of what a text names, and the one behind its last.
fn span(text: &str, zone: &Zone) -> Option<(Timestamp, Timestamp)> {
    let text = text.trim();
    // A plus sign in a query string is a space.
    let text = text.replace(' ', "+");
    let instant = |at: Timestamp| (at, Timestamp(at.0 + 1));
    if let Some(at) = Timestamp::parse(&text) {
        return Some(instant(at));
    }
    if text.parse::<f64>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return epoch(&text).map(instant);
    }
    // The last days that can be written stand for "always" and "never", and are outside of the times that a zone has.
    let local = |at: civil::DateTime| match at.to_zoned_datetime(zone.0.clone()) {
        Ok(zoned) => Some(Timestamp(zoned.timestamp().as_microsecond())),
        Err(_) if at.year() == civil::Date::MAX.year() => Some(Timestamp(jiff::Timestamp::MAX.as_microsecond())),
        Err(_) => None,
    };
    if text.len() == 10
        && let Ok(date) = text.parse::<civil::Date>()
    {
        let next = date.tomorrow().unwrap_or(date);
        return Some((local(date.at(0, 0, 0, 0))?, local(next.at(0, 0, 0, 0))?));
    }
    let spaced = text.replacen('+', "T", 1);
    let at = spaced.parse::<civil::DateTime>().ok().and_then(local)?;
    // A time without seconds is the whole minute.
    let width = if spaced.len() == 16 { 60_000_000 } else { 1 };
    Some((at, Timestamp(at.0 + width)))
}

/// Seconds, milliseconds, microseconds or nanoseconds, by their size; the epoch itself is a time here.
fn epoch(text: &str) -> Option<Timestamp> {
    let number: f64 = text.parse().ok()?;
    let micros = match number {
        n if n < 1e11 => n * 1e6,
        n if n < 1e14 => n * 1e3,
        n if n < 1e17 => n,
        n => n / 1e3,
    };
    (micros < 9e15 * 100.0).then_some(Timestamp(micros as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Parameter] = &[
        Parameter { name: "limit", kind: Kind::Number(1, 100), about: "" },
        Parameter { name: "start_date", kind: Kind::Time, about: "" },
        Parameter { name: "order", kind: Kind::Choice(&["asc", "desc"]), about: "" },
        Parameter { name: "tz", kind: Kind::Zone, about: "" },
    ];

    fn read(query: &str) -> Result<Params, String> {
        Params::read(Some(query), &[KNOWN], &Zone::default()).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert_eq!(read("limit=7&order=asc").unwrap().number("limit", 10), 7);
        assert_eq!(read("limit=101").unwrap_err(), "limit: expected a number from 1 to 100");
        assert_eq!(read("order=up").unwrap_err(), "order: expected one of asc, desc");
        assert_eq!(read("limits=1").unwrap_err(), "limits: unknown parameter; expected limit, start_date, order, tz");
        assert_eq!(read("limit=1&order=asc&limit=1").unwrap_err(), "limit: given more than once");
        assert_eq!(read("&start_date=%ff").unwrap_err(), "start_date: the value is not UTF-8");
        assert!(read("start_date=%d8%B3+100%+%zz&&order=desc").is_ok());
        assert!(read("tz=Mars/Base").unwrap_err().starts_with("tz: "));
        assert!(read("start_date=soon").unwrap().from("start_date").is_err());
    }

    #[test]
    fn times_are_read_in_all_their_forms() {
        let span = |query: &str| {
            let params = read(query).unwrap();
            let text = |at: Result<Option<Timestamp>, Problem>| at.unwrap().unwrap().to_string();
            (text(params.from("start_date")), text(params.to("start_date")))
        };
        let day = ("2026-01-31T00:00:00.000Z".to_owned(), "2026-02-01T00:00:00.000Z".to_owned());
        assert_eq!(span("start_date=2026-01-31"), day);
        assert_eq!(span("start_date=2026-01-31&tz=Asia/Tehran").0, "2026-01-30T20:30:00.000Z");
        assert_eq!(span("start_date=1767225600").0, "2026-01-01T00:00:00.000Z");
        for never in ["9999-12-31", "9999-12-30", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59", "9999-12-31T23:59"] {
            assert!(span(&format!("start_date={never}")).1.starts_with("9999-12-3"), "{never}");
        }
        assert_eq!(span("start_date=1767225600123").0, "2026-01-01T00:00:00.123Z");
        assert_eq!(span("start_date=2026-01-31T08:00&tz=Europe/Berlin").1, "2026-01-31T07:01:00.000Z");
        assert_eq!(span("start_date=2026-01-31T08:00:00%2B01:00").0, "2026-01-31T07:00:00.000Z");
        assert_eq!(span("start_date=2026-01-31T08:00:00+01:00").0, "2026-01-31T07:00:00.000Z");
    }
}
