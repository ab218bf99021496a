//! What the quick start prints at its first run.

use std::path::Path;
use std::sync::Arc;

/// Where everything is: where to send, what is watched, where to look.
pub fn text(url: &str, link: Option<&str>, data_dir: &Path, addresses: &[(Arc<str>, String)]) -> String {
    let mut out = String::from("\nWeir is running with its built-in quick start.\n\n");
    let mut line = |label: &str, text: &str| out.push_str(&format!("  {label:<14}{text}\n"));
    for (_, address) in addresses {
        line("send to", address);
    }
    line("watched", &crate::config::spool_dir());
    line("stored in", &data_dir.join("store").display().to_string());
    match link {
        Some(link) => line("page", link),
        None => line("page", &format!("{url}/ (a login link: weir token --user admin --role admin --link)")),
    }
    line("metrics", &format!("{url}/metrics"));
    line("search", "weir query 'status:error' --since 1h");
    out.push_str("\nTry it:\n\n");
    let http = addresses.iter().map(|(_, address)| address.as_str()).find(|address| address.starts_with("http"));
    let target = http.unwrap_or("http://127.0.0.1:8687");
    out.push_str(&format!("  curl {target} -d '{{\"username\": \"ali\", \"code\": \"print(1)\"}}'\n\n"));
    out
}
