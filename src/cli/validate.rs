//! `weir validate`: checks the configuration and, unless `--no-connect`, whether every sink can be reached and written.

use std::process::ExitCode;

use clap::Args;

use super::Configuration;
use crate::component::{Findings, Promise};
use crate::config::{DRY_TIMEOUT, Plan, PlannedSink};
use crate::net::tls;
use crate::topology::StoreFolders;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    configuration: Configuration,
    /// Do not connect to sinks
    #[arg(long)]
    no_connect: bool,
}

pub fn run(arguments: Arguments) -> ExitCode {
    let loaded = match arguments.configuration.load(&arguments.configuration.overrides(false)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let files = loaded.check_files(super::load::is_coloured());
    if let Err(problems) = &files {
        eprint!("{problems}");
    }
    let plan = loaded.plan;
    let mut out = String::new();
    let mut all_work = files.is_ok();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return super::complain(format!("cannot start: {error}")),
    };
    for problem in trusts_that_do_not_fit(&plan) {
        all_work = false;
        out.push_str(&problem);
    }
    for sink in &plan.sinks {
        let tried = (!arguments.no_connect).then(|| runtime.block_on(try_out(sink, &plan.data_dir)));
        all_work &= !matches!(tried, Some(Err(_)));
        out.push_str(&describe(sink, tried));
    }
    for left in StoreFolders::of(&plan).left_behind() {
        out.push_str(&format!("warning: {left}\n"));
    }
    if files.is_ok() {
        out.push_str(&format!(
            "configuration OK: {}, {}, {}\n",
            counted(plan.sources.len(), "source"),
            counted(plan.transforms.len(), "transform"),
            counted(plan.sinks.len(), "sink")
        ));
    }
    let code = super::print(&out);
    if all_work { code } else { ExitCode::from(super::FAILED) }
}

/// Certificates and keys of sinks that would hold them.
fn trusts_that_do_not_fit(plan: &Plan) -> Vec<String> {
    let trusts = plan.sinks.iter().filter_map(|sink| Some((&sink.name, sink.frame.tls.as_ref()?)));
    let wrong = trusts.filter_map(|(name, trust)| Some((name, tls::client(trust).err()?)));
    wrong.map(|(name, error)| format!("sinks.{name}: {error}\n")).collect()
}

/// What is said about one sink: its promise, whether it works, and what opening it found out.
fn describe(sink: &PlannedSink, tried: Option<Result<Findings, String>>) -> String {
    let (works, found) = match tried {
        None => (String::new(), Findings::default()),
        Some(Ok(found)) => ("; works".to_owned(), found),
        Some(Err(reason)) => (format!("; failed: {reason}"), Findings::default()),
    };
    let promise = match found.promise.unwrap_or(sink.promise) {
        Promise::EffectivelyOnce => "effectively once",
        Promise::AtLeastOnce => "at least once",
        Promise::BestEffort => "best effort, nothing is buffered",
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
    let cx = sink.dry_context("validate".into(), data_dir);
    match tokio::time::timeout(DRY_TIMEOUT, sink.sink.open(&cx)).await {
        Ok(Ok(opened)) => Ok(opened.findings()),
        Ok(Err(failure)) => Err(failure.answer().to_owned()),
        Err(_) => Err(format!("no answer after {} s", DRY_TIMEOUT.as_secs())),
    }
}
