//! Columns: the value at the place of its name in `INSERT INTO t (a, password) VALUES ('x', 'y')`.

use super::literal::{Literal, literal};
use super::secret::{Role, judge};
use super::{Finder, Found};

/// How far the list of names and the word `VALUES` are read, and how many rows.
const MAX_COLUMNS: usize = 400;
const MAX_ROWS: usize = 10_000;

impl Finder<'_, '_> {
    /// The values of the column that has the name.
    pub(super) fn columns(&self, found: &mut Vec<Found>) {
        let text = self.text;
        let (start, end) = (self.start(), self.name.end);
        let next = end + text[end..].iter().take(4).take_while(|b| b.is_ascii_whitespace() || **b == b']').count();
        if !matches!(text.get(next), Some(b',' | b')')) {
            return;
        }
        let back = &text[start.saturating_sub(MAX_COLUMNS)..start];
        self.reader.charge(64);
        let Some(open) = back.iter().rposition(|b| !(b.is_ascii_alphanumeric() || b"_, `\"[]\n\t.".contains(b))) else {
            return;
        };
        if back[open] != b'(' {
            return;
        }
        let column = memchr::memchr_iter(b',', &back[open..]).count();
        let reach = &text[next..text.len().min(next + MAX_COLUMNS)];
        let Some(close) = memchr::memchr(b')', reach) else { return };
        self.reader.charge(MAX_COLUMNS / 2);
        let behind = next + close + 1;
        let head = text[behind..text.len().min(behind + 120)].to_ascii_lowercase();
        let Some(values) = memchr::memmem::find(&head, b"values") else { return };
        self.rows(behind + values + 6, column, found);
    }

    fn rows(&self, mut at: usize, column: usize, found: &mut Vec<Found>) {
        for _ in 0..MAX_ROWS {
            at = self.past_space(at);
            if self.text.get(at) != Some(&b'(') {
                return;
            }
            at += 1;
            let mut nth = 0;
            loop {
                at = self.past_space(at);
                match literal(self.reader, at) {
                    Some(Literal { start, end, after, .. }) => {
                        if nth == column && judge(self.name.class, &self.text[start..end], Role::Assigned) {
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
                    _ => return,
                }
            }
            at = self.past_space(at + 1);
            if self.text.get(at) != Some(&b',') {
                return;
            }
            at += 1;
        }
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
