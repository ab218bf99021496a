//! Rates: `100/s`, `6000/m`.

use std::fmt;
use std::str::FromStr;

use super::duration;
use super::text::{Malformed, as_text};

/// So many things in a length of time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rate {
    pub count: u64,
    per_nanos: u64,
}

impl Rate {
    pub const fn per_second(count: u64) -> Rate {
        Rate { count, per_nanos: 1_000_000_000 }
    }

    /// Things in one second.
    pub fn each_second(self) -> f64 {
        self.count as f64 * 1e9 / self.per_nanos as f64
    }

    /// The length of time in which `count` things may happen.
    pub const fn per(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.per_nanos)
    }
}

impl FromStr for Rate {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Rate, Malformed> {
        let rate = text.split_once('/').and_then(|(count, unit)| {
            let count = count.trim();
            let digits = count.bytes().all(|byte| byte.is_ascii_digit());
            Some(Rate { count: count.parse().ok().filter(|_| digits)?, per_nanos: duration::unit(unit.trim())? })
        });
        let rate = rate.ok_or_else(|| Malformed(format!("expected a rate such as `100/s`, got `{text}`")))?;
        if rate.count == 0 { Err(Malformed("expected more than 0".into())) } else { Ok(rate) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = super::Duration(self.per()).to_string();
        write!(f, "{}/{}", self.count, unit.trim_start_matches('1'))
    }
}

as_text!(Rate, "a rate", r"^\s*[0-9]+\s*/\s*[a-zµ]+\s*$", "100/s");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written_per_unit_of_time() {
        let rate: Rate = "6000 / min".parse().expect("a rate");
        assert_eq!(rate.each_second(), 100.0);
        assert_eq!(rate.to_string(), "6000/m");
        for wrong in ["", "100", "100/", "/s", "1.5/s", "-1/s", "0/s", "100/x"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
