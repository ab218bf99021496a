//! Local day, hour or interval of an event.

use crate::query::request::{GroupKey, Zone, interval_of};
use crate::units::Timestamp;

/// Microseconds for which an offset from UTC is taken to be the same: zones change theirs at whole quarters.
const QUARTER: i64 = 15 * 60 * 1_000_000;
pub const DAY: i64 = 86_400 * 1_000_000;

/// Local time, with the offset remembered for a quarter of an hour.
pub struct Clock {
    zone: Zone,
    quarter: i64,
    offset: i64,
    /// The local beginning of the last interval with the offset of its event, and when it began.
    begun: ([i64; 2], i64),
}

impl Clock {
    pub fn new(by: &GroupKey) -> Clock {
        let zone = match by {
            GroupKey::Interval { zone, .. } | GroupKey::Day(zone) | GroupKey::Hour(zone) => zone.clone(),
            GroupKey::Field(_) => Zone::default(),
        };
        Clock { zone, quarter: i64::MIN, offset: 0, begun: ([i64::MIN; 2], 0) }
    }

    pub fn key(&mut self, by: &GroupKey, time: i64) -> i64 {
        let quarter = time.div_euclid(QUARTER);
        if quarter != self.quarter {
            self.quarter = quarter;
            self.offset = self.zone.offset_at(Timestamp(quarter * QUARTER)) * 1_000_000;
        }
        let local = time + self.offset;
        match by {
            GroupKey::Day(_) => local.div_euclid(DAY),
            GroupKey::Hour(_) => local.rem_euclid(DAY) / (3600 * 1_000_000),
            GroupKey::Interval { micros, .. } => {
                let begins = interval_of(local, *micros);
                if self.begun.0 != [begins, self.offset] {
                    self.begun = ([begins, self.offset], self.zone.interval_start(Timestamp(time), *micros).0);
                }
                self.begun.1
            }
            GroupKey::Field(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        Timestamp::parse(text).expect("a time").0
    }

    #[test]
    fn a_day_or_week_in_which_the_clocks_are_changed_is_one() {
        const HOUR: i64 = 3600 * 1_000_000;
        for (zone, width, from, to, starts) in [
            ("Europe/Berlin", DAY, "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", 1),
            ("Europe/Berlin", DAY, "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z", 1),
            ("Europe/Berlin", 7 * DAY, "2026-03-22T23:00:00Z", "2026-03-29T22:00:00Z", 1),
            ("Europe/Berlin", 6 * HOUR, "2026-03-28T23:00:00Z", "2026-03-29T04:00:00Z", 1),
            ("Europe/Berlin", HOUR, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z", 2),
            ("America/Sao_Paulo", DAY, "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z", 1),
            ("America/Sao_Paulo", DAY, "2019-02-16T02:00:00Z", "2019-02-17T03:00:00Z", 1),
            ("Australia/Lord_Howe", DAY, "2026-04-04T13:00:00Z", "2026-04-05T13:30:00Z", 1),
            ("Asia/Tehran", DAY, "2022-03-21T20:30:00Z", "2022-03-22T19:30:00Z", 1),
            ("UTC", 7 * DAY, "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z", 1),
        ] {
            let zone = Zone(jiff::tz::TimeZone::get(zone).expect("a zone"));
            let by = GroupKey::Interval { micros: width, zone: zone.clone() };
            let mut clock = Clock::new(&by);
            let (from, to) = (micros(from), micros(to));
            let step = 10 * 60 * 1_000_000;
            let keys: Vec<i64> = (from..to).step_by(step as usize).map(|time| clock.key(&by, time)).collect();
            let mut distinct = keys.clone();
            distinct.dedup();
            assert_eq!((keys[0], distinct.len()), (from, starts), "{zone:?} {width}");
            assert_ne!(clock.key(&by, from - 1), from, "{zone:?} {width}");
            assert_eq!(clock.key(&by, to), to, "{zone:?} {width}");
            // The same in any order.
            assert!((from..to).rev().step_by(step as usize).all(|time| distinct.contains(&clock.key(&by, time))));
        }
    }
}
