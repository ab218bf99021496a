//! Pasted configurations of Vector and Fluent Bit: each foreign key is answered with its Weir spelling.

mod fluent_bit;
mod vector;

use crate::diagnostic::{Node, Problem, Problems};

/// A line of a table: for components of this section and of one of these types (empty for all), any of these keys below
/// them, and what to write.
type Row = (&'static str, &'static str, &'static str, &'static str);
/// The same for the type itself.
type TypeRow = (&'static str, &'static str, &'static str);

/// Looks at a text before it is read as YAML. True if it is another program's: then its problems say all there is.
pub fn is_foreign(text: &str, file: u32, problems: &mut Problems) -> bool {
    fluent_bit::classic(text, file, problems) || vector::toml(text, file, problems)
}

/// The same for a tree that was read.
pub fn is_foreign_tree(node: &Node, problems: &mut Problems) -> bool {
    fluent_bit::yaml(node, problems)
}

/// Gives unknown keys and types of Vector their hints, and answers the keys of components whose type is unknown.
pub fn explain(root: &Node, problems: &mut Problems) {
    let mut more = Problems::default();
    for problem in problems.iter_mut().filter(|problem| problem.message.starts_with("unknown ")) {
        let mut path = problem.path.splitn(3, '.');
        let (section, name, below) = (path.next().unwrap_or(""), path.next().unwrap_or(""), path.next().unwrap_or(""));
        let component = root.get(section).and_then(|section| section.value.get(name)).map(|entry| &entry.value);
        let type_name = component.and_then(|node| node.get("type")).and_then(|entry| entry.value.text()).unwrap_or("");
        let Some(word) = problem.message.split('`').nth(1).map(str::to_owned) else { continue };
        if problem.message.starts_with("unknown type") && below == "type" {
            let Some(advice) = vector::type_advice(section, &word) else { continue };
            problem.message = foreign_type(&word);
            problem.hint = Some(advice.to_owned());
            for entry in component.and_then(Node::entries).unwrap_or_default() {
                if let Some(advice) = vector::key_advice(section, type_name, entry.name()) {
                    let (path, span) = (problem.path.replace(".type", ""), entry.key.span);
                    more.push(Problem::error(path, span, foreign_key(entry.name())).hint(advice));
                }
            }
            continue;
        }
        let key = if below.is_empty() { word.clone() } else { format!("{below}.{word}") };
        let advice = match component {
            Some(_) => vector::key_advice(section, type_name, &key),
            None if problem.path.is_empty() => vector::key_advice("", "", &word),
            None => vector::key_advice("", "", &format!("{}.{word}", problem.path)),
        };
        if let Some(advice) = advice {
            problem.message = foreign_key(&word);
            problem.hint = Some(advice.to_owned());
        }
    }
    problems.extend(more);
}

fn foreign_key(key: &str) -> String {
    format!("unknown key `{key}` (a key of Vector)")
}

fn foreign_type(type_name: &str) -> String {
    format!("unknown type `{type_name}` (a type of Vector)")
}

/// The advice of the first row that is meant.
fn find(rows: &[Row], section: &str, type_name: &str, key: &str) -> Option<&'static str> {
    let is_one_of = |names: &str, name: &str| names.split('|').any(|one| one == name);
    let is_meant = |row: &&Row| {
        (row.0.is_empty() || row.0 == section)
            && (row.1.is_empty() || is_one_of(row.1, type_name))
            && is_one_of(row.2, key)
    };
    rows.iter().find(is_meant).map(|row| row.3)
}

/// The advice for a type.
fn find_type(rows: &[TypeRow], section: &str, type_name: &str) -> Option<&'static str> {
    rows.iter().find(|row| row.0 == section && row.1 == type_name).map(|row| row.2)
}

/// Whether the value of a key must not be shown.
fn is_private(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["passw", "token", "secret", "api_key", "apikey", "credential"].iter().any(|word| key.contains(word))
}

/// A line of a text without what surrounds it, and where it is.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at + (line.len() - line.trim_start().len());
        at += line.len();
        (start, line.trim())
    })
}
