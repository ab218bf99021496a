//! `weir validate`: checks the configuration, and with connections whether every sink can be reached and used.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::Configuration;
use crate::component::{Findings, Promise, SinkContext};
use crate::config::PlannedSink;

/// How long a sink may take to show that it works.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Leave sinks alone
    #[arg(long)]
    no_connect: bool,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let loaded = match arguments.configuration.load(&arguments.configuration.overrides(false)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let plan = loaded.plan;
    let mut out = String::new();
    let mut all_work = true;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return super::complain(format!("cannot start: {error}")),
    };
    for sink in &plan.sinks {
        let tried = (!arguments.no_connect).then(|| runtime.block_on(try_out(sink, &plan.data_dir)));
        all_work &= !matches!(tried, Some(Err(_)));
        out.push_str(&verdict(sink, tried));
    }
    out.push_str(&format!(
        "the configuration holds: {}, {}, {}\n",
        counted(plan.sources.len(), "source"),
        counted(plan.transforms.len(), "transform"),
        counted(plan.sinks.len(), "sink")
    ));
    let code = super::print(&out);
    if all_work { code } else { ExitCode::from(super::FAILED) }
}

/// What is said about one sink: its promise, whether it works, and what opening it found out.
fn verdict(sink: &PlannedSink, tried: Option<Result<Findings, String>>) -> String {
    let (works, found) = match tried {
        None => (String::new(), Findings::default()),
        Some(Ok(found)) => ("; works".to_owned(), found),
        Some(Err(reason)) => (format!("; does not work: {reason}"), Findings::default()),
    };
    let promise = match found.promise.unwrap_or(sink.promise) {
        Promise::EffectivelyOnce => "each event effectively once",
        Promise::AtLeastOnce => "each event at least once",
        Promise::BestEffort => "best effort, nothing is kept for it",
    };
    let mut out = format!("sinks.{} ({}): {promise}{works}\n", sink.name, sink.type_name);
    for note in found.notes {
        out.push_str(&format!("    {note}\n"));
    }
    out
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

async fn try_out(sink: &PlannedSink, data_dir: &std::path::Path) -> Result<Findings, String> {
    let cx = SinkContext {
        name: sink.name.clone(),
        agent: "validate".into(),
        data_dir: data_dir.to_owned(),
        timeout: PATIENCE,
        tls: sink.frame.tls.clone().unwrap_or_default(),
        encrypted: sink.frame.tls.is_some(),
        proxy: sink.frame.proxy.clone(),
        memory: None,
        position: 0,
        dry: true,
        stores: Default::default(),
    };
    match tokio::time::timeout(PATIENCE, sink.sink.open(&cx)).await {
        Ok(Ok(opened)) => Ok(opened.findings()),
        Ok(Err(failure)) => Err(failure.answer().to_owned()),
        Err(_) => Err(format!("no answer after {} s", PATIENCE.as_secs())),
    }
}
