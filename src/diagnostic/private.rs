//! What no report may show of a line, judged by the line alone: nobody may have read the value that stands in it.

use std::ops::Range;

use super::suggest::is_slip;

/// Words in the names of keys whose values are nobody's business, however the key is spelt.
const PRIVATE: [&str; 8] =
    ["password", "passphrase", "passwd", "secret", "token", "credential", "api_key", "authorization"];

pub(super) fn is_private_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PRIVATE.iter().any(|word| name.contains(word) || is_slip(&name, word))
}

/// A slip is one from the fourth letter on: `parser` is nearly `passwd`.
fn is_private_here(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let begins_so = |word: &&str| lower.contains(*word) || lower.get(..3) == word.get(..3);
    matches!(name, "headers" | "proxy") || is_private_name(name) && PRIVATE.iter().any(begins_so)
}

/// The values behind keys that sound private, and the users in addresses.
pub(super) fn in_line(line: &str) -> Vec<Range<usize>> {
    let mut found = users(line);
    for (colon, _) in line.match_indices([':', '=']) {
        let name = line[..colon].trim_end().trim_end_matches(['"', '\'']);
        let start = name
            .rfind(|c: char| !c.is_alphanumeric() && !"_-.".contains(c))
            .map_or(0, |at| at + name[at..].chars().next().map_or(1, char::len_utf8));
        if !is_private_here(&name[start..]) {
            continue;
        }
        let value = line[colon + 1..].trim_start();
        let start = line.len() - value.len();
        let length = value_length(value, line[..colon].contains(['{', '[']));
        if length > 0 && !reveals_nothing(&value[..length]) {
            found.push(start..start + length);
        }
    }
    found
}

/// The text with `***` for the users in its addresses.
pub(super) fn without_users(text: &str) -> String {
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for user in users(text) {
        out.push_str(&text[from..user.start]);
        out.push_str("***");
        from = user.end;
    }
    out.push_str(&text[from..]);
    out
}

/// `user:password` in `scheme://user:password@host`. A password may itself have an `@` in it, and a `/` that should have
/// been escaped, so that the last `@` before a space or quote ends it.
fn users(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        if found.last().is_some_and(|last| start < last.end) {
            continue;
        }
        let rest = &text[start..];
        let address = &rest[..rest.find(|c: char| c.is_whitespace() || "\"'`,}]".contains(c)).unwrap_or(rest.len())];
        if let Some(end) = address.rfind('@').filter(|end| *end > 0 && !reveals_nothing(&address[..*end])) {
            found.push(start..start + end);
        }
    }
    found
}

/// The length of a value: a quoted text, a list, a mapping (whose own keys say what is private), or the rest.
fn value_length(value: &str, is_inside: bool) -> usize {
    let mut characters = value.char_indices();
    match characters.next() {
        None | Some((_, '{' | '&' | '*' | '|' | '>')) => 0,
        Some((_, quote @ ('"' | '\''))) => characters.find(|(_, c)| *c == quote).map_or(value.len(), |(at, _)| at + 1),
        Some((_, '[')) => value.find(']').map_or(value.len(), |at| at + 1),
        Some(_) if is_inside => value.find([',', '}', ']']).unwrap_or(value.len()),
        Some(_) => value.find(" #").unwrap_or(value.len()),
    }
}

/// Whether a text only names where its value comes from.
pub(super) fn is_reference(text: &str) -> bool {
    text.starts_with("${") && text.find('}') == Some(text.len() - 1)
}

/// A name of a variable or a file reveals nothing; a default beside it does.
fn reveals_nothing(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    is_reference(value) && !value.contains(":-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let mut private = in_line(line);
        private.sort_by_key(|range| range.start);
        let (mut out, mut from) = (String::new(), 0);
        // Ranges may lie within each other.
        for range in private {
            if range.start >= from {
                out.push_str(&line[from..range.start]);
                out.push_str("***");
            }
            from = from.max(range.end);
        }
        out + &line[from..]
    }

    #[test]
    fn what_a_line_says_of_secrets_is_hidden_whoever_reads_it() {
        for (line, expected) in [
            ("al: {password: a1, password: b2}", "al: {password: ***, password: ***}"),
            ("password: hunter2 # mine", "password: *** # mine"),
            ("  \"api_key\": \"a, b\", x: 1", "  \"api_key\": ***, x: 1"),
            ("  passwort: 'geheim", "  passwort: ***"),
            ("{tokens: [a, b], x: 1}", "{tokens: ***, x: 1}"),
            ("token: ${TOKEN}", "token: ${TOKEN}"),
            ("token: ${TOKEN:-abc}", "token: ***"),
            ("uri: \"http://u:SEKRET@h:80/db\"", "uri: \"http://***@h:80/db\""),
            ("u: [http://a:b@c@h/x, kafka://h:1]", "u: [http://***@h/x, kafka://h:1]"),
            ("رمز: x, token: سلام", "رمز: x, token: ***"),
            ("Authorization=Basic abc", "Authorization=***"),
            ("address: 127.0.0.1:80", "address: 127.0.0.1:80"),
            ("token:", "token:"),
            ("secrets: {a: b}", "secrets: {a: b}"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
        assert_eq!(
            without_users("cannot use `http://u:p@h/`, nor http://x"),
            "cannot use `http://***@h/`, nor http://x"
        );
    }
}
