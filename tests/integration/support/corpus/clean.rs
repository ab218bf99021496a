//! Clean text: code, documents and settings that are installed on the machine, cut into events.

use std::fs;
use std::path::{Path, PathBuf};

/// Kinds of files by their endings.
pub const KINDS: &[(&str, &[&str])] = &[
    ("Python", &["py"]),
    ("Rust", &["rs"]),
    ("JavaScript", &["js", "ts", "mjs"]),
    ("Go", &["go"]),
    ("YAML", &["yaml", "yml"]),
    ("TOML", &["toml"]),
    ("Markdown", &["md", "rst"]),
    ("SQL", &["sql"]),
    ("shell", &["sh"]),
    ("C", &["c", "h"]),
    ("JSON", &["json"]),
    ("text", &["txt", "conf", "cfg", "ini"]),
    ("Java", &["java", "properties"]),
    ("Perl", &["pl", "pm"]),
];

/// Where such files may be.
fn roots() -> Vec<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    [
        format!("{home}/.pyenv/versions"),
        format!("{home}/.cargo/registry/src"),
        "/usr/lib".into(),
        "/usr/share".into(),
        "/usr/local".into(),
        "/etc".into(),
        format!("{home}/.rustup"),
    ]
    .iter()
    .map(PathBuf::from)
    .collect()
}

/// At most so many events of each kind, spread over all the files there are.
pub fn events(per_kind: usize) -> Vec<(&'static str, String, String)> {
    let mut files: Vec<Vec<PathBuf>> = vec![Vec::new(); KINDS.len()];
    for root in roots() {
        collect(&root, 0, &mut files);
    }
    let mut events = Vec::new();
    for ((kind, _), files) in KINDS.iter().zip(&mut files) {
        files.sort();
        let step = (files.len() / per_kind.max(1)).max(1);
        let each = per_kind.div_ceil((files.len() / step).max(1));
        let mut count = 0;
        for file in files.iter().step_by(step) {
            let Ok(text) = fs::read_to_string(file) else { continue };
            for chunk in chunks(&text).into_iter().take(each.max(3)) {
                if count < per_kind {
                    events.push((*kind, file.display().to_string(), chunk));
                    count += 1;
                }
            }
        }
    }
    events
}

fn collect(folder: &Path, depth: usize, files: &mut [Vec<PathBuf>]) {
    if depth > 12 {
        return;
    }
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_dir() {
            collect(&path, depth + 1, files);
        } else if kind.is_file() {
            let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if let Some(at) = KINDS.iter().position(|(_, endings)| endings.contains(&ending)) {
                files[at].push(path);
            }
        }
    }
}

/// Pieces of about thirty lines.
fn chunks(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let chunk = lines.chunks(30).map(|lines| lines.join("\n"));
    chunk.filter(|chunk| chunk.len() > 80 && chunk.len() < 20_000).collect()
}
