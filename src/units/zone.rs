//! Time zones by name, with common spellings of UTC.

use jiff::tz::TimeZone;

/// What is UTC even where no database of time zones can be found, in lower case.
const UTC: [&str; 9] = ["utc", "etc/utc", "uct", "etc/uct", "gmt", "etc/gmt", "zulu", "etc/zulu", "z"];

/// The time zone of this name, such as `Asia/Tehran`, if it is known here.
pub fn zone(name: &str) -> Option<TimeZone> {
    if UTC.iter().any(|utc| name.eq_ignore_ascii_case(utc)) {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_utc_is_utc() {
        for name in ["UTC", "utc", "Etc/UTC", "GMT", "Etc/GMT", "Zulu", "Z", "UCT"] {
            assert_eq!(zone(name), Some(TimeZone::UTC), "{name}");
        }
        assert!(zone("Asia/Tehran").is_some());
        assert!(zone("Mars").is_none() && zone("").is_none());
    }
}
