//! Durations: `5s`, `500ms`, `1h30m`, `30d`.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time;

use super::text::{Malformed, as_text, scaled, split};

/// A length of time, written with its unit. Otherwise it is the standard library's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Duration(pub time::Duration);

/// Names and nanoseconds; the first name of each length is the one that is written.
const UNITS: [(&[&str], u64); 8] = [
    (&["w", "week", "weeks"], 604_800_000_000_000),
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["h", "hour", "hours"], 3_600_000_000_000),
    (&["m", "min", "minute", "minutes"], 60_000_000_000),
    (&["s", "sec", "second", "seconds"], 1_000_000_000),
    (&["ms"], 1_000_000),
    (&["us", "µs"], 1_000),
    (&["ns"], 1),
];

impl Duration {
    pub const fn from_secs(seconds: u64) -> Duration {
        Duration(time::Duration::from_secs(seconds))
    }

    pub const fn from_millis(millis: u64) -> Duration {
        Duration(time::Duration::from_millis(millis))
    }
}

impl Deref for Duration {
    type Target = time::Duration;

    fn deref(&self) -> &time::Duration {
        &self.0
    }
}

impl From<time::Duration> for Duration {
    fn from(duration: time::Duration) -> Duration {
        Duration(duration)
    }
}

impl From<Duration> for time::Duration {
    fn from(duration: Duration) -> time::Duration {
        duration.0
    }
}

/// The nanoseconds of a unit.
pub(super) fn unit(name: &str) -> Option<u64> {
    UNITS.iter().find(|(names, _)| names.contains(&name)).map(|(_, nanos)| *nanos)
}

impl FromStr for Duration {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Duration, Malformed> {
        let expected = || Malformed(format!("expected a time such as `5s` or `1h30m`, got `{text}`"));
        if text.trim() == "0" {
            return Ok(Duration::default());
        }
        let mut total: u64 = 0;
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (number, tail) = split(rest).ok_or_else(expected)?;
            let end = tail.find(|c: char| c.is_ascii_digit() || c == ' ').unwrap_or(tail.len());
            if tail.is_empty() {
                return Err(Malformed(format!("the time `{text}` needs a unit, such as `{text}s`")));
            }
            let unit = unit(&tail[..end]).ok_or_else(expected)?;
            let part = scaled(number, unit).and_then(|part| total.checked_add(part));
            total = part.ok_or_else(|| Malformed(format!("the time `{text}` is too long")))?;
            rest = tail[end..].trim_start();
        }
        if text.trim().is_empty() { Err(expected()) } else { Ok(Duration(time::Duration::from_nanos(total))) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (names, unit) in UNITS.iter().skip(1).map(|(names, unit)| (names, u128::from(*unit))) {
            if nanos >= unit {
                write!(f, "{}{}", nanos / unit, names[0])?;
                nanos %= unit;
            }
        }
        Ok(())
    }
}

as_text!(Duration, "a time", r"^\s*(0|([0-9]+(\.[0-9]+)?\s*[a-zµ]+\s*)+)$", "5s");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        let read = |text: &str| text.parse::<Duration>().map(|duration| duration.as_millis()).ok();
        assert_eq!(read("5s"), Some(5_000));
        assert_eq!(read("1.5 s"), Some(1_500));
        assert_eq!(read("1h30m"), Some(5_400_000));
        assert_eq!(read("1h 30 min"), Some(5_400_000));
        assert_eq!(read("30d"), Some(2_592_000_000));
        assert_eq!(read("0"), Some(0));
        for wrong in ["", "5", "s", "5x", "-5s", "5s6", "999999999999w"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_is_written_as_it_may_be_read() {
        for text in ["0s", "5s", "1h30m", "30d", "1d2h3m4s5ms6us7ns"] {
            assert_eq!(text.parse::<Duration>().map(|duration| duration.to_string()), Ok(text.to_string()));
        }
    }
}
