//! The notation in which rules describe tokens, such as `ghp_{w36}`, and its matcher.
//!
//! A shape is literal text, `[abc]` for one of several bytes, and `{…}` for a run of a class: `{w36}` exactly
//! 36, `{w20-40}` so many, `{w20+}` at least that many. Matching goes forward only: a run takes all it can get,
//! so no text makes a shape slow.

/// A set of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Set([u128; 2]);

impl Set {
    pub fn of(bytes: impl IntoIterator<Item = u8>) -> Set {
        let mut set = Set::default();
        for byte in bytes {
            set.0[usize::from(byte >> 7)] |= 1 << (byte & 127);
        }
        set
    }

    /// A letter in both cases, any other byte as it is.
    pub fn any_case(byte: u8) -> Set {
        Set::of([byte.to_ascii_lowercase(), byte.to_ascii_uppercase()])
    }

    pub fn or(self, other: Set) -> Set {
        Set([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }

    pub fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 7)] >> (byte & 127) & 1 == 1
    }

    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=255).filter(|byte| self.has(*byte))
    }

    /// The class behind a letter of the notation.
    fn class(letter: u8) -> Set {
        let (digits, upper, lower) = (b'0'..=b'9', b'A'..=b'Z', b'a'..=b'z');
        match letter {
            b'd' => Set::of(digits),
            b'h' => Set::of(digits.chain(b'a'..=b'f')),
            b'H' => Set::of(digits.chain(b'a'..=b'f').chain(b'A'..=b'F')),
            b'u' => Set::of(digits.chain(upper)),
            b'l' => Set::of(digits.chain(lower)),
            b'w' => Set::of(digits.chain(upper).chain(lower)),
            b'b' => Set::of(digits.chain(upper).chain(lower).chain(*b"-_")),
            b'B' => Set::of(digits.chain(upper).chain(lower).chain(*b"+/=")),
            b'c' => Set::of(digits.chain(upper).chain(lower).chain(*b"-_.~")),
            b'p' => Set::of(digits.chain(upper).chain(lower).chain(*b"%+/=-_")),
            other => panic!("the notation has no class `{}`", other as char),
        }
    }
}

#[derive(Clone, Debug)]
pub enum Step {
    One(Set),
    Run { set: Set, min: usize, max: usize },
}

/// The longest run that `+` stands for; what goes on is swallowed all the same.
const OPEN: usize = usize::MAX;

#[derive(Clone, Debug)]
pub struct Shape {
    pub steps: Vec<Step>,
}

impl Shape {
    /// Reads the notation; the rules are constants, so a mistake in one is a bug that tests find.
    pub fn parse(text: &str) -> Shape {
        let (bytes, mut at, mut steps) = (text.as_bytes(), 0, Vec::new());
        while at < bytes.len() {
            let end = |close: u8| at + bytes[at..].iter().position(|b| *b == close).expect("closed in the notation");
            match bytes[at] {
                b'[' => {
                    let end = end(b']');
                    steps.push(Step::One(Set::of(bytes[at + 1..end].iter().copied())));
                    at = end + 1;
                }
                b'{' => {
                    let end = end(b'}');
                    let set = Set::class(bytes[at + 1]);
                    let count = &text[at + 2..end];
                    let number = |digits: &str| digits.parse().expect("a number in the notation");
                    let (min, max) = match (count.strip_suffix('+'), count.split_once('-')) {
                        (Some(min), _) => (number(min), OPEN),
                        (None, Some((min, max))) => (number(min), number(max)),
                        (None, None) => (number(count), number(count)),
                    };
                    steps.push(Step::Run { set, min, max });
                    at = end + 1;
                }
                byte => {
                    steps.push(Step::One(Set::of([byte])));
                    at += 1;
                }
            }
        }
        Shape { steps }
    }

    /// The run that stands before the first literal byte, if the shape begins with one.
    pub fn lead(&self) -> Option<(Set, usize)> {
        match self.steps[0] {
            Step::Run { set, max, .. } => Some((set, max)),
            Step::One(_) => None,
        }
    }

    /// The sets of the bytes at fixed places behind the lead.
    pub fn fixed(&self) -> Vec<Set> {
        let mut sets = Vec::new();
        for step in &self.steps[usize::from(self.lead().is_some())..] {
            match step {
                Step::One(set) => sets.push(*set),
                Step::Run { set, min, max } => {
                    sets.extend(std::iter::repeat_n(*set, (*min).min(5)));
                    if min != max || *min > 5 {
                        break;
                    }
                }
            }
        }
        sets
    }

    /// Where the match ends that begins at `at`. `effort` grows by the bytes looked at.
    pub fn match_at(&self, text: &[u8], mut at: usize, effort: &mut usize) -> Option<usize> {
        for step in &self.steps {
            match step {
                Step::One(set) => {
                    if !set.has(*text.get(at)?) {
                        return None;
                    }
                    at += 1;
                }
                Step::Run { set, min, max } => {
                    let rest = &text[at..];
                    let len = rest.iter().take(*max).take_while(|byte| set.has(**byte)).count();
                    *effort += len;
                    if len < *min {
                        return None;
                    }
                    at += len;
                }
            }
        }
        let goes_on = match (self.steps.last(), text.get(at)) {
            (_, None) => false,
            (Some(Step::Run { set, .. }), Some(next)) => set.has(*next),
            (_, Some(next)) => next.is_ascii_alphanumeric(),
        };
        (!goes_on).then_some(at)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

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
                Step::Run { set, min, max } => {
                    let len = min + (seed as usize % 3).min(max - min);
                    text.extend((0..len).map(|_| pick(set)));
                }
            }
        }
        String::from_utf8(text).expect("shapes are ASCII")
    }

    #[test]
    fn a_run_takes_what_it_can_and_must_not_go_on() {
        let shape = Shape::parse("ab[cd]{d2-3}-{h4}");
        assert_eq!(shape.match_at(b"abc12-00ff", 0, &mut 0), Some(10));
        assert_eq!(shape.match_at(b"xabd123-00ff.", 1, &mut 0), Some(12));
        assert_eq!(shape.match_at(b"abc1-00ff", 0, &mut 0), None);
        assert_eq!(shape.match_at(b"abc12-00fff", 0, &mut 0), None);
        assert_eq!(shape.match_at(b"abc12-00", 0, &mut 0), None);
    }

    #[test]
    fn an_open_run_swallows_all_of_its_class() {
        assert_eq!(
            Shape::parse("k_{w3+}").match_at(&[b"k_".as_slice(), &[b'a'; 5000]].concat(), 0, &mut 0),
            Some(5002)
        );
    }
}
