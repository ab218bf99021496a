//! Timestamps as producers write them: RFC 3339 with any offset, and epoch numbers in any unit.

use super::decimal::Decimal;
use crate::units::Timestamp;

/// A point in time, with its fraction of a second digit by digit as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970-01-01 UTC.
    seconds: i64,
    fraction: Vec<u8>,
}

/// No event is older than 1970 or younger than 2199: what says so is an empty value (`0001-01-01`) or a mistake.
const SECONDS: std::ops::Range<i64> = 0..7_258_118_400;
/// From 1980 to 2199 the unit of an epoch number is certain. What a clock says before is that it was never set.
const SET_SECONDS: std::ops::Range<i64> = 315_532_800..SECONDS.end;
/// More digits behind the point of an epoch number are noise.
const EPOCH_FRACTION: usize = 9;
/// The length of a time without fraction and offset.
const WHOLE: usize = "2025-01-31T08:00:00".len();

/// Whether `text` is already what [`Moment::write`] gives: a plausible time in UTC, such as `2025-01-31T08:00:00.5Z`.
pub fn is_canonical(text: &[u8]) -> bool {
    let Some((whole, [rest @ .., b'Z'])) = text.split_at_checked(WHOLE) else { return false };
    whole[10] == b'T'
        && !whole.ends_with(b"60")
        && matches!(rest, [] | [b'.', ..])
        && std::str::from_utf8(text).ok().and_then(Timestamp::parse).is_some_and(is_plausible)
}

fn is_plausible(at: Timestamp) -> bool {
    SECONDS.contains(&at.0.div_euclid(1_000_000))
}

impl Moment {
    /// Reads RFC 3339 (also with a space for the `T`, and a comma for the point). Without an offset it is UTC.
    pub fn parse(text: &str) -> Option<Moment> {
        let text = text.trim();
        let rest = text.as_bytes().get(WHOLE..)?;
        let has_point = matches!(rest, [b'.' | b',', ..]);
        let fraction = if has_point { &rest[1..] } else { b"" };
        let digits = fraction.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(fraction.len());
        let has_offset = digits < fraction.len() || !(has_point || rest.is_empty());
        let at = if has_offset { Timestamp::parse(text) } else { Timestamp::parse(&format!("{text}Z")) };
        let seconds = at.filter(|at| is_plausible(*at))?.0.div_euclid(1_000_000);
        Some(Moment { seconds, fraction: fraction[..digits].to_vec() })
    }

    /// Reads an epoch number: seconds, milliseconds, microseconds or nanoseconds, by its size.
    pub fn parse_epoch(text: &str) -> Option<Moment> {
        let number = Decimal::parse(text.as_bytes()).filter(|number| !number.is_negative())?;
        let (whole, fraction) = number.places();
        [0, 3, 6, 9].into_iter().find_map(|behind| {
            let (seconds, below) = whole.split_at(whole.len().checked_sub(behind)?);
            let mut digits = [below, fraction].concat();
            digits.truncate(EPOCH_FRACTION);
            let seconds = std::str::from_utf8(seconds).ok()?.parse().ok()?;
            Some(Moment { seconds, fraction: digits }).filter(Moment::is_of_a_set_clock)
        })
    }

    /// Whether a clock that says so was set, and did not begin with 1970.
    pub fn is_of_a_set_clock(&self) -> bool {
        SET_SECONDS.contains(&self.seconds)
    }

    /// The time in microseconds; finer digits are cut off.
    pub fn timestamp(&self) -> Timestamp {
        let micros = (0..6).fold(0, |sum, nth| sum * 10 + self.fraction.get(nth).map_or(0, |d| i64::from(d - b'0')));
        Timestamp(self.seconds * 1_000_000 + micros)
    }

    /// Appends the time as RFC 3339 in UTC.
    pub fn write(&self, out: &mut Vec<u8>) {
        let text = Timestamp(self.seconds * 1_000_000).to_string();
        out.extend_from_slice(&text.as_bytes()[..WHOLE]);
        if !self.fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(&self.fraction);
        }
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(moment: Option<Moment>) -> Option<String> {
        let mut out = Vec::new();
        moment?.write(&mut out);
        Some(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn every_offset_becomes_utc_and_fractions_stay_as_written() {
        for (written, expected) in [
            ("2025-01-31T08:00:00Z", "2025-01-31T08:00:00Z"),
            ("2025-01-31t08:00:00.10z", "2025-01-31T08:00:00.10Z"),
            ("2025-01-31T08:00:00.123456789123+01:00", "2025-01-31T07:00:00.123456789123Z"),
            ("2025-01-01T00:30:00+05:30", "2024-12-31T19:00:00Z"),
            ("2024-02-28T23:30:00-0100", "2024-02-29T00:30:00Z"),
            ("2025-01-31 08:00:00,250", "2025-01-31T08:00:00.250Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("1970-01-01T03:30:01.5+03:30", "1970-01-01T00:00:01.5Z"),
            ("2025-01-31T08:00:00.000001-00", "2025-01-31T08:00:00.000001Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
        ] {
            assert_eq!(text(Moment::parse(written)).as_deref(), Some(expected), "{written}");
        }
    }

    #[test]
    fn epoch_numbers_are_read_by_their_size() {
        for (written, expected) in [
            ("1735689600", "2025-01-01T00:00:00Z"),
            ("1735689600.5", "2025-01-01T00:00:00.5Z"),
            ("1735689600123", "2025-01-01T00:00:00.123Z"),
            ("1735689600123456", "2025-01-01T00:00:00.123456Z"),
            ("1735689600123456789", "2025-01-01T00:00:00.123456789Z"),
            ("1735689600123.25", "2025-01-01T00:00:00.12325Z"),
            ("1.7356896e9", "2025-01-01T00:00:00Z"),
            ("1735689600.1234567891234", "2025-01-01T00:00:00.123456789Z"),
        ] {
            assert_eq!(text(Moment::parse_epoch(written)).as_deref(), Some(expected), "{written}");
        }
    }

    #[test]
    fn what_no_clock_says_is_no_time() {
        for written in [
            "",
            "yesterday",
            "2025-01-31",
            "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-01-31T24:00:00Z",
            "2025-01-31T08:00:00.Z",
            "2025-01-31T08:00:00 UTC",
            "2025-01-31T08:00:00+25:00",
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
            "2025-01-31T08:00:00Zz",
            "２025-01-31T08:00:00Z",
        ] {
            assert_eq!(Moment::parse(written), None, "{written}");
        }
        for written in ["0", "17", "-1735689600", "1e12345", "99999999999999999999999", "", "1735689600Z"] {
            assert_eq!(Moment::parse_epoch(written), None, "{written}");
        }
    }

    #[test]
    fn the_microseconds_are_those_of_the_text() {
        let at = |text| Moment::parse(text).map(|moment| moment.timestamp());
        assert_eq!(at("2025-01-01T00:00:00.5Z"), Some(Timestamp(1_735_689_600_500_000)));
        assert_eq!(at("2025-01-01T00:00:00.1234567Z"), Some(Timestamp(1_735_689_600_123_456)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_canonical_and_reads_the_same(seconds in SECONDS, fraction in "[0-9]{0,12}") {
            let moment = Moment { seconds, fraction: fraction.into_bytes() };
            let written = text(Some(moment.clone())).expect("text");
            prop_assert!(is_canonical(written.as_bytes()), "{}", written);
            prop_assert_eq!(Moment::parse(&written), Some(moment));
        }

        #[test]
        fn microseconds_survive_the_text(micros in SECONDS.start * 1_000_000..SECONDS.end * 1_000_000) {
            let written = Timestamp(micros).to_string();
            prop_assert_eq!(Moment::parse(&written).map(|moment| moment.timestamp()), Some(Timestamp(micros)));
        }

        #[test]
        fn no_text_breaks_the_reader(written in "\\PC{0,40}") {
            let canonical = is_canonical(written.as_bytes());
            prop_assert!(!canonical || text(Moment::parse(&written)) == Some(written.clone()));
            let _ = Moment::parse_epoch(&written);
        }
    }
}
