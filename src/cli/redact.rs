//! `weir redact`: shows what redaction would change in the text on stdin.

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::Configuration;
use crate::codec::redaction::{Engine, Report};
use crate::component::{AnyTransform, Outputs};
use crate::event::{Batch, Provenance, Scanner, Seed};
use crate::units::Timestamp;

/// The longest line that is read.
const MAX_LINE: u64 = 16 * 1024 * 1024;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Print line, column, rule and reason of each match, instead of the redacted text.
    #[arg(long)]
    explain: bool,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let loaded = match arguments.configuration.load(&arguments.configuration.overrides(false)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let transforms = loaded.plan.transforms.into_iter();
    let steps: Vec<Arc<dyn AnyTransform>> =
        transforms.filter(|step| step.type_name == "redact").map(|step| step.transform.into()).collect();
    let builtin = Engine::builtin();
    let mut input = std::io::stdin().lock();
    let mut out = std::io::stdout().lock();
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        match std::io::Read::take(&mut input, MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => return ExitCode::SUCCESS,
            Ok(_) => {}
            Err(error) => return super::complain(format!("cannot read standard input: {error}")),
        }
        number += 1;
        let text = match arguments.explain {
            true => explained(number, &line, &steps, &builtin),
            false => safe(&line, &steps, &builtin),
        };
        match out.write_all(&text) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Err(error) => return super::complain(format!("cannot write to standard output: {error}")),
        }
    }
}

/// A line for each place that would be redacted: `3:14 credential: a literal given to the name`.
fn explained(number: usize, line: &[u8], steps: &[Arc<dyn AnyTransform>], builtin: &Engine) -> Vec<u8> {
    let line = line.trim_ascii_end();
    let found = match steps {
        [] => builtin.explain(line),
        steps => steps.iter().flat_map(|step| step.explain(line)).collect(),
    };
    let column = |at: usize| String::from_utf8_lossy(&line[..at]).chars().count() + 1;
    let said = found.iter().map(|one| format!("{number}:{} {}: {}\n", column(one.start), one.rule, one.why));
    said.collect::<String>().into_bytes()
}

/// A JSON line as an event, anything else as text.
fn safe(line: &[u8], steps: &[Arc<dyn AnyTransform>], builtin: &Engine) -> Vec<u8> {
    let end = line.iter().rposition(|b| !b.is_ascii_whitespace()).map_or(0, |at| at + 1);
    let mut text = match event(&line[..end]) {
        Some(mut batch) if steps.is_empty() => {
            builtin.redact_batch(&mut batch, &mut Report::default());
            rendered(&batch)
        }
        Some(batch) => steps.iter().fold(rendered(&batch), |text, step| through(&**step, &text)),
        None if steps.is_empty() => builtin.redact_text(&line[..end]).0,
        None => steps.iter().fold(line[..end].to_vec(), |text, step| step.redact_text(&text).unwrap_or(text)),
    };
    text.extend_from_slice(&line[end..]);
    text
}

fn event(line: &[u8]) -> Option<Batch> {
    let provenance = Provenance {
        source: "stdin".into(),
        seed: Seed::default(),
        received_at: Timestamp::now(),
        peer: None,
        stamp: None,
    };
    let mut batch = Batch::new(bytes::Bytes::copy_from_slice(line), Arc::new(provenance));
    if line.first() != Some(&b'{') {
        return None;
    }
    batch.push_split(0..line.len(), 0, &mut Scanner::new(), &mut Vec::new()).ok()?;
    Some(batch)
}

fn rendered(batch: &Batch) -> Vec<u8> {
    let mut text = Vec::new();
    batch.render_event(0, &mut text);
    text
}

fn through(step: &dyn AnyTransform, line: &[u8]) -> Vec<u8> {
    let mut out = Outputs::default();
    match event(line).map(|batch| step.apply(batch, &mut out)) {
        Some(Ok(())) if !out.emitted.is_empty() => rendered(&out.emitted[0].1),
        // Closed rather than open: what could not be redacted is not shown.
        _ => b"{}".to_vec(),
    }
}
