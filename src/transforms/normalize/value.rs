//! Normalizes single values: pure functions from text to text.

use crate::event::aliases::{STATUS_WORDS, STATUSES};
use crate::event::decimal::Decimal;
use crate::event::names::*;
use crate::event::raw::Kind;
use crate::event::time::{self, Moment};
use crate::event::{NameId, Raw};

/// What to write in the place of a value.
#[derive(Debug, PartialEq, Eq)]
pub enum Now {
    /// Unchanged.
    Same,
    /// This JSON text, appended to what was given.
    Written,
    /// It cannot be read.
    Unreadable,
}

/// Whether a value can be what an alias says it is. What a canonical member holds is the producer's own affair.
pub fn fits(name: NameId, value: Raw) -> bool {
    let kind = value.kind();
    match name {
        _ if kind == Kind::Null => true,
        MESSAGE | MSG | DETAILS => kind == Kind::String,
        SUCCESS => truth(value).is_some(),
        EXECUTION_TIME_MS | DURATION => number(value).is_some(),
        DURATION_SECONDS | DURATION_S => number(value).and_then(|text| thousandfold(text, &mut Vec::new())).is_some(),
        _ if crate::event::aliases::is_canonical(name) => true,
        _ => !matches!(kind, Kind::Array | Kind::Object),
    }
}

/// Yes or no, also in quotes and as Python writes it.
fn truth(value: Raw) -> Option<bool> {
    value.as_bool().or_else(|| match value.inside()? {
        text if text.eq_ignore_ascii_case(b"true") => Some(true),
        text if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    })
}

/// The text of a number, also of one in quotes.
fn number<'a>(value: Raw<'a>) -> Option<&'a [u8]> {
    match value.inside() {
        Some(text) => Decimal::parse(text).map(|_| text),
        None => (value.kind() == Kind::Number).then_some(value.as_bytes()),
    }
}

fn thousandfold(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    Decimal::parse(text)?.times_power_of_ten(3).map(|number| number.write(out))
}

/// A duration in milliseconds, from the member `name`.
pub fn duration(name: NameId, value: Raw, out: &mut Vec<u8>) -> Now {
    match (name, number(value)) {
        (DURATION_SECONDS | DURATION_S, Some(text)) => {
            thousandfold(text, out).map_or(Now::Unreadable, |()| Now::Written)
        }
        (EXECUTION_TIME_MS | DURATION, Some(text)) if text.len() != value.as_bytes().len() => {
            out.extend_from_slice(text);
            Now::Written
        }
        _ => Now::Same,
    }
}

/// A time as RFC 3339 in UTC.
pub fn moment(value: Raw, out: &mut Vec<u8>) -> Now {
    if value.inside().is_some_and(time::is_canonical) {
        return Now::Same;
    }
    let read = match value.kind() {
        Kind::String => value.as_str().and_then(|text| Moment::parse(&text).or_else(|| Moment::parse_epoch(&text))),
        Kind::Number => Moment::parse_epoch(value.text()),
        _ => None,
    };
    let Some(moment) = read else { return Now::Unreadable };
    out.push(b'"');
    moment.write(out);
    out.push(b'"');
    Now::Written
}

/// A status word, or what `success` says.
pub fn status(value: Raw, out: &mut Vec<u8>) -> Now {
    let word = match (truth(value), value.inside()) {
        (Some(true), _) => "success",
        (Some(false), _) => "error",
        (None, Some(text)) => match status_word(text) {
            Some(word) if word.as_bytes() != text => word,
            _ => return Now::Same,
        },
        (None, None) => return Now::Same,
    };
    out.push(b'"');
    out.extend_from_slice(word.as_bytes());
    out.push(b'"');
    Now::Written
}

fn status_word(text: &[u8]) -> Option<&'static str> {
    let means = |word: &str| text.eq_ignore_ascii_case(word.as_bytes());
    let own = STATUSES.iter().find(|word| means(word)).copied();
    own.or_else(|| STATUS_WORDS.iter().find(|(word, _)| means(word)).map(|(_, meant)| *meant))
}

/// Whether a member that holds an error says that there is one.
pub fn is_an_error(value: Raw) -> bool {
    !matches!(value.as_bytes(), b"null" | b"false" | b"\"\"" | b"{}" | b"[]")
}

/// Whether a status code, as a number or in quotes, is one of an error.
pub fn is_an_error_code(value: Raw) -> bool {
    let text = value.display();
    text.parse::<f64>().is_ok_and(|code| code >= 400.0)
}
