//! Patterns from the configuration: compiled when the engine is built, matched within bounds.

use super::byte_set::ByteSet;
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::literal::Extractor;

use super::report::{MAX_RULE_NAME, is_rule_name};
use super::shape::Set;
use super::{Action, OwnRule};

/// The longest pattern.
pub const MAX_PATTERN: usize = 4096;
/// The most memory a pattern may take once compiled.
const MAX_COMPILED: usize = 1 << 20;
/// The longest text a pattern is searched in; a longer one is replaced whole.
const MAX_TEXT: usize = 1 << 20;
/// The longest a pattern may search one text; after it the text is replaced whole.
const MAX_SEARCH: Duration = Duration::from_millis(250);
/// The most words a pattern may begin with to be found by the filter.
const MAX_WORDS: usize = 8;

/// A pattern that can not be used, and where in it the trouble is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern {
    pub name: String,
    /// Byte offset into the pattern.
    pub offset: usize,
    pub message: String,
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pattern `{}`: {} at byte {}", self.name, self.message, self.offset)
    }
}

impl std::error::Error for BadPattern {}

pub struct Own {
    pub action: Action,
    /// Every match begins with one of these; none if nothing is known.
    pub words: Vec<Vec<Set>>,
    regex: Regex,
}

/// The search was not finished.
pub struct Unfinished;

impl Own {
    pub fn compile(rule: &OwnRule) -> Result<Own, BadPattern> {
        let bad = |offset: usize, message: &str| {
            Err(BadPattern { name: rule.name.clone(), offset, message: message.to_owned() })
        };
        if !is_rule_name(&rule.name) {
            let message = format!("a name has 1 to {MAX_RULE_NAME} small letters, digits, `_`, `-` and `.`");
            return bad(0, &message);
        }
        if rule.pattern.len() > MAX_PATTERN {
            return bad(MAX_PATTERN, &format!("longer than {MAX_PATTERN} bytes"));
        }
        let parse = |unicode: bool| {
            regex_syntax::ParserBuilder::new()
                .utf8(false)
                .unicode(unicode)
                .nest_limit(64)
                .build()
                .parse(&rule.pattern)
                .map_err(|error| place(&error))
        };
        // Without Unicode tables a pattern is small and fast; only one that names characters needs them.
        let (hir, unicode) = match parse(false) {
            Ok(hir) => (hir, false),
            Err(_) => match parse(true) {
                Ok(hir) => (hir, true),
                Err((offset, message)) => return bad(offset, &message),
            },
        };
        if hir.properties().minimum_len() == Some(0) {
            return bad(0, "matches the empty text");
        }
        let regex = RegexBuilder::new(&rule.pattern)
            .unicode(unicode)
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .nest_limit(64)
            .build();
        match regex {
            Ok(regex) => Ok(Own { action: rule.action.clone(), words: words(&hir), regex }),
            Err(regex::Error::CompiledTooBig(_)) => bad(0, "too large once compiled"),
            Err(error) => bad(0, &error.to_string()),
        }
    }

    pub fn find(&self, text: &[u8], mut found: impl FnMut(Range<usize>)) -> Result<(), Unfinished> {
        if text.len() > MAX_TEXT {
            return Err(Unfinished);
        }
        let mut started = None;
        for (nth, hit) in self.regex.find_iter(text).enumerate() {
            // One search is linear; only many of them can take long.
            if nth % 16 == 15 && started.get_or_insert_with(Instant::now).elapsed() > MAX_SEARCH {
                return Err(Unfinished);
            }
            if !hit.is_empty() {
                found(hit.range());
            }
        }
        Ok(())
    }
}

fn place(error: &regex_syntax::Error) -> (usize, String) {
    match error {
        regex_syntax::Error::Parse(error) => (error.span().start.offset, error.kind().to_string()),
        regex_syntax::Error::Translate(error) => (error.span().start.offset, error.kind().to_string()),
        other => (0, other.to_string()),
    }
}

/// Words of which each match begins with one, where they are few, long enough, and need no escape in JSON.
fn words(hir: &regex_syntax::hir::Hir) -> Vec<Vec<Set>> {
    let prefixes = Extractor::new().limit_class(4).limit_total(MAX_WORDS).extract(hir);
    let Some(literals) = prefixes.literals() else { return Vec::new() };
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || const { &ByteSet::of(b"_-.: =#") }.has(byte);
    let usable = !literals.is_empty()
        && literals.len() <= MAX_WORDS
        && literals.iter().all(|literal| literal.as_bytes().len() >= 3 && literal.as_bytes().iter().all(plain));
    if !usable {
        return Vec::new();
    }
    literals.iter().map(|literal| literal.as_bytes().iter().map(|byte| Set::of([*byte])).collect()).collect()
}
