//! Sizes in bytes: `10 MiB`, `1 GB`, `4096`.

use std::fmt;
use std::str::FromStr;

use super::text::{Malformed, as_text, scaled, split};

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    pub const fn kib(count: u64) -> ByteSize {
        ByteSize(count << 10)
    }

    pub const fn mib(count: u64) -> ByteSize {
        ByteSize(count << 20)
    }

    pub const fn gib(count: u64) -> ByteSize {
        ByteSize(count << 30)
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The size as a length in memory.
    pub fn to_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<ByteSize, Malformed> {
        let expected = || Malformed(format!("expected a size such as `10 MiB` or `4 KB`, got `{text}`"));
        let (number, unit) = split(text).ok_or_else(expected)?;
        let unit = match unit {
            "" => 1,
            unit => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(expected)?.1,
        };
        scaled(number, unit).map(ByteSize).ok_or_else(|| Malformed(format!("the size `{text}` is too large")))
    }
}

/// In the largest binary unit that needs no fraction.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS[..4].iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match whole {
            Some((name, unit)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} B", self.0),
        }
    }
}

as_text!(ByteSize, "a size", r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtT]?[iI]?[bB])?\s*$", "10 MiB");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_decimal_and_binary_units() {
        let read = |text: &str| text.parse::<ByteSize>().map(ByteSize::bytes).ok();
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("10 MiB"), Some(10 << 20));
        assert_eq!(read("10mib"), Some(10 << 20));
        assert_eq!(read("1.5 GB"), Some(1_500_000_000));
        assert_eq!(read("0.1 kB"), Some(100));
        assert_eq!(read("20000000 TiB"), None);
        for wrong in ["", "MiB", "-1", "1 M", "1.", "1..2", "1e3", "ten", "1 MiB/s"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_may_be_read() {
        for (size, text) in [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1 MiB"), (3 << 29, "1536 MiB")] {
            assert_eq!(ByteSize(size).to_string(), text);
            assert_eq!(text.parse(), Ok(ByteSize(size)));
        }
    }
}
