//! The lines of one write, each walked once: values by line, names by shape.

use std::collections::HashMap;

use super::coded::number_of;
use super::grams::{is_counted, is_unsearched, present, term_of_name};
use super::hashing::Seeded;
use crate::event::raw::value_end;
use crate::event::{Raw, escape};

/// Shapes that a line is compared with before it is walked name by name.
const MAX_RECENT: usize = 4;

/// Lines whose members were looked up.
#[derive(Default)]
pub struct Walked<'a> {
    /// The values of all lines, one after another.
    values: Vec<Raw<'a>>,
    pub shapes: Vec<LineShape<'a>>,
    /// The shapes seen last, the newest first.
    recent: Vec<u32>,
    by_pieces: HashMap<Vec<u8>, u32, Seeded>,
}

/// Where the values of one line are.
#[derive(Clone, Copy, Debug)]
pub struct Members {
    from: u32,
    to: u32,
    pub shape: u32,
}

/// What lines with the same names and the same text around their values share.
pub struct LineShape<'a> {
    /// The text before each value, and the text behind the last one.
    pub pieces: Vec<&'a [u8]>,
    pub members: Vec<Member>,
    /// Where the values of the line before begin.
    before: Option<usize>,
    /// The place of the last member with this name.
    pub id: Option<usize>,
    pub timestamp: Option<usize>,
}

/// What follows from a member's name.
#[derive(Clone, Debug)]
pub struct Member {
    /// Decoded.
    pub name: String,
    /// The hash that says that an event has it.
    pub present: u32,
    /// How the hashes of its values begin.
    pub term: u64,
    pub is_unsearched: bool,
    pub is_counted: bool,
    /// Its place among the members that tails keep as columns.
    pub coded: Option<usize>,
}

impl Member {
    pub fn new(name: &[u8]) -> Member {
        let name = escape::unescape(name).into_owned();
        Member {
            present: present(name.as_bytes()),
            term: term_of_name(name.as_bytes()),
            is_unsearched: is_unsearched(name.as_bytes()),
            is_counted: is_counted(name.as_bytes()),
            coded: number_of(&name),
            name,
        }
    }
}

impl<'a> Walked<'a> {
    pub fn with_capacity(lines: usize) -> Walked<'a> {
        Walked { values: Vec::with_capacity(lines * 16), ..Walked::default() }
    }

    /// Looks up the members of another line.
    pub fn add(&mut self, line: &'a [u8]) -> Members {
        let from = self.values.len();
        let shape = match self.add_like_recent(line) {
            Some(shape) => shape,
            None => self.add_new(line),
        };
        Members { from: from as u32, to: self.values.len() as u32, shape }
    }

    pub fn values(&self, members: Members) -> &[Raw<'a>] {
        &self.values[members.from as usize..members.to as usize]
    }

    pub fn shape(&self, members: Members) -> &LineShape<'a> {
        &self.shapes[members.shape as usize]
    }

    fn add_like_recent(&mut self, line: &'a [u8]) -> Option<u32> {
        let from = self.values.len();
        for nth in 0..self.recent.len() {
            let number = self.recent[nth];
            if self.shapes[number as usize].values_of(line, &mut self.values) {
                self.shapes[number as usize].before = Some(from);
                if nth > 0 {
                    self.recent[..=nth].rotate_right(1);
                }
                return Some(number);
            }
            self.values.truncate(from);
        }
        None
    }

    fn add_new(&mut self, line: &'a [u8]) -> u32 {
        let (mut pieces, mut names, mut key, mut end) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (name, value) in Raw::valid(line).members() {
            let at = value.as_bytes().as_ptr() as usize - line.as_ptr() as usize;
            pieces.push(&line[end..at]);
            names.push(name);
            self.values.push(value);
            end = at + value.as_bytes().len();
        }
        pieces.push(&line[end..]);
        for piece in &pieces {
            key.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            key.extend_from_slice(piece);
        }
        let next = self.shapes.len() as u32;
        let number = *self.by_pieces.entry(key).or_insert(next);
        if number == next {
            self.shapes.push(LineShape::new(pieces, &names));
        }
        self.recent.truncate(MAX_RECENT - 1);
        self.recent.insert(0, number);
        number
    }
}

impl<'a> LineShape<'a> {
    fn new(pieces: Vec<&'a [u8]>, names: &[&[u8]]) -> LineShape<'a> {
        let members: Vec<Member> = names.iter().map(|name| Member::new(name)).collect();
        let last = |wanted: &str| members.iter().rposition(|member| member.name == wanted);
        LineShape { before: None, id: last("id"), timestamp: last("timestamp"), pieces, members }
    }

    /// Adds the values of a line that has this shape. False if it has another; some values may have been added then.
    fn values_of(&self, line: &'a [u8], values: &mut Vec<Raw<'a>>) -> bool {
        let mut rest = line;
        let (last, before) = self.pieces.split_last().expect("a line has a piece");
        for (nth, piece) in before.iter().enumerate() {
            let Some(more) = rest.strip_prefix(*piece) else { return false };
            let known = self.before.map(|from| values[from + nth].as_bytes());
            // Where an object ends takes long to find; one that is there again ends where it ended before.
            let len = match known.filter(|known| matches!(known[0], b'{' | b'[') && more.starts_with(known)) {
                Some(known) => known.len(),
                None => value_end(more),
            };
            let (value, more) = more.split_at(len);
            // White space in front of the value: a line of another shape.
            if value.is_empty() {
                return false;
            }
            values.push(Raw::valid(value));
            rest = more;
        }
        rest == *last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_and_values_together_are_the_line_and_the_values_are_those_of_its_members(
            lines in proptest::collection::vec(prop_oneof![
                "\\{\"a\":[1-9][0-9]{0,2},\"b\":\"[a-z,:]{0,5}\"\\}",
                "\\{ \"a\" : \\[[0-9], [0-9]\\] , \"\\\\u0062\":\\{\\}\\}",
                "\\{\"a\": {0,2}[1-9] {0,2}, {0,2}\"b\":[ \t]{0,2}\"[a-z]{0,3}\" {0,1}\\}",
                Just("{}".to_owned()), Just("{ }".to_owned()), Just(r#"{"a":1,"a":"x\"\\","id":null}"#.to_owned()),
                "\\{\"a\":[1-9][0-9]?,\"c\":(true|null|\"\\}\")\\}",
                "\\{\"[a-z]\":1,\"b\":\\[\"\\]\"\\]\\}",
            ], 1..40),
        ) {
            let mut walked = Walked::default();
            for line in &lines {
                let members = walked.add(line.as_bytes());
                let (shape, values) = (walked.shape(members), walked.values(members));
                let expected: Vec<_> = Raw::valid(line.as_bytes()).members().collect();
                prop_assert_eq!(values, &expected.iter().map(|(_, value)| *value).collect::<Vec<_>>()[..]);
                let names: Vec<_> = expected.iter().map(|(name, _)| escape::unescape(name).into_owned()).collect();
                prop_assert_eq!(shape.members.iter().map(|member| member.name.clone()).collect::<Vec<_>>(), names);
                let mut again = Vec::new();
                for (nth, piece) in shape.pieces.iter().enumerate() {
                    again.extend_from_slice(piece);
                    again.extend_from_slice(values.get(nth).map_or(&b""[..], |value| value.as_bytes()));
                }
                prop_assert_eq!(again, line.as_bytes());
            }
            prop_assert!(walked.shapes.len() <= lines.len());
        }
    }
}
