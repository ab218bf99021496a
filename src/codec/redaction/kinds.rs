//! What kinds of bytes a value is made of: seen in one pass, it settles most questions about the value.

pub const NUMBER: u16 = 1;
pub const UPPER: u16 = 1 << 1;
pub const LOWER: u16 = 1 << 2;
/// What joins the parts of dates, versions and addresses.
pub const JOINT: u16 = 1 << 3;
/// What dates, versions and addresses have not.
pub const STRANGE: u16 = 1 << 4;
/// No sign that is seen, or no ASCII.
pub const UNSEEN: u16 = 1 << 5;
/// A sign that passwords have and words have not.
pub const SIGN: u16 = 1 << 6;
pub const EQUALS: u16 = 1 << 7;
pub const SLASH: u16 = 1 << 8;
/// A blank, or white space that is not ASCII's.
pub const BLANK: u16 = 1 << 9;
pub const LINE: u16 = 1 << 10;
/// What opens something that a program fills in, or a call.
pub const OPENING: u16 = 1 << 11;
/// A sign without which no value is a rule for values, nor a host with its port.
pub const OF_RULE: u16 = 1 << 12;
/// What joins words: `_` and `-`.
pub const HYPHEN: u16 = 1 << 13;
/// A byte of another script.
pub const FOREIGN: u16 = 1 << 14;
/// What joins words in programs: `.`, `>` and `:`.
pub const MEMBER: u16 = 1 << 15;

/// The kinds of a value's bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Kinds {
    seen: u16,
    pub digits: usize,
    pub upper: usize,
    pub lower: usize,
    /// Which of the first 64 bytes are capitals, and which small letters: one bit each.
    pub uppers: u64,
    pub lowers: u64,
}

impl Kinds {
    pub fn of(value: &[u8]) -> Kinds {
        let mut all = Kinds::default();
        for (nth, part) in value.chunks(64).enumerate() {
            let mut maps = Maps::default();
            let (eights, rest) = part.as_chunks::<8>();
            for (at, eight) in eights.iter().enumerate() {
                maps.add(*eight, 8, 8 * at as u32);
                all.seen |= kinds_of(eight);
            }
            if !rest.is_empty() {
                let mut eight = [0; 8];
                eight[..rest.len()].copy_from_slice(rest);
                maps.add(eight, rest.len() as u32, 8 * eights.len() as u32);
                all.seen |= match part.last_chunk() {
                    // Some are seen twice.
                    Some(eight) => kinds_of(eight),
                    None => rest.iter().fold(0, |kinds, byte| kinds | OF_BYTES[usize::from(*byte)]),
                };
            }
            all.digits += maps.digits.count_ones() as usize;
            all.upper += maps.uppers.count_ones() as usize;
            all.lower += maps.lowers.count_ones() as usize;
            if nth == 0 {
                (all.uppers, all.lowers) = (maps.uppers, maps.lowers);
            }
        }
        all
    }

    /// Whether the value has bytes of one of these kinds.
    #[inline]
    pub fn has(&self, kinds: u16) -> bool {
        self.seen & kinds != 0
    }

    /// How many ASCII letters and digits there are.
    #[inline]
    pub fn alphanumeric(&self) -> usize {
        self.digits + self.upper + self.lower
    }
}

/// What is known of 64 bytes, one bit each.
#[derive(Default)]
struct Maps {
    digits: u64,
    uppers: u64,
    lowers: u64,
}

impl Maps {
    /// Adds the first bytes of eight, which stand at `at`.
    #[inline]
    fn add(&mut self, eight: [u8; 8], len: u32, at: u32) {
        const HIGH: u64 = 0x80 * EACH;
        let word = u64::from_le_bytes(eight);
        let within = |word: u64, first: u8, last: u8| {
            (word + u64::from(0x80 - first) * EACH) & !(word + u64::from(0x7F - last) * EACH)
        };
        // The highest bit of each byte says whether the byte is one.
        let ours = HIGH >> (64 - 8 * len);
        let (ascii, low) = (ours & !word, word & !HIGH);
        let digits = within(low, b'0', b'9') & ascii;
        let letters = within(low | (0x20 * EACH), b'a', b'z') & ascii;
        let (lowers, uppers) = (letters & word << 2, letters & !(word << 2));
        // One bit of each byte, side by side.
        let bits = |bytes: u64| (bytes >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56 << at;
        self.digits |= bits(digits);
        self.uppers |= bits(uppers);
        self.lowers |= bits(lowers);
    }
}

/// The kinds of eight bytes, without a question behind each.
#[inline]
fn kinds_of(eight: &[u8; 8]) -> u16 {
    let kind = |nth: usize| OF_BYTES[usize::from(eight[nth])];
    kind(0) | kind(1) | kind(2) | kind(3) | kind(4) | kind(5) | kind(6) | kind(7)
}

/// One in each byte of a word.
const EACH: u64 = 0x0101_0101_0101_0101;

const OF_BYTES: [u16; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        table[byte] = of_byte(byte as u8);
        byte += 1;
    }
    table
};

const fn of_byte(byte: u8) -> u16 {
    let mut kinds = match byte {
        b'0'..=b'9' => NUMBER,
        b'A'..=b'Z' => UPPER,
        b'a'..=b'z' => LOWER,
        b'.' | b'_' | b'-' | b':' | b'/' | b',' => JOINT,
        0..=b' ' | 0x7F.. => UNSEEN,
        _ => 0,
    };
    if !matches!(byte, b'0'..=b'9' | b'+' | b'T' | b'Z' | b'^' | b'~' | b'v' | b'<' | b'>' | b'=' | b' ')
        && kinds != JOINT
    {
        kinds |= STRANGE;
    }
    kinds |= match byte {
        b'!' | b'@' | b'#' | b'$' | b'%' | b'*' | b'&' | b'+' | b'~' => SIGN,
        b'^' | b'?' | b'|' => SIGN | OF_RULE,
        b'=' => SIGN | EQUALS,
        b'/' => SLASH,
        b' ' | b'\t' | 0x0B | 0x0C => BLANK,
        b'\n' | b'\r' => BLANK | LINE,
        b'(' | b'<' => OPENING | OF_RULE,
        b'{' => OPENING,
        b'[' | b',' => OF_RULE,
        b':' => OF_RULE | MEMBER,
        b'.' | b'>' => MEMBER,
        b'_' | b'-' => HYPHEN,
        0x80.. => FOREIGN | BLANK,
        _ => 0,
    };
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one_by_one(value: &[u8]) -> Kinds {
        let count = |is: fn(&u8) -> bool| value.iter().filter(|byte| is(byte)).count();
        let bits = |is: fn(&u8) -> bool| {
            value.iter().take(64).enumerate().fold(0, |bits, (at, byte)| bits | u64::from(is(byte)) << at)
        };
        Kinds {
            seen: value.iter().fold(0, |seen, byte| seen | of_byte(*byte)),
            digits: count(u8::is_ascii_digit),
            upper: count(u8::is_ascii_uppercase),
            lower: count(u8::is_ascii_lowercase),
            uppers: bits(u8::is_ascii_uppercase),
            lowers: bits(u8::is_ascii_lowercase),
        }
    }

    proptest! {
        #[test]
        fn eight_bytes_at_a_time_are_as_one_by_one(
            value in proptest::collection::vec(any::<u8>(), 0..150), text in "[TZv0-9.:-]{0,20}|[ -~]{0,80}",
        ) {
            prop_assert_eq!(Kinds::of(&value), one_by_one(&value));
            prop_assert_eq!(Kinds::of(text.as_bytes()), one_by_one(text.as_bytes()));
        }
    }

    #[test]
    fn kinds_and_counts_are_those_of_all_bytes() {
        let kinds = Kinds::of(b"Ab1_=");
        assert_eq!((kinds.digits, kinds.upper, kinds.lower), (1, 1, 1));
        assert_eq!((kinds.uppers, kinds.lowers), (1, 2));
        assert!(kinds.has(HYPHEN) && kinds.has(EQUALS) && !kinds.has(SLASH | BLANK));
        let long = Kinds::of(&[b'a'; 150]);
        assert_eq!((long.lower, long.lowers), (150, u64::MAX));
    }
}
