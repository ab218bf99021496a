//! Warns about queries on a field that no normalized event has: they would never match.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::wiring::{self, Knot, Wires};
use crate::diagnostic::{self, Kind, Node, Problem, Problems};
use crate::event::NameId;
use crate::event::aliases::{canonical, is_canonical};
use crate::event::names::KNOWN;
use crate::query::Query;

/// Transforms that leave the names of an event as they are.
const PASSING: [&str; 6] = ["filter", "route", "redact", "truncate", "dedupe", "metrics"];
/// Names beside the canonical ones that are followed; of events that may have more, nothing is said.
const MOST_NAMES: usize = 1000;

/// What stands at the top level of the events that come to a component.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// Nobody knows.
    Any,
    /// The canonical ones, and these.
    Canonical(Rc<BTreeSet<String>>),
}

impl Names {
    fn with(self, more: impl IntoIterator<Item = String>) -> Names {
        let Names::Canonical(mut names) = self else { return Names::Any };
        Rc::make_mut(&mut names).extend(more);
        if names.len() > MOST_NAMES { Names::Any } else { Names::Canonical(names) }
    }

    fn join(self, other: Names) -> Names {
        match other {
            Names::Canonical(theirs) => self.with(theirs.iter().cloned()),
            Names::Any => Names::Any,
        }
    }
}

/// `order` has the transforms, each behind all that feed it.
pub fn warn(root: &Node, knots: &[Knot], wires: &Wires, order: &[usize], problems: &mut Problems) {
    let index: HashMap<&str, usize> = knots.iter().enumerate().map(|(nth, knot)| (&*knot.name, nth)).collect();
    let arriving = |leaving: &[Names], nth: usize| {
        let feeders =
            wires[nth].iter().map(|input| index.get(&*input.component).map_or(&Names::Any, |at| &leaving[*at]));
        feeders.cloned().reduce(Names::join).unwrap_or(Names::Any)
    };
    let component = |knot: &Knot| {
        let section = if knot.kind == wiring::Kind::Sink { "sinks" } else { "transforms" };
        Some((section, &root.get(section)?.value.get(&knot.name)?.value))
    };
    let mut leaving = vec![Names::Any; knots.len()];
    for &nth in order {
        let Some((_, node)) = component(&knots[nth]) else { continue };
        leaving[nth] = behind(node, arriving(&leaving, nth));
    }
    for (nth, knot) in knots.iter().enumerate() {
        let Some((section, node)) = component(knot) else { continue };
        let mut queries = Vec::new();
        collect(node, &format!("{section}.{}", knot.name), &mut queries);
        if queries.is_empty() {
            continue;
        }
        let Names::Canonical(added) = arriving(&leaving, nth) else { continue };
        for (path, node) in queries {
            let Some(query) = node.text().and_then(|text| Query::parse(text).ok()) else { continue };
            for field in query.fields() {
                let Some(name) = field.first() else { continue };
                if let Some(hint) = advice(name, &added) {
                    let message = format!("events have no field `{name}` after `normalize`");
                    problems.push(Problem::warning(&path, node.span, message).hint(hint));
                }
            }
        }
    }
}

/// The names that leave a transform.
fn behind(node: &Node, arriving: Names) -> Names {
    let word = |key: &str| node.get(key).and_then(|entry| entry.value.text());
    match word("type") {
        Some("normalize") if word("unknown") != Some("keep") => Names::Canonical(Rc::default()),
        // What a table adds is known to nobody here.
        Some("enrich") if node.get("lookup").is_some() => Names::Any,
        Some("enrich") => {
            let maps = ["set", "from_env"].iter().filter_map(|key| node.get(key));
            let added = maps.flat_map(|entry| entry.value.entries().unwrap_or_default());
            arriving.with(added.map(|entry| entry.name().split('.').next().unwrap_or_default().to_owned()))
        }
        Some(passing) if PASSING.contains(&passing) => arriving,
        _ => Names::Any,
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
        return Some(format!("it is called `{}`", KNOWN[canonical.0 as usize]));
    }
    let names = KNOWN.iter().enumerate().filter(|(nth, _)| is_canonical(NameId(*nth as u32))).map(|(_, name)| *name);
    match diagnostic::nearest(name, names.chain(added.iter().map(String::as_str))) {
        Some(near) => Some(format!("did you mean `{near}`? unknown fields are moved to `metadata.{name}`")),
        None => Some(format!("unknown fields are moved to `metadata.{name}`")),
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
                "events have no field `statuss` after `normalize`: did you mean `status`? unknown fields are moved to `metadata.statuss`",
                "events have no field `username` after `normalize`: it is called `user_id`",
            ]
        );
        assert_eq!(said("transforms.kinds.slow").len(), 1);
        assert!(
            said("transforms.kinds.rest")[0].ends_with("to `metadata.cart`"),
            "{:?}",
            said("transforms.kinds.rest")
        );
        for fine in ["transforms.raw.where", "sinks.out.where", "sinks.mixed.where"] {
            assert!(said(fine).is_empty(), "{fine}: {:?}", said(fine));
        }
    }

    #[test]
    fn a_chain_of_any_length_is_followed_in_whatever_order_it_is_written() {
        const LENGTH: usize = 5000;
        let mut yaml = String::from("sources:\n  web: { type: http, address: 127.0.0.1:0 }\ntransforms:\n");
        // The last first: whoever asks for its names asks for those of all before it.
        for nth in (1..LENGTH).rev() {
            yaml += &format!("  t{nth}: {{ type: enrich, inputs: [t{}], set: {{ n{nth}: 1 }} }}\n", nth - 1);
        }
        yaml += "  t0: { type: normalize, inputs: [web] }\nsinks:\n";
        yaml += &format!("  far: {{ type: console, inputs: [t{}], where: 'username:ali' }}\n", LENGTH - 1);
        yaml += "  near: { type: console, inputs: [t9], where: 'username:ali n9:1' }\n";
        let texts = vec![Text { name: "weir.yaml".into(), bytes: yaml.into() }];
        let loaded = load_texts(texts, Catalogue::built_in(), Environment::process(), &Overrides::default());
        let loaded = loaded.map_err(|rejected| rejected.render(false)).expect("it holds");
        let near: Vec<_> = loaded.warnings.iter().filter(|warning| warning.path == "sinks.near.where").collect();
        assert_eq!(near.len(), 1);
        assert!(near[0].message.contains("`username`"), "{near:?}");
    }
}
