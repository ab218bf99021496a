//! Expiry dates of certificates.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::units::Timestamp;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
/// The version, in front of the serial number; only the first version goes without.
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of the certificate in a PEM file that ends first; `None` if the file has none.
pub fn of_file(path: &Path) -> Option<Timestamp> {
    let certificates = CertificateDer::pem_file_iter(path).ok()?;
    certificates.filter_map(Result::ok).filter_map(|certificate| of(&certificate)).min()
}

/// `notAfter` of a certificate in DER.
fn of(certificate: &[u8]) -> Option<Timestamp> {
    let (outer, _) = value(certificate, SEQUENCE)?;
    let (mut rest, _) = value(outer, SEQUENCE)?;
    if let Some((_, behind)) = value(rest, VERSION) {
        rest = behind;
    }
    let (_, rest) = value(rest, INTEGER)?;
    // The algorithm of the signature, and who has signed.
    let (_, rest) = value(rest, SEQUENCE)?;
    let (_, rest) = value(rest, SEQUENCE)?;
    let (validity, _) = value(rest, SEQUENCE)?;
    let (_, _, behind) = any(validity)?;
    let (tag, text, _) = any(behind)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The contents of the value that comes next if it has this tag, and what follows it.
fn value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, contents, rest) = any(bytes)?;
    (found == tag).then_some((contents, rest))
}

fn any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}

/// `YYMMDDHHMMSSZ`, of the years 1950 to 2049, or with four digits of the year.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z')?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (short, rest) = text.split_at_checked(2)?;
            let short: u32 = short.parse().ok()?;
            (if short < 50 { 2000 + short } else { 1900 + short }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let is_digits = rest.len() == 10 && rest.bytes().all(|byte| byte.is_ascii_digit());
    let part = |at: usize| &rest[at..at + 2];
    is_digits
        .then(|| format!("{year:04}-{}-{}T{}:{}:{}Z", part(0), part(2), part(4), part(6), part(8)))
        .and_then(|text| Timestamp::parse(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_spellings() {
        for (year, expected) in [(2031, "2031-02-03T04:05:06.000Z"), (2055, "2055-02-03T04:05:06.000Z")] {
            let mut wanted = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("parameters");
            let day = rcgen::date_time_ymd(year, 2, 3);
            wanted.not_after = day + (std::time::Duration::from_secs(4 * 3600 + 5 * 60 + 6));
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = wanted.self_signed(&key).expect("a certificate");
            assert_eq!(of(certificate.der()).map(|time| time.to_string()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let mut wanted = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("parameters");
        wanted.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let key = rcgen::KeyPair::generate().expect("a key");
        let der = wanted.self_signed(&key).expect("a certificate").der().to_vec();
        for end in 0..der.len() {
            assert_eq!(of(&der[..end]), None, "{end}");
        }
        for at in 0..der.len().min(200) {
            let mut changed = der.clone();
            changed[at] ^= 0xFF;
            // Any outcome will do that is no panic.
            let _ = of(&changed);
        }
        assert_eq!(of(b"-----BEGIN"), None);
    }
}
