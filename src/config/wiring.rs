//! Resolves `inputs` to outputs: expands patterns, finds cycles and unconnected components.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::plan::{API_SOURCE, Input};
use crate::diagnostic::{self, Problem, Problems, Span, Spanned};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Source,
    Transform,
    Sink,
}

/// A component as far as wiring is concerned.
#[derive(Clone, Debug)]
pub struct Knot {
    pub name: Arc<str>,
    pub kind: Kind,
    /// The position of its name.
    pub span: Span,
    /// `None` if it could not be read: then any name is taken for one of its outputs.
    pub outputs: Option<Vec<String>>,
    /// Whether its name alone is an output too where it has named ones.
    pub passes: bool,
    /// What it reads from, as written.
    pub inputs: Vec<Spanned<String>>,
    /// Whether it makes events safe.
    pub redacts: bool,
}

/// The inputs of each knot, in the order of the knots.
pub type Wires = Vec<Vec<Input>>;

/// Resolves all inputs and reports what does not fit. `demo` is a source that joins wherever a source is read.
pub fn connect(knots: &[Knot], demo: Option<&str>, problems: &mut Problems) -> Wires {
    let ends = Ends::new(knots);
    let mut wires: Wires = Vec::new();
    for knot in knots {
        let mut inputs = BTreeSet::new();
        for (index, written) in knot.inputs.iter().enumerate() {
            let is_repeat = knot.inputs[..index].iter().any(|earlier| earlier.value == written.value);
            if is_repeat {
                let message = format!("`{}` is a duplicate input", written.value);
                problems.push(Problem::error(path(knot), written.span, message));
            } else if written.contains('*') {
                inputs.extend(ends.matching(knot, written, problems));
            } else {
                inputs.extend(ends.named(knot, written, problems));
            }
        }
        let reads_source = |input: &Input| knots.iter().any(|k| k.kind == Kind::Source && k.name == input.component);
        if let Some(demo) = demo.filter(|_| inputs.iter().any(reads_source)) {
            inputs.insert(Input { component: demo.into(), port: 0 });
        }
        wires.push(inputs.into_iter().collect());
    }
    wires
}

fn path(knot: &Knot) -> String {
    let section = match knot.kind {
        Kind::Source => "sources",
        Kind::Transform => "transforms",
        Kind::Sink => "sinks",
    };
    format!("{section}.{}.inputs", knot.name)
}

/// All outputs by the names that `inputs` may use.
struct Ends<'k> {
    knots: &'k [Knot],
    by_name: HashMap<String, Input>,
    /// Components whose outputs are not known.
    unread: Vec<&'k Knot>,
}

impl<'k> Ends<'k> {
    fn new(knots: &'k [Knot]) -> Ends<'k> {
        let mut ends = Ends { knots, by_name: HashMap::new(), unread: Vec::new() };
        for knot in knots.iter().filter(|knot| knot.kind != Kind::Sink) {
            match &knot.outputs {
                None => ends.unread.push(knot),
                Some(outputs) if outputs.is_empty() => {
                    ends.by_name.insert(knot.name.to_string(), Input { component: knot.name.clone(), port: 0 });
                }
                Some(outputs) => {
                    if knot.passes {
                        ends.by_name.insert(knot.name.to_string(), Input { component: knot.name.clone(), port: 0 });
                    }
                    ends.by_name.extend(outputs.iter().enumerate().map(|(index, output)| {
                        (format!("{}.{output}", knot.name), Input { component: knot.name.clone(), port: index + 1 })
                    }));
                }
            }
        }
        ends
    }

    /// The output of exactly this name.
    fn named(&self, reader: &Knot, written: &Spanned<String>, problems: &mut Problems) -> Option<Input> {
        let name = written.value.as_str();
        if let Some(input) = self.by_name.get(name) {
            return Some(input.clone());
        }
        let (component, output) = name.split_once('.').map_or((name, None), |(head, tail)| (head, Some(tail)));
        if self.unread.iter().any(|knot| &*knot.name == component) {
            return None;
        }
        if name == API_SOURCE {
            return Some(Input { component: API_SOURCE.into(), port: 0 });
        }
        let problem = |message: String| Problem::error(path(reader), written.span, message);
        let found = self.knots.iter().find(|knot| &*knot.name == component);
        problems.push(match (found, output) {
            (Some(knot), _) if knot.kind == Kind::Sink => problem(format!("`{component}` is a sink and has no output")),
            (Some(knot), None) => {
                let outputs = knot.outputs.as_deref().unwrap_or_default();
                problem(format!("`{component}` has several outputs; choose one"))
                    .hint(format!("such as `{component}.{}`", outputs.first().map_or("", String::as_str)))
            }
            (Some(knot), Some(output)) => {
                let outputs = || knot.outputs.iter().flatten().map(String::as_str);
                let meant = diagnostic::nearest(output, outputs()).map(|near| format!("; did you mean `{near}`?"));
                let problem = problem(format!("`{component}` has no output `{output}`{}", meant.unwrap_or_default()));
                Problem { hint: diagnostic::known("outputs", outputs()), ..problem }
            }
            (None, _) => {
                let meant = diagnostic::nearest(name, self.names()).map(|near| format!("; did you mean `{near}`?"));
                let problem = problem(format!("no component `{name}`{}", meant.unwrap_or_default()));
                Problem { hint: diagnostic::known("inputs", self.names()), ..problem }
            }
        });
        None
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// Every output whose name fits a pattern, but for the reader's own.
    fn matching(&self, reader: &Knot, written: &Spanned<String>, problems: &mut Problems) -> Vec<Input> {
        let fits = |name: &str| matches(&written.value, name);
        let found: Vec<Input> = self
            .by_name
            .iter()
            .filter(|(name, input)| input.component != reader.name && fits(name))
            .map(|(_, input)| input.clone())
            .collect();
        if found.is_empty() && self.unread.is_empty() {
            let message = format!("no component matches `{}`", written.value);
            let only = reader.inputs.len() == 1;
            let problem = if only { Problem::error } else { Problem::warning };
            let problem = problem(path(reader), written.span, message);
            problems.push(Problem { hint: diagnostic::known("inputs", self.names()), ..problem });
        }
        found
    }
}

/// Whether a name fits a pattern in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else { return false };
            rest = &rest[at + middle.len()..];
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

/// The transforms, each behind all that feed it; a cycle is reported at the input that closes it.
pub fn order(knots: &[Knot], wires: &Wires, problems: &mut Problems) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        Open,
        Done,
    }
    let index: HashMap<&str, usize> = knots.iter().enumerate().map(|(i, knot)| (&*knot.name, i)).collect();
    let feeders = |knot: usize| wires[knot].iter().filter_map(|input| index.get(&*input.component).copied());
    let (mut seen, mut ordered) = (vec![Seen::No; knots.len()], Vec::new());
    for start in 0..knots.len() {
        // By hand, since a configuration may chain more transforms than the stack could hold.
        let mut way = vec![(start, 0)];
        while let Some((knot, next)) = way.pop() {
            if next == 0 && seen[knot] != Seen::No {
                continue;
            }
            seen[knot] = Seen::Open;
            let Some(feeder) = feeders(knot).nth(next) else {
                seen[knot] = Seen::Done;
                ordered.push(knot);
                continue;
            };
            way.push((knot, next + 1));
            match seen[feeder] {
                Seen::No => way.push((feeder, 0)),
                Seen::Done => {}
                Seen::Open => {
                    let from = way.iter().position(|(on_way, _)| *on_way == feeder).unwrap_or(0);
                    let mut names: Vec<&str> = way[from..].iter().rev().map(|(knot, _)| &*knots[*knot].name).collect();
                    names.insert(0, &knots[feeder].name);
                    report_cycle(&knots[knot], &knots[feeder].name, &names, problems);
                }
            }
        }
    }
    ordered.retain(|&knot| knots[knot].kind == Kind::Transform);
    ordered
}

fn report_cycle(reader: &Knot, feeder: &str, names: &[&str], problems: &mut Problems) {
    let closes = |written: &&Spanned<String>| matches(written, feeder) || written.split('.').next() == Some(feeder);
    let span = reader.inputs.iter().find(closes).map_or(reader.span, |written| written.span);
    let message = match names {
        [_, _] => format!("cycle: `{feeder}` reads from itself"),
        names => format!("cycle: {}", names.join(" -> ")),
    };
    problems.push(Problem::error(path(reader), span, message));
}

/// Warns of outputs without a reader: events there are lost, on purpose or by oversight.
pub fn warn_of_loose_ends(knots: &[Knot], wires: &Wires, problems: &mut Problems) {
    let read: BTreeSet<&Input> = wires.iter().flatten().collect();
    for knot in knots.iter().filter(|knot| knot.kind != Kind::Sink) {
        let Some(outputs) = &knot.outputs else { continue };
        let is_read = |port| read.contains(&Input { component: knot.name.clone(), port });
        let section = if knot.kind == Kind::Source { "sources" } else { "transforms" };
        let path = format!("{section}.{}", knot.name);
        if outputs.is_empty() || knot.passes {
            if !is_read(0) {
                problems.push(Problem::warning(path, knot.span, "nothing reads from this component"));
            }
            // The other outputs of one that passes events on are an offer.
            continue;
        }
        for (index, output) in outputs.iter().enumerate().filter(|(index, _)| !is_read(index + 1)) {
            let _ = index;
            problems.push(Problem::warning(&path, knot.span, format!("nothing reads the output `{output}`")));
        }
    }
}

/// Warns if nothing takes what is posted to the API, and what the agent itself records.
pub fn warn_of_unread_api(wires: &Wires, span: Span, problems: &mut Problems) {
    if wires.iter().flatten().all(|input| &*input.component != API_SOURCE) {
        let message =
            "no component takes `api`: events posted to `/api/logs` are not kept, nor who read or exported what";
        let hint = "add `api` to the `inputs` of the first transform or of a sink";
        problems.push(Problem::warning("api", span, message).hint(hint));
    }
}

/// Reports each sink that some source reaches without a `redact` transform between them.
pub fn require_redaction(knots: &[Knot], wires: &Wires, problems: &mut Problems) {
    let index: HashMap<&str, usize> = knots.iter().enumerate().map(|(i, knot)| (&*knot.name, i)).collect();
    for (sink, knot) in knots.iter().enumerate().filter(|(_, knot)| knot.kind == Kind::Sink) {
        let mut reached = vec![false; knots.len()];
        let mut ways = vec![vec![sink]];
        while let Some(way) = ways.pop() {
            let at = way[way.len() - 1];
            let raw_api = wires[at].iter().any(|input| &*input.component == API_SOURCE);
            if knots[at].kind == Kind::Source || raw_api {
                let mut names: Vec<&str> = way.iter().rev().map(|knot| &*knots[*knot].name).collect();
                if raw_api {
                    names.insert(0, API_SOURCE);
                }
                let message = format!("unredacted path: {}", names.join(" -> "));
                let hint = "add a `redact` transform, or disable `limits.require_redact`";
                let path = format!("sinks.{}", knot.name);
                problems.push(Problem::error(path, knot.span, message).hint(hint));
                break;
            }
            for feeder in wires[at].iter().filter_map(|input| index.get(&*input.component).copied()) {
                if !knots[feeder].redacts && !std::mem::replace(&mut reached[feeder], true) {
                    ways.push([way.as_slice(), &[feeder]].concat());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knot(name: &str, kind: Kind, inputs: &[&str], outputs: &[&str]) -> Knot {
        Knot {
            name: name.into(),
            kind,
            span: Span::NOWHERE,
            outputs: Some(outputs.iter().map(|output| output.to_string()).collect()),
            passes: false,
            inputs: inputs.iter().map(|input| Spanned::unplaced(input.to_string())).collect(),
            redacts: name.starts_with("redact"),
        }
    }

    fn messages(problems: &Problems) -> Vec<String> {
        problems.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
    }

    #[test]
    fn a_star_fits_any_characters() {
        for (pattern, name) in
            [("*", "a"), ("app-*", "app-1"), ("*.errors", "r.errors"), ("a*b*c", "aXbYc"), ("a*", "a")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("app-*", "web"), ("*x", "xy"), ("a*b*c", "acb"), ("ab*ba", "aba")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_spread_over_outputs_but_not_over_the_reader_itself() {
        let knots = [
            knot("web", Kind::Source, &[], &[]),
            knot("split", Kind::Transform, &["web"], &["good", "bad"]),
            knot("all", Kind::Transform, &["*"], &[]),
            knot("bad", Kind::Sink, &["split.b*"], &[]),
        ];
        let mut problems = Problems::default();
        let wires = connect(&knots, None, &mut problems);
        let names = |inputs: &[Input]| -> Vec<String> {
            inputs.iter().map(|input| format!("{}/{}", input.component, input.port)).collect()
        };
        assert_eq!(names(&wires[2]), ["split/1", "split/2", "web/0"]);
        assert_eq!(names(&wires[3]), ["split/2"]);
        assert!(problems.is_empty());
        assert_eq!(order(&knots, &wires, &mut problems), [1, 2]);
    }

    #[test]
    fn cycles_are_named_with_all_their_members() {
        let knots = [
            knot("c", Kind::Transform, &["b"], &[]),
            knot("a", Kind::Transform, &["c", "web"], &[]),
            knot("b", Kind::Transform, &["a"], &[]),
            knot("web", Kind::Source, &[], &[]),
            knot("self", Kind::Transform, &["self"], &[]),
        ];
        let mut problems = Problems::default();
        let wires = connect(&knots, None, &mut problems);
        order(&knots, &wires, &mut problems);
        assert_eq!(
            messages(&problems),
            ["transforms.a.inputs: cycle: c -> a -> b -> c", "transforms.self.inputs: cycle: `self` reads from itself"]
        );
    }

    #[test]
    fn an_unredacted_way_is_found_beside_a_redacted_one() {
        let knots = [
            knot("web", Kind::Source, &[], &[]),
            knot("redact", Kind::Transform, &["web"], &[]),
            knot("safe", Kind::Sink, &["redact"], &[]),
            knot("fmt", Kind::Transform, &["redact", "web"], &[]),
            knot("pg", Kind::Sink, &["fmt"], &[]),
        ];
        let mut problems = Problems::default();
        let wires = connect(&knots, None, &mut problems);
        require_redaction(&knots, &wires, &mut problems);
        assert_eq!(messages(&problems), ["sinks.pg: unredacted path: web -> fmt -> pg"]);
    }

    #[test]
    fn ten_thousand_transforms_in_a_row_are_ordered() {
        let mut knots = vec![knot("t0", Kind::Source, &[], &[])];
        knots.extend((1..10_000).map(|n| knot(&format!("t{n}"), Kind::Transform, &[&format!("t{}", n - 1)], &[])));
        knots.reverse();
        let mut problems = Problems::default();
        let wires = connect(&knots, None, &mut problems);
        let ordered = order(&knots, &wires, &mut problems);
        assert_eq!((ordered.len(), &*knots[ordered[0]].name), (9_999, "t1"));
        assert!(problems.is_empty());
    }
}
