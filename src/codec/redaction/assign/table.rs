//! Columns of SQL: the value in the position of its name in `INSERT INTO t (a, password) VALUES ('x', 'y')`.

use super::ends::cell_sign;
use super::literal::{Literal, literal};
use super::secret::{Role, may_be_secret};
use super::{Finder, Found};
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::names::{Class, classify, is_name};

/// How far the list of names and the word `VALUES` are read, and how many rows.
const MAX_COLUMNS: usize = 400;
const MAX_ROWS: usize = 10_000;
/// How far behind a statement the values of its placeholders may begin, among how many lists, and how many there are.
const MAX_BOUND: usize = 200;
const MAX_BOUND_LISTS: usize = 4;
const MAX_BOUND_ROWS: usize = 64;
const MAX_ITEMS: usize = 32;

/// The first byte of the lines of a box around cells.
const BOX: u8 = 0xE2;

/// How many values a statement leaves to be filled in: `?`, `%s`, `$1`.
fn placeholders(statement: &[u8]) -> usize {
    let fills = |at: &usize| match statement[*at] {
        b'?' => true,
        b'%' => statement.get(at + 1) == Some(&b's'),
        _ => statement.get(at + 1).is_some_and(u8::is_ascii_digit),
    };
    memchr::memchr3_iter(b'?', b'%', b'$', statement).filter(fills).count()
}

impl Finder<'_, '_> {
    /// The values of the column that has the name, and of the others of its list that announce a secret.
    #[inline(never)]
    pub(super) fn columns(&self, found: &mut Vec<Found>) {
        let text = self.text;
        let (start, end) = (self.start(), self.name.end);
        let next = end + text[end..].iter().take(4).take_while(|b| b.is_ascii_whitespace() || **b == b']').count();
        if !matches!(text.get(next), Some(b',' | b')')) {
            return;
        }
        let Some(open) = self.reader.list_before(start).filter(|open| start - open <= MAX_COLUMNS) else { return };
        if text[open] != b'(' {
            return;
        }
        let reach = &text[next..text.len().min(next + MAX_COLUMNS)];
        self.reader.charge(MAX_COLUMNS / 16);
        let Some(close) = memchr::memchr(b')', reach).map(|len| next + len) else { return };
        // The list was read for another of its names, or is a cell of rows that were.
        let (header, rows_end) = self.reader.rows.get();
        if open == header || header < open && open < rows_end {
            return;
        }
        let head = text[close + 1..text.len().min(close + 121)].to_ascii_lowercase();
        let Some(values) = head.place_of(b"values") else { return };
        let classes: Vec<Option<Class>> = text[open + 1..close].split(|b| *b == b',').map(column_class).collect();
        self.reader.charge(close - open + head.len());
        let (first, known) = (close + 1 + values + 6, found.len());
        let end = self.rows(first, &classes, found);
        self.reader.rows.set((open, end));
        if found.len() == known && placeholders(&text[first.min(end)..end]) == classes.len() {
            self.bound_rows(end, &text[open..close], &classes, found);
        }
    }

    /// The rows that fill in the placeholders of a statement which ends at `at`: `VALUES (?, ?)", ("bob", "x"))`.
    fn bound_rows(&self, at: usize, columns: &[u8], classes: &[Option<Class>], found: &mut Vec<Found>) {
        let Some((mut row, mut next)) = self.bound(at, classes.len()) else {
            for (nth, class) in classes.iter().enumerate() {
                let Some(range) = class.and_then(|_| self.printed_parameter(at, nth)) else { continue };
                if class.is_some_and(|class| may_be_secret(class, &self.text[range.clone()], Role::Setting)) {
                    found.push(self.found(range, "the value of a column"));
                }
            }
            return;
        };
        // `[["name", "bob"], ["password", "x"]]` of Rails: each list is a name and its value.
        let named = |one: &Literal| memchr::memmem::find(columns, &self.text[one.start..one.end]).is_some();
        if row.first().is_some_and(|one| one.as_ref().is_some_and(named)) {
            return;
        }
        for _ in 0..MAX_BOUND_ROWS {
            for (one, class) in row.iter().zip(classes) {
                let Some(one) = one else { continue };
                let value = &self.text[one.start..one.end];
                if class.is_some_and(|class| may_be_secret(class, value, Role::Assigned)) {
                    found.push(self.found(one.start..one.end, "the value of a column"));
                }
            }
            let comma = self.past_space(next);
            if self.text.get(comma) != Some(&b',') {
                return;
            }
            let open = self.past_space(comma + 1);
            let Some((another, end)) = self.items(open).filter(|(items, _)| items.len() == classes.len()) else {
                return;
            };
            (row, next) = (another, end);
        }
    }

    /// `SET password = ?`: the value that the call fills in at the place of the name.
    pub(super) fn bound_parameter(&self, at: usize) -> Option<Found> {
        let text = self.text;
        if placeholders(&text[at..text.len().min(at + 2)]) == 0 {
            return None;
        }
        self.reader.charge(MAX_COLUMNS / 8);
        let from = at.saturating_sub(MAX_COLUMNS);
        let line = self.reader.context(self.start()).line_start.max(from).min(at);
        let numbered = text.get(at + 1).filter(|digit| text[at] == b'$' && matches!(digit, b'1'..=b'9'));
        let nth = numbered.map_or_else(|| placeholders(&text[line..at]), |digit| usize::from(digit - b'1'));
        if let Some(range) = self.printed_parameter(at, nth) {
            let taken = self.may_be(&text[range.clone()], Role::Setting);
            return taken.then(|| self.found(range, "what a placeholder is filled with"));
        }
        let open = from + memchr::memrchr3(b'"', b'\'', b'`', &text[from..self.start()])?;
        let reach = &text[at..text.len().min(at + MAX_COLUMNS)];
        let close = at + memchr::memchr(text[open], reach)?;
        let nth = placeholders(&text[open..at]);
        let (items, _) = self.bound(close, nth + placeholders(&text[at..close]))?;
        let one = items.get(nth)?.as_ref()?;
        let taken = self.may_be(&text[one.start..one.end], Role::Assigned);
        taken.then(|| self.found(one.start..one.end, "what a placeholder is filled with"))
    }

    /// The first of the next few lists in brackets that has so many elements, and where it ends.
    fn bound(&self, at: usize, count: usize) -> Option<(Vec<Option<Literal>>, usize)> {
        let reach = &self.text[at..self.text.len().min(at + MAX_BOUND)];
        let opens = memchr::memchr2_iter(b'(', b'[', reach).take(MAX_BOUND_LISTS);
        self.reader.charge(MAX_BOUND / 8);
        opens.map(|open| at + open).find_map(|open| self.items(open).filter(|(items, _)| items.len() == count))
    }

    /// The elements of the list in brackets that opens at `at`, and where it ends.
    pub(super) fn items(&self, at: usize) -> Option<(Vec<Option<Literal>>, usize)> {
        let close = match self.text.get(at)? {
            b'(' => b')',
            b'[' => b']',
            _ => return None,
        };
        let (mut items, mut at) = (Vec::new(), at + 1);
        while items.len() < MAX_ITEMS {
            at = self.past_space(at);
            let one = literal(self.reader, at);
            at = match &one {
                Some(one) => one.after,
                None => at + self.text[at..].iter().take(64).take_while(|b| !b",()[]\"'\n".contains(b)).count(),
            };
            self.reader.charge(8);
            items.push(one);
            at = self.past_space(at);
            match self.text.get(at)? {
                b',' => at += 1,
                byte if *byte == close => return Some((items, at + 1)),
                _ => return None,
            }
        }
        None
    }

    /// Finds the secrets in rows, and says where these end.
    fn rows(&self, mut at: usize, classes: &[Option<Class>], found: &mut Vec<Found>) -> usize {
        for _ in 0..MAX_ROWS {
            at = self.past_space(at);
            if self.text.get(at) != Some(&b'(') {
                return at;
            }
            at += 1;
            let mut nth = 0;
            loop {
                at = self.past_space(at);
                match literal(self.reader, at) {
                    Some(Literal { start, end, after, .. }) => {
                        let class = classes.get(nth).copied().flatten();
                        if class.is_some_and(|class| may_be_secret(class, &self.text[start..end], Role::Assigned)) {
                            found.push(self.found(start..end, "the value of a column"));
                        }
                        at = after;
                    }
                    None => at = self.past_plain(at),
                }
                self.reader.charge(8);
                at = self.past_space(at);
                match self.text.get(at) {
                    Some(b',') => (at, nth) = (at + 1, nth + 1),
                    Some(b')') => break,
                    _ => return at,
                }
            }
            at = self.past_space(at + 1);
            if self.text.get(at) != Some(&b',') {
                return at;
            }
            at += 1;
        }
        at
    }

    /// The values below the name, where it stands in the header of comma-separated values.
    #[inline(never)]
    pub(super) fn csv(&self, found: &mut Vec<Found>) {
        let quoted = matches!(self.name.quotes, Some((_, b'"', 0)));
        let (text, range) = (self.text, self.start()..self.name.end);
        let ends_field = matches!(text.get(range.end), Some(b',' | b'\r' | b'\n'));
        if self.name.quotes.is_some() != quoted
            || !ends_field
            || range.start > 0 && !matches!(text[range.start - 1], b',' | b'\n')
        {
            return;
        }
        let start = self.reader.context(range.start).line_start;
        let end = self.reader.line_end(range.end);
        // A row is no header.
        if end - start > MAX_COLUMNS || start < self.reader.csv_end.get() {
            return;
        }
        let header = text[start..end].trim_ascii_end();
        self.reader.charge(header.len());
        let of_header = |b: &u8| is_name(*b) || matches!(b, b',' | b'.' | 0x80..) || quoted && *b == b'"';
        if !header.iter().all(of_header) || memchr::memchr(b',', header).is_none() {
            return;
        }
        let unquoted =
            |cell: &[u8]| cell.strip_prefix(b"\"").and_then(|cell| cell.strip_suffix(b"\"")).map(<[u8]>::len);
        let cell = |cell: &[u8]| column_class(unquoted(cell).map_or(cell, |len| &cell[1..1 + len]));
        let classes: Vec<Option<Class>> = header.split(|b| *b == b',').map(cell).collect();
        let mut at = end + 1;
        for _ in 0..MAX_ROWS {
            let Some(next) = self.csv_row(at, &classes, found) else { break };
            at = next;
        }
        // What is below a header is read once.
        self.reader.csv_end.set(at);
        self.reader.charge(at.min(text.len()) - end.min(at));
    }

    /// The values below the name, where it stands in the head of a table of Markdown or of columns that a tab or a
    /// semicolon ends.
    #[inline(never)]
    pub(super) fn table(&self, found: &mut Vec<Found>) {
        let text = self.text;
        let start = self.reader.context(self.name.range.start).line_start;
        let end = self.reader.line_end(self.name.range.end);
        if end - start > MAX_COLUMNS || start < self.reader.csv_end.get() || end >= text.len() {
            return;
        }
        let header = &text[start..end];
        self.reader.charge(header.len());
        let signs = [b'|', b'\t', b';', BOX];
        let stands =
            |sign: &u8| memchr::memchr(*sign, header).is_some_and(|at| *sign != BOX || cell_sign(&header[at..]) > 0);
        let Some(sign) = signs.into_iter().find(stands) else { return };
        // `|| user || password ||` of Confluence.
        let doubled = sign == b'|' && header.begins_with(b"||");
        // A table of Markdown has a rule below its head; other columns begin with the text or behind an empty line.
        let next = &text[end + 1..text.len().min(end + 1 + MAX_COLUMNS)];
        let next = &next[..memchr::memchr(b'\n', next).unwrap_or(next.len())];
        self.reader.charge(next.len() / 8);
        let ruled = memchr::memmem::find(next, b"--").is_some() && next.iter().all(|b| b"|-:+ \r".contains(b));
        // Without a rule a row may be one of a text.
        let role = if sign != b'|' || ruled || doubled { Role::Setting } else { Role::Mention };
        let is_head = match sign {
            b'|' => ruled || doubled || is_framed(header) && is_framed(next) && !has_bar_above(&text[..start]),
            BOX => next.trim_ascii_start().starts_with(&[BOX]),
            _ => start == 0 || text[..start].closes_with(b"\n\n"),
        };
        if !is_head {
            return;
        }
        let of_header = |b: &u8| is_name(*b) || *b == sign || *b >= 0x80 || b" *_./|\t\r".contains(b);
        let own = &text[self.name.range.clone()];
        if !header.iter().all(of_header) || !cells(header, sign).any(|cell| trimmed(cell) == own) {
            return;
        }
        let filled = |cell: &&[u8]| !doubled || !trimmed(cell).is_empty();
        let heads = cells(header, sign).filter(filled).map(|cell| column_class(trimmed(cell)));
        let outside = doubled.then_some(None);
        let classes: Vec<Option<Class>> = outside.into_iter().chain(heads).chain(outside).collect();
        let mut at = end + 1;
        for _ in 0..MAX_ROWS {
            let stop = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |len| at + len);
            let row = &text[at..stop];
            let whole = cells(row, sign).count() == classes.len();
            let rule = match sign {
                b'|' => row.iter().all(|b| b"|-:+= \r".contains(b)),
                BOX => !whole && row.iter().all(|b| *b >= 0x80 || b" -=+\r".contains(b)),
                _ => false,
            };
            if row.is_empty() || !rule && !whole {
                break;
            }
            for (cell, class) in cells(row, sign).zip(&classes) {
                let value = trimmed(cell);
                if let Some(class) = class.filter(|class| !rule && may_be_secret(*class, value, role)) {
                    let place = value.as_ptr() as usize - text.as_ptr() as usize;
                    let found_one = self.found(place..place + value.len(), "the value of a column");
                    found.extend((class != Class::Weak).then_some(found_one));
                }
            }
            at = (stop + 1).min(text.len());
            if stop == text.len() {
                break;
            }
        }
        self.reader.csv_end.set(at);
        self.reader.charge(at - end.min(at));
    }

    /// Finds the secrets in a row, and says where the next begins; nothing if the row has not as many fields.
    fn csv_row(&self, start: usize, classes: &[Option<Class>], found: &mut Vec<Found>) -> Option<usize> {
        let line = self.text.get(start..)?;
        let line = line[..memchr::memchr(b'\n', line).unwrap_or(line.len())].trim_ascii_end();
        let (mut at, mut values) = (start, Vec::new());
        for nth in 0..classes.len() {
            let quoted = self.text.get(at) == Some(&b'"');
            let inside = at + usize::from(quoted);
            let stop = if quoted { b'"' } else { b',' };
            let rest = self.text.get(inside..start + line.len())?;
            let len = memchr::memchr(stop, rest).unwrap_or(rest.len());
            let after = inside + len + usize::from(quoted);
            let value = &self.text[inside..inside + len];
            if classes[nth].is_some_and(|class| may_be_secret(class, value, Role::Setting)) {
                values.push(self.found(inside..inside + len, "the value of a column"));
            }
            let last = nth + 1 == classes.len();
            if last != (after >= start + line.len()) || !last && self.text[after] != b',' {
                return None;
            }
            at = after + 1;
        }
        found.extend(values);
        Some(
            start
                + line.len()
                + self.text[start + line.len()..].iter().take(2).take_while(|b| matches!(b, b'\r' | b'\n')).count(),
        )
    }

    fn past_space(&self, at: usize) -> usize {
        at + self.text[at..].iter().take(64).take_while(|b| b.is_ascii_whitespace()).count()
    }

    /// Past a number, a keyword or a call without commas.
    fn past_plain(&self, at: usize) -> usize {
        let mut depth = 0usize;
        for (len, byte) in self.text[at..].iter().take(MAX_COLUMNS).enumerate() {
            match byte {
                b'(' => depth += 1,
                b')' if depth == 0 => return at + len,
                b')' => depth -= 1,
                b',' if depth == 0 => return at + len,
                _ => {}
            }
        }
        self.text.len().min(at + MAX_COLUMNS)
    }
}

/// Whether a line begins and ends with a bar.
fn is_framed(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.len() > 2 && line.begins_with(b"|") && line.closes_with(b"|")
}

/// Whether the line above has a bar, so that what follows is a row among others.
fn has_bar_above(before: &[u8]) -> bool {
    let line = before.strip_suffix(b"\n").unwrap_or(before);
    let line = &line[line.len().saturating_sub(MAX_COLUMNS)..];
    memchr::memchr(b'|', &line[memchr::memrchr(b'\n', line).map_or(0, |end| end + 1)..]).is_some()
}

/// The cells of a line.
fn cells(line: &[u8], sign: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let ends = |at: &usize| sign != BOX || cell_sign(&line[*at..]) > 0;
        match memchr::memchr_iter(sign, line).find(ends) {
            Some(at) => {
                rest = Some(&line[at + if sign == BOX { 3 } else { 1 }..]);
                Some(&line[..at])
            }
            None => rest.take(),
        }
    })
}

/// A cell without blanks and without the signs that set it off.
fn trimmed(cell: &[u8]) -> &[u8] {
    let of_markup = |b: &u8| b" *`\t\r".contains(b);
    let start = cell.iter().take_while(|b| of_markup(b)).count();
    let end = cell.len() - cell[start..].iter().rev().take_while(|b| of_markup(b)).count();
    &cell[start..end]
}

/// What the name of a column announces.
fn column_class(name: &[u8]) -> Option<Class> {
    let name = name.rsplit(|b| *b == b'.').next().unwrap_or_default();
    classify(name).filter(|class| !matches!(class, Class::Cookie | Class::Authorization))
}
