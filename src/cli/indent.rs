//! Indents JSON for people, and leaves its numbers, names and their order as they are.

/// The same document in lines, two spaces a level.
pub fn indented(json: &str, level: usize) -> String {
    let (mut out, mut level) = (String::with_capacity(json.len() * 2), level);
    let begin_line = |out: &mut String, level: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", level));
    };
    let (mut in_text, mut is_escaped, mut is_begun) = (false, false, false);
    for c in json.chars() {
        if in_text {
            out.push(c);
            in_text = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            ' ' | '\t' | '\r' | '\n' => continue,
            '}' | ']' => {
                level = level.saturating_sub(1);
                if !is_begun {
                    begin_line(&mut out, level);
                }
            }
            _ if is_begun => begin_line(&mut out, level),
            _ => {}
        }
        out.push(c);
        is_begun = matches!(c, '{' | '[');
        match c {
            '{' | '[' => level += 1,
            ',' => begin_line(&mut out, level),
            ':' => out.push(' '),
            '"' => in_text = true,
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_other_printers_and_values_stay_as_they_are() {
        let plain = r#"{"a":{"b":[1,"x, {\"y\": [\\",[],{}],"c":null},"d":"","e":[{"f":true}]}"#;
        let value: serde_json::Value = serde_json::from_str(plain).unwrap();
        assert_eq!(indented(plain, 0), format!("{value:#}"));
        assert_eq!(indented(&format!("{value:#}"), 0), format!("{value:#}"));
        assert_eq!(indented("{}", 1), "{}");
        assert_eq!(indented(r#"{ "z":1e400,"a" : 1.10}"#, 1), "{\n    \"z\": 1e400,\n    \"a\": 1.10\n  }");
    }
}
