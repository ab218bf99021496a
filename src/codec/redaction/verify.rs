//! Checksums: Luhn for cards, modulo 97 for IBANs, the CRC of a seed of NATS.

use std::ops::Range;

use super::escapes::is_after_escape;

/// Whether these digits are a payment card's: a known issuer, a length it uses, and the Luhn sum.
pub fn is_card(digits: &[u8]) -> bool {
    issued(digits) && luhn(digits) && digits.iter().any(|digit| *digit != digits[0])
}

fn issued(digits: &[u8]) -> bool {
    if digits.len() < 13 {
        return false;
    }
    let head = digits[..4].iter().fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    matches!(
        (head, digits.len()),
        (4000..=4999, 13 | 16 | 19)
            | (5100..=5599 | 2221..=2720, 16)
            | (3400..=3499 | 3700..=3799, 15)
            | (3000..=3059 | 3095 | 3600..=3699 | 3800..=3999, 14 | 16..=19)
            | (3528..=3589 | 6011 | 6440..=6599 | 6200..=6299 | 8100..=8171, 16..=19)
            | (5000..=5099 | 5600..=5899 | 6000..=6199 | 6300..=6439 | 6700..=6799, 16..=19)
            | (2200..=2204 | 9792 | 9860 | 9870 | 8600, 16)
    )
}

pub fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (u32::from(digit - b'0'), place % 2) {
            (value, 0) => value,
            (value, _) if value > 4 => 2 * value - 9,
            (value, _) => 2 * value,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Length of an IBAN by country: the registry of SWIFT, then countries that use the form without being in it.
const IBAN_LENGTHS: &[(&[u8; 2], u8)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
    (b"IR", 26),
    (b"AO", 25),
    (b"BF", 28),
    (b"BJ", 28),
    (b"CF", 27),
    (b"CG", 27),
    (b"CI", 28),
    (b"CM", 27),
    (b"CV", 25),
    (b"DZ", 26),
    (b"GA", 27),
    (b"GQ", 27),
    (b"GW", 25),
    (b"KM", 27),
    (b"MA", 28),
    (b"MG", 27),
    (b"ML", 28),
    (b"MZ", 25),
    (b"NE", 28),
    (b"SN", 28),
    (b"TD", 27),
    (b"TG", 28),
];

/// How many characters an IBAN of this country has.
pub fn iban_len(country: &[u8]) -> Option<usize> {
    IBAN_LENGTHS.iter().find(|(code, _)| *code == country).map(|(_, len)| *len as usize)
}

/// Whether capital letters and digits, without spaces, carry the right check digits.
pub fn iban(text: &[u8]) -> bool {
    let (head, tail) = text.split_at(4);
    let rest = tail.iter().chain(head).fold(0u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97,
    });
    rest == 1
}

/// The IBAN that begins at `at`, contiguous or in groups.
pub fn iban_at(text: &[u8], at: usize) -> Option<Range<usize>> {
    if at > 0 && text[at - 1].is_ascii_alphanumeric() && !is_after_escape(text, at) {
        return None;
    }
    let len = iban_len(text.get(at..at + 2)?)?;
    let (mut letters, mut end) = (Vec::with_capacity(len), at);
    while letters.len() < len {
        match text.get(end)? {
            b if b.is_ascii_uppercase() || b.is_ascii_digit() => letters.push(*b),
            b' ' | b'-' if letters.len() % 4 == 0 && !matches!(text[end - 1], b' ' | b'-') => {}
            _ => return None,
        }
        end += 1;
    }
    let goes_on = text.get(end).is_some_and(u8::is_ascii_alphanumeric);
    (!goes_on && iban(&letters)).then_some(at..end)
}

/// How long the seed of a key of NATS is.
pub const NATS_SEED: usize = 58;

/// Whether so many bytes are such a seed: base32 of a prefix, 32 bytes and their CRC-16.
pub fn is_nats_seed(text: &[u8]) -> bool {
    let (mut crc, mut bits, mut held, mut last) = (0u16, 0u32, 0, [0u8; 2]);
    for (nth, byte) in text.iter().enumerate() {
        let five = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return false,
        };
        (bits, held) = (bits << 5 | u32::from(five), held + 5);
        if held < 8 {
            continue;
        }
        held -= 8;
        let decoded = (bits >> held) as u8;
        // The last two bytes are the checksum.
        if nth + 3 < text.len() {
            crc =
                (0..8).fold(crc ^ u16::from(decoded) << 8, |crc, _| crc << 1 ^ if crc >> 15 == 1 { 0x1021 } else { 0 });
        }
        last = [last[1], decoded];
    }
    text.len() == NATS_SEED && crc == u16::from_le_bytes(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_numbers_of_the_card_issuers_pass() {
        for number in [
            "4111111111111111",
            "4222222222222",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "6011111111111117",
            "30569309025904",
            "3530111333300000",
            "6200000000000005",
        ] {
            assert!(is_card(number.as_bytes()), "{number}");
        }
        for number in ["4111111111111112", "1735689600000000", "0000000000000000", "9999999999999995"] {
            assert!(!is_card(number.as_bytes()), "{number}");
        }
    }

    #[test]
    fn published_example_ibans_pass_and_a_changed_digit_does_not() {
        for text in [
            "DE89370400440532013000",
            "GB29NWBK60161331926819",
            "FR1420041010050500013M02606",
            "NL91ABNA0417164300",
            "MT84MALT011000012345MTLCAST001S",
            "NO9386011117947",
        ] {
            assert_eq!(iban_len(&text.as_bytes()[..2]), Some(text.len()), "{text}");
            assert!(iban(text.as_bytes()), "{text}");
        }
        assert!(!iban(b"DE89370400440532013001"));
    }

    #[test]
    fn an_iban_ends_where_its_country_says() {
        for text in [
            "DE89370400440532013000",
            "DE89 3704 0044 0532 0130 00, please",
            "NL91ABNA0417164300",
            "IR580540105180021273113007",
        ] {
            assert!(iban_at(text.as_bytes(), 0).is_some(), "{text}");
        }
        for text in ["DE89370400440532013001", "DE8937040044053201300", "DE89370400440532013000X", "ZZ12 3456"] {
            assert_eq!(iban_at(text.as_bytes(), 0), None, "{text}");
        }
    }
}
