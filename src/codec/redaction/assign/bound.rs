//! What programs print of the values that fill in a statement: Hibernate, MyBatis, TypeORM.

use std::ops::Range;

use super::Finder;
use crate::codec::redaction::literals::Literals as _;

/// How far behind a statement its values are read.
const MAX_BEHIND: usize = 700;

impl Finder<'_, '_> {
    /// The value of the n-th placeholder of the statement at `at`: `binding parameter [2] as [VARCHAR] - [x]`,
    /// `==> Parameters: x(String), 7(Long)`, `-- PARAMETERS: ["x", 7]`.
    #[inline(never)]
    pub(super) fn printed_parameter(&self, at: usize, nth: usize) -> Option<Range<usize>> {
        let reach = &self.text[at..self.text.len().min(at + MAX_BEHIND)];
        self.reader.charge(reach.len() / 8);
        let place = memchr::memmem::find(reach, b"arameter").map(|at| at..at + 8);
        let place = place.or_else(|| memchr::memmem::find(reach, b"PARAMETERS: [").map(|at| at..at + 12))?;
        let behind = &reach[place.end..];
        if behind.begins_with(b"[") {
            let (items, _) = self.items(at + place.end)?;
            return items.get(nth)?.as_ref().map(|one| one.start..one.end);
        }
        if let Some(list) = behind.strip_prefix(b"s: ") {
            return self.of_list(at + reach.len() - list.len(), nth);
        }
        if !reach[..place.start].closes_with(b"inding p") {
            return None;
        }
        let each = memchr::memmem::find_iter(reach, b"inding parameter ");
        let lines = each.map(|start| &reach[start + 17..]);
        lines.filter_map(|line| self.of_line(&line[..memchr::memchr(b'\n', line).unwrap_or(line.len())], nth)).next()
    }

    /// `x(String), 7(Long)`: the n-th, where it is a text.
    fn of_list(&self, start: usize, nth: usize) -> Option<Range<usize>> {
        let line = &self.text[start..self.reader.line_end(start).min(start + MAX_BEHIND)];
        let mut at = start;
        for (number, item) in line.split(|b| *b == b',').enumerate() {
            let value = item.trim_ascii().strip_suffix(b"(String)");
            let value = value.filter(|value| number == nth && !value.is_empty());
            if let Some(value) = value {
                let start = at + item.len() - item.trim_ascii_start().len();
                return Some(start..start + value.len());
            }
            at += item.len() + 1;
        }
        None
    }

    /// `[2] as [VARCHAR] - [x]`, `(2:VARCHAR) <- [x]`
    fn of_line(&self, line: &[u8], nth: usize) -> Option<Range<usize>> {
        let digits = line.get(1..)?.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
        let number = line[1..1 + digits].iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
        let open = memchr::memmem::find(line, b"- [")? + 3;
        let close = memchr::memrchr(b']', line).filter(|close| *close > open && number == nth + 1)?;
        let start = line.as_ptr() as usize - self.text.as_ptr() as usize;
        Some(start + open..start + close)
    }
}
