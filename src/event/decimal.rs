//! Numbers as decimal text: scaled by powers of ten without passing through a double.

/// A number as it is written: the digits, and how many of them stand before the point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    point: usize,
}

/// Numbers with more places than this before or behind the point are left as they are.
const MAX_PLACES: i64 = 64;

impl Decimal {
    /// Reads a number in JSON's spelling.
    pub fn parse(text: &[u8]) -> Option<Decimal> {
        let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let whole_end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        let (whole, rest) = text.split_at(whole_end);
        if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
            return None;
        }
        let (fraction, rest) = match rest.strip_prefix(b".") {
            Some(rest) => rest.split_at(rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())),
            None => (&b""[..], rest),
        };
        if fraction.is_empty() && text.get(whole_end) == Some(&b'.') {
            return None;
        }
        let exponent: i64 = match rest {
            [] => 0,
            [b'e' | b'E', digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok()?,
            _ => return None,
        };
        let number = Decimal { negative, digits: [whole, fraction].concat(), point: whole.len() };
        number.times_power_of_ten(exponent)
    }

    /// The number times 10 to the power of `places`; nothing if that is out of all proportion.
    pub fn times_power_of_ten(mut self, places: i64) -> Option<Decimal> {
        let point = (self.point as i64).checked_add(places).filter(|point| point.abs() <= MAX_PLACES)?;
        if self.digits.len() as i64 - point > MAX_PLACES {
            return None;
        }
        if point < 1 {
            self.digits.splice(0..0, std::iter::repeat_n(b'0', (1 - point) as usize));
        } else if point as usize > self.digits.len() {
            self.digits.resize(point as usize, b'0');
        }
        self.point = point.max(1) as usize;
        Some(self)
    }

    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// The digits before the point (at least one) and those behind it.
    pub fn places(&self) -> (&[u8], &[u8]) {
        self.digits.split_at(self.point)
    }

    /// Appends the number without exponent and superfluous zeros.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (whole, fraction) = self.places();
        let first = whole.iter().position(|digit| *digit != b'0').unwrap_or(whole.len() - 1);
        let end = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        if self.negative {
            out.push(b'-');
        }
        out.extend_from_slice(&whole[first..]);
        if end > 0 {
            out.push(b'.');
            out.extend_from_slice(&fraction[..end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn thousandfold(text: &str) -> Option<String> {
        let mut out = Vec::new();
        Decimal::parse(text.as_bytes())?.times_power_of_ten(3)?.write(&mut out);
        Some(String::from_utf8(out).expect("digits"))
    }

    #[test]
    fn a_thousandfold_is_a_shift_of_the_point() {
        for (text, expected) in [
            ("1.5", "1500"),
            ("0.0125", "12.5"),
            ("12", "12000"),
            ("0", "0"),
            ("0.1", "100"),
            ("0.30000000000000004", "300.00000000000004"),
            ("-2.25", "-2250"),
            ("1e-3", "1"),
            ("1.25E+2", "125000"),
            ("5e-7", "0.0005"),
            ("9007199254740993", "9007199254740993000"),
        ] {
            assert_eq!(thousandfold(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_out_of_proportion_is_left_alone() {
        for text in ["", "-", "1.", ".5", "01", "1e", "1e999999999999999999999", "1e300", "1e-300", "0x1", "1 ", "NaN"]
        {
            assert_eq!(thousandfold(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_integers(number in -1_000_000_000_000_000i64..1_000_000_000_000_000) {
            prop_assert_eq!(thousandfold(&number.to_string()), Some((number * 1000).to_string()));
        }

        #[test]
        fn it_agrees_with_doubles(number in -1e15f64..1e15) {
            let ours: f64 = thousandfold(&format!("{number}")).expect("a number").parse().expect("a number");
            prop_assert!((ours - number * 1000.0).abs() <= (number * 1000.0).abs() * 1e-15);
        }
    }
}
