//! Passwords: compared in constant time, or against a PBKDF2 hash.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Rounds beyond which a single sign-in would keep a core busy for seconds.
const MAX_ROUNDS: u32 = 5_000_000;
/// Rounds below which a stolen hash is guessed too soon (OWASP's figure is 600,000).
const MIN_ROUNDS: u32 = 1_000;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a presented password is held against.
pub enum Password {
    /// BLAKE3 of the password: equal lengths, so that the comparison reveals nothing.
    Plain([u8; 32]),
    Pbkdf2 {
        algorithm: pbkdf2::Algorithm,
        rounds: NonZeroU32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

impl Password {
    pub fn plain(password: &str) -> Password {
        Password::Plain(digest(password))
    }

    /// Reads `$pbkdf2-sha256$ROUNDS$SALT$HASH` (also sha512, also `i=ROUNDS`) or Django's `pbkdf2_sha256$…`.
    pub fn hashed(text: &str) -> Result<Password, String> {
        let expected = || {
            "expected a PBKDF2 hash such as `$pbkdf2-sha256$600000$SALT$HASH` or `pbkdf2_sha256$600000$SALT$HASH`"
                .to_owned()
        };
        let mut parts = text.trim().trim_start_matches('$').split('$');
        let (Some(scheme), Some(rounds), Some(salt), Some(hash), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(expected());
        };
        let (algorithm, salt) = match scheme {
            "pbkdf2-sha256" => (pbkdf2::PBKDF2_HMAC_SHA256, decode(salt)),
            "pbkdf2-sha512" => (pbkdf2::PBKDF2_HMAC_SHA512, decode(salt)),
            "pbkdf2_sha256" => (pbkdf2::PBKDF2_HMAC_SHA256, Some(salt.as_bytes().to_vec())),
            _ => return Err(expected()),
        };
        let rounds = rounds.trim_start_matches("i=").split(',').next().and_then(|text| text.parse().ok());
        let rounds: u32 = rounds.ok_or_else(expected)?;
        if !(MIN_ROUNDS..=MAX_ROUNDS).contains(&rounds) {
            return Err(format!("the hash has {rounds} rounds: {MIN_ROUNDS} to {MAX_ROUNDS} are accepted"));
        }
        let rounds = NonZeroU32::new(rounds).ok_or_else(expected)?;
        match (salt, decode(hash)) {
            (Some(salt), Some(hash)) if hash.len() >= 16 => Ok(Password::Pbkdf2 { algorithm, rounds, salt, hash }),
            _ => Err(expected()),
        }
    }

    /// A hash of what is known of the password: of another one it is another.
    pub fn digest(&self) -> [u8; 32] {
        match self {
            Password::Plain(digest) => *digest,
            Password::Pbkdf2 { rounds, salt, hash, .. } => {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&rounds.get().to_le_bytes()).update(&(salt.len() as u64).to_le_bytes());
                *hasher.update(salt).update(hash).finalize().as_bytes()
            }
        }
    }

    /// Whether checking takes long enough to need a thread of its own.
    pub fn is_slow(&self) -> bool {
        matches!(self, Password::Pbkdf2 { .. })
    }

    pub fn fits(&self, presented: &str) -> bool {
        match self {
            Password::Plain(expected) => verify_slices_are_equal(expected, &digest(presented)).is_ok(),
            Password::Pbkdf2 { algorithm, rounds, salt, hash } => {
                pbkdf2::verify(*algorithm, *rounds, salt, presented.as_bytes(), hash).is_ok()
            }
        }
    }
}

fn digest(text: &str) -> [u8; 32] {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// Base64 with or without padding; passlib writes `.` for `+`.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.replace('.', "+")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_password_fits_itself_alone() {
        let password = Password::plain("correct horse");
        assert!(password.fits("correct horse"));
        assert!(!password.fits("correct horsf") && !password.fits("") && !password.fits("correct horse "));
    }

    #[test]
    fn hashes_are_read_as_passlib_and_django_write_them() {
        // hashlib.pbkdf2_hmac("sha256", b"correct horse", b"saltsaltsaltsalt", 1000)
        let hash = "BBs+1+PaslLtBPULUr8/lQicvVuHiEPMz0i8MjLCbzM";
        for text in [
            format!("$pbkdf2-sha256$1000$c2FsdHNhbHRzYWx0c2FsdA${}", hash.replace('+', ".")),
            format!("$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHRzYWx0c2FsdA${hash}"),
            format!("pbkdf2_sha256$1000$saltsaltsaltsalt${hash}="),
        ] {
            let password = Password::hashed(&text).expect(&text);
            assert!(password.fits("correct horse"), "{text}");
            assert!(!password.fits("wrong horse"), "{text}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in ["", "hunter2", "$2y$10$abc", "$pbkdf2-sha256$10$c2FsdA$AAAA", "$pbkdf2-sha256$1000$c2FsdA$AAAA"] {
            assert!(Password::hashed(text).is_err(), "{text}");
        }
    }
}
