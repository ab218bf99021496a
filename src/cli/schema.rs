//! `weir schema`: prints the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use crate::config::{self, Catalogue};

pub fn run() -> ExitCode {
    let schema = config::schema(Catalogue::built_in());
    super::print(&format!("{schema:#}\n"))
}
