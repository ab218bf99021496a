//! Values written into a file with a telling name (`echo x > token.txt`), and values of annotations.

use super::literal::literal;
use super::secret::Role;
use super::{Finder, Found, blanks};
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::marks;
use crate::codec::redaction::reader::Reader;

/// The longest path, and how far its line is read in front of it.
const MAX_PATH: usize = 80;
const MAX_LINE: usize = 300;
/// How far an annotation stands in front of the name of its field.
const MAX_ANNOTATION: usize = 200;

/// Where `>` stands that leads into the path which goes on at `at`.
pub(super) fn redirection(reader: &Reader<'_>, at: usize) -> Option<usize> {
    let (text, path) = (reader.text, reader.start_of(marks::PATH, at, MAX_PATH));
    let mut sign = path.checked_sub(1)?;
    let mut gap = 0;
    while gap < 4 && text[sign] == b' ' {
        (sign, gap) = (sign.checked_sub(1)?, gap + 1);
    }
    (text[sign] == b'>' && (gap > 0 || path < at)).then_some(sign)
}

/// Where the annotation of a field begins, shortly in front of its name.
pub(super) fn annotation(text: &[u8], at: usize) -> Option<usize> {
    let from = at.saturating_sub(MAX_ANNOTATION);
    memchr::memmem::rfind(&text[from..at], b"@Value(").map(|place| from + place + 7)
}

impl Finder<'_, '_> {
    /// `echo x > password.txt`, `cat > password.txt <<EOF`
    pub(super) fn redirected(&self) -> Option<Found> {
        let text = self.text;
        let sign = redirection(self.reader, self.name.range.start)?;
        self.reader.charge(MAX_PATH + MAX_LINE / 4);
        let from = sign.saturating_sub(MAX_LINE);
        let line = memchr::memrchr(b'\n', &text[from..sign]).map_or(from, |end| from + end + 1);
        let said = [&b"echo "[..], b"printf "]
            .iter()
            .find_map(|word| memchr::memmem::rfind(&text[line..sign], word).map(|at| line + at + word.len()));
        let Some(mut at) = said else { return self.heredoc() };
        for option in [&b"-n "[..], b"-e ", b"-ne ", b"'%s' ", b"\"%s\" ", b"'%s\\n' ", b"%s "] {
            if text[at..sign].starts_with(option) {
                at += option.len();
            }
        }
        let at = blanks(text, at);
        let range = match literal(self.reader, at).filter(|one| one.after <= sign) {
            Some(one) => one.start..one.end,
            None => at..at + text[at..sign].trim_ascii_end().len(),
        };
        let value = &text[range.clone()];
        let plain = !value.contains(&b' ') && !value.contains(&b'=') && !value.contains(&b'|');
        (plain && self.may_be(value, Role::Setting)).then(|| self.found(range, "what is written into the file"))
    }

    /// The only line of a text that is written into the file.
    fn heredoc(&self) -> Option<Found> {
        let text = self.text;
        let end = self.reader.line_end(self.name.end);
        memchr::memmem::find(&text[self.name.end..end.min(self.name.end + MAX_PATH)], b"<<")?;
        let start = (end + 1).min(text.len());
        let stop = self.reader.line_end(start);
        let value = text[start..stop.min(start + 2 * MAX_PATH)].trim_ascii_end();
        let plain = value.len() < MAX_PATH && !value.iter().any(|b| b" =:{".contains(b));
        (plain && self.may_be(value, Role::Setting))
            .then(|| self.found(start..start + value.len(), "what is written into the file"))
    }

    /// `@Value("x") private String password;`
    pub(super) fn annotated(&self) -> Option<Found> {
        let text = self.text;
        if self.name.quotes.is_some() || !self.reader.has_annotations() {
            return None;
        }
        let open = annotation(text, self.name.range.start)?;
        self.reader.charge(MAX_ANNOTATION / 4);
        let one = literal(self.reader, blanks(text, open)).filter(|one| one.after < self.name.range.start)?;
        let between = text[one.after..self.name.range.start].strip_prefix(b")")?;
        let declares =
            between.iter().all(|b| b.is_ascii_alphanumeric() || const { &ByteSet::of(b" \t\r\n_<>@.[]") }.has(b));
        let taken = declares && self.may_be(&text[one.start..one.end], Role::Assigned);
        taken.then(|| self.found(one.start..one.end, "what an annotation gives to the field"))
    }
}
