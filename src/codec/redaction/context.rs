//! The context of a position: its line, the string and bracket around it, and the kind of text.

use super::byte_set::ByteSet;
use super::marks::{Marks, SIGN};
use crate::codec::redaction::literals::{Beginnings, Literals as _};

/// Follows strings, brackets and lines from the beginning of a text to a place, reading each byte once.
pub struct Lexer {
    at: usize,
    /// Whether the last byte that was read is escaped by the one before it.
    is_escaped: bool,
    line_start: usize,
    string: Option<(u8, usize)>,
    /// The place asked for before this one, its line and its string: what is asked next may stand shortly before.
    last: (usize, usize, Option<(u8, usize)>),
    /// Whether brackets were closed since.
    is_closed: bool,
    /// Where the open brackets stand, and how many there are.
    brackets: [u32; MAX_DEPTH],
    depth: usize,
    /// The line whose neighbours were read last, and what they are.
    neighbours: Option<(usize, Kind)>,
    /// What lines say that were read lately, by where they begin: neighbours have most of theirs in common.
    lines: [(usize, Says); KEPT_LINES],
}

/// What one line says of the kind of text it belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Section,
    Code,
    Setting,
    Nothing,
}

/// How many lines are remembered.
const KEPT_LINES: usize = 16;

/// The context of a place.
#[derive(Clone, Copy, Debug)]
pub struct LineContext {
    pub line_start: usize,
    /// The quote of the string that is open here, and where it opened.
    pub string: Option<(u8, usize)>,
    /// The innermost open bracket and its place.
    pub bracket: Option<(u8, usize)>,
}

/// What the lines around a line look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Code,
    /// Names with values without quotes: YAML, INI, environment files.
    Settings,
    Unknown,
}

/// The most open brackets that are remembered.
const MAX_DEPTH: usize = 64;
/// How far back a place before the last one is read.
const MAX_BACK: usize = 512;
/// How much of the text around a line tells its kind.
const NEIGHBOURS: usize = 400;

impl Default for Lexer {
    fn default() -> Lexer {
        Lexer {
            at: 0,
            is_escaped: false,
            line_start: 0,
            string: None,
            last: (0, 0, None),
            is_closed: false,
            brackets: [0; MAX_DEPTH],
            depth: 0,
            neighbours: None,
            lines: NO_LINES,
        }
    }
}

impl Lexer {
    /// Begins anew, with another text.
    pub fn forget(&mut self) {
        (self.at, self.line_start, self.string, self.depth) = (0, 0, None, 0);
        self.last = (0, 0, None);
        if self.neighbours.take().is_some() {
            self.lines = NO_LINES;
        }
    }

    /// The innermost open bracket.
    fn bracket(&self, text: &[u8]) -> Option<(u8, usize)> {
        let place = *self.brackets[..self.depth].last()? as usize;
        Some((text[place], place))
    }

    /// The context of `at`, and how many bytes were read for it.
    pub fn at(&mut self, text: &[u8], marks: &Marks, at: usize) -> (LineContext, usize) {
        // Of a place behind a backslash one byte too many was read, which changes nothing.
        let is_read = at + 1 == self.at && self.is_escaped;
        if at < self.at && !is_read {
            self.go_back(text, at);
        } else if at > self.at {
            (self.last, self.is_closed) = ((self.at, self.line_start, self.string), false);
        }
        let from = self.at.min(at);
        while self.at < at {
            // Most bytes change nothing.
            self.at = marks.next_within(text, SIGN, self.at, at - self.at);
            if self.at < at {
                self.step(text);
            }
        }
        let context = LineContext { line_start: self.line_start, string: self.string, bracket: self.bracket(text) };
        (context, self.at - from)
    }

    /// Goes back to a place from which `at` can be read: the one asked for before, if no bracket was closed since, or a
    /// line that begins not far in front of it.
    fn go_back(&mut self, text: &[u8], at: usize) {
        let mut back = self.last.0;
        if back <= at && at - back < MAX_BACK && !self.is_closed {
            (self.at, self.line_start, self.string) = self.last;
        } else {
            back = at.saturating_sub(MAX_BACK);
            self.at = memchr::memrchr(b'\n', &text[back..at]).map_or(back, |line| back + line + 1);
            (self.line_start, self.string) = (self.at, None);
        }
        self.depth = self.brackets[..self.depth].partition_point(|place| (*place as usize) < back);
    }

    fn step(&mut self, text: &[u8]) {
        let byte = text[self.at];
        self.is_escaped = byte == b'\\';
        match byte {
            b'\n' => {
                (self.line_start, self.string) = (self.at + 1, None);
                // Whatever was left open, a line that begins without indentation begins something new.
                if text.get(self.at + 1).is_some_and(u8::is_ascii_alphanumeric) {
                    (self.depth, self.is_closed) = (0, true);
                }
            }
            b'\\' => self.at += 1,
            b'"' | b'\'' | b'`' => match self.string {
                Some((quote, _)) if quote == byte => self.string = None,
                Some(_) => {}
                // An apostrophe within a word opens nothing.
                None if byte == b'\'' && self.at > 0 && is_letter(text[self.at - 1]) => {}
                None => self.string = Some((byte, self.at)),
            },
            b'(' | b'[' | b'{' if self.string.is_none() && self.depth < MAX_DEPTH => {
                // What stands beyond 4 GiB is no bracket.
                if let Ok(place) = u32::try_from(self.at) {
                    self.brackets[self.depth] = place;
                    self.depth += 1;
                }
            }
            b')' | b']' | b'}' if self.string.is_none() => {
                let opening = match byte {
                    b')' => b'(',
                    b']' => b'[',
                    _ => b'{',
                };
                if self.bracket(text).is_some_and(|(open, _)| open == opening) {
                    (self.depth, self.is_closed) = (self.depth - 1, true);
                }
            }
            _ => {}
        }
        self.at += 1;
    }

    /// The kind of text around a line, and how many bytes were read for it.
    pub fn kind(&mut self, text: &[u8], line_start: usize) -> (Kind, usize) {
        if let Some((line, kind)) = self.neighbours
            && line == line_start
        {
            return (kind, 1);
        }
        let kind = kind_of(text, line_start, &mut self.lines);
        self.neighbours = Some((line_start, kind));
        (kind, NEIGHBOURS)
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() && !const { &ByteSet::of(b"fFrRbBuULN") }.has(&byte)
        || byte >= 0x80
        || byte.is_ascii_digit()
}

/// A place where no line begins.
const NO_LINES: [(usize, Says); KEPT_LINES] = [(usize::MAX, Says::Nothing); KEPT_LINES];

/// Looks at up to four lines before and behind the line; the line itself says nothing.
fn kind_of(text: &[u8], line_start: usize, known: &mut [(usize, Says); KEPT_LINES]) -> Kind {
    let (from, line) = (line_start.saturating_sub(NEIGHBOURS), &text[line_start..]);
    let before = &text[from..line_start];
    let cut = if from > 0 { memchr::memchr(b'\n', before).map_or(before.len(), |at| at + 1) } else { 0 };
    let behind = memchr::memchr(b'\n', &line[..line.len().min(NEIGHBOURS)]).map_or(&line[..0], |end| &line[end + 1..]);
    let is_cut = behind.len() > NEIGHBOURS;
    let behind = &behind[..behind.len().min(NEIGHBOURS)];
    let (mut code, mut settings) = (0, 0);
    let mut count = |line: &[u8], whole: bool| {
        let start = line.as_ptr() as usize - text.as_ptr() as usize;
        let slot = &mut known[start % KEPT_LINES];
        let says = match *slot {
            (place, says) if place == start && whole => says,
            _ => says_of(line.trim_ascii()),
        };
        if whole {
            *slot = (start, says);
        }
        match says {
            Says::Section => settings += 2,
            Says::Code => code += 1,
            Says::Setting => settings += 1,
            Says::Nothing => {}
        }
    };
    before[cut..].split(|b| *b == b'\n').rev().take(5).for_each(|line| count(line, true));
    let end = behind.as_ptr_range().end;
    // What is read of the last line may not be all of it.
    behind.split(|b| *b == b'\n').take(4).for_each(|line| count(line, !is_cut || line.as_ptr_range().end != end));
    match (code, settings) {
        (0, 0) => Kind::Unknown,
        (code, settings) if code >= settings => Kind::Code,
        _ => Kind::Settings,
    }
}

fn says_of(line: &[u8]) -> Says {
    match line {
        [] | [b'#', ..] | [b'/', b'/', ..] => Says::Nothing,
        _ if is_section(line) => Says::Section,
        _ if is_code(line) => Says::Code,
        _ if is_setting(line) => Says::Setting,
        _ => Says::Nothing,
    }
}

/// `[section]`, `---`
fn is_section(line: &[u8]) -> bool {
    let inside =
        |rest: &[u8]| rest.iter().all(|b| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"._- \":/") }.has(b));
    match line {
        [b'[', inner @ .., b']'] => inner.len() > 1 && inside(inner) && inner[0].is_ascii_alphabetic(),
        _ => line == b"---" || line.begins_with(b"apiVersion:"),
    }
}

#[rustfmt::skip]
static KEYWORDS: Beginnings = Beginnings::of(&[
    "import ", "from ", "def ", "class ", "return", "if ", "elif ", "else", "for ", "while ", "try", "except",
    "with ", "raise ", "assert ", "const ", "let ", "var ", "function ", "public ", "private ", "protected ",
    "static ", "func ", "package ", "fn ", "use ", "pub ", "struct ", "enum ", "impl ", "#include", "@", "async ",
    "await ", "export default", "interface ", "type ", "namespace ", "using ", "print", "self.", "this.", "end",
    "do", "local ", "my ", "=>", "}", "{", "\"\"\"", "'''", "val ", "case ", "switch", "throw ", "new ",
    "extends ", "match ",
]);

fn is_code(line: &[u8]) -> bool {
    let called = |at: usize| at > 0 && (line[at - 1].is_ascii_alphanumeric() || line[at - 1] == b'_');
    matches!(line[line.len() - 1], b';' | b'{' | b'(' | b',' | b')')
        || memchr::memchr_iter(b'(', line).any(called)
        || KEYWORDS.begin(line)
        || memchr::memchr_iter(b'-', line).any(|at| line.get(at + 1) == Some(&b'>'))
}

/// `name: value`, `name = value`, `- item`
fn is_setting(line: &[u8]) -> bool {
    let line = line.strip_prefix(b"- ").or_else(|| line.strip_prefix(b"export ")).unwrap_or(line);
    let name =
        line.iter().take_while(|b| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"_.-/\"'") }.has(b)).count();
    let rest = line[name..].trim_ascii_start();
    name > 0 && matches!(rest.first(), Some(b':' | b'=')) && !rest.begins_with(b"==")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_brackets_are_followed() {
        let text = b"f(a, 'x (', b\n  = {\"k";
        let (here, _) = Lexer::default().at(text, &Marks::default(), text.len());
        assert_eq!(here.string, Some((b'"', 19)));
        assert_eq!(here.bracket, Some((b'{', 18)));
        let (here, _) = Lexer::default().at(b"it's (x", &Marks::default(), 7);
        assert_eq!((here.string, here.bracket), (None, Some((b'(', 5))));
    }

    #[test]
    fn neighbours_tell_code_from_settings() {
        let kind = |text: &str| {
            let line = text.find("password").expect("named");
            let start = text[..line].rfind('\n').map_or(0, |at| at + 1);
            kind_of(text.as_bytes(), start, &mut NO_LINES.clone())
        };
        assert_eq!(kind("class A:\n    name: str\n    password: str\n"), Kind::Code);
        assert_eq!(kind("[db]\nuser = bob\npassword = x\n"), Kind::Settings);
        assert_eq!(kind("db:\n  user: bob\n  password: x\n"), Kind::Settings);
        assert_eq!(kind("password: x"), Kind::Unknown);
    }
}
