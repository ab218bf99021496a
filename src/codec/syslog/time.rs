//! Timestamps of RFC 3164 messages, in all their variants.

use jiff::civil;
use jiff::tz::TimeZone;

use crate::event::time::Moment;
use crate::units::Timestamp;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// The longest number that counts messages before the time, as Cisco devices write it.
const COUNTER: usize = 10;
/// Years that a clock may show: others are those of clocks that were never set.
const YEARS: std::ops::Range<i16> = 1980..2199;

/// The time that a text begins with, and what follows; the time is none where it cannot be one that a clock has shown.
/// `None` if the text begins with no time.
pub fn read<'t>(text: &'t str, received: Timestamp, zone: &TimeZone) -> Option<(Option<Moment>, &'t str)> {
    let start = behind_counter(text);
    let start = start.strip_prefix(['*', '.']).unwrap_or(start);
    named_month(start, received, zone).or_else(|| numbers(start))
}

/// `45: ` before the time counts messages.
fn behind_counter(text: &str) -> &str {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text[digits..].strip_prefix(':').map(str::trim_start);
    rest.filter(|_| (1..=COUNTER).contains(&digits)).unwrap_or(text)
}

/// A time as newer messages have it. Devices whose clock was never set begin with 1970.
pub fn modern(text: &str) -> Option<Moment> {
    Moment::parse(text).filter(Moment::is_of_a_set_clock)
}

/// `2026-01-31T08:00:00.5+01:00`, also one that was never true.
fn numbers(text: &str) -> Option<(Option<Moment>, &str)> {
    let (time, rest) = text.split_once(' ')?;
    let bytes = time.as_bytes();
    let has_shape = bytes.len() >= 19
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && matches!(bytes[10], b'T' | b't');
    has_shape.then(|| (modern(time), rest))
}

/// `Oct 11 22:14:15`, with a year before or behind the clock, parts of a second, and a zone.
fn named_month<'t>(text: &'t str, received: Timestamp, zone: &TimeZone) -> Option<(Option<Moment>, &'t str)> {
    let (month, rest) = word(text)?;
    let month = MONTHS.iter().position(|name| *name == month)? as i8 + 1;
    let (day, mut rest) = word(rest)?;
    let day: i8 = day.parse().ok()?;
    let mut year = None;
    if let Some((found, behind)) = year_at(rest) {
        (year, rest) = (Some(found), behind);
    }
    let (clock, mut rest) = word(rest)?;
    let (clock, has_colon) = clock.strip_suffix(':').map_or((clock, false), |clock| (clock, true));
    let (hour, minute, second, nanos) = time_of_day(clock)?;
    if !has_colon
        && year.is_none()
        && let Some((found, behind)) = year_at(rest)
    {
        (year, rest) = (Some(found), behind);
    }
    let mut own_zone = None;
    if !has_colon && let Some((name, behind)) = word(rest) {
        let name = name.strip_suffix(':').unwrap_or(name);
        if matches!(name, "UTC" | "GMT" | "Z") {
            (own_zone, rest) = (Some(TimeZone::UTC), behind);
        }
    }
    let zone = own_zone.as_ref().unwrap_or(zone);
    let at = |year: i16| {
        let date = civil::DateTime::new(year, month, day, hour, minute, second, nanos).ok()?;
        zone.to_ambiguous_timestamp(date).compatible().ok()
    };
    let found = match year {
        Some(year) => at(year).filter(|_| YEARS.contains(&year)),
        // Clocks differ, and messages come late: the year is the one that brings the time nearest to the receipt.
        None => {
            let now = jiff::Timestamp::from_microsecond(received.0).ok()?;
            let this = zone.to_datetime(now).year();
            let apart = |time: &jiff::Timestamp| (time.as_microsecond() - received.0).abs();
            [this - 1, this, this + 1].into_iter().filter_map(at).min_by_key(apart)
        }
    };
    let moment = found.and_then(|time| {
        let seconds = Timestamp(time.as_second() * 1_000_000).to_string();
        let fraction = clock.split_once(['.', ',']).map(|(_, fraction)| format!(".{fraction}")).unwrap_or_default();
        Moment::parse(&format!("{}{fraction}Z", &seconds[..19]))
    });
    Some((moment, rest))
}

/// A word and what follows it and its spaces.
fn word(text: &str) -> Option<(&str, &str)> {
    let (word, rest) = text.split_once(' ')?;
    (!word.is_empty()).then(|| (word, rest.trim_start_matches(' ')))
}

fn year_at(text: &str) -> Option<(i16, &str)> {
    let (year, rest) = word(text)?;
    let is_year = year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit());
    Some((year.parse().ok().filter(|_| is_year)?, rest))
}

/// `22:14:15`, perhaps with a fraction.
fn time_of_day(text: &str) -> Option<(i8, i8, i8, i32)> {
    let (whole, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut parts = whole.split(':');
    let mut part =
        || parts.next().filter(|part| (1..=2).contains(&part.len())).and_then(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (part()?, part()?, part()?);
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    (parts.next().is_none() && hour < 24 && minute < 60 && second <= 60).then_some((
        hour,
        minute,
        second.min(59),
        nanos,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, received: &str, zone: &str) -> (Option<String>, String) {
        let received = Timestamp::parse(received).expect("a time");
        let zone = TimeZone::get(zone).expect("a zone");
        let (moment, rest) = read(text, received, &zone).unwrap_or_else(|| panic!("no time in {text}"));
        let written = moment.map(|moment| {
            let mut out = Vec::new();
            moment.write(&mut out);
            String::from_utf8(out).expect("text")
        });
        (written, rest.to_owned())
    }

    #[test]
    fn every_way_of_writing_a_time_is_read() {
        for (text, expected) in [
            ("Oct 11 22:14:15 h x", "2026-10-11T22:14:15Z"),
            ("Oct  1 22:14:15 h x", "2026-10-01T22:14:15Z"),
            ("Oct 1 22:14:15 h x", "2026-10-01T22:14:15Z"),
            ("Oct 11 22:14:15.123 h x", "2026-10-11T22:14:15.123Z"),
            ("Oct 11 2025 22:14:15 h x", "2025-10-11T22:14:15Z"),
            ("Oct 11 22:14:15 2025 h x", "2025-10-11T22:14:15Z"),
            ("Oct 11 22:14:15.5 UTC: h x", "2026-10-11T22:14:15.5Z"),
            ("*Oct 11 22:14:15: h x", "2026-10-11T22:14:15Z"),
            ("45: *Oct 11 22:14:15.123: h x", "2026-10-11T22:14:15.123Z"),
            ("000045: .Oct 11 22:14:15 h x", "2026-10-11T22:14:15Z"),
            ("2026-10-11T22:14:15.003+02:00 h x", "2026-10-11T20:14:15.003Z"),
        ] {
            assert_eq!(
                at(text, "2026-11-28T00:00:00Z", "UTC"),
                (Some(expected.to_owned()), "h x".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_year_is_the_nearest_one_and_a_zone_is_that_of_the_device() {
        let year = |text: &str, received: &str| at(text, received, "UTC").0.expect("a time");
        assert_eq!(year("Jan  1 00:00:05 h x", "2026-12-31T23:59:58Z"), "2027-01-01T00:00:05Z");
        assert_eq!(year("Dec 31 23:59:58 h x", "2027-01-01T00:00:05Z"), "2026-12-31T23:59:58Z");
        assert_eq!(year("Feb 29 10:00:00 h x", "2025-01-01T00:00:00Z"), "2024-02-29T10:00:00Z");
        assert_eq!(
            at("Oct 11 22:14:15 h x", "2026-11-28T00:00:00Z", "Asia/Tehran").0.as_deref(),
            Some("2026-10-11T18:44:15Z")
        );
    }

    #[test]
    fn what_is_no_time_is_none_and_what_no_clock_shows_costs_the_time_alone() {
        let received = Timestamp(1_767_225_600_000_000);
        for text in [
            "October 11 22:14:15 x",
            "Oct x 22:14:15 h",
            "Oct 11 22:14 h",
            "11 Oct 22:14:15",
            "",
            "Oct",
            "1234",
            "2026 x",
        ] {
            assert!(read(text, received, &TimeZone::UTC).is_none(), "{text}");
        }
        for text in
            ["Jan  1 00:00:00 1970 h x", "Feb 31 00:00:00 h x", "1970-01-01T00:00:00Z h x", "0001-01-01T00:00:00Z h x"]
        {
            assert_eq!(read(text, received, &TimeZone::UTC), Some((None, "h x")), "{text}");
        }
    }
}
