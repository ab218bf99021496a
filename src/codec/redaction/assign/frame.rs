//! Values of a column or field that programs print or build a table from: frames, results, rows with their columns.

use super::literal::literal;
use super::secret::{Role, may_be_secret};
use super::{Finder, Found, NEARBY};
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::{Class, is_name};

/// How much of a line is read, how many rows are, and how far in front of its columns a table may begin.
const MAX_LINE: usize = 400;
const MAX_ROWS: usize = 10_000;
const MAX_TABLE: usize = 600;
/// The most columns.
const MAX_COLUMNS: usize = 32;

/// Where each word of a line stands.
fn words(line: &[u8]) -> impl Iterator<Item = (usize, usize)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += line[at..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        let len = line[at..].iter().take_while(|b| !matches!(b, b' ' | b'\t' | b'\r')).count();
        at += len;
        (len > 0).then_some((at - len, at))
    })
}

/// How many characters stand in front of a place of a line.
fn width(line: &[u8]) -> usize {
    line.iter().filter(|b| **b & 0xC0 != 0x80).count()
}

impl Finder<'_, '_> {
    /// The values below the name in a frame as it is printed: columns that blanks set apart, behind a number for each row.
    #[inline(never)]
    pub(super) fn frame(&self, found: &mut Vec<Found>) {
        let text = self.text;
        let name = self.name.range.clone();
        if self.name.quotes.is_some() || name.start < 2 || !matches!(text[name.start - 1], b' ' | b'\t') {
            return;
        }
        let start = self.reader.context(name.start).line_start;
        let end = self.reader.line_end(name.end);
        if end - start > MAX_LINE || start < self.reader.csv_end.get() || end >= text.len() {
            return;
        }
        let header = &text[start..end];
        if !header.begins_with(b"  ") {
            return;
        }
        self.reader.charge(header.len());
        let mut columns: [(usize, Option<Class>); MAX_COLUMNS] = [(0, None); MAX_COLUMNS];
        let mut count = 0;
        for (from, to) in words(header) {
            let word = &header[from..to];
            let of_name = |b: &u8| is_name(*b) || *b >= 0x80 || b"./%()".contains(b);
            if count == MAX_COLUMNS || !word.iter().all(of_name) {
                return;
            }
            let class =
                self.reader.classify(word).filter(|class| !matches!(class, Class::Cookie | Class::Authorization));
            columns[count] = (width(&header[..to]), class);
            count += 1;
        }
        let mut at = end + 1;
        for nth in 0..MAX_ROWS {
            let line = &text[at..text.len().min(at + MAX_LINE)];
            let Some(line) = memchr::memchr(b'\n', line).map(|len| &line[..len]).or(Some(line)) else { break };
            let cells = words(line).count();
            let first = words(line).next();
            // Every row has its number; below the first there may be more about it, as `[2 rows x 3 columns]`.
            let numbered = first.is_some_and(|(from, to)| line[from..to].iter().all(u8::is_ascii_digit));
            if !numbered || cells < 2 {
                break;
            }
            self.reader.charge(line.len());
            for (cell, (from, to)) in words(line).enumerate().skip(1) {
                // Of as many cells as columns each has its own; of others those that end where the column does.
                let class = match cells == count + 1 {
                    true => columns[cell - 1].1,
                    false => {
                        let end = width(&line[..to]);
                        columns[..count].iter().find(|(column, _)| *column == end).and_then(|(_, class)| *class)
                    }
                };
                let value = &line[from..to];
                if class.is_some_and(|class| may_be_secret(class, value, Role::Setting)) {
                    found.push(self.found(at + from..at + to, "the value of a column"));
                }
            }
            at += line.len() + 1;
            if at > text.len() || nth + 1 == MAX_ROWS {
                break;
            }
        }
        self.reader.csv_end.set(at.min(text.len()));
    }

    /// `DataFrame([["bob", "x"]], columns=["login", "password"])`: rows in front of the names of their columns.
    #[inline(never)]
    pub(super) fn rows_before(&self, found: &mut Vec<Found>) {
        let text = self.text;
        if self.name.quotes.is_none() {
            return;
        }
        let near = self.start().saturating_sub(MAX_LINE);
        let Some(list) = memchr::memrchr(b'[', &text[near..self.start()]).map(|at| near + at + 1) else { return };
        let open = list - 1;
        self.reader.charge(self.start() - list);
        if !text[..open].closes_with(b"columns=") {
            return;
        }
        let nth = memchr::memchr_iter(b',', &text[list..self.start()]).count();
        let from = open.saturating_sub(MAX_TABLE);
        self.reader.charge(MAX_TABLE);
        let rows = [b"([[", b"([(", b"[[\"", b"[['", b"[(\"", b"[('"];
        let Some(first) = rows.iter().filter_map(|rows| memchr::memmem::rfind(&text[from..open], *rows)).max() else {
            return;
        };
        let mut at = from + first;
        while at < open {
            at += text[at..open].iter().take_while(|b| b"([, \n\t".contains(b)).count();
            let mut cell = 0;
            // One row, up to its bracket.
            while at < open && !matches!(text[at], b']' | b')') {
                let one = literal(self.reader, at);
                let end = match &one {
                    Some(one) => one.after,
                    None => at + text[at..open].iter().take_while(|b| !b",])".contains(b)).count(),
                };
                if let Some(one) = one.filter(|one| cell == nth && one.after <= open)
                    && self.may_be(&text[one.start..one.end], Role::Assigned)
                {
                    found.push(self.found(one.start..one.end, "the value of a column"));
                }
                self.reader.charge(8);
                let gap = text[end.min(open)..open].iter().take_while(|b| b", \n\t".contains(b)).count();
                (at, cell) = (end.max(at) + gap, cell + 1);
                if gap == 0 {
                    break;
                }
            }
            let behind = text[at.min(open)..open].iter().take_while(|b| b"]), \n\t".contains(b)).count();
            if behind == 0 || !matches!(text.get(at + behind), Some(b'[' | b'(')) {
                return;
            }
            at += behind;
        }
    }

    /// A field that was given what it does not take, as pydantic says: the name alone, and `input_value='x'` below it.
    #[inline(never)]
    pub(super) fn refused_input(&self) -> Option<Found> {
        let text = self.text;
        if self.name.quotes.is_some() || text.get(self.name.end) != Some(&b'\n') {
            return None;
        }
        let line = &text[self.name.end + 1..text.len().min(self.name.end + 1 + MAX_LINE)];
        let line = &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())];
        if !line.begins_with(b"  ") {
            return None;
        }
        self.reader.charge(NEARBY);
        let place = self.name.end + 1 + line.behind(b"input_value=")?;
        let one = literal(self.reader, place)?;
        let taken = self.may_be(&text[one.start..one.end], Role::Assigned);
        taken.then(|| self.found(one.start..one.end, "what a field was given"))
    }
}
