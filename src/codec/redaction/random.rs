//! Whether text is random: how many of its letters and digits belong to no word.

use super::kinds::{self, Kinds};

/// Whether the value is random: no words, and enough of it.
pub fn is_random(value: &[u8]) -> bool {
    randomness(value) >= RANDOM
}

/// The letters and digits outside of words that make a value random.
pub const RANDOM: usize = 8;

/// The longest value that is measured; what is longer is random.
const MAX_MEASURED: usize = 4096;

/// How many letters and digits of the value belong to no word; nothing if most of it are words.
pub fn randomness(value: &[u8]) -> usize {
    match value.len() {
        0..RANDOM => 0,
        RANDOM..=MAX_MEASURED => randomness_of(value, &Kinds::of(value)),
        _ => MANY,
    }
}

/// What stands for the randomness of a value that is not measured.
const MANY: usize = 64;

/// The same for a value whose kinds of bytes are known; no longer than [`MAX_MEASURED`].
pub fn randomness_of(value: &[u8], kinds: &Kinds) -> usize {
    // A version, date, number, address or measure: digits, and what stands between them.
    let ordered = !kinds.has(kinds::STRANGE) && kinds.has(kinds::JOINT) && kinds.digits < 20;
    if value.len() < RANDOM || kinds.has(kinds::UNSEEN) || ordered {
        return 0;
    }
    let all = kinds.alphanumeric();
    let loose = all - if value.len() <= 64 { in_words(value, kinds) } else { in_words_of_long(value) };
    let several = usize::from(kinds.digits > 0) + usize::from(kinds.upper > 0) + usize::from(kinds.lower > 0);
    // Letters of one case alone, or digits alone, are random only where there are many.
    let enough = match several {
        0 => false,
        1 if kinds.digits > 0 => false,
        1 => loose >= 12,
        _ => loose * 10 >= all * 4,
    };
    if enough { loose } else { 0 }
}

/// How many letters stand in words, in a value of at most 64 bytes: the words are found in bitmaps.
fn in_words(value: &[u8], kinds: &Kinds) -> usize {
    let Kinds { uppers, lowers, .. } = *kinds;
    let letters = uppers | lowers;
    // As `word_end` has it: a word begins behind what is no letter, at a hump, and at the last of several capitals.
    let humps = uppers & (lowers << 1 | uppers << 1 & lowers >> 1);
    let begins = letters & !(letters << 1) | humps;
    let goes_on = letters & !begins;
    let (mut long, mut sum) = (begins & goes_on >> 1 & goes_on >> 2, 0);
    while long != 0 {
        let start = long.trailing_zeros();
        let len = 1 + (goes_on >> (start + 1)).trailing_ones();
        let word = &value[start as usize..(start + len) as usize];
        sum += if is_wordlike(word) { word.len() } else { 0 };
        long &= long - 1;
    }
    sum
}

/// The same, letter by letter.
fn in_words_of_long(value: &[u8]) -> usize {
    let (mut sum, mut at) = (0, 0);
    while at < value.len() {
        if value[at].is_ascii_alphabetic() {
            let end = word_end(value, at);
            let word = &value[at..end];
            sum += if word.len() > 2 && is_wordlike(word) { word.len() } else { 0 };
            at = end;
        } else {
            at += 1;
        }
    }
    sum
}

/// Where the word ends that begins at `at`: at the next hump or sign.
pub fn word_end(value: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < value.len() && value[end].is_ascii_alphabetic() {
        let hump = value[end].is_ascii_uppercase() && value[end - 1].is_ascii_lowercase();
        let last_capital = end > at + 1
            && value[end].is_ascii_lowercase()
            && value[end - 1].is_ascii_uppercase()
            && value[end - 2].is_ascii_uppercase();
        if hump {
            break;
        }
        if last_capital {
            return end - 1;
        }
        end += 1;
    }
    end
}

/// What may follow each letter in words, `a` first: the pairs that English and its neighbours use often.
#[rustfmt::skip]
const FOLLOWERS: [&str; 26] = [
    "bcdgiklmnprstuvwyz", "aeilorsuybjt", "aehiklortucysq", "aeiorsudyglmv", "abcdefgilmnopqrstuvwxyk",
    "aefilortuy", "aeghilnorsuym", "aeiortuyn", "abcdefgklmnopqrstvz", "aeou", "aeilnsyo", "acdefiklmopstuvyb",
    "abeimnopsuyl", "acdefgijklnostuvyaq", "abcdefgiklmnoprstuvwxy", "aehiloprstuy", "u", "abcdefgiklmnoprstuvyw",
    "acefhiklmnopqstuwyt", "aceghilmnorstuwyz", "abcdefgilmnprstxz", "aeio", "aehinorsl", "acepitx", "eosmtlpc",
    "aeioz",
];

/// The same, one bit for each letter.
const FOLLOWS: [u32; 26] = {
    let (mut table, mut letter) = ([0; 26], 0);
    while letter < 26 {
        let (followers, mut at) = (FOLLOWERS[letter].as_bytes(), 0);
        while at < followers.len() {
            table[letter] |= 1 << (followers[at] - b'a');
            at += 1;
        }
        letter += 1;
    }
    table
};

/// `a`, `e`, `i`, `o`, `u` and `y`, one bit for each letter.
const VOWELS: u32 = 1 | 1 << 4 | 1 << 8 | 1 << 14 | 1 << 20 | 1 << 24;

/// Whether letters follow one another as they do in words.
pub fn is_wordlike(word: &[u8]) -> bool {
    let (mut before, mut vowels, mut known) = (None, 0, 0);
    for byte in word {
        let letter = u32::from((byte | 0x20).wrapping_sub(b'a'));
        if letter > 25 {
            return false;
        }
        vowels += (VOWELS >> letter & 1) as usize;
        known += before.map_or(0, |before: u32| (FOLLOWS[before as usize] >> letter & 1) as usize);
        before = Some(letter);
    }
    let all = word.len().saturating_sub(1);
    match word.len() {
        0 => false,
        1..=4 => known == all && vowels > 0,
        _ => known * 100 >= all * 80 && vowels * 6 >= word.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn random_text_is_told_from_words_versions_and_paths() {
        for text in [
            "9f86d081884c7d659a2feaa0c55ad015",
            "kQ7wErTyUi0pAs",
            "wJalrXUtnFEMIK7MDENGbPxRfiCY",
            "550e8400-e29b-41d4-a716-446655440000",
            "xkqjzvwmbgtdhplr",
            "Zx81mmQ9",
            "a1b2c3d4e5f6",
            "dGhpcyBpcyBhIHRlc3Q5",
            "lM&5S&$Vl33m",
        ] {
            assert!(is_random(text.as_bytes()), "{text}");
        }
        for text in [
            "next_token",
            "user_password",
            "production",
            "2024-01-01T00:00:00Z",
            "10.0.0.1:8080",
            "^9.0.2",
            "my-database-secret-name",
            "com.example.app.SecretKeyFactory",
            "AuthenticationTokenProvider",
            "X509CertificateStore",
            "/usr/lib/python3",
            "AWS::IAM::AccessKey",
            "12345678",
            "Ed25519PrivateKey",
            "application/json",
            "configuration",
        ] {
            assert!(!is_random(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn words_are_the_same_in_bitmaps_and_letter_by_letter(text in "[a-cA-C1_]{0,64}|[a-zA-Z0-9/+=]{0,64}") {
            let value = text.as_bytes();
            prop_assert_eq!(in_words(value, &Kinds::of(value)), in_words_of_long(value));
        }
    }
}
