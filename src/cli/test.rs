//! `weir test`: runs the tests of a configuration.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::Configuration;
use crate::config::settings::{EventText, Expectation, Test};
use crate::topology::{Outcome, Trial};

/// Members that an agent adds by itself: an expectation may leave them out.
const MAY_BE_LEFT_OUT: [&str; 6] = ["id", "timestamp", "received_at", "source", "agent", "host"];
/// Characters of a text that is shown where it differs.
const MAX_SHOWN: usize = 400;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let loaded = match arguments.configuration.load(&arguments.configuration.overrides(false)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let tests = loaded.plan.settings.tests.clone();
    if tests.is_empty() {
        eprintln!("the configuration has no tests: write some under `tests:`");
        return ExitCode::SUCCESS;
    }
    let trial = Trial::new(loaded.plan);
    let (mut out, mut failed) = (String::new(), 0);
    for test in &tests {
        match faults(&trial, test) {
            faults if faults.is_empty() => out.push_str(&format!("ok      {}\n", test.name)),
            faults => {
                failed += 1;
                out.push_str(&format!("FAILED  {}\n", test.name));
                faults
                    .iter()
                    .flat_map(|fault| fault.lines())
                    .for_each(|line| out.push_str(&format!("        {line}\n")));
            }
        }
    }
    out.push_str(&format!("{} passed, {failed} failed\n", tests.len() - failed));
    let code = super::print(&out);
    if failed == 0 { code } else { ExitCode::from(super::FAILED) }
}

/// What does not hold; nothing if the test passes.
fn faults(trial: &Trial, test: &Test) -> Vec<String> {
    let events: Vec<&str> = test.input.events.iter().map(|event| event.0.as_str()).collect();
    let outcome = match trial.run(&test.input.at, &events) {
        Ok(outcome) => outcome,
        Err(fault) => return vec![format!("input at `{}`: {fault}", test.input.at)],
    };
    let mut faults: Vec<String> =
        test.expect.iter().flat_map(|expectation| disappointed(trial, &outcome, expectation)).collect();
    if !faults.is_empty() {
        let dead = outcome
            .dead
            .iter()
            .map(|(component, reason)| format!("`{component}` could not pass on an event: {reason}"));
        faults.extend(dead);
    }
    faults
}

fn disappointed(trial: &Trial, outcome: &Outcome, expectation: &Expectation) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(expected) = &expectation.events {
        match trial.at(outcome, &expectation.at) {
            Err(fault) => faults.push(fault),
            Ok(found) => {
                let found: Vec<&[u8]> = found.iter().map(|line| &line[..]).collect();
                faults.extend(compare(expected, &found));
            }
        }
    }
    if let Some(expected) = &expectation.bytes {
        match trial.bytes(outcome, &expectation.at) {
            Err(fault) => faults.push(fault),
            Ok(found) if found == expected.as_bytes() => {}
            Ok(found) => faults.push(format!(
                "other bytes:\n  expected {}\n  found    {}",
                quoted(expected.as_bytes()),
                quoted(&found)
            )),
        }
    }
    faults.iter().map(|fault| format!("at `{}`: {fault}", expectation.at)).collect()
}

fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let shown: String = text.chars().take(MAX_SHOWN).collect();
    format!("{shown:?}{}", if shown.len() < text.len() { " …" } else { "" })
}

fn compare(expected: &[EventText], found: &[&[u8]]) -> Vec<String> {
    let mut faults = Vec::new();
    if expected.len() != found.len() {
        let lines: Vec<String> = found.iter().map(|line| format!("\n  {}", shown(line))).collect();
        faults.push(format!("{} events expected, {} found:{}", expected.len(), found.len(), lines.concat()));
        return faults;
    }
    for (nth, (expected, found)) in expected.iter().zip(found).enumerate() {
        let wanted: Value = match serde_json::from_str(&expected.0) {
            Ok(wanted @ Value::Object(_)) => wanted,
            Ok(_) => {
                faults.push(format!("event {}: what is expected is no object", nth + 1));
                continue;
            }
            Err(error) => {
                faults.push(format!("event {}: what is expected is no JSON: {error}", nth + 1));
                continue;
            }
        };
        let is: Value = serde_json::from_slice(found).expect("an event is JSON");
        let differing = differences(wanted.as_object(), is.as_object());
        if !differing.is_empty() {
            faults.push(format!("event {}:\n  {}\n  found {}", nth + 1, differing.join("\n  "), shown(found)));
        }
    }
    faults
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let shown: String = text.chars().take(MAX_SHOWN).collect();
    if shown.len() < text.len() { format!("{shown} …") } else { shown }
}

/// The members in which two objects differ.
fn differences(wanted: Option<&Map<String, Value>>, is: Option<&Map<String, Value>>) -> Vec<String> {
    let empty = Map::new();
    let (wanted, is) = (wanted.unwrap_or(&empty), is.unwrap_or(&empty));
    let names: BTreeSet<&String> = wanted.keys().chain(is.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        match (wanted.get(name), is.get(name)) {
            (Some(wanted), Some(is)) if wanted == is => {}
            (Some(wanted), Some(is)) => found.push(format!("`{name}`: expected {wanted}, found {is}")),
            (Some(wanted), None) => found.push(format!("`{name}`: expected {wanted}, not there")),
            (None, Some(_)) if MAY_BE_LEFT_OUT.contains(&name.as_str()) => {}
            (None, Some(is)) => found.push(format!("`{name}`: not expected, found {is}")),
            (None, None) => {}
        }
    }
    found
}
