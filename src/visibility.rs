//! Visibility: a reader's own events, previews of all, or everything.

use std::borrow::Cow;

use crate::event::escape::push_string;
use crate::event::raw::name_is;
use crate::event::{Kind, Raw};

/// What one reader may see. Nothing is read without one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Visibility {
    /// A user's own events, whole.
    Own(String),
    /// All events; code of others as a preview of this many characters.
    All { own: String, preview: usize },
    /// All events as previews, without error traces and hashes of hidden text; a filter sees no more than that.
    Previews { preview: usize },
}

/// Members of which a preview shows a part or nothing.
pub const HIDDEN: [&str; 3] = ["code", "error_trace", "truncated"];

impl Visibility {
    /// Whether a test of this member must look at what is shown, not at what is stored.
    pub fn hides(&self, name: &str) -> bool {
        matches!(self, Visibility::Previews { .. }) && HIDDEN.contains(&name)
    }

    /// Whether a text of this member, as lists show it, may be the beginning of a longer one.
    pub fn may_be_cut(&self, name: &str, shown: &str) -> bool {
        match self {
            Visibility::Own(_) => false,
            Visibility::All { preview, .. } | Visibility::Previews { preview } => {
                name == "code" && shown.chars().count() >= *preview
            }
        }
    }

    /// The only user whose events may be seen.
    pub fn only_user(&self) -> Option<&str> {
        match self {
            Visibility::Own(user) => Some(user),
            Visibility::All { .. } | Visibility::Previews { .. } => None,
        }
    }

    /// What a filter may look at; `None` if nothing of the event.
    pub fn searchable<'l>(&self, line: &'l [u8]) -> Option<Cow<'l, [u8]>> {
        match self {
            Visibility::Own(user) => is_of(line, user).then_some(line.into()),
            Visibility::All { .. } => Some(line.into()),
            Visibility::Previews { preview } => Some(shorten(line, *preview, true).into()),
        }
    }

    /// The event as shown in lists and streams; `None` if it may not be seen.
    pub fn show<'l>(&self, line: &'l [u8]) -> Option<Cow<'l, [u8]>> {
        match self {
            Visibility::All { own, preview } if !is_of(line, own) => Some(shorten(line, *preview, false).into()),
            Visibility::All { .. } => Some(line.into()),
            other => other.searchable(line),
        }
    }

    /// The event where one is asked for, or where events are exported: administrators see all of it.
    pub fn show_whole<'l>(&self, line: &'l [u8]) -> Option<Cow<'l, [u8]>> {
        match self {
            Visibility::All { .. } => Some(line.into()),
            other => other.searchable(line),
        }
    }
}

/// Whether an event is a user's own. Ids that are numbers are compared as text, as in a table.
pub fn is_of(line: &[u8], user: &str) -> bool {
    let id = Raw::valid(line).get("user_id").filter(|id| matches!(id.kind(), Kind::String | Kind::Number));
    id.is_some_and(|id| id.display() == user)
}

/// The event with its code cut to this many characters, and without what a preview hides if `hide` says so. The line is
/// not checked again: what transforms added may have brought it beyond the limits for events that come in.
fn shorten(line: &[u8], preview: usize, hide: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let place = |part: &[u8]| part.as_ptr() as usize - line.as_ptr() as usize;
    // Everything before `copied` is done; the last member that stays ends at `kept`.
    let (mut copied, mut kept) = (0, 1);
    for (name, value) in Raw::valid(line).members() {
        let end = place(value.as_bytes()) + value.as_bytes().len();
        // Code that is no text cannot be cut.
        let is_nested = || matches!(value.kind(), Kind::Object | Kind::Array);
        let is_hidden =
            name_is(name, "error_trace") || name_is(name, "truncated") || name_is(name, "code") && is_nested();
        if hide && is_hidden {
            out.extend_from_slice(&line[copied.min(kept)..kept]);
            let rest = &line[end..];
            let comma = rest.iter().position(|byte| !byte.is_ascii_whitespace()).filter(|at| rest[*at] == b',');
            copied = end + if kept == 1 { comma.map_or(0, |at| at + 1) } else { 0 };
            kept = if kept == 1 { 1 } else { copied };
            continue;
        }
        let code = value.as_str().filter(|_| name_is(name, "code"));
        if let Some((cut, _)) = code.as_ref().and_then(|code| code.char_indices().nth(preview)) {
            out.extend_from_slice(&line[copied..place(value.as_bytes())]);
            push_string(&mut out, &code.as_ref().expect("it was cut")[..cut]);
            copied = end;
        }
        kept = end;
    }
    out.extend_from_slice(&line[copied..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_or_cut_leaves_the_rest_as_it_was() {
        for (line, shown) in [
            (r#"{ "error_trace": 1 }"#, r#"{ }"#),
            (r#"{"error_trace":1,"a" : 2}"#, r#"{"a" : 2}"#),
            (
                r#"{ "error_trace":1 , "error_trace":2, "a":3 ,"error_trace":4,"error_\u0074race":5, "b":6}"#,
                r#"{ "a":3, "b":6}"#,
            ),
            (
                r#"{"a":[1, {"code":"12345678"}],"code":"سلام دنیا","error_trace":"x"}"#,
                r#"{"a":[1, {"code":"12345678"}],"code":"سلام "}"#,
            ),
            (r#"{"code":"1\n\"456789","code":7,"code":"12345"}"#, r#"{"code":"1\n\"45","code":7,"code":"12345"}"#),
            (r#"{"code":["12345678"],"a":1,"code":{"b":"12345678"}}"#, r#"{"a":1}"#),
            ("{}", "{}"),
        ] {
            let seen = shorten(line.as_bytes(), 5, true);
            assert_eq!(String::from_utf8(seen).expect("text"), shown, "{line}");
        }
    }

    #[test]
    fn an_event_that_transforms_made_larger_than_the_door_lets_in_is_shown() {
        let members: String =
            (0..10_100).map(|n| format!("\"k{n}\":{}{},", "[".repeat(n % 70), "]".repeat(n % 70))).collect();
        let line = format!("{{{}\"code\":\"123456\"}}", members.replace(":,", ":0,"));
        assert_eq!(shorten(line.as_bytes(), 5, true), line.replace("123456", "12345").into_bytes());
    }
}
