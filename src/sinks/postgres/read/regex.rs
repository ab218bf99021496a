//! Translates a pattern of the filter language into a PostgreSQL regular expression.

use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

/// The most repetitions that the database takes in one quantifier.
const MOST_REPEATS: u32 = 255;

const NOTHING: &str = "[^\\u0001-\\U0010ffff]";

/// It matches what the pattern does. `None` if it is no pattern.
pub fn translated(pattern: &str) -> Option<String> {
    let mut out = String::new();
    write(&regex_syntax::parse(pattern).ok()?, &mut out);
    Some(out)
}

/// Everything is in brackets, so that what stands beside it or behind it changes nothing.
fn write(hir: &Hir, out: &mut String) {
    match hir.kind() {
        HirKind::Empty => out.push_str("(?:)"),
        HirKind::Literal(literal) => String::from_utf8_lossy(&literal.0).chars().for_each(|c| character(c, out)),
        HirKind::Class(Class::Unicode(class)) => ranges(class.iter().map(|r| (r.start(), r.end())), out),
        HirKind::Class(Class::Bytes(class)) => {
            ranges(class.iter().map(|r| (char::from(r.start()), char::from(r.end()))), out);
        }
        HirKind::Look(look) => out.push_str(&looking(*look)),
        HirKind::Repetition(repetition) => repeated(repetition, out),
        HirKind::Capture(capture) => group(&capture.sub, out),
        HirKind::Concat(parts) => parts.iter().for_each(|part| group(part, out)),
        HirKind::Alternation(parts) => {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    out.push('|');
                }
                group(part, out);
            }
        }
    }
}

fn group(hir: &Hir, out: &mut String) {
    let stands_alone = matches!(hir.kind(), HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_));
    if !stands_alone {
        out.push_str("(?:");
    }
    write(hir, out);
    if !stands_alone {
        out.push(')');
    }
}

/// One character that means itself. The database has no texts with NUL.
fn character(c: char, out: &mut String) {
    if c == '\0' {
        return out.push_str(NOTHING);
    }
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
}

/// A set of characters; one that reaches to the last character is written as what is missing.
fn ranges(ranges: impl Iterator<Item = (char, char)>, out: &mut String) {
    let ranges: Vec<(u32, u32)> = ranges
        .map(|(first, last)| (u32::from(first).max(1), u32::from(last)))
        .filter(|(first, last)| first <= last)
        .collect();
    let is_open = ranges.last().is_some_and(|(_, last)| *last == u32::from(char::MAX));
    let mut shown = ranges;
    if is_open {
        let mut missing = Vec::new();
        let mut next = 1;
        for (first, last) in shown {
            if first > next {
                missing.push((next, first - 1));
            }
            next = last + 1;
        }
        shown = missing;
    }
    if shown.is_empty() {
        return out.push_str(if is_open { "." } else { NOTHING });
    }
    out.push_str(if is_open { "[^" } else { "[" });
    for (first, last) in shown {
        out.push_str(&format!("\\U{first:08x}"));
        if last > first {
            out.push_str(&format!("-\\U{last:08x}"));
        }
    }
    out.push(']');
}

fn repeated(repetition: &Repetition, out: &mut String) {
    let mut operand = String::from("(?:");
    write(&repetition.sub, &mut operand);
    operand.push(')');
    let mut least = repetition.min;
    while least > MOST_REPEATS {
        out.push_str(&format!("{operand}{{{MOST_REPEATS}}}"));
        least -= MOST_REPEATS;
    }
    let Some(most) = repetition.max else { return out.push_str(&format!("{operand}{{{least},}}")) };
    out.push_str(&format!("{operand}{{{least}}}"));
    let mut more = most - repetition.min;
    while more > 0 {
        out.push_str(&format!("{operand}{{0,{}}}", more.min(MOST_REPEATS)));
        more -= more.min(MOST_REPEATS);
    }
}

fn looking(look: Look) -> String {
    let not_inside_crlf = "(?:(?<!\\r)|(?!\\n))";
    match look {
        Look::Start => "\\A".to_owned(),
        Look::End => "\\Z".to_owned(),
        Look::StartLF => "(?<![^\\n])".to_owned(),
        Look::EndLF => "(?![^\\n])".to_owned(),
        Look::StartCRLF => format!("(?<![^\\r\\n]){not_inside_crlf}"),
        Look::EndCRLF => format!("(?![^\\r\\n]){not_inside_crlf}"),
        _ => at_word(look),
    }
}

fn at_word(look: Look) -> String {
    let is_ascii = matches!(
        look,
        Look::WordAscii
            | Look::WordAsciiNegate
            | Look::WordStartAscii
            | Look::WordEndAscii
            | Look::WordStartHalfAscii
            | Look::WordEndHalfAscii
    );
    // The database's own words depend on the locale, and end at a zero width non-joiner.
    let word = translated(if is_ascii { "[0-9A-Za-z_]" } else { r"\w" }).unwrap_or_default();
    match look {
        Look::WordAscii | Look::WordUnicode => {
            format!("(?:(?<={word})(?!{word})|(?<!{word})(?={word}))")
        }
        Look::WordAsciiNegate | Look::WordUnicodeNegate => {
            format!("(?:(?<={word})(?={word})|(?<!{word})(?!{word}))")
        }
        Look::WordStartAscii | Look::WordStartUnicode => format!("(?<!{word})(?={word})"),
        Look::WordEndAscii | Look::WordEndUnicode => format!("(?<={word})(?!{word})"),
        Look::WordStartHalfAscii | Look::WordStartHalfUnicode => format!("(?<!{word})"),
        _ => format!("(?!{word})"),
    }
}

#[cfg(test)]
mod tests {
    use super::translated;

    #[test]
    fn signs_that_mean_something_else_in_the_database_are_written_in_its_own() {
        for (pattern, expected) in [
            ("a.b", "a[^\\U0000000a]b"),
            ("(?s)a.b", "a.b"),
            ("^a$", "\\Aa\\Z"),
            ("(?m)^a", "(?<![^\\n])a"),
            ("[a-z&&[^p]]", "[\\U00000061-\\U0000006f\\U00000071-\\U0000007a]"),
            (r"\*\*\*=a", "\\*\\*\\*\\=a"),
            (r"\<", "(?<!"),
            ("x{300}", "(?:x){255}(?:x){45}"),
            ("(?i)ß", "[\\U000000df\\U00001e9e]"),
            (r"\x00", super::NOTHING),
        ] {
            let found = translated(pattern).unwrap();
            assert!(found.starts_with(expected), "{pattern}: {found}");
        }
        assert!(translated("(").is_none());
    }
}
