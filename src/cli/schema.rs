//! `weir schema`: the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use crate::config::{self, Catalogue};

pub fn run() -> ExitCode {
    let schema = config::schema(Catalogue::house());
    super::print(&format!("{schema:#}\n"))
}
