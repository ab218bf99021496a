//! `weir journal`: inspects the journal and the cursors of an agent that is not running.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::Configuration;
use crate::config::settings;
use crate::delivery::{self, Moved};
use crate::journal::fs::Real;
use crate::journal::{Journal, RecoveryReport};

#[derive(Args)]
#[command(mut_arg("config", |arg| arg.global(true)), mut_arg("data_dir", |arg| arg.global(true)))]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    configuration: Configuration,
}

#[derive(Subcommand)]
enum Command {
    /// Show events, bytes and cursors
    Inspect,
    /// Read every record; exit code 1 if something is damaged
    Verify,
    /// Print every event as a JSON line
    Export,
    /// List, move or drop cursors of sinks
    Cursors {
        #[command(subcommand)]
        command: Option<Cursors>,
    },
}

#[derive(Subcommand)]
enum Cursors {
    /// List cursors
    List,
    /// Move a cursor to a seq
    Move { name: String, seq: u64 },
    /// Remove a cursor; its waiting events are dropped
    Drop { name: String },
}

pub fn run(arguments: Arguments) -> ExitCode {
    let loaded = match arguments.configuration.load(&arguments.configuration.overrides(false)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let folder = loaded.plan.data_dir.join("journal");
    if !folder.is_dir() {
        return super::complain(format!("there is no journal at `{}`", folder.display()));
    }
    let options = loaded.plan.settings.journal.options(folder);
    let (journal, report) = match Journal::open(options, Arc::new(Real::default())) {
        Ok(opened) => opened,
        Err(error) => return super::complain(format!("cannot open the journal: {error} (is the agent running?)")),
    };
    let code = match &arguments.command {
        Command::Inspect => super::print(&inspect(&journal, &loaded.plan.settings.journal)),
        Command::Verify => verify(&report),
        Command::Export => export(&journal),
        Command::Cursors { command } => cursors(&journal, command.as_ref().unwrap_or(&Cursors::List)),
    };
    journal.close();
    code
}

fn inspect(journal: &Journal, settings: &settings::Journal) -> String {
    let stats = journal.stats();
    format!(
        "bytes       {}\nlimit       {} ({})\nkeep        {}, {}\noldest seq  {}\nnewest seq  {}\n\n{}",
        stats.bytes,
        stats.limit,
        settings.max_bytes,
        settings.keep.bytes,
        settings.keep.age,
        stats.oldest_seq,
        stats.synced_seq,
        list(journal)
    )
}

fn list(journal: &Journal) -> String {
    let mut out = String::from("cursor                    settled seq         waiting events   waiting bytes\n");
    for cursor in journal.cursors() {
        out.push_str(&format!(
            "{:<24}  {:<18}  {:>14}  {:>14}\n",
            cursor.name, cursor.settled, cursor.waiting_events, cursor.waiting_bytes
        ));
    }
    out
}

fn verify(report: &RecoveryReport) -> ExitCode {
    let mut out = format!("{} records with {} events are whole\n", report.records, report.events);
    for loss in &report.lost {
        if loss.seqs.is_empty() {
            out.push_str(&format!(
                "damaged: the last {} bytes, copied to quarantine; an unknown number of events\n",
                loss.bytes
            ));
            continue;
        }
        out.push_str(&format!(
            "damaged: seq {} to {}, {} events, {} bytes copied to quarantine{}\n",
            loss.seqs.start,
            loss.seqs.end.saturating_sub(1),
            loss.seqs.end - loss.seqs.start,
            loss.bytes,
            if loss.seqs.end <= report.needed_from { "; all sinks had delivered them" } else { "" }
        ));
    }
    for loss in &report.notes_lost {
        out.push_str(&format!(
            "damaged: no events, but positions or state at seq {}, {} bytes copied to quarantine\n",
            loss.seqs.start, loss.bytes
        ));
    }
    for file in &report.broken_files {
        out.push_str(&format!("damaged: file {file} moved to quarantine\n"));
    }
    let code = super::print(&out);
    let is_damaged = !report.lost.is_empty() || !report.notes_lost.is_empty() || !report.broken_files.is_empty();
    if is_damaged { ExitCode::from(super::FAILED) } else { code }
}

fn export(journal: &Journal) -> ExitCode {
    use std::io::Write as _;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written = journal.read_all(|record| out.write_all(&record.lines.bytes)).and_then(|()| out.flush());
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => super::complain(format!("cannot export: {error}")),
    }
}

fn cursors(journal: &Journal, command: &Cursors) -> ExitCode {
    let (name, done) = match command {
        Cursors::List => return super::print(&list(journal)),
        Cursors::Move { name, seq } => {
            let stats = journal.stats();
            let (oldest, end) = (stats.oldest_seq, stats.synced_seq);
            if !(oldest..=end).contains(seq) {
                return super::complain(format!(
                    "the journal holds seq {oldest} up to {end}, and {seq} is outside of it: nothing was moved"
                ));
            }
            (name, move_cursor(journal, name, *seq))
        }
        Cursors::Drop { name } => (name, Ok(journal.drop_cursor(name))),
    };
    match done {
        Ok(true) => super::print(&list(journal)),
        Ok(false) => super::complain(format!("there is no cursor `{name}`")),
        Err(error) => super::complain(format!("cannot change the cursor `{name}`: {error}")),
    }
}

fn move_cursor(journal: &Journal, name: &str, seq: u64) -> std::io::Result<bool> {
    let moved = delivery::move_cursor(journal, name, seq)?;
    match moved {
        Some(Moved::On(events)) if events > 0 => {
            eprintln!("warning: `{name}` passes over {events} events; they count as dropped (cause `moved`)");
        }
        Some(Moved::Back(events)) if events > 0 => eprintln!("`{name}` gets {events} events again"),
        _ => {}
    }
    Ok(moved.is_some())
}
