//! The notation that describes token formats, such as `ghp_{w36}`, and its matcher.
//!
//! A shape is literal text, `[a-c]` for one of several bytes, and `{…}` for a run of a class: `{w36}` exactly
//! 36, `{w20-40}` so many, `{w20+}` at least that many. Matching goes forward only: a run takes all it can get, and
//! the reader measures each run once, so no text makes a shape slow.

use super::reader::Reader;
use crate::codec::redaction::literals::Literals as _;

/// A set of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Set([u64; 4]);

impl Set {
    pub fn of(bytes: impl IntoIterator<Item = u8>) -> Set {
        let mut set = Set::default();
        for byte in bytes {
            set.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
        }
        set
    }

    /// A letter in both cases, any other byte as it is.
    pub fn any_case(byte: u8) -> Set {
        Set::of([byte.to_ascii_lowercase(), byte.to_ascii_uppercase()])
    }

    pub fn or(self, other: Set) -> Set {
        Set(std::array::from_fn(|part| self.0[part] | other.0[part]))
    }

    #[inline]
    pub fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    pub fn iter(&self) -> impl Iterator<Item = u8> + use<> {
        self.0.into_iter().enumerate().flat_map(|(part, mut word)| {
            std::iter::from_fn(move || {
                let byte = (word != 0).then(|| (64 * part) as u8 + word.trailing_zeros() as u8);
                word &= word.wrapping_sub(1);
                byte
            })
        })
    }

    pub fn without(self, other: Set) -> Set {
        Set(std::array::from_fn(|part| self.0[part] & !other.0[part]))
    }

    /// With each byte also the one that differs from it in the highest bit.
    pub fn with_other_halves(self) -> Set {
        Set(std::array::from_fn(|part| self.0[part % 2] | self.0[part % 2 + 2]))
    }
}

/// The classes of the notation, by their letters.
pub const CLASSES: &[(u8, &[u8])] = &[
    (b'd', b"0-9"),
    (b'h', b"0-9a-f"),
    (b'H', b"0-9a-fA-F"),
    (b'u', b"0-9A-Z"),
    (b'l', b"0-9a-z"),
    (b'm', b"0-9a-z_-"),
    (b'w', b"0-9A-Za-z"),
    (b'b', b"0-9A-Za-z_-"),
    (b'B', b"0-9A-Za-z+/="),
    (b'c', b"0-9A-Za-z_.~-"),
    (b'p', b"0-9A-Za-z%+/=_-"),
    (b'r', b"0-9A-Za-z+/_-"),
];

/// One of [`CLASSES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class(u8);

/// The set of each class.
static SETS: std::sync::LazyLock<Vec<Set>> =
    std::sync::LazyLock::new(|| CLASSES.iter().map(|(_, of)| ranges(of)).collect());

/// The classes of each byte, one bit each.
pub const OF_BYTES: [u16; 256] = {
    let (mut table, mut class) = ([0; 256], 0);
    while class < CLASSES.len() {
        let (of, mut at) = (CLASSES[class].1, 0);
        while at < of.len() {
            let is_range = at + 2 < of.len() && of[at + 1] == b'-';
            let (mut byte, last) = (of[at], if is_range { of[at + 2] } else { of[at] });
            while byte <= last {
                table[byte as usize] |= 1 << class;
                byte += 1;
            }
            at += if is_range { 3 } else { 1 };
        }
        class += 1;
    }
    table
};

fn ranges(of: &[u8]) -> Set {
    let (mut set, mut at) = (Set::default(), 0);
    while at < of.len() {
        let last = if of.get(at + 1) == Some(&b'-') && at + 2 < of.len() { of[at + 2] } else { of[at] };
        set = set.or(Set::of(of[at]..=last));
        at += if last == of[at] { 1 } else { 3 };
    }
    set
}

/// What stands between brackets: bytes and ranges, or with `^` all others.
fn one_of(of: &[u8]) -> Set {
    match of.strip_prefix(b"^") {
        Some(others) => {
            let others = ranges(others);
            Set::of((0..=255).filter(|byte| !others.has(*byte) && !others.has(byte.to_ascii_lowercase())))
        }
        None => ranges(of),
    }
}

impl Class {
    /// The class behind a letter of the notation.
    pub const fn named(letter: u8) -> Class {
        let mut number = 0;
        while number < CLASSES.len() {
            if CLASSES[number].0 == letter {
                return Class(number as u8);
            }
            number += 1;
        }
        panic!("the notation has no such class")
    }

    #[inline]
    pub fn number(self) -> usize {
        usize::from(self.0)
    }

    pub fn set(self) -> Set {
        SETS[self.number()]
    }

    /// Whether a byte belongs to the class.
    #[inline]
    pub fn has(self, byte: u8) -> bool {
        OF_BYTES[usize::from(byte)] >> self.0 & 1 == 1
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    One(Set),
    Run { class: Class, min: usize, max: usize },
}

/// The longest run that `+` stands for; what goes on is swallowed all the same.
const OPEN: usize = usize::MAX;

/// The run that a shape begins with.
#[derive(Clone, Copy, Debug)]
pub struct Lead {
    pub class: Class,
    pub min: usize,
    pub max: usize,
}

#[derive(Clone, Debug)]
pub struct Shape {
    pub steps: Vec<Step>,
    /// How many of them stand in front of the first literal byte.
    ahead: usize,
}

impl Shape {
    /// Reads the notation; the rules are constants, so a mistake in one is a bug that tests find.
    pub fn parse(text: &str) -> Shape {
        let text = &text.replace("{uuid}", "{H8}-{H4}-{H4}-{H4}-{H12}");
        let (bytes, mut at, mut steps) = (text.as_bytes(), 0, Vec::new());
        while at < bytes.len() {
            let end = |close: u8| at + bytes[at..].iter().position(|b| *b == close).expect("closed in the notation");
            match bytes[at] {
                b'[' => {
                    let end = end(b']');
                    steps.push(Step::One(one_of(&bytes[at + 1..end])));
                    at = end + 1;
                }
                b'{' => {
                    let end = end(b'}');
                    let class = Class::named(bytes[at + 1]);
                    let count = &text[at + 2..end];
                    let number = |digits: &str| digits.parse().expect("a number in the notation");
                    let (min, max) = match (count.strip_suffix('+'), count.split_once('-')) {
                        (Some(min), _) => (number(min), OPEN),
                        (None, Some((min, max))) => (number(min), number(max)),
                        (None, None) => (number(count), number(count)),
                    };
                    steps.push(Step::Run { class, min, max });
                    at = end + 1;
                }
                byte => {
                    steps.push(Step::One(Set::of([byte])));
                    at += 1;
                }
            }
        }
        let ahead = usize::from(matches!(steps[0], Step::Run { .. }));
        Shape { steps, ahead }
    }

    /// The run that stands before the first literal byte, if the shape begins with one.
    pub fn lead(&self) -> Option<Lead> {
        match self.steps[0] {
            Step::Run { class, min, max } => Some(Lead { class, min, max }),
            Step::One(_) => None,
        }
    }

    /// The sets of the bytes at fixed places behind the lead.
    pub fn fixed(&self) -> Vec<Set> {
        let mut sets = Vec::new();
        for step in &self.steps[self.ahead..] {
            match step {
                Step::One(set) => sets.push(*set),
                Step::Run { class, min, max } => {
                    sets.extend(std::iter::repeat_n(class.set(), (*min).min(5)));
                    if min != max || *min > 5 {
                        break;
                    }
                }
            }
        }
        sets
    }

    /// Where the match ends whose first literal byte, behind the lead, stands at `at`.
    pub fn match_at(&self, reader: &Reader<'_>, mut at: usize) -> Option<usize> {
        let text = reader.text;
        reader.charge(self.steps.len());
        for step in &self.steps[self.ahead..] {
            match step {
                Step::One(set) => {
                    if !set.has(*text.get(at)?) {
                        return None;
                    }
                    at += 1;
                }
                Step::Run { class, min, max } => {
                    let len = (reader.run_end(*class, at) - at).min(*max);
                    if len < *min {
                        return None;
                    }
                    at += len;
                }
            }
        }
        Some(at)
    }

    /// Whether the text goes on behind a match as the match ended.
    pub fn goes_on(&self, text: &[u8], end: usize) -> bool {
        match (self.steps.last(), text.get(end)) {
            (_, None) => false,
            (Some(Step::Run { class, .. }), Some(next)) => class.has(*next),
            (_, Some(next)) => next.is_ascii_alphanumeric(),
        }
    }

    /// Whether the last run has no longest length.
    pub fn is_open(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Run { max: OPEN, .. }))
    }

    /// How many bytes of a match stand in one run of base64 from its beginning on, at least.
    pub fn run_len(&self) -> usize {
        let run = Class::named(b'r').set();
        let mut len = 0;
        for step in &self.steps {
            match step {
                Step::One(set) if set.iter().all(|byte| run.has(byte)) => len += 1,
                Step::Run { class, min, max } if class.set().iter().all(|byte| run.has(byte)) => {
                    len += min;
                    if max != min && *max != OPEN {
                        break;
                    }
                }
                _ => break,
            }
        }
        len
    }

    /// Whether there is a run longer than this that a byte would end.
    pub fn has_run_without(&self, byte: u8, longer_than: usize) -> bool {
        let is_one =
            |step: &Step| matches!(step, Step::Run { class, min, .. } if *min > longer_than && !class.has(byte));
        self.steps.iter().any(is_one)
    }

    /// The literal bytes that the shape begins with.
    pub fn literal(&self) -> Vec<u8> {
        let one = |step: &Step| match step {
            Step::One(set) if set.iter().count() == 1 => set.iter().next(),
            _ => None,
        };
        self.steps.iter().map_while(one).collect()
    }

    /// Whether raw JSON may have the first literal byte of a match at `at`, as far as the first run tells whose length
    /// is not fixed. A slash may be escaped.
    pub fn may_match(&self, raw: &[u8], mut at: usize) -> bool {
        for step in &self.steps[self.ahead..] {
            match step {
                Step::One(set) => {
                    at += usize::from(raw[at.min(raw.len())..].begins_with(b"\\/") && set.has(b'/'));
                    if !raw.get(at).is_some_and(|byte| set.has(*byte)) {
                        return false;
                    }
                    at += 1;
                }
                Step::Run { class, min, max } => {
                    let wanted = (*min).min(ENOUGH);
                    let len = raw[at..].iter().take(wanted).take_while(|byte| class.has(**byte)).count();
                    if len < wanted {
                        return raw.get(at + len) == Some(&b'\\') && class.has(b'/');
                    }
                    if min != max || *min > ENOUGH {
                        return true;
                    }
                    at += min;
                }
            }
        }
        true
    }
}

/// Bytes of a run that tell well enough whether the rest is worth reading.
const ENOUGH: usize = 32;

/// A text of this shape, the same for the same seed.
pub fn example(notation: &str, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut pick = |set: &Set| {
        let choices: Vec<u8> = set.iter().collect();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        choices[(state >> 11) as usize % choices.len()]
    };
    let mut text = Vec::new();
    for step in &Shape::parse(notation).steps {
        match step {
            Step::One(set) => text.push(pick(set)),
            Step::Run { class, min, max } => {
                let len = min + (seed as usize % 3).min(max - min);
                text.extend((0..len).map(|_| pick(&class.set())));
            }
        }
    }
    String::from_utf8(text).expect("shapes are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_what_it_can() {
        let shape = Shape::parse("ab[cd]{d2-3}-{h4}");
        assert_eq!(shape.match_at(&Reader::new(b"abc12-00ff"), 0), Some(10));
        assert_eq!(shape.match_at(&Reader::new(b"xabd123-00ff."), 1), Some(12));
        assert_eq!(shape.match_at(&Reader::new(b"abc1-00ff"), 0), None);
        assert!(shape.goes_on(b"abc12-00fff", 10));
        assert_eq!(shape.match_at(&Reader::new(b"abc12-00"), 0), None);
    }

    #[test]
    fn an_open_run_swallows_all_of_its_class() {
        assert_eq!(
            Shape::parse("k_{w3+}").match_at(&Reader::new(&[b"k_".as_slice(), &[b'a'; 5000]].concat()), 0),
            Some(5002)
        );
    }
}
