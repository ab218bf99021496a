//! A configuration that is safe to show: secrets, and what may contain one, are hidden.

use serde_json::{Map, Value};

use crate::diagnostic::{Kind, Node};

/// The replacement for a hidden value.
const HIDDEN: &str = "***";

/// Words in the names of keys whose values are hidden, with everything below them.
const PRIVATE: [&str; 12] =
    ["secret", "token", "password", "key", "url", "uri", "proxy", "headers", "auth", "options", "credentials", "dsn"];
/// Keys that have such a word in them and hide nothing.
const PUBLIC: [&str; 6] = ["idempotency_key", "key_field", "user_claim", "authorized", "keys", "anonymous_prefix"];

/// The configuration before anything was filled in: variables are shown by their names.
pub fn shown(root: &Node) -> Value {
    of(root, false)
}

fn of(node: &Node, is_private: bool) -> Value {
    match &node.kind {
        Kind::Mapping(entries) => {
            let mut map = Map::new();
            for entry in entries {
                let name = entry.name();
                let is_private = is_private || is_private_name(name);
                map.insert(name.to_owned(), of(&entry.value, is_private));
            }
            Value::Object(map)
        }
        Kind::Sequence(items) => items.iter().map(|item| of(item, is_private)).collect(),
        _ => match node.text() {
            None => Value::Null,
            Some(text) if is_private && !is_variable(text) => HIDDEN.into(),
            Some(text) if has_credentials(text) => HIDDEN.into(),
            Some(text) => text.into(),
        },
    }
}

fn is_private_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !PUBLIC.contains(&&*name)
        && PRIVATE.iter().any(|word| {
            name.split(['_', '.', '-']).any(|part| part.trim_end_matches('s') == word.trim_end_matches('s'))
        })
}

/// A reference to a variable or a file, which reveals nothing.
fn is_variable(text: &str) -> bool {
    let inside = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inside.is_some_and(|inside| !inside.contains([':', '$']) || inside.starts_with("file:"))
}

/// An address with a user in it.
fn has_credentials(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'))
}
