//! Timestamps, as events carry them and people write them.

use std::fmt;
use std::time::{Duration, SystemTime};

/// A point in time: microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn now() -> Timestamp {
        Timestamp::from(SystemTime::now())
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.as_micros().min(i64::MAX as u128) as i64))
    }

    pub fn minus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(duration.as_micros().min(i64::MAX as u128) as i64))
    }

    /// An RFC 3339 time, with `T` or a space, any number of digits behind the second, and `Z` or an offset.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let mut rest = text.trim().as_bytes();
        let year = digits(&mut rest, 4)?;
        let month = expect(&mut rest, b"-").and_then(|()| digits(&mut rest, 2))?;
        let day = expect(&mut rest, b"-").and_then(|()| digits(&mut rest, 2))?;
        let hour = expect(&mut rest, b"Tt ").and_then(|()| digits(&mut rest, 2))?;
        let minute = expect(&mut rest, b":").and_then(|()| digits(&mut rest, 2))?;
        let second = expect(&mut rest, b":").and_then(|()| digits(&mut rest, 2))?;
        let micros = if expect(&mut rest, b".,").is_some() { fraction(&mut rest)? } else { 0 };
        let offset = offset(rest)?;
        let days = day_number(year, month, day)?;
        // A leap second counts as the second before it.
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second.min(59) - offset;
        Some(Timestamp(seconds * 1_000_000 + micros))
    }
}

fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    head.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

fn expect(rest: &mut &[u8], any_of: &[u8]) -> Option<()> {
    let (first, tail) = rest.split_first()?;
    any_of.contains(first).then(|| *rest = tail)
}

/// Microseconds from the digits behind the point; further digits are cut off.
fn fraction(rest: &mut &[u8]) -> Option<i64> {
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (head, tail) = rest.split_at(count);
    *rest = tail;
    let digit = |place: usize| head.get(place).map_or(0, |byte| i64::from(byte - b'0'));
    (count > 0).then(|| (0..6).fold(0, |micros, place| micros * 10 + digit(place)))
}

/// Seconds east of UTC: `Z`, `+01:00`, `-0530` or `+01`.
fn offset(mut rest: &[u8]) -> Option<i64> {
    let sign = match rest.split_first()? {
        (b'Z' | b'z', []) => return Some(0),
        (b'+', tail) => {
            rest = tail;
            1
        }
        (b'-', tail) => {
            rest = tail;
            -1
        }
        _ => return None,
    };
    let hours = digits(&mut rest, 2)?;
    let _ = expect(&mut rest, b":");
    let minutes = if rest.is_empty() { 0 } else { digits(&mut rest, 2)? };
    (rest.is_empty() && hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// The days from 1970-01-01 to a Gregorian date, if there is such a date.
fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let era = shifted_year.div_euclid(400);
    let year_of_era = shifted_year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    (1..=days_of_month(year, month)).contains(&day).then_some(days)
}

/// None of a month that does not exist.
fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 0,
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Timestamp(after.as_micros() as i64),
            Err(before) => Timestamp(-(before.duration().as_micros() as i64)),
        }
    }
}

/// RFC 3339 in UTC with as many digits as needed: milliseconds, or microseconds where there are any.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)?;
        if micros % 1000 == 0 { write!(f, ".{:03}Z", micros / 1000) } else { write!(f, ".{micros:06}Z") }
    }
}

/// The Gregorian date of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_3339_is_read_in_all_its_spellings() {
        let expected = Some(Timestamp(1_767_323_045_678_900));
        for text in [
            "2026-01-02T03:04:05.6789Z",
            "2026-01-02 03:04:05,678900999z",
            "2026-01-02T04:04:05.6789+01:00",
            "2026-01-01T21:34:05.6789-0530",
        ] {
            assert_eq!(Timestamp::parse(text), expected, "{text}");
        }
        for wrong in
            ["2026-02-30T00:00:00Z", "2026-01-02T03:04:05", "2026-1-2T03:04:05Z", "2026-01-02T24:00:00Z", "", "x"]
        {
            assert_eq!(Timestamp::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_time_that_is_written_reads_the_same(micros in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            prop_assert_eq!(Timestamp::parse(&Timestamp(micros).to_string()), Some(Timestamp(micros)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}", units in "[0-9.]{1,25} ?[a-zA-Zµ/]{0,5}") {
            let _ = Timestamp::parse(&text);
            let _ = (units.parse::<crate::units::ByteSize>(), units.parse::<crate::units::Duration>());
            let _ = (text.parse::<crate::units::Duration>(), units.parse::<crate::units::Rate>());
        }
    }
}
