//! Checks that the `tests:` section names existing components.

use super::plan::API_SOURCE;
use super::settings::Test;
use super::wiring::{Kind, Knot};
use crate::diagnostic::{self, Problem, Problems, Span};

/// Reports names that no component has, and tests that expect nothing. Paths are relative to the top level.
pub fn check(tests: &[Test], knots: &[Knot], problems: &mut Problems) {
    for (nth, test) in tests.iter().enumerate() {
        let mut report = |path: String, message: String| {
            problems.push(Problem::error(format!("tests[{nth}].{path}"), Span::NOWHERE, message));
        };
        match component(knots, &test.input.at) {
            Some(Some(Kind::Sink)) => {
                report("input.at".into(), format!("`{}` is a sink; give events to what it reads", test.input.at))
            }
            Some(_) => {}
            None => report("input.at".into(), unknown(knots, &test.input.at)),
        }
        if test.expect.is_empty() {
            report("expect".into(), "a test that expects nothing always holds".into());
        }
        for (at, expectation) in test.expect.iter().enumerate() {
            if component(knots, &expectation.at).is_none() {
                report(format!("expect[{at}].at"), unknown(knots, &expectation.at));
            }
            if expectation.events.is_none() && expectation.bytes.is_none() {
                report(format!("expect[{at}]"), "expected `events`, `bytes`, or both".into());
            }
        }
    }
}

/// The kind of the component that a name stands for; a kind is unknown where the component could not be read.
fn component(knots: &[Knot], name: &str) -> Option<Option<Kind>> {
    if name == API_SOURCE {
        return Some(Some(Kind::Source));
    }
    if let Some(knot) = knots.iter().find(|knot| &*knot.name == name) {
        return Some(Some(knot.kind));
    }
    let (component, output) = name.split_once('.')?;
    let knot = knots.iter().find(|knot| &*knot.name == component)?;
    match &knot.outputs {
        None => Some(None),
        Some(outputs) => outputs.iter().any(|known| known == output).then_some(Some(knot.kind)),
    }
}

fn unknown(knots: &[Knot], name: &str) -> String {
    let meant = diagnostic::nearest(name, knots.iter().map(|knot| &*knot.name));
    format!(
        "no component is called `{name}`{}",
        meant.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
    )
}
