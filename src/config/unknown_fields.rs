//! Warns of queries on a name that no event has behind `normalize`: they would match nothing, without a word.

use std::collections::{BTreeSet, HashMap};

use super::wiring::{Knot, Wires};
use crate::diagnostic::{self, Kind, Node, Problem, Problems};
use crate::event::NameId;
use crate::event::aliases::{canonical, is_canonical};
use crate::event::names::KNOWN;
use crate::query::Query;

/// Transforms that leave the names of an event as they are.
const PASSING: [&str; 6] = ["filter", "route", "redact", "truncate", "dedupe", "metrics"];

/// What stands at the top level of the events that come to a component.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// Nobody knows.
    Any,
    /// The canonical ones, and these.
    Canonical(BTreeSet<String>),
}

impl Names {
    fn join(self, other: Names) -> Names {
        match (self, other) {
            (Names::Canonical(mut mine), Names::Canonical(theirs)) => {
                mine.extend(theirs);
                Names::Canonical(mine)
            }
            _ => Names::Any,
        }
    }
}

pub fn warn(root: &Node, knots: &[Knot], wires: &Wires, problems: &mut Problems) {
    let index: HashMap<&str, usize> = knots.iter().enumerate().map(|(nth, knot)| (&*knot.name, nth)).collect();
    let mut known: HashMap<usize, Names> = HashMap::new();
    for (nth, knot) in knots.iter().enumerate() {
        let section = if knot.kind == super::wiring::Kind::Sink { "sinks" } else { "transforms" };
        let Some(entry) = root.get(section).and_then(|section| section.value.get(&knot.name)) else { continue };
        let mut queries = Vec::new();
        collect(&entry.value, &format!("{section}.{}", knot.name), &mut queries);
        if queries.is_empty() {
            continue;
        }
        let Names::Canonical(added) = arriving(nth, root, knots, wires, &index, &mut known) else { continue };
        for (path, node) in queries {
            let Some(query) = node.text().and_then(|text| Query::parse(text).ok()) else { continue };
            for field in query.fields() {
                let Some(name) = field.first() else { continue };
                if let Some(hint) = advice(name, &added) {
                    let message = format!("no event has a field `{name}` behind `normalize`");
                    problems.push(Problem::warning(&path, node.span, message).hint(hint));
                }
            }
        }
    }
}

/// What to write instead of a name that no normalised event has.
fn advice(name: &str, added: &BTreeSet<String>) -> Option<String> {
    let id = KNOWN.iter().position(|known| *known == name).map(|nth| NameId(nth as u32));
    let is_there = id.is_some_and(is_canonical) || added.contains(name);
    if is_there {
        return None;
    }
    if let Some(canonical) = id.and_then(canonical) {
        return Some(format!("it is called `{}` there", KNOWN[canonical.0 as usize]));
    }
    let names = KNOWN.iter().enumerate().filter(|(nth, _)| is_canonical(NameId(*nth as u32))).map(|(_, name)| *name);
    match diagnostic::nearest(name, names.chain(added.iter().map(String::as_str))) {
        Some(near) => Some(format!("did you mean `{near}`? what `normalize` does not know is in `metadata.{name}`")),
        None => Some(format!("what `normalize` does not know is in `metadata.{name}`")),
    }
}

/// Every query of a component, with its path.
fn collect<'n>(node: &'n Node, path: &str, queries: &mut Vec<(String, &'n Node)>) {
    let is_route = node.get("type").and_then(|entry| entry.value.text()) == Some("route");
    for entry in node.entries().unwrap_or_default() {
        let below = format!("{path}.{}", entry.name());
        let is_output = is_route && !matches!(entry.name(), "type" | "inputs");
        if entry.name() == "where" || is_output {
            queries.push((below, &entry.value));
            continue;
        }
        match &entry.value.kind {
            Kind::Mapping(_) => collect(&entry.value, &below, queries),
            Kind::Sequence(items) => {
                for (nth, item) in items.iter().enumerate() {
                    collect(item, &format!("{below}[{nth}]"), queries);
                }
            }
            Kind::Scalar(_) => {}
        }
    }
}

/// The names that come to a component from all that it reads.
fn arriving(
    nth: usize,
    root: &Node,
    knots: &[Knot],
    wires: &Wires,
    index: &HashMap<&str, usize>,
    known: &mut HashMap<usize, Names>,
) -> Names {
    let mut all: Option<Names> = None;
    for input in &wires[nth] {
        let names = match index.get(&*input.component) {
            Some(feeder) => leaving(*feeder, root, knots, wires, index, known),
            None => Names::Any,
        };
        all = Some(all.map_or(names.clone(), |all| all.join(names)));
    }
    all.unwrap_or(Names::Any)
}

fn leaving(
    nth: usize,
    root: &Node,
    knots: &[Knot],
    wires: &Wires,
    index: &HashMap<&str, usize>,
    known: &mut HashMap<usize, Names>,
) -> Names {
    if let Some(names) = known.get(&nth) {
        return names.clone();
    }
    let component = root.get("transforms").and_then(|section| section.value.get(&knots[nth].name));
    let word = |key: &str| component.and_then(|entry| entry.value.get(key)).and_then(|entry| entry.value.text());
    let names = match word("type") {
        Some("normalize") if word("unknown") != Some("keep") => Names::Canonical(BTreeSet::new()),
        Some("enrich") => match arriving(nth, root, knots, wires, index, known) {
            Names::Canonical(mut names) => {
                let node = &component.expect("it has a type").value;
                let maps = ["set", "from_env"].iter().filter_map(|key| node.get(key));
                let added = maps.flat_map(|entry| entry.value.entries().unwrap_or_default());
                names.extend(added.map(|entry| entry.name().split('.').next().unwrap_or_default().to_owned()));
                // What a table adds is known to nobody here.
                if node.get("lookup").is_some() { Names::Any } else { Names::Canonical(names) }
            }
            Names::Any => Names::Any,
        },
        Some(passing) if PASSING.contains(&passing) => arriving(nth, root, knots, wires, index, known),
        _ => Names::Any,
    };
    known.insert(nth, names.clone());
    names
}

#[cfg(test)]
mod tests {
    use crate::config::{Catalogue, Environment, Overrides, Text, load_texts};

    const YAML: &str = "
sources:
  web: { type: http, address: 127.0.0.1:0 }
transforms:
  raw: { type: filter, inputs: [web], where: 'username:ali' }
  tidy: { type: normalize, inputs: [raw] }
  placed: { type: enrich, inputs: [tidy], set: { tenant: a } }
  errors: { type: filter, inputs: [placed], where: 'username:ali statuss:error tenant:a metadata.shop:b' }
  kinds: { type: route, inputs: [errors], slow: 'execution_time_ms:>100', rest: 'cart:1' }
sinks:
  out: { type: console, inputs: [kinds.slow, kinds.rest], where: 'status:error word' }
  mixed: { type: console, inputs: [raw, tidy], where: 'username:ali' }
";

    #[test]
    fn a_query_on_a_name_that_normalize_leaves_nobody_is_a_warning_with_the_right_one() {
        let texts = vec![Text { name: "weir.yaml".into(), bytes: YAML.into() }];
        let loaded = load_texts(texts, Catalogue::built_in(), Environment::process(), &Overrides::default());
        let loaded = loaded.map_err(|rejected| rejected.render(false)).expect("it holds");
        let said = |path: &str| -> Vec<String> {
            let own = loaded.warnings.iter().filter(|warning| warning.path == path);
            own.map(|warning| format!("{}: {}", warning.message, warning.hint.as_deref().unwrap_or(""))).collect()
        };
        assert_eq!(
            said("transforms.errors.where"),
            [
                "no event has a field `statuss` behind `normalize`: did you mean `status`? what `normalize` does not know is in \
                 `metadata.statuss`",
                "no event has a field `username` behind `normalize`: it is called `user_id` there",
            ]
        );
        assert_eq!(said("transforms.kinds.slow").len(), 1);
        assert!(
            said("transforms.kinds.rest")[0].ends_with("is in `metadata.cart`"),
            "{:?}",
            said("transforms.kinds.rest")
        );
        for fine in ["transforms.raw.where", "sinks.out.where", "sinks.mixed.where"] {
            assert!(said(fine).is_empty(), "{fine}: {:?}", said(fine));
        }
    }
}
