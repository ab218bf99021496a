//! Local day, hour or interval of an event.

use crate::query::request::{GroupKey, Zone};
use crate::units::Timestamp;

/// Microseconds for which an offset from UTC is taken to be the same: zones change theirs at whole quarters.
const QUARTER: i64 = 15 * 60 * 1_000_000;
pub const DAY: i64 = 86_400 * 1_000_000;

/// Local time, with the offset remembered for a quarter of an hour.
pub struct Clock {
    zone: Zone,
    quarter: i64,
    offset: i64,
}

impl Clock {
    pub fn new(by: &GroupKey) -> Clock {
        let zone = match by {
            GroupKey::Interval { zone, .. } | GroupKey::Day(zone) | GroupKey::Hour(zone) => zone.clone(),
            GroupKey::Field(_) => Zone::default(),
        };
        Clock { zone, quarter: i64::MIN, offset: 0 }
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
            GroupKey::Interval { micros, .. } => local.div_euclid(*micros) * micros - self.offset,
            GroupKey::Field(_) => 0,
        }
    }
}
