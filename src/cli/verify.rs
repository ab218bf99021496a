//! `weir verify`: checks that an export matches its manifest.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aws_lc_rs::digest::{Context, SHA256};
use clap::Args;
use serde_json::Value;
use zip::ZipArchive;

use super::export::{MANIFEST, files, hex, sha256};

/// No manifest is longer.
const MAX_MANIFEST: u64 = 1 << 20;

#[derive(Args)]
pub struct Arguments {
    /// File written by `weir export`
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub fn run(arguments: Arguments) -> ExitCode {
    match verify(&arguments.file) {
        Ok(text) => super::print(&text),
        Err(message) => super::complain(format!("`{}`: {message}", arguments.file.display())),
    }
}

fn verify(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| format!("not an export: {error}"))?;
    let mut text = Vec::new();
    let manifest = archive.by_name(MANIFEST).map_err(|_| format!("not an export: it has no `{MANIFEST}`"))?;
    manifest.take(MAX_MANIFEST).read_to_end(&mut text).map_err(|error| format!("`{MANIFEST}`: {error}"))?;
    let manifest: Value =
        serde_json::from_slice(&text).map_err(|error| format!("`{MANIFEST}` is not JSON: {error}"))?;
    if manifest["format"] != "weir-export/1" {
        return Err(format!("`{MANIFEST}` has an unknown format: {}", manifest["format"]));
    }
    let stated: Vec<_> = files(&manifest).collect();
    if stated.len() != manifest["files"].as_array().map_or(0, Vec::len) || stated.is_empty() {
        return Err(format!("`{MANIFEST}` does not list the files"));
    }
    for name in archive.file_names() {
        let name = name.map_err(|error| format!("not an export: {error}"))?;
        if name != MANIFEST && stated.iter().all(|(stated, ..)| *stated != name) {
            return Err(format!("`{name}` is not in the manifest"));
        }
    }
    let mut out = String::new();
    for (name, bytes, events, sha256) in stated {
        let found = measure(archive.by_name(name).map_err(|_| format!("`{name}` is missing"))?)
            .map_err(|error| format!("`{name}` is damaged: {error}"))?;
        if found != (bytes, events, sha256.to_owned()) {
            let (bytes, events, sha256) = found;
            return Err(format!("`{name}` was changed: it has {events} events in {bytes} bytes with SHA-256 {sha256}"));
        }
        out.push_str(&format!("`{name}`: {events} events, {bytes} bytes, SHA-256 {sha256}: as exported\n"));
    }
    out.push_str(&format!("SHA-256 of the manifest: {}\n", sha256(&text)));
    Ok(out)
}

/// Bytes, lines and hash of what was read.
fn measure(mut file: impl Read) -> std::io::Result<(u64, u64, String)> {
    let (mut hash, mut bytes, mut lines) = (Context::new(&SHA256), 0, 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, lines, hex(hash.finish().as_ref()))),
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
                lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
            }
        }
    }
}
