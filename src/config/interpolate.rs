//! `${VAR}` and `${file:…}` in values: replaced after YAML parsing, so that no value can become structure.

use std::path::Path;

use crate::diagnostic::{Kind, Node, Problem, Problems, Scalar, Span};

/// The most bytes that a `${file:…}` may bring in.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Where values come from: the process, or a test.
pub struct Environment<'e> {
    pub variable: &'e dyn Fn(&str) -> Option<String>,
    pub file: &'e dyn Fn(&Path) -> Result<Vec<u8>, String>,
}

impl Environment<'static> {
    /// The variables and files of this process.
    pub fn process() -> Environment<'static> {
        Environment { variable: &|name| std::env::var(name).ok(), file: &read_file }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    // One byte more shows that there would be more.
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Replaces what is to be replaced in every value below a node. Gives the places of values that could not be.
pub fn interpolate(
    node: &mut Node,
    path: &str,
    environment: &Environment<'_>,
    problems: &mut Problems,
    broken: &mut Vec<Span>,
) {
    match &mut node.kind {
        Kind::Sequence(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                interpolate(item, &format!("{path}[{index}]"), environment, problems, broken);
            }
        }
        Kind::Mapping(entries) => {
            for entry in entries {
                let path = if path.is_empty() { entry.name().into() } else { format!("{path}.{}", entry.name()) };
                interpolate(&mut entry.value, &path, environment, problems, broken);
            }
        }
        Kind::Scalar(scalar) if scalar.text.contains('$') => {
            let written = scalar.text.clone();
            match replace(&written, environment) {
                Ok(text) if text == written => {}
                Ok(text) => *scalar = Scalar { text, written: Some(written), lines: Vec::new(), ..scalar.clone() },
                Err(fault) => {
                    let span = node.within(fault.range);
                    let problem = Problem::error(path, span, fault.message);
                    problems.push(Problem { hint: fault.hint, ..problem });
                    broken.push(node.span);
                }
            }
        }
        Kind::Scalar(_) => {}
    }
}

/// Why a text could not be replaced, and which bytes of it are to blame.
#[derive(Debug)]
struct Fault {
    range: std::ops::Range<usize>,
    message: String,
    hint: Option<String>,
}

/// `$$` is a dollar, `${…}` is a value, and a `$` before anything else is itself.
fn replace(text: &str, environment: &Environment<'_>) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let start = text.len() - rest.len() + dollar;
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(body) = after.strip_prefix('{') {
            let Some(end) = body.find('}') else {
                let message = "unclosed `${`".to_string();
                return Err(Fault {
                    range: start..text.len(),
                    message,
                    hint: Some("write `$${` for a literal `${`".into()),
                });
            };
            let range = start..start + end + 3;
            out.push_str(&value(&body[..end], environment).map_err(|(message, hint)| Fault {
                range,
                message,
                hint,
            })?);
            rest = &body[end + 1..];
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands between `${` and `}`.
fn value(body: &str, environment: &Environment<'_>) -> Result<String, (String, Option<String>)> {
    if let Some(path) = body.strip_prefix("file:") {
        return from_file(path, environment);
    }
    let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
    let (name, rest) = body.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        let hint = "write `$${` for a literal `${`".to_string();
        return Err((format!("`{body}` is not a valid variable name"), Some(hint)));
    }
    // As in a shell, the colon makes an empty value count as none.
    let found = (environment.variable)(name);
    if let Some(default) = rest.strip_prefix(":-") {
        return Ok(found.filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_string()));
    }
    if let Some(message) = rest.strip_prefix(":?") {
        let message = if message.trim().is_empty() { "it is required" } else { message.trim() };
        let unset = || (format!("the environment variable `{name}` is not set: {message}"), None);
        return found.filter(|value| !value.is_empty()).ok_or_else(unset);
    }
    if !rest.is_empty() {
        let hint = format!("write `${{{name}}}`, `${{{name}:-default}}` or `${{{name}:?message}}`");
        return Err((format!("unexpected `{rest}` after `{name}`"), Some(hint)));
    }
    found.ok_or_else(|| {
        let hint = format!("write `${{{name}:-default}}` to give a default");
        (format!("the environment variable `{name}` is not set"), Some(hint))
    })
}

fn from_file(path: &str, environment: &Environment<'_>) -> Result<String, (String, Option<String>)> {
    let path = path.trim();
    let bytes =
        (environment.file)(Path::new(path)).map_err(|error| (format!("cannot read `{path}`: {error}"), None))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err((format!("`{path}` is larger than the maximum of {MAX_FILE_BYTES} bytes"), None));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| (format!("`{path}` is not UTF-8"), None))?;
    // Some editors begin a file with a mark that is no part of the secret.
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    // Editors end a file with a line break that is no part of the secret.
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> Result<String, String> {
        let environment = Environment {
            variable: &|name| match name {
                "USER" => Some("ada".into()),
                "EMPTY" => Some(String::new()),
                "INJECT" => Some("a: {b: ${USER}}".into()),
                _ => None,
            },
            file: &|path| {
                if path == Path::new("/s") { Ok(b"\xef\xbb\xbfs3cret\n".to_vec()) } else { Err("no such file".into()) }
            },
        };
        replace(text, &environment).map_err(|fault| format!("{}: {}", &text[fault.range], fault.message))
    }

    #[test]
    fn variables_defaults_files_and_dollars_are_replaced() {
        for (text, expected) in [
            ("${USER}@h", "ada@h"),
            ("${NOPE:-x y}", "x y"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${NOPE:-}", ""),
            ("${file:/s}", "s3cret"),
            ("$$", "$"),
            ("$${USER}", "${USER}"),
            ("^a$", "^a$"),
            ("$5 $USER", "$5 $USER"),
            ("${INJECT}", "a: {b: ${USER}}"),
        ] {
            assert_eq!(replaced(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        for (text, expected) in [
            ("a ${NOPE} b", "${NOPE}: the environment variable `NOPE` is not set"),
            ("${NOPE:?ask ops}", "${NOPE:?ask ops}: the environment variable `NOPE` is not set: ask ops"),
            ("${EMPTY:?}", "${EMPTY:?}: the environment variable `EMPTY` is not set: it is required"),
            ("é${USER", "${USER: unclosed `${`"),
            ("${1}", "${1}: `1` is not a valid variable name"),
            ("${USER-x}", "${USER-x}: unexpected `-x` after `USER`"),
            ("${file:/t}", "${file:/t}: cannot read `/t`: no such file"),
        ] {
            assert_eq!(replaced(text), Err(expected.to_string()), "{text}");
        }
    }
}
