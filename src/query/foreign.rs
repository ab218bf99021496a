//! Syntax of other query languages: refused with Weir's spelling, since it would never match.

use super::ast::{Bound, Path};
use crate::event::names::{self, NameId, known};

/// Signs that stand for themselves in other languages.
const SIGNS: [(&str, &str); 13] = [
    ("=", "`field:value`"),
    ("==", "`field:value`"),
    ("!=", "`-field:value`"),
    ("<>", "`-field:value`"),
    (">", "`field:>5`"),
    (">=", "`field:>=5`"),
    ("<", "`field:<5`"),
    ("<=", "`field:<=5`"),
    ("=~", "`field:~\"pattern\"`"),
    ("!~", "`-field:~\"pattern\"`"),
    ("&&", "nothing, or `AND`"),
    ("||", "`OR`"),
    ("!", "`-` before the term to exclude"),
];
/// Fields that hold numbers, and fields that hold times.
const NUMBERS: [NameId; 4] = [names::DURATION_MS, names::STATUS_CODE, names::CELL_NUMBER, names::DB_QUERY_COUNT];
const TIMES: [NameId; 2] = [names::TIMESTAMP, names::RECEIVED_AT];

/// A word without quotes that would be looked for as a text: message and hint, if it means something else elsewhere.
pub fn word(text: &str) -> Option<(String, String)> {
    if let Some((sign, ours)) = SIGNS.iter().find(|(sign, _)| *sign == text) {
        let message = format!("`{sign}` would be searched as text");
        return Some((message, format!("write {ours}, or `\"{sign}\"` in quotes to search for the text")));
    }
    // `status=error`, `duration_ms>=5`
    let at = text.find(['=', '<', '>', '!'])?;
    let (name, rest) = text.split_at(at);
    let name = name.trim_start_matches('.');
    let value = rest.trim_start_matches(['=', '<', '>', '!', '~']);
    let sign = &rest[..rest.len() - value.len()];
    let first = name.split('.').next().unwrap_or_default();
    let is_field = known(first.as_bytes()).is_some();
    if !is_field || !SIGNS.iter().any(|(known, _)| *known == sign) {
        return None;
    }
    let ours = match sign {
        "=" | "==" => format!("{name}:{value}"),
        "!=" | "<>" => format!("-{name}:{value}"),
        "=~" => format!("{name}:~\"{value}\""),
        "!~" => format!("-{name}:~\"{value}\""),
        "!" => return None,
        sign => format!("{name}:{sign}{value}"),
    };
    let message = format!("`{text}` would be searched as text");
    Some((message, format!("write `{ours}`, or `\"{text}\"` in quotes to search for the text")))
}

/// A small `and`, `or`, `not` is a word to look for, which nobody means beside a test of a field.
pub fn small_keyword(text: &str) -> Option<&'static str> {
    match text {
        "and" => Some("AND"),
        "or" => Some("OR"),
        "not" => Some("NOT"),
        _ => None,
    }
}

/// Why a field can never be above or below this.
pub fn bound(path: &Path, bound: &Bound) -> Option<String> {
    let [name] = &path[..] else { return None };
    let id = known(name.as_bytes())?;
    let id = crate::event::aliases::canonical(id).unwrap_or(id);
    let is_number = bound.number().is_some();
    if NUMBERS.contains(&id) && !is_number {
        return Some(format!("`{name}` is a number, and `{}` is not", bound.0));
    }
    if TIMES.contains(&id) && bound.times().is_none() && !is_number {
        return Some(format!(
            "`{name}` is a time, and `{}` is not: expected one such as 2026-01-31 or 2026-01-31T08:00:00Z",
            bound.0
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn refused(query: &str) -> String {
        let error = parse::parse(query).expect_err(query);
        format!("{} | {}", error.message, error.hint.unwrap_or_default())
    }

    #[test]
    fn spellings_of_other_languages_are_refused_with_ours() {
        for (query, hint) in [
            ("status = error", "`field:value`"),
            ("duration_ms > 100", "`field:>5`"),
            (".status == \"error\"", "`field:value`"),
            ("status=error", "`status:error`"),
            ("status==error", "`status:error`"),
            ("status!=error", "`-status:error`"),
            ("duration_ms>=100", "`duration_ms:>=100`"),
            ("metadata.n=5", "`metadata.n:5`"),
            ("status:error and user_id:ali", "`AND`"),
            ("status:error or user_id:ali", "`OR`"),
            ("not status:error", "`NOT`"),
            ("status:error && user_id:ali", "`AND`"),
            ("!status:error", "`-status:error`"),
            (".status:error", "`status:error`"),
        ] {
            assert!(refused(query).contains(hint), "{query}: {}", refused(query));
        }
        assert!(refused("duration_ms:>abc").contains("is a number, and `abc` is not"));
        assert!(refused("status_code:[a TO 5]").contains("is a number, and `a` is not"));
        assert!(refused("timestamp:>yesterday").contains("is a time, and `yesterday` is not"));
    }

    #[test]
    fn a_text_that_looks_like_them_is_still_a_text() {
        for query in [
            "\"=\"",
            "x=1",
            "import and export",
            "this or that",
            "\"and\" status:error",
            "a&&b",
            "code:x==1",
            "host:>a",
            "metadata.n:>abc",
            "if(x!=1)",
            "password=hunter2",
        ] {
            assert!(parse::parse(query).is_ok(), "{query}: {:?}", parse::parse(query).err());
        }
    }
}
