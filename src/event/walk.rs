//! Stage two of the scanner: checks the grammar from position to position.
//!
//! A walk checks only what it must to accept; where it stops, the safe twin gives the reason.

use super::scalar;
use super::scan::{MAX_DEPTH, MAX_KEYS, Member};

/// A walk that could not go on: whether the positions were at their end.
pub struct Stop {
    pub out_of_positions: bool,
}

/// What an object or array has come to.
pub struct Found {
    /// Where it ends.
    pub end: usize,
    /// How many positions it has.
    pub positions: usize,
    /// Where the value of its last member `id` begins. Not looked for where members are kept.
    pub id: Option<u32>,
}

/// Follows the positions of `text` through the object or array it begins with. `positions` ends with two of `u32::MAX`.
pub fn walk(text: &[u8], positions: &[u32], members: Option<&mut Vec<Member>>) -> Result<Found, Stop> {
    let mut walk = Walk { text, positions, next: 0, keys: 0, id: None };
    let end = match members {
        Some(members) if walk.peek() == b'{' => walk.top(members),
        _ => walk.start(),
    };
    let out_of_positions = walk.next >= positions.len() - 2;
    end.map(|end| Found { end, positions: walk.next, id: walk.id }).ok_or(Stop { out_of_positions })
}

struct Walk<'a> {
    text: &'a [u8],
    positions: &'a [u32],
    /// Index of the next position.
    next: usize,
    keys: usize,
    id: Option<u32>,
}

impl Walk<'_> {
    fn at(&self, nth: usize) -> usize {
        self.positions[nth] as usize
    }

    /// The byte at an offset; 0, which fits nowhere, behind the end.
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn peek(&self) -> u8 {
        self.byte(self.at(self.next))
    }

    fn start(&mut self) -> Option<usize> {
        let open = self.peek();
        self.next += 1;
        match open {
            b'{' => self.inside(true, 1),
            b'[' => self.inside(false, 1),
            _ => None,
        }
    }

    /// The outermost object, member by member.
    fn top(&mut self, members: &mut Vec<Member>) -> Option<usize> {
        self.next += 1;
        if self.peek() == b'}' {
            self.next += 1;
            return Some(self.at(self.next - 1) + 1);
        }
        loop {
            let (key, colon) = (self.at(self.next), self.at(self.next + 1));
            self.name()?;
            let value = self.at(self.next);
            self.next += 1;
            match self.byte(value) {
                b'"' => {}
                b'{' => _ = self.inside(true, 2)?,
                b'[' => _ = self.inside(false, 2)?,
                first => self.scalar(first, value)?,
            }
            let stop = self.at(self.next);
            let last = self.byte(stop);
            if last != b',' && last != b'}' {
                return None;
            }
            self.next += 1;
            // Nothing but white space stands between a token and the next position.
            let (key_end, value_end) = (trim_end(self.text, colon) - 1, trim_end(self.text, stop));
            members.push(Member {
                key: key as u32,
                key_len: (key_end - key - 1) as u32,
                value: value as u32,
                value_len: (value_end - value) as u32,
            });
            if last == b'}' {
                return Some(stop + 1);
            }
        }
    }

    /// The rest of a container that is open, and all inside it. Tells where it ends.
    fn inside(&mut self, object: bool, depth: usize) -> Option<usize> {
        // One bit for each open container, the innermost lowest: set if it is an object.
        let mut objects = u64::from(object);
        let mut depth = depth;
        let outside = depth - 1;
        let mut fresh = true;
        loop {
            if fresh && self.peek() == (if objects & 1 == 1 { b'}' } else { b']' }) {
                // Empty: closed below.
            } else {
                let mut is_id = false;
                if objects & 1 == 1 {
                    self.name()?;
                    is_id = depth == 1 && self.text[self.at(self.next - 2)..].starts_with(br#""id""#);
                }
                let value = self.at(self.next);
                if is_id {
                    self.id = Some(value as u32);
                }
                self.next += 1;
                match self.byte(value) {
                    b'"' => {}
                    open @ (b'{' | b'[') => {
                        if depth == MAX_DEPTH {
                            return None;
                        }
                        depth += 1;
                        objects = objects << 1 | u64::from(open == b'{');
                        fresh = true;
                        continue;
                    }
                    first => self.scalar(first, value)?,
                }
            }
            fresh = false;
            loop {
                let stop = self.at(self.next);
                let last = self.byte(stop);
                if last == b',' {
                    self.next += 1;
                    break;
                }
                if last != (if objects & 1 == 1 { b'}' } else { b']' }) {
                    return None;
                }
                self.next += 1;
                objects >>= 1;
                depth -= 1;
                if depth == outside {
                    return Some(stop + 1);
                }
            }
        }
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Option<()> {
        let (key, colon) = (self.byte(self.at(self.next)), self.byte(self.at(self.next + 1)));
        self.keys += 1;
        if key != b'"' || colon != b':' {
            // Which of the two positions was missing decides whether there may be more to come.
            self.next += usize::from(key == b'"');
            return None;
        }
        self.next += 2;
        (self.keys <= MAX_KEYS).then_some(())
    }

    /// A number or literal, to which the last position led.
    fn scalar(&mut self, first: u8, at: usize) -> Option<()> {
        let end = match first {
            b'-' | b'0'..=b'9' => number(self.text, at),
            b't' => literal(self.text, at, b"true"),
            b'n' => literal(self.text, at, b"null"),
            b'f' => literal(self.text, at, b"false"),
            _ => None,
        };
        let is_whole = end.is_some_and(|end| {
            matches!(self.text.get(end), None | Some(b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
        });
        if !is_whole {
            // More positions would not help, unless this one was none.
            self.next -= usize::from(at < self.text.len());
            return None;
        }
        Some(())
    }
}

/// The end of what stands before `at`, white space left out.
fn trim_end(text: &[u8], mut at: usize) -> usize {
    while matches!(text[at - 1], b' ' | b'\t' | b'\n' | b'\r') {
        at -= 1;
    }
    at
}

fn literal<const N: usize>(text: &[u8], at: usize, word: &[u8; N]) -> Option<usize> {
    (text[at..].first_chunk() == Some(word)).then_some(at + N)
}

/// Where a number ends. Its usual forms are checked sixteen bytes at once, so that lengths, which nobody can predict,
/// are no loops.
fn number(text: &[u8], at: usize) -> Option<usize> {
    const EACH: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;
    let slow = || scalar::number(text, at).ok();
    let Some(window) = text[at..].first_chunk::<16>() else { return slow() };
    let halves = u128::from_le_bytes(*window) ^ (EACH * 0x30);
    // The top bit of every byte that is no digit.
    let other = (((halves & (EACH * 0x7F)) + EACH * 0x76) | halves) & (EACH * 0x80);
    let run = |from: usize| (other >> (8 * from)).trailing_zeros() as usize / 8;

    let sign = usize::from(window[0] == b'-');
    let whole = run(sign);
    if whole == 0 || (whole > 1 && window[sign] == b'0') {
        return None;
    }
    let mut end = sign + whole;
    if end >= 15 {
        return slow();
    }
    if window[end] == b'.' {
        let fraction = run(end + 1);
        if fraction == 0 {
            return None;
        }
        end += 1 + fraction;
        if end >= 16 {
            return slow();
        }
    }
    if window[end] | 0x20 == b'e' { slow() } else { Some(at + end) }
}
