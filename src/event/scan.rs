//! The JSON scanner: validates one value and, if asked, splits an object at its top level.
//!
//! It accepts what serde_json accepts, numbers of any size included, but for three things: more than [`MAX_DEPTH`]
//! levels, more than [`MAX_KEYS`] members, and lone surrogates, which no UTF-8 can hold.
//!
//! Where the machine has AVX2, bitmaps (`simd`) and a walk over positions (`walk`) accept; whatever they do not accept
//! the safe twin (`scalar`) reads again, so that every machine refuses the same text for the same reason.
#![allow(unsafe_code, reason = "two calls into `simd`, where the processor has what they need")]

use std::fmt;

#[cfg(target_arch = "x86_64")]
use super::walk::{Found, walk};

/// The deepest nesting of objects and arrays in an event.
pub const MAX_DEPTH: usize = 64;
/// The most members all objects of one event may have together.
pub const MAX_KEYS: usize = 10_000;

/// One member at the top level: byte offsets into the text that was scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where the name's opening quote stands.
    pub key: u32,
    /// Length of the name between its quotes.
    pub key_len: u32,
    pub value: u32,
    pub value_len: u32,
}

/// Why a text is no acceptable value, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub offset: usize,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Empty,
    ExpectedValue,
    ExpectedName,
    ExpectedColon,
    ExpectedCommaOrEnd,
    UnclosedString,
    Unclosed,
    ControlCharacter,
    Escape,
    LoneSurrogate,
    Number,
    Utf8,
    Trailing,
    TooDeep,
    TooManyKeys,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Reason::Empty => "no value",
            Reason::ExpectedValue => "expected a value",
            Reason::ExpectedName => "expected a member name in quotes",
            Reason::ExpectedColon => "expected `:`",
            Reason::ExpectedCommaOrEnd => "expected `,` or the end of the object or array",
            Reason::UnclosedString => "a string is not closed",
            Reason::Unclosed => "an object or array is not closed",
            Reason::ControlCharacter => "raw control character in a string",
            Reason::Escape => "unknown escape in a string",
            Reason::LoneSurrogate => "lone surrogate in a string",
            Reason::Number => "malformed number",
            Reason::Utf8 => "not UTF-8",
            Reason::Trailing => "more text after the value",
            Reason::TooDeep => "nested deeper than 64 levels",
            Reason::TooManyKeys => "more than 10000 members",
        };
        write!(f, "{reason} at byte {}", self.offset)
    }
}

impl std::error::Error for Unfit {}

/// Reused between texts, so that scanning allocates nothing.
pub struct Scanner {
    scalar: super::scalar::Walk,
    /// Of the text that was validated last.
    id: Option<u32>,
    #[cfg(target_arch = "x86_64")]
    fast: Option<Fast>,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner::new()
    }
}

impl Scanner {
    pub fn new() -> Scanner {
        Scanner {
            scalar: Default::default(),
            id: None,
            #[cfg(target_arch = "x86_64")]
            fast: super::simd::available().then(Fast::new),
        }
    }

    /// A scanner that uses the safe twin alone, as on machines without the instructions.
    pub fn plain() -> Scanner {
        Scanner {
            scalar: Default::default(),
            id: None,
            #[cfg(target_arch = "x86_64")]
            fast: None,
        }
    }

    /// Validates `text` as exactly one value with nothing but white space around it.
    pub fn validate(&mut self, text: &[u8]) -> Result<(), Unfit> {
        #[cfg(target_arch = "x86_64")]
        if let Some(fast) = &mut self.fast
            && fast.whole(text, None)
        {
            self.id = fast.id;
            return Ok(());
        }
        let end = self.scalar.run(text, None)?;
        self.id = self.scalar.id;
        nothing_but_space(text, end)
    }

    /// Where the value of the last member `id` begins in the object that [`Scanner::validate`] or [`Scanner::prefix`] has
    /// accepted just now. A name written with escapes is not seen.
    pub fn id(&self) -> Option<u32> {
        self.id
    }

    /// Validates as [`Scanner::validate`]; if the value is an object its members are appended to `members`
    /// (those before a fault too).
    pub fn split(&mut self, text: &[u8], members: &mut Vec<Member>) -> Result<(), Unfit> {
        #[cfg(target_arch = "x86_64")]
        if let Some(fast) = &mut self.fast {
            let before = members.len();
            if fast.whole(text, Some(members)) {
                return Ok(());
            }
            members.truncate(before);
        }
        self.scalar.run(text, Some(members)).and_then(|end| nothing_but_space(text, end))
    }

    /// Validates the value that `text` begins with (white space before it allowed) and tells where it ends;
    /// what follows is not looked at.
    pub fn prefix(&mut self, text: &[u8]) -> Result<usize, Unfit> {
        self.prefix_split(text, None)
    }

    /// Validates as [`Scanner::prefix`] and, if asked, appends the members as [`Scanner::split`] does.
    pub fn prefix_split(&mut self, text: &[u8], mut members: Option<&mut Vec<Member>>) -> Result<usize, Unfit> {
        #[cfg(target_arch = "x86_64")]
        if let Some(fast) = &mut self.fast {
            let before = members.as_ref().map_or(0, |members| members.len());
            if let Some(end) = fast.prefix(text, members.as_deref_mut()) {
                self.id = fast.id;
                return Ok(end);
            }
            if let Some(members) = members.as_deref_mut() {
                members.truncate(before);
            }
        }
        let end = self.scalar.run(text, members)?;
        self.id = self.scalar.id;
        Ok(end)
    }
}

/// The largest text that is indexed at once: the index takes four bytes for each of its bytes. Beyond it the safe
/// twin alone works.
#[cfg(target_arch = "x86_64")]
const MAX_INDEXED: usize = 1 << 20;

/// The two stages that only ever accept: any doubt is left to the safe twin.
#[cfg(target_arch = "x86_64")]
struct Fast {
    index: super::simd::Index,
    /// Length of the value that [`Fast::prefix`] found last: the next one is probably as long.
    last: usize,
    /// Where the value of the last member `id` begins.
    id: Option<u32>,
}

#[cfg(target_arch = "x86_64")]
impl Fast {
    fn new() -> Fast {
        Fast { index: super::simd::Index::new(), last: 0, id: None }
    }

    fn whole(&mut self, text: &[u8], members: Option<&mut Vec<Member>>) -> bool {
        if text.len() > MAX_INDEXED {
            return false;
        }
        self.index.clear();
        // SAFETY: a `Fast` is made only where `simd::available` said yes.
        unsafe { self.index.extend(text, text.len()) };
        let positions = self.index.positions();
        let Ok(found) = walk(text, positions, members) else { return false };
        self.id = found.id;
        found.positions == positions.len() - 2
            && !self.index.is_faulty()
            && (self.index.is_ascii() || simdutf8::basic::from_utf8(text).is_ok())
    }

    /// Indexes no more than about twice what the value has, or what the last one had.
    fn prefix(&mut self, text: &[u8], mut members: Option<&mut Vec<Member>>) -> Option<usize> {
        let first = text.iter().find(|byte| !is_space(**byte));
        if !matches!(first, Some(b'{' | b'[')) {
            return None;
        }
        let before = members.as_ref().map_or(0, |members| members.len());
        self.index.clear();
        // Each value found pays for one guess, so that many small ones behind a large one cost no more than they are.
        let mut window = (std::mem::take(&mut self.last) + 64).next_multiple_of(64);
        loop {
            let to = window.min(text.len());
            if to > MAX_INDEXED {
                return None;
            }
            // SAFETY: a `Fast` is made only where `simd::available` said yes.
            unsafe { self.index.extend(text, to) };
            match walk(text, self.index.positions(), members.as_deref_mut()) {
                Ok(Found { end, id, .. }) => {
                    (self.last, self.id) = (end, id);
                    let fits = !self.index.is_faulty()
                        && (self.index.is_ascii() || simdutf8::basic::from_utf8(&text[..end]).is_ok());
                    return fits.then_some(end);
                }
                Err(stop) if stop.out_of_positions && to < text.len() => {
                    if let Some(members) = members.as_deref_mut() {
                        members.truncate(before);
                    }
                    window = 2 * to;
                }
                Err(_) => return None,
            }
        }
    }
}

fn nothing_but_space(text: &[u8], end: usize) -> Result<(), Unfit> {
    match text[end..].iter().position(|byte| !is_space(*byte)) {
        None => Ok(()),
        Some(more) => Err(Unfit { offset: end + more, reason: Reason::Trailing }),
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
#[path = "scan/tests.rs"]
pub(super) mod tests;
