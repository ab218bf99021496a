//! Which chunks may match a query, from hashes alone: false positives, no false negatives.

use std::io;
use std::sync::Arc;

use super::chunks::ChunkSet;
use super::grams::{
    Hashes, LooseGram, grams_of, has_term, is_counted, is_unsearched, loose_grams_of, may_be_random, number_term,
    numbers_of, present, term,
};
use super::numbers::Number;
use super::word_blocks::BlockNeeds;
use crate::event::Raw;
use crate::query::{Check, Expr, FieldTest, Pattern, Test};
use crate::visibility::Visibility;

/// The most hashes of one text that are asked for. One that is left out may be the only one that few chunks have, and
/// looking stops where no chunk is left.
const MAX_GRAMS: usize = 48;

/// What a chunk must have, as a formula over hashes.
#[derive(Clone, Debug, PartialEq)]
pub enum Needs {
    Anything,
    /// A value of a field, or a substring of any text but a random identifier.
    Hash(u32),
    /// A substring of a random identifier.
    Loose(LooseGram),
    /// A number in any text but a random identifier.
    Number(Number),
    /// The whole text of a member of which nearly each event has another.
    Unique(Unique),
    All(Vec<Needs>),
    Any(Vec<Needs>),
}

/// A text, a member that may be it, and the hash of both.
#[derive(Clone, Debug, PartialEq)]
pub struct Unique {
    pub name: &'static str,
    pub text: Arc<str>,
    pub hash: u32,
}

/// Where a place keeps what its chunks have.
pub trait Index {
    fn hash(&mut self, hash: u32) -> io::Result<ChunkSet>;
    fn loose(&mut self, hash: u32) -> io::Result<ChunkSet>;
    /// Whether it has lists of such numbers, which are read for each chunk. Hashes of others are looked up once.
    fn has_lists_of(&self, number: Number) -> bool;
    /// Those of some chunks that may have a number.
    fn number(&mut self, number: Number, within: &ChunkSet) -> io::Result<ChunkSet>;
    /// Those where a member may be a text.
    fn unique(&mut self, unique: &Unique) -> io::Result<ChunkSet>;
}

/// What every chunk with a matching event has. The text of a query tells nothing to a reader who sees own events only:
/// what others have written must not even be felt in the time that an answer takes.
pub fn needs(expr: &Expr, equals: &[(String, String)], visibility: &Visibility) -> Needs {
    let mut parts: Vec<Needs> = equals.iter().map(|(name, value)| equal(name, value)).collect();
    match visibility.only_user() {
        Some(user) => parts.push(equal("user_id", user)),
        None => parts.push(of_expr(expr)),
    }
    all(parts)
}

fn equal(name: &str, value: &str) -> Needs {
    // A member may also be a number, `null`, a list or an object that is written so.
    if !has_term(value) || is_number(value) || value == "null" || value.starts_with(['[', '{']) {
        return Needs::Anything;
    }
    Needs::Hash(term(name.as_bytes(), value))
}

/// The same, where besides a member is one of these texts.
pub fn with_one_of(needs: Needs, name: &str, texts: &[Arc<str>]) -> Needs {
    all(vec![needs, any(texts.iter().map(|text| equal(name, text)).collect())])
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+' || c == '.') && text.parse::<f64>().is_ok()
}

fn all(parts: Vec<Needs>) -> Needs {
    let mut parts: Vec<Needs> = parts.into_iter().filter(|part| *part != Needs::Anything).collect();
    match parts.len() {
        0 => Needs::Anything,
        1 => parts.swap_remove(0),
        _ => Needs::All(parts),
    }
}

fn any(parts: Vec<Needs>) -> Needs {
    if parts.contains(&Needs::Anything) { Needs::Anything } else { Needs::Any(parts) }
}

fn of_expr(expr: &Expr) -> Needs {
    match expr {
        // What is not there has no hash.
        Expr::All | Expr::Not(_) => Needs::Anything,
        Expr::And(parts) => all(parts.iter().map(of_expr).collect()),
        Expr::Or(parts) => any(parts.iter().map(of_expr).collect()),
        Expr::Test(test) => of_test(test),
    }
}

/// Whether a test may be true of a random identifier.
pub fn may_be_of_identifier(test: &Test) -> bool {
    matches!(&test.check, Check::Is(pattern) if pattern.0.iter().all(|part| may_be_random(part)))
}

/// What every chunk has in which this is true of a text that is no random identifier and has none within, of a member that
/// is searched by its substrings.
pub fn of_plain_texts(test: &Test) -> Needs {
    match (&test.check, FieldTest::new(test)) {
        (Check::Is(pattern), None) => of_plain_text(pattern),
        (Check::Is(pattern), Some(field)) if field.is_contained() && field.rest.is_empty() => of_plain_text(pattern),
        _ => Needs::Anything,
    }
}

fn of_test(test: &Test) -> Needs {
    let Some(field) = FieldTest::new(test) else {
        return match &test.check {
            // An id is found by its hash, any other text by its substrings.
            Check::Is(pattern) => match pattern.literal() {
                Some(text) => any(vec![of_text(pattern), whole_of_unique(text)]),
                None => Needs::Anything,
            },
            _ => Needs::Anything,
        };
    };
    let names: Vec<&str> = [Some(field.name.as_str()), field.canonical].into_iter().flatten().collect();
    // Of a member that is `null` there is no hash.
    let may_be_null = field.rest.is_empty() && field.accepts(Raw::valid(b"null"));
    let has_member = if may_be_null { Needs::Anything } else { has_one_of(&names) };
    let value = match &test.check {
        Check::Is(pattern) => of_value(pattern, &field, &names),
        _ => Needs::Anything,
    };
    all(vec![has_member, value])
}

fn has_one_of(names: &[&str]) -> Needs {
    any(names.iter().map(|name| Needs::Hash(present(name.as_bytes()))).collect())
}

fn whole_of_unique(text: &str) -> Needs {
    if !has_term(text) {
        return Needs::Anything;
    }
    let of_member = |name: &'static str| Unique { name, text: text.into(), hash: term(name.as_bytes(), text) };
    Needs::Any(["id", "timestamp", "received_at"].map(|name| Needs::Unique(of_member(name))).to_vec())
}

fn of_value(pattern: &Pattern, field: &FieldTest, names: &[&str]) -> Needs {
    let Some(text) = pattern.literal() else {
        let is_unsearched = names.iter().any(|name| is_unsearched(name.as_bytes()));
        let may_be_no_text = !field.is_contained() && may_be_no_text(pattern);
        return if is_unsearched || may_be_no_text { Needs::Anything } else { of_text(pattern) };
    };
    if field.is_contained() {
        return of_text(pattern);
    }
    // A number is compared by its value and a day by its hours: only plain texts have one spelling.
    let number = text.parse::<f64>().ok().filter(|_| is_number(text));
    let is_time = text.len() >= 10 && text.starts_with(|c: char| c.is_ascii_digit());
    if let Some(number) = number {
        let is_known = field.rest.is_empty() && names.iter().all(|name| is_counted(name.as_bytes()));
        if !is_known || !has_term(text) {
            return Needs::Anything;
        }
        let hashes = names.iter().flat_map(|name| {
            [Needs::Hash(number_term(name.as_bytes(), number)), Needs::Hash(term(name.as_bytes(), text))]
        });
        return any(hashes.collect());
    }
    if is_time {
        return Needs::Anything;
    }
    if !field.rest.is_empty() {
        // Strings alone have substrings; `true` and `null` below an object have none.
        let is_word = matches!(text.to_ascii_lowercase().as_str(), "true" | "false" | "null" | "");
        return if is_word { Needs::Anything } else { of_text(pattern) };
    }
    if !has_term(text) || matches!(text.to_ascii_lowercase().as_str(), "null" | "") {
        return Needs::Anything;
    }
    any(names.iter().map(|name| Needs::Hash(term(name.as_bytes(), text))).collect())
}

/// Whether a pattern may be the text of a number, of `true`, `false` or `null`: those have no substrings in the index.
fn may_be_no_text(pattern: &Pattern) -> bool {
    let is_of_number = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    let test = Test { field: Some(vec![String::new()]), check: Check::Is(pattern.clone()) };
    let is_word = |word: &[u8]| FieldTest::new(&test).is_some_and(|test| test.accepts(Raw::valid(word)));
    pattern.0.iter().all(|part| part.bytes().all(is_of_number))
        || [&b"true"[..], b"false", b"null"].into_iter().any(is_word)
}

/// All substrings are in one string, which is a random identifier or none: those of a text that no such identifier can
/// contain are not looked for among the many of identifiers, where four digits are in nearly every chunk.
fn of_text(pattern: &Pattern) -> Needs {
    let plain = of_plain_text(pattern);
    if pattern.0.iter().all(|part| may_be_random(part)) {
        let loose = pattern.0.iter().flat_map(|part| some_of(loose_grams_of(part)));
        any(vec![plain, all(loose.map(Needs::Loose).collect())])
    } else {
        plain
    }
}

fn of_plain_text(pattern: &Pattern) -> Needs {
    // A number is in fewer chunks than its substrings are.
    let numbers = pattern.0.iter().flat_map(|part| numbers_of(part)).map(Needs::Number);
    all(numbers.chain(some_grams_of(pattern).map(Needs::Hash)).collect())
}

fn some_grams_of(pattern: &Pattern) -> impl Iterator<Item = u32> {
    pattern.0.iter().flat_map(|part| some_of(grams_of(part)))
}

fn some_of<T: Clone>(grams: Vec<T>) -> impl Iterator<Item = T> {
    let (len, asked) = (grams.len(), grams.len().min(MAX_GRAMS));
    (0..asked).map(move |nth| grams[nth * len / asked].clone())
}

impl Needs {
    /// The chunks of so many that have what is needed.
    pub fn chunks(&self, len: usize, index: &mut dyn Index) -> io::Result<ChunkSet> {
        self.within(ChunkSet::all(len), index)
    }

    fn within(&self, mut set: ChunkSet, index: &mut dyn Index) -> io::Result<ChunkSet> {
        if set.is_empty() {
            return Ok(set);
        }
        match self {
            Needs::Anything => Ok(set),
            Needs::Hash(hash) => {
                set.intersect(&index.hash(*hash)?);
                Ok(set)
            }
            Needs::Loose(gram) => {
                set.intersect(&index.loose(gram.hash)?);
                Ok(set)
            }
            Needs::Number(number) => index.number(*number, &set),
            Needs::Unique(unique) => {
                set.intersect(&index.unique(unique)?);
                Ok(set)
            }
            Needs::All(parts) => {
                // Lists are read last, of the chunks that have all the rest.
                let is_late = |part: &&Needs| matches!(part, Needs::Number(number) if index.has_lists_of(*number));
                let (late, early): (Vec<&Needs>, Vec<&Needs>) = parts.iter().partition(is_late);
                early.into_iter().chain(late).try_fold(set, |set, part| part.within(set, index))
            }
            Needs::Any(parts) => {
                let mut found = ChunkSet::none(set.len());
                for part in parts {
                    found.unite(&part.within(set.clone(), index)?);
                }
                Ok(found)
            }
        }
    }

    /// The same of the blocks of chunks that have it, as far as that is kept.
    pub fn of_blocks(&self, index: &mut dyn Index) -> io::Result<BlockNeeds> {
        let mut of_parts = |parts: &[Needs]| parts.iter().map(|part| part.of_blocks(index)).collect::<io::Result<_>>();
        match self {
            Needs::Number(Number::Word(hash)) => Ok(BlockNeeds::Word(*hash)),
            Needs::All(parts) => of_parts(parts).map(BlockNeeds::all),
            Needs::Any(parts) => of_parts(parts).map(BlockNeeds::any),
            Needs::Unique(unique) if index.unique(unique)?.is_empty() => Ok(BlockNeeds::Never),
            Needs::Anything | Needs::Hash(_) | Needs::Loose(_) | Needs::Number(_) | Needs::Unique(_) => {
                Ok(BlockNeeds::Anything)
            }
        }
    }

    /// The hashes that are looked up first, and whether they are of identifiers.
    pub fn first_hashes(&self) -> Vec<(u32, bool)> {
        match self {
            Needs::Hash(hash) => vec![(*hash, false)],
            Needs::Loose(gram) => vec![(gram.hash, true)],
            Needs::Number(Number::Behind(hash) | Number::Word(hash) | Number::Near(hash)) => vec![(*hash, false)],
            Needs::All(parts) => {
                parts.iter().map(Needs::first_hashes).find(|some| !some.is_empty()).unwrap_or_default()
            }
            Needs::Any(parts) => parts.iter().flat_map(Needs::first_hashes).collect(),
            Needs::Anything | Needs::Number(_) | Needs::Unique(_) => Vec::new(),
        }
    }

    /// Whether a chunk with these hashes has what is needed.
    pub fn is_in(&self, hashes: &Hashes) -> bool {
        match self {
            Needs::Anything => true,
            Needs::Hash(hash) => hashes.exact.contains(*hash),
            Needs::Loose(gram) => hashes.identifiers.contains(&gram.text),
            Needs::Number(number) => hashes.has_number(*number),
            Needs::Unique(unique) => hashes.exact.contains(unique.hash),
            Needs::All(parts) => parts.iter().all(|part| part.is_in(hashes)),
            Needs::Any(parts) => parts.iter().any(|part| part.is_in(hashes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::grams::GramSet;
    use super::super::members::Walked;
    use super::*;
    use crate::query::Query;

    fn may_match(query: &str, line: &str) -> (bool, bool) {
        let query = Query::parse(query).expect("a query");
        let mut set = GramSet::default();
        let mut walked = Walked::default();
        let members = walked.add(line.as_bytes());
        let named = walked.shape(members).members.iter().zip(walked.values(members));
        named.for_each(|(member, value)| set.add(member, *value));
        let everything = Visibility::All { own: String::new(), preview: 100 };
        (needs(query.expr(), &[], &everything).is_in(&set.take()), query.matches_line(Raw::valid(line.as_bytes())))
    }

    #[test]
    fn what_matches_is_among_the_candidates_and_most_else_is_not() {
        let line = r#"{"id":"0190163d-8694-739b-aea5-966c26f8ad91","timestamp":"2026-01-02T03:04:05Z","username":"Ali","status":"error","status_code":500,"code":"import os\nprint('سلام', 500, True)","metadata":{"new_status":"SHIPPED","n":5,"ok":true},"tags":["X"]}"#;
        for query in [
            "status:error",
            "user_id:ali",
            "username:ali",
            "status_code:500",
            "status_code:500.0",
            "code:\"import OS\"",
            "metadata.new_status:shipped",
            "metadata.n:5",
            "metadata.ok:true",
            "سلام",
            "-status:success",
            "has:code",
            "(status:lost OR status:error)",
            "0190163d-8694-739b-aea5-966c26f8ad91",
            "timestamp:2026-01-02",
            "tags:x",
            "status:err*",
            "~\"impo.t\"",
            "id:0190163d*",
            "cod*",
            "code:500",
            "code:true",
        ] {
            let (candidate, matches) = may_match(query, line);
            assert!(candidate || !matches, "{query}");
        }
        for query in ["status:lost", "user_id:sara", "code:pandas", "status_code:404", "has:entity_id", "nothing"] {
            assert_eq!(may_match(query, line), (false, false), "{query}");
        }
    }

    #[test]
    fn digits_of_identifiers_make_no_chunk_a_candidate_for_a_number_behind_a_word() {
        let line = r#"{"session_id":"de824242-01e7-40a0-af18-2049b329b6a4","code":"qty_4243 order-424 user42"}"#;
        for (query, is_candidate) in [
            ("qty_4242", false),
            ("\"order-4242\"", false),
            ("user4242", false),
            ("qty_4243", true),
            ("4242", true),
            ("session_id:de82*", true),
            ("\"4242-01e7\"", true),
            ("4242-0424", false),
            ("*4242*01E7*", true),
        ] {
            assert_eq!(may_match(query, line).0, is_candidate, "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_match_of_an_identifier_is_left_out(
            id in "[0-9a-fA-F-]{14,40}", other in "[0-9a-g-]{0,20}", from in 0usize..14, len in 1usize..12,
        ) {
            let line = serde_json::json!({ "session_id": id, "metadata": { "a": other } }).to_string();
            let needle: String = id.chars().skip(from).take(len).collect();
            for query in [format!("\"{needle}\""), format!("session_id:\"{needle}*\""), format!("*{needle}*4*")] {
                let (candidate, matches) = may_match(&query, &line);
                prop_assert!(candidate || !matches, "{} in {}", query, line);
            }
        }

        #[test]
        fn no_match_of_a_value_that_is_no_text_is_left_out(
            value in prop_oneof![
                "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,4})?([eE]-?[0-9]{1,2})?".boxed(),
                proptest::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned).boxed(),
            ],
            from in 0usize..6, len in 1usize..8, is_upper: bool,
        ) {
            let line = format!("{{\"user_id\":{value},\"status_code\":{value},\"metadata\":{{\"a\":{value}}},\"tags\":[{value}]}}");
            let needle: String = value.chars().skip(from).take(len).collect();
            let needle = if is_upper { needle.to_uppercase() } else { needle };
            let escaped: String = needle.chars().flat_map(|c| ['\\', c]).collect();
            for field in ["user_id", "username", "status_code", "metadata.a", "tags"] {
                for written in [format!("\"{needle}\""), format!("{escaped}*"), format!("*{escaped}"), format!("*{escaped}*")] {
                    let query = format!("{field}:{written}");
                    let (candidate, matches) = may_match(&query, &line);
                    prop_assert!(candidate || !matches, "{} in {}", query, line);
                }
            }
        }

        #[test]
        fn no_match_is_ever_left_out(
            value in "[a-zA-Z0-9 .:İςΣk]{0,12}", needle in "[a-zA-Z0-9 .:iσΣK]{1,5}",
            field in prop_oneof![Just(""), Just("user_id:"), Just("code:"), Just("metadata.a:"), Just("status_code:"), Just("username:")],
        ) {
            let line = serde_json::json!({ "user_id": value, "code": value, "metadata": { "a": value }, "status_code": value.parse::<f64>().ok() }).to_string();
            let query = format!("{field}\"{needle}\"");
            let (candidate, matches) = may_match(&query, &line);
            prop_assert!(candidate || !matches, "{} in {}", query, line);
        }
    }
}
