//! Patterns from the configuration: compiled when the engine is built, matched within bounds.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use super::buckets::chance;
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
/// The most alternatives of a pattern that the filter looks for.
const MAX_WORDS: usize = 8;
/// So many repetitions are enough to look for.
const MAX_REPEATS: usize = 8;
/// How often at most, for each byte of a text, the filter may stop for a pattern by chance: where it stops in every event, it
/// is cheaper to search all of them.
const MAX_CHANCE: f64 = 0.002;

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
    /// Every match has one of these in it; none if nothing is known.
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

/// For each alternative of a pattern some neighbours that are in every match of it, seldom enough for the filter to look
/// for them; none if an alternative has nothing of the kind.
fn words(hir: &Hir) -> Vec<Vec<Set>> {
    let mut whole = hir;
    while let HirKind::Capture(capture) = whole.kind() {
        whole = &capture.sub;
    }
    let alternatives = match whole.kind() {
        HirKind::Alternation(alternatives) => alternatives.as_slice(),
        _ => std::slice::from_ref(whole),
    };
    if alternatives.len() > MAX_WORDS {
        return Vec::new();
    }
    alternatives.iter().map(rarest).collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// The neighbours in every match that are seen least by chance.
fn rarest(hir: &Hir) -> Option<Vec<Set>> {
    let mut runs = Runs::default();
    runs.walk(hir);
    runs.gap();
    let by_chance = runs.all.into_iter().filter_map(|run| Some((chance(&run)?, run)));
    by_chance.min_by(|a, b| a.0.total_cmp(&b.0)).filter(|(chance, _)| *chance < MAX_CHANCE).map(|(_, run)| run)
}

/// The sets of bytes that follow each other in every match of a pattern. Where anything may stand between, or what JSON may
/// write in another way, a new run begins.
#[derive(Default)]
struct Runs {
    all: Vec<Vec<Set>>,
    last: Vec<Set>,
}

impl Runs {
    fn gap(&mut self) {
        if !self.last.is_empty() {
            self.all.push(std::mem::take(&mut self.last));
        }
    }

    fn walk(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Literal(literal) => literal.0.iter().for_each(|byte| self.push(Set::of([*byte]))),
            HirKind::Class(class) => match set_of(class) {
                Some(set) => self.push(set),
                None => self.gap(),
            },
            HirKind::Repetition(repetition) => self.repeat(repetition),
            HirKind::Capture(capture) => self.walk(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.walk(part)),
            HirKind::Alternation(_) => self.gap(),
        }
    }

    fn push(&mut self, set: Set) {
        match set.iter().all(is_plain) {
            true => self.last.push(set),
            false => self.gap(),
        }
    }

    fn repeat(&mut self, repetition: &Repetition) {
        let is_exact = repetition.max == Some(repetition.min);
        match (repetition.min as usize, repetition.sub.kind()) {
            (0, _) => self.gap(),
            (least, HirKind::Class(_) | HirKind::Literal(_)) => {
                let walk = |runs: &mut Runs| (0..least.min(MAX_REPEATS)).for_each(|_| runs.walk(&repetition.sub));
                walk(self);
                if !is_exact || least > MAX_REPEATS {
                    self.gap();
                    // It ends as it begins.
                    walk(self);
                }
            }
            // Once only: repetitions in repetitions would be many.
            (least, _) => {
                self.walk(&repetition.sub);
                if !is_exact || least > 1 {
                    self.gap();
                }
            }
        }
    }
}

/// Bytes that stand in JSON as they are, or as an escape for which the filter looks anyway.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !b"\"\\/".contains(&byte)
}

fn set_of(class: &Class) -> Option<Set> {
    let ranges: Vec<(u8, u8)> = match class {
        Class::Bytes(class) => class.ranges().iter().map(|range| (range.start(), range.end())).collect(),
        Class::Unicode(class) => {
            let narrow = |c: char| u8::try_from(c).ok().filter(u8::is_ascii);
            class
                .ranges()
                .iter()
                .map(|range| Some((narrow(range.start())?, narrow(range.end())?)))
                .collect::<Option<_>>()?
        }
    };
    Some(Set::of(ranges.into_iter().flat_map(|(first, last)| first..=last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pattern: &str) -> Vec<String> {
        let hir = regex_syntax::ParserBuilder::new().utf8(false).unicode(false).build().parse(pattern).unwrap();
        let show = |set: &Set| match set.iter().count() {
            1 => set.iter().map(char::from).collect(),
            count => format!("<{count}>"),
        };
        words(&hir).iter().map(|word| word.iter().map(show).collect()).collect()
    }

    #[test]
    fn the_filter_looks_for_what_is_in_every_match_wherever_it_stands() {
        assert_eq!(seen("EMP-[0-9]+"), ["EMP-<10>"]);
        assert_eq!(seen(r"[\w.-]+@[\w.-]+\.[a-z]+"), ["<65>@<65>"]);
        assert_eq!(seen(r"(?i)(emp|mgr)-\d{2,}"), ["-<10><10>"]);
        assert_eq!(seen(r"EMP-\d|KEY_\d"), ["EMP-<10>", "KEY_<10>"]);
        assert_eq!(seen(r"x?[A-Z]{3}\s*#\d{3}y"), ["#<10><10><10>y"]);
        assert_eq!(seen(r"((AB-){2}){3}C"), ["AB-"]);
    }

    #[test]
    fn what_may_be_written_in_another_way_or_is_everywhere_is_not_looked_for() {
        for pattern in
            [r"ab", r"\w{5}", r"[a-z]+[0-9]*", r#"""""""#, r"\\\\\\", "سلام", r"(ABC|DEF)?", "ABCD|x", r"[^a]{9}"]
        {
            assert_eq!(seen(pattern), [""; 0], "{pattern}");
        }
    }
}
