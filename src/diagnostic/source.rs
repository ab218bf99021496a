//! Source texts: named files, byte ranges, and the line and column an editor shows.

use std::ops::Range;

/// A range of bytes in one file of a [`Sources`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Span {
    /// Number of the file in its `Sources`.
    pub file: u32,
    /// First byte.
    pub start: u32,
    /// First byte behind it.
    pub end: u32,
}

impl Span {
    /// The span of what was written nowhere (a default, a value made by code).
    pub const NOWHERE: Span = Span { file: u32::MAX, start: 0, end: 0 };

    pub fn new(file: u32, range: Range<usize>) -> Span {
        Span { file, start: clamp(range.start), end: clamp(range.end) }
    }

    pub fn is_nowhere(self) -> bool {
        self.file == u32::MAX
    }

    /// This span, or `other` if this one is nowhere.
    pub fn or(self, other: Span) -> Span {
        if self.is_nowhere() { other } else { self }
    }

    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl Default for Span {
    fn default() -> Span {
        Span::NOWHERE
    }
}

fn clamp(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

/// One text that was read: its name (a path as the operator gave it) and its content.
#[derive(Clone, Debug)]
pub struct Source {
    pub name: String,
    pub text: String,
}

/// Everything that was read for one configuration, in order.
#[derive(Clone, Default, Debug)]
pub struct Sources {
    files: Vec<Source>,
}

/// A place as an editor counts: lines and columns from one, columns in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position<'s> {
    pub file: &'s str,
    pub line: usize,
    pub column: usize,
}

impl Sources {
    /// Adds a text and gives its number.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u32 {
        self.files.push(Source { name: name.into(), text: text.into() });
        clamp(self.files.len() - 1)
    }

    pub fn get(&self, file: u32) -> Option<&Source> {
        self.files.get(file as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.files.iter()
    }

    /// The text under a span, empty where it points nowhere.
    pub fn text(&self, span: Span) -> &str {
        self.get(span.file).and_then(|source| source.text.get(span.range())).unwrap_or("")
    }

    /// The place where a span begins.
    pub fn position(&self, span: Span) -> Option<Position<'_>> {
        let source = self.get(span.file)?;
        let (line_start, line) = line_of(&source.text, span.start as usize);
        let before = source.text.get(line_start..source.text.floor_char_boundary(span.start as usize)).unwrap_or("");
        let column = before.trim_start_matches('\u{feff}').chars().count() + 1;
        Some(Position { file: &source.name, line, column })
    }
}

/// Where the line around an offset begins, and its number from one.
pub(super) fn line_of(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    (start, before.iter().filter(|&&byte| byte == b'\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        let mut sources = Sources::default();
        let file = sources.add("a.yaml", "first\nkey: é x\n");
        let at = |start: usize| sources.position(Span::new(file, start..start + 1)).expect("the file is known");
        assert_eq!((at(0).line, at(0).column), (1, 1));
        assert_eq!((at(14).line, at(14).column), (2, 8));
        assert_eq!((at(900).line, at(900).column), (3, 1));
        assert_eq!(sources.position(Span::NOWHERE), None);
    }
}
