//! The commands: one file each, and the exit codes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};

mod client;
mod completions;
mod descriptors;
mod dlq;
mod ephemeral;
mod export;
mod graph;
mod health;
mod import;
mod indent;
mod init;
mod journal;
mod live;
mod load;
mod notify;
mod query;
mod redact;
mod run;
mod schema;
mod table;
mod tap;
mod test;
mod token;
mod top;
mod validate;
mod verify;
mod welcome;

/// Failed while running, or a check found something.
const FAILED: u8 = 1;
/// The command line cannot be used.
const USAGE: u8 = 2;
/// The configuration is wrong; no port and no file was touched.
const CONFIGURATION: u8 = 78;

/// Reads execution and activity events, makes them safe and durable, and routes them.
#[derive(Parser)]
#[command(name = "weir", version, disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Arguments,
}

#[derive(Subcommand)]
enum Command {
    /// Run the pipeline (the default command)
    Run(run::Arguments),
    /// Print a commented example configuration
    Init(init::Arguments),
    /// Check the configuration, and that sinks can be reached
    Validate(validate::Arguments),
    /// Run the `tests:` of a configuration
    Test(test::Arguments),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Check the running agent: exit code 0 if healthy, 1 if not
    Health(health::Arguments),
    /// Find stored events of the running agent
    Query(query::Arguments),
    /// Show the events of the running agent live
    Tap(tap::Arguments),
    /// Show rates, lag and errors of every component, live
    Top(top::Arguments),
    /// Export events, with a manifest of their hashes
    Export(export::Arguments),
    /// Import an activity table into the store, while the agent is stopped
    Import(import::Arguments),
    /// Check an export against its manifest
    Verify(verify::Arguments),
    /// Draw the pipeline of a configuration
    Graph(graph::Arguments),
    /// List, show, replay or drop dead letters
    Dlq(dlq::Arguments),
    /// Try redaction: stdin to stdout, NDJSON or text
    Redact(redact::Arguments),
    /// Mint a JWT
    Token(token::Arguments),
    /// Inspect the journal of a stopped agent
    Journal(journal::Arguments),
    /// Print completions for a shell
    Completions(completions::Arguments),
}

/// Where the configuration is; several files and folders are one configuration.
#[derive(Args, Clone, Default)]
pub struct Configuration {
    /// Configuration file or folder; may be repeated. Default: $WEIR_CONFIG, ./weir.yaml, /etc/weir/weir.yaml, or the
    /// built-in quick start
    #[arg(short, long = "config", value_name = "PATH")]
    config: Vec<PathBuf>,
    /// Folder for journal, dead letters and secrets
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(arguments) => run::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Validate(arguments) => validate::run(arguments),
        Command::Test(arguments) => test::run(arguments),
        Command::Schema => schema::run(),
        Command::Health(arguments) => health::run(arguments),
        Command::Query(arguments) => query::run(arguments),
        Command::Tap(arguments) => tap::run(arguments),
        Command::Top(arguments) => top::run(arguments),
        Command::Export(arguments) => export::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Graph(arguments) => graph::run(arguments),
        Command::Dlq(arguments) => dlq::run(arguments),
        Command::Redact(arguments) => redact::run(arguments),
        Command::Token(arguments) => token::run(arguments),
        Command::Journal(arguments) => journal::run(arguments),
        Command::Completions(arguments) => completions::run(arguments, Cli::command()),
    }
}

/// Says what went wrong, on stderr.
fn complain(message: impl std::fmt::Display) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(FAILED)
}

/// Says that the command cannot be used like this.
fn misused(message: impl std::fmt::Display) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(USAGE)
}

/// Writes to stdout; a reader that has left ends the command quietly.
fn print(text: &str) -> ExitCode {
    match write(text) {
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => complain(message),
    }
}

/// Writes to stdout; returns whether it is still read.
fn write(text: impl AsRef<[u8]>) -> Result<bool, String> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("cannot write to standard output: {error}")),
    }
}
