//! JSON values as numbers: which texts a number represents exactly, and back.

use crate::event::Raw;
use crate::units::Timestamp;

/// The most digits behind the point that a number column keeps.
pub const MAX_SCALE: u32 = 9;
/// A mantissa stays below this, so that scaling it never overflows.
const MAX_MANTISSA: u64 = 1 << 52;

/// Ten to the power of each scale, exactly.
const POWERS: [f64; MAX_SCALE as usize + 1] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// Whether a value that was read from the disk is JSON, by how it begins and ends. Builds with debug assertions look at all
/// of it.
pub fn is_json(value: &[u8]) -> bool {
    let is_closed = match value {
        [b'"', .., last] => *last == b'"',
        [b'{', .., last] => *last == b'}',
        [b'[', .., last] => *last == b']',
        [] | [b'"' | b'{' | b'['] => false,
        _ => true,
    };
    is_closed && (!cfg!(debug_assertions) || serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok())
}

/// Bytes of a UUID as text.
pub const UUID_BYTES: usize = 36;

/// How a column of numbers writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberStyle {
    /// Digits behind the point of the stored integer.
    pub scale: u32,
    /// Whether whole numbers are written with `.0`.
    pub point_zero: bool,
    /// Whether all digits behind the point are written, zeros at the end as well.
    pub is_fixed: bool,
}

/// A plain decimal: its digits as an integer, and how many of them stand behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    pub mantissa: i64,
    pub scale: u32,
}

impl Plain {
    /// `12.0`: a whole number that shows a point.
    pub fn is_point_zero(self) -> bool {
        self.scale == 1 && self.mantissa % 10 == 0
    }

    /// `1.50`, `1.00`: zeros at the end that most writers leave out.
    pub fn has_zeros_at_end(self) -> bool {
        self.scale > 0 && self.mantissa % 10 == 0 && !self.is_point_zero()
    }
}

/// Reads numbers of the form `-12.345`; none with an exponent, a leading zero, or `-0`.
pub fn plain_number(text: &[u8]) -> Option<Plain> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match memchr::memchr(b'.', digits) {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &b""[..]),
    };
    let has_point = whole.len() < digits.len();
    if whole.is_empty() || (whole[0] == b'0' && whole.len() > 1) || digits.len() > 17 {
        return None;
    }
    if has_point && fraction.is_empty() {
        return None;
    }
    let mut mantissa = 0u64;
    for byte in whole.iter().chain(fraction) {
        if !byte.is_ascii_digit() {
            return None;
        }
        mantissa = mantissa * 10 + u64::from(byte - b'0');
    }
    let scale = fraction.len() as u32;
    if mantissa >= MAX_MANTISSA || scale > MAX_SCALE || (negative && mantissa == 0) {
        return None;
    }
    let mantissa = if negative { -(mantissa as i64) } else { mantissa as i64 };
    Some(Plain { mantissa, scale })
}

/// What a number means, as [`Raw::as_f64`] says: a short one is two that are exact, divided.
pub fn number(value: Raw<'_>) -> Option<f64> {
    match plain_number(value.as_bytes()) {
        Some(Plain { mantissa, scale }) => Some(mantissa as f64 / POWERS[scale as usize]),
        None => value.as_f64(),
    }
}

impl NumberStyle {
    /// The integer that a column of this style keeps for a number, if it gives back the same text.
    pub fn encode(self, plain: Plain) -> Option<i64> {
        if self.is_fixed {
            return (plain.scale == self.scale).then_some(plain.mantissa);
        }
        if plain.is_point_zero() {
            let whole = plain.mantissa / 10;
            return if self.point_zero { whole.checked_mul(10i64.pow(self.scale)) } else { None };
        }
        if plain.scale > self.scale || plain.has_zeros_at_end() || (plain.scale == 0 && self.point_zero) {
            return None;
        }
        plain.mantissa.checked_mul(10i64.pow(self.scale - plain.scale))
    }

    pub fn write(self, value: i64, out: &mut Vec<u8>) {
        let unit = 10u64.pow(self.scale);
        let (whole, mut fraction) = (value.unsigned_abs() / unit, value.unsigned_abs() % unit);
        if value < 0 {
            out.push(b'-');
        }
        push_digits(out, whole);
        if self.is_fixed {
            return self.write_fraction(fraction, self.scale as usize, out);
        }
        if fraction == 0 {
            if self.point_zero {
                out.extend_from_slice(b".0");
            }
            return;
        }
        let mut digits = self.scale as usize;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            digits -= 1;
        }
        self.write_fraction(fraction, digits, out);
    }

    fn write_fraction(self, mut fraction: u64, digits: usize, out: &mut Vec<u8>) {
        if digits == 0 {
            return;
        }
        out.push(b'.');
        let start = out.len();
        out.resize(start + digits, b'0');
        for at in (start..start + digits).rev() {
            out[at] = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
    }

    pub fn to_f64(self, value: i64) -> f64 {
        value as f64 / 10f64.powi(self.scale as i32)
    }
}

fn push_digits(out: &mut Vec<u8>, mut value: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + (value % 10) as u8);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out[start..].reverse();
}

/// Length of `"2025-01-31T08:00:00`.
const WHOLE_TIME: usize = 20;

/// The microseconds of a quoted canonical time with `digits` digits behind the second, and that number.
pub fn quoted_time(text: &[u8]) -> Option<(i64, u32)> {
    let inside = text.strip_prefix(b"\"")?.strip_suffix(b"Z\"")?;
    let digits = match inside.len().checked_sub(WHOLE_TIME - 1)? {
        0 => 0,
        more @ 2..=7 => more - 1,
        _ => return None,
    };
    let time = &text[1..text.len() - 1];
    // What is read and would be written otherwise: a leap second, a space for the `T`, a comma for the point.
    let is_canonical =
        time[0].is_ascii_digit() && time[10] == b'T' && time[17..19] != *b"60" && (digits == 0 || time[19] == b'.');
    let micros = Timestamp::parse(std::str::from_utf8(time).ok().filter(|_| is_canonical)?)?.0;
    Some((micros, digits as u32))
}

/// Bytes of a time with so many digits behind the second.
pub fn time_bytes(digits: u32) -> usize {
    WHOLE_TIME + if digits > 0 { 1 + digits as usize } else { 0 }
}

/// Writes a time as [`quoted_time`] reads it.
pub fn write_time(micros: i64, digits: u32, out: &mut Vec<u8>) {
    let whole = Timestamp(micros.div_euclid(1_000_000) * 1_000_000).to_string();
    out.push(b'"');
    out.extend_from_slice(&whole.as_bytes()[..WHOLE_TIME - 1]);
    if digits > 0 {
        out.push(b'.');
        let fraction = format!("{:06}", micros.rem_euclid(1_000_000));
        out.extend_from_slice(&fraction.as_bytes()[..digits as usize]);
    }
    out.extend_from_slice(b"Z\"");
}

/// The bits of a quoted UUID in the usual spelling (lower case, with hyphens).
pub fn quoted_uuid(text: &[u8]) -> Option<u128> {
    let [b'"', inside @ .., b'"'] = text else { return None };
    plain_uuid(inside)
}

/// The same without quotes.
pub fn plain_uuid(inside: &[u8]) -> Option<u128> {
    if inside.len() != 36 || [8, 13, 18, 23].into_iter().any(|at| inside[at] != b'-') {
        return None;
    }
    let (mut bits, mut all) = (0u128, 0u8);
    for (at, byte) in inside.iter().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            let digit = HEX[usize::from(*byte)];
            all |= digit;
            bits = bits << 4 | u128::from(digit & 15);
        }
    }
    (all < 16).then_some(bits)
}

/// The value of each hexadecimal digit in lower case; 16 for any other byte.
const HEX: [u8; 256] = {
    let mut table = [16; 256];
    let mut digit = 0;
    while digit < 16 {
        table[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
};

/// Where each byte of a UUID stands in its text, behind the quote.
const UUID_PLACES: [usize; 16] = [1, 3, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 29, 31, 33, 35];

/// Whole dictionaries are written out, so that it is done without a look at each digit's place.
pub fn write_uuid(bits: u128, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = *b"\"00000000-0000-0000-0000-000000000000\"";
    for (byte, place) in bits.to_be_bytes().into_iter().zip(UUID_PLACES) {
        text[place] = DIGITS[usize::from(byte >> 4)];
        text[place + 1] = DIGITS[usize::from(byte & 15)];
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_that_would_be_spelled_otherwise_are_no_plain_ones() {
        for text in ["01", "-0", "1e5", "1.", ".5", "-", "", "12345678901234567890", "null", "\"1\"", "-0.00"] {
            assert_eq!(plain_number(text.as_bytes()), None, "{text}");
        }
        assert_eq!(plain_number(b"-12.345"), Some(Plain { mantissa: -12345, scale: 3 }));
        assert!(plain_number(b"7.0").is_some_and(Plain::is_point_zero));
        let floating = NumberStyle { scale: 3, point_zero: true, is_fixed: false };
        for text in ["1.50", "1.00", "3"] {
            assert_eq!(plain_number(text.as_bytes()).and_then(|plain| floating.encode(plain)), None, "{text}");
        }
    }

    #[test]
    fn times_with_any_number_of_digits_come_back_as_written() {
        for text in ["\"2025-01-31T08:00:00Z\"", "\"2025-01-31T08:00:00.5Z\"", "\"1969-01-31T08:00:00.012345Z\""] {
            let (micros, digits) = quoted_time(text.as_bytes()).expect("a time");
            let mut out = Vec::new();
            write_time(micros, digits, &mut out);
            assert_eq!(out, text.as_bytes());
        }
        for text in
            ["\"2025-01-31 08:00:00Z\"", "\"2025-01-31T08:00:00.1234567Z\"", "\"2025-01-31T08:00:00+00:00\"", "5"]
        {
            assert_eq!(quoted_time(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_means_what_every_other_reader_takes_it_for(text in "-?(0|[1-9][0-9]{0,16})(\\.[0-9]{1,10})?(e-?[0-9])?") {
            let value = Raw::valid(text.as_bytes());
            prop_assert_eq!(number(value).map(f64::to_bits), value.as_f64().map(f64::to_bits));
        }

        #[test]
        fn a_number_that_a_style_takes_comes_back_as_written(text in "-?[0-9]{1,9}(\\.[0-9]{1,6})?", scale in 0u32..7, point_zero: bool, is_fixed: bool) {
            let style = NumberStyle { scale, point_zero, is_fixed };
            if let Some(value) = plain_number(text.as_bytes()).and_then(|plain| style.encode(plain)) {
                let mut out = Vec::new();
                style.write(value, &mut out);
                prop_assert_eq!(std::str::from_utf8(&out), Ok(text.as_str()));
            }
        }

        #[test]
        fn a_time_that_is_read_comes_back_as_written(
            text in "(0000|00[0-9]{2}|[0-9]{4})-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.,][0-9]{1,7})?[Zz]",
        ) {
            let text = format!("\"{text}\"");
            if let Some((micros, digits)) = quoted_time(text.as_bytes()) {
                let mut out = Vec::new();
                write_time(micros, digits, &mut out);
                prop_assert_eq!(std::str::from_utf8(&out), Ok(text.as_str()));
            }
        }

        #[test]
        fn what_is_no_plain_uuid_is_refused(text in "\"[0-9a-fA-F-]{36}\"") {
            if let Some(bits) = quoted_uuid(text.as_bytes()) {
                let mut out = Vec::new();
                write_uuid(bits, &mut out);
                prop_assert_eq!(std::str::from_utf8(&out), Ok(text.as_str()));
            }
        }

        #[test]
        fn a_uuid_comes_back_as_written(bits: u128) {
            let mut out = Vec::new();
            write_uuid(bits, &mut out);
            prop_assert_eq!(quoted_uuid(&out), Some(bits));
        }
    }
}
