//! `weir schema`: the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

pub fn run() -> ExitCode {
    let schema = serde_json::json!({});
    super::print(&format!("{schema:#}\n"))
}
