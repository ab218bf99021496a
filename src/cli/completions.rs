//! `weir completions`: shell completions for commands and flags.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

#[derive(Args)]
pub struct Arguments {
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub fn run(arguments: Arguments, mut command: clap::Command) -> ExitCode {
    let mut out = Vec::new();
    let shell = match arguments.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    clap_complete::generate(shell, &mut command, "weir", &mut out);
    super::print(&String::from_utf8_lossy(&out))
}
