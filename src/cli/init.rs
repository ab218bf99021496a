//! `weir init`: prints an explained starting configuration.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

#[derive(Args)]
pub struct Arguments {
    /// System to configure. Default: the quick start
    #[arg(value_enum)]
    system: Option<System>,
}

#[derive(Clone, Copy, ValueEnum)]
enum System {
    Jupyter,
    Shop,
    Chat,
    Review,
    Gateway,
}

pub fn run(arguments: Arguments) -> ExitCode {
    super::print(match arguments.system {
        None => crate::config::QUICK_START,
        Some(System::Jupyter) => include_str!("../../config/init/jupyter.yaml"),
        Some(System::Shop) => include_str!("../../config/init/shop.yaml"),
        Some(System::Chat) => include_str!("../../config/init/chat.yaml"),
        Some(System::Review) => include_str!("../../config/init/review.yaml"),
        Some(System::Gateway) => include_str!("../../config/init/gateway.yaml"),
    })
}
