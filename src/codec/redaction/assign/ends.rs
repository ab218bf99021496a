//! Where a value without quotes ends: at the end of a word, a cell or an element.

use super::Finder;
use crate::codec::redaction::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use crate::codec::redaction::marks;
use crate::codec::redaction::names::is_name;
use crate::codec::redaction::reader::Reader;

/// How long the text of an element is.
pub(super) fn tag_len(rest: &[u8]) -> usize {
    let end = |at: usize| rest[at] == b'<' || rest[at..].begins_with(b"]]>") || rest[at] == b'\n';
    (0..rest.len()).find(|at| end(*at)).unwrap_or(rest.len())
}

/// How long the sign is that ends a cell here: a bar, or a line of a box that programs draw.
pub(super) fn cell_sign(text: &[u8]) -> usize {
    match text {
        [b'|', ..] => 1,
        [0xE2, 0x94, 0x82 | 0x83, ..] | [0xE2, 0x95, 0x91, ..] => 3,
        _ => 0,
    }
}

/// How far the sign is searched that ends a cell: many names may stand in front of none.
const MAX_CELL: usize = 512;

/// Where a word ends in a cell that ends with a sign or the line.
pub(super) fn cell_end(reader: &Reader<'_>, at: usize, sign: u8) -> usize {
    let reach = &reader.text[at..reader.text.len().min(at + MAX_CELL)];
    let cell = memchr::memchr2(sign, b'\n', reach).map_or(reader.text.len(), |len| at + len);
    word_end(reader, &reader.text[..cell], at)
}

/// Where a word ends that begins at `from`: at white space, or at a sign that ends it because nothing of a value follows.
pub(super) fn word_end(reader: &Reader<'_>, rest: &[u8], from: usize) -> usize {
    let ends = |at: usize| match rest.get(at) {
        None => true,
        Some(b) => b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`\\<>;&,.:)]}") }.has(b),
    };
    let mut at = from;
    loop {
        at = reader.next(marks::STOP, at);
        let Some(byte) = rest.get(at) else { return rest.len() };
        match byte {
            b if b.is_ascii_whitespace() => return at,
            b'"' | b'\'' | b'`' | b'\\' => return at,
            b'<' | b'>' if ends(at + 1) || rest[at..].begins_with(b"</") => return at,
            b'&' if rest[at..].begins_with(b"&&") => return at,
            b')' | b']' | b'}' | b';' if ends(at + 1) => return at,
            // A link of Markdown.
            b']' if rest.get(at + 1) == Some(&b'(') => return at,
            b'&' if begins_pair(&rest[at + 1..]) => return at,
            b'&' | b'|' | b';' if begins_command(&rest[at + 1..]) => return at,
            b',' if ends(at + 1) || begins_pair(&rest[at + 1..]) => return at,
            _ => {}
        }
        at += 1;
    }
}

/// Whether a command with arguments, a call or a shell begins here, as behind `;` and `|`.
fn begins_command(text: &[u8]) -> bool {
    let len = text.iter().take(24).take_while(|b| is_name(**b) || matches!(b, b'.' | b'/')).count();
    let shell = [&b"sh"[..], b"bash", b"zsh", b"python", b"python3", b"perl"].contains(&&text[..len]);
    len > 1
        && match text.get(len) {
            Some(b' ') => text.get(len + 1).is_some_and(u8::is_ascii_graphic),
            Some(b'(') => true,
            None | Some(b'\n') => shell,
            _ => false,
        }
}

/// Whether another `name=` or `name:` begins here.
fn begins_pair(text: &[u8]) -> bool {
    let name = text.iter().take(40).take_while(|b| is_name(**b) || **b == b'.').count();
    name > 0 && matches!(text.get(name), Some(b'=' | b':'))
}

/// What ends a block of Jira's notation.
const MARKUP: &[&[u8]] = &[b"{code", b"{noformat", b"{quote", b"{color"];

impl Finder<'_, '_> {
    /// Where a word ends in front of what closes a block in a ticket: `password: x{noformat}`.
    pub(super) fn before_markup(&self, at: usize, end: usize) -> usize {
        let Some(word) = self.text.get(at..end).filter(|_| self.text.get(end) == Some(&b'}')) else { return end };
        MARKUP.iter().find_map(|block| word.strip_suffix(*block)).map_or(end, |word| at + word.len())
    }
}
