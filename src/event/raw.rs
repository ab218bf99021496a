//! Reads one JSON value that the scanner has accepted; allocates only for strings with escapes.

use std::borrow::Cow;

use super::escape;

/// Validated JSON text of one value, without white space around it. What looks into a value takes this type, and only
/// text that a scanner has accepted, or that Weir has written as JSON, becomes one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(pub(super) &'a [u8]);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl std::fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl<'a> Raw<'a> {
    /// Takes text that is known to be valid: it comes from a batch or the journal, or was just written as JSON. Text
    /// from outside goes through a [`Scanner`](super::Scanner) first. Builds with debug assertions check.
    pub fn valid(text: &'a [u8]) -> Raw<'a> {
        // Not by the scanner: what transforms have made may have more members than it accepts.
        debug_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok(), "text that is not JSON");
        Raw(text)
    }

    /// The JSON text itself, as bytes.
    #[inline]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    #[inline]
    pub fn kind(&self) -> Kind {
        match self.0.first() {
            Some(b'"') => Kind::String,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    /// The JSON text itself.
    pub fn text(&self) -> &'a str {
        std::str::from_utf8(self.0).expect("the scanner accepts UTF-8 only")
    }

    pub fn is_null(&self) -> bool {
        self.kind() == Kind::Null
    }

    /// The decoded string, if it is one.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        self.inside().map(escape::unescape)
    }

    /// The inside of the string's quotes, escapes as they stand.
    #[inline]
    pub fn inside(&self) -> Option<&'a [u8]> {
        (self.kind() == Kind::String).then(|| &self.0[1..self.0.len() - 1])
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.0 {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The number if it is an integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        (self.kind() == Kind::Number).then(|| self.text().parse().ok()).flatten()
    }

    /// The nearest double, if it is a number.
    pub fn as_f64(&self) -> Option<f64> {
        (self.kind() == Kind::Number).then(|| self.text().parse().ok()).flatten()
    }

    /// A string decoded, anything else as its JSON text: what a person would call the value.
    pub fn display(&self) -> Cow<'a, str> {
        self.as_str().unwrap_or_else(|| Cow::Borrowed(self.text()))
    }

    /// The members of an object in order (empty for anything else); names as they stand between their quotes.
    pub fn members(&self) -> Members<'a> {
        Members { rest: if self.kind() == Kind::Object { &self.0[1..] } else { b"}" } }
    }

    /// The elements of an array in order (empty for anything else).
    pub fn elements(&self) -> Elements<'a> {
        Elements { rest: if self.kind() == Kind::Array { &self.0[1..] } else { b"]" } }
    }

    /// The last member of this name, if this is an object.
    pub fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.members().filter(|(key, _)| name_is(key, name)).last().map(|(_, value)| value)
    }

    /// Follows member names one below the other.
    pub fn path<S: AsRef<str>>(&self, names: &[S]) -> Option<Raw<'a>> {
        names.iter().try_fold(*self, |value, name| value.get(name.as_ref()))
    }
}

/// Whether a member's name, as it stands between its quotes, means `name`.
pub fn name_is(key: &[u8], name: &str) -> bool {
    key == name.as_bytes() || (memchr::memchr(b'\\', key).is_some() && escape::unescape(key) == name)
}

pub struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], Raw<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = skip(self.rest, b',');
        if rest.first() != Some(&b'"') {
            return None;
        }
        let end = value_end(rest);
        let name = &rest[1..end - 1];
        let rest = skip(&rest[end..], b':');
        let end = value_end(rest);
        self.rest = &rest[end..];
        Some((name, Raw(&rest[..end])))
    }
}

pub struct Elements<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = skip(self.rest, b',');
        if matches!(rest.first(), None | Some(b']')) {
            return None;
        }
        let end = value_end(rest);
        self.rest = &rest[end..];
        Some(Raw(&rest[..end]))
    }
}

fn skip(text: &[u8], separator: u8) -> &[u8] {
    let start = text.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r') && *b != separator);
    &text[start.unwrap_or(text.len())..]
}

/// The length of the valid value that `text` begins with. Only for text that was validated.
pub fn value_end(text: &[u8]) -> usize {
    match text.first() {
        Some(b'"') => string_end(text),
        Some(b'{' | b'[') => nested_end(text),
        _ => text
            .iter()
            .position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
            .unwrap_or(text.len()),
    }
}

fn string_end(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &text[at..]) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at = text.len().min(at + 2);
    }
    text.len()
}

fn nested_end(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text[at] {
            b'"' => at += string_end(&text[at..]) - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}
