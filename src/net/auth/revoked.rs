//! Revoked tokens: a file with one id (`jti`) per line, read again when it changes.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// The largest file that is read.
const MAX_BYTES: u64 = 64 << 20;

pub struct Revoked {
    path: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    ids: HashSet<String>,
    version: (SystemTime, u64),
    complained: bool,
}

impl Revoked {
    /// The file must be there at start: a list that cannot be read would let everybody in. The error is for the
    /// operator.
    pub fn open(path: &Path) -> Result<Revoked, String> {
        let known =
            read(path).map_err(|error| format!("cannot read the revoked tokens in `{}`: {error}", path.display()))?;
        Ok(Revoked { path: path.to_owned(), known: Mutex::new(known) })
    }

    /// Whether a token with this id is revoked. While the file cannot be read, its last content applies.
    pub fn contains(&self, id: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match version(&self.path) {
            Ok(version) if version == known.version => {}
            Ok(_) => match read(&self.path) {
                Ok(newer) => *known = newer,
                Err(error) => known.complain(&self.path, &error),
            },
            Err(error) => known.complain(&self.path, &error),
        }
        known.ids.contains(id)
    }
}

impl Known {
    fn complain(&mut self, path: &Path, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            let path = path.display();
            tracing::error!(%path, %error, "cannot read the revoked tokens; the earlier list stays in force");
        }
    }
}

fn version(path: &Path) -> io::Result<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.modified()?, metadata.len()))
}

fn read(path: &Path) -> io::Result<Known> {
    let version = version(path)?;
    if version.1 > MAX_BYTES {
        return Err(io::Error::other(format!("it is longer than {} MiB", MAX_BYTES >> 20)));
    }
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(Known { ids: lines.map(str::to_owned).collect(), version, complained: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_added_counts_at_once_and_a_lost_file_forgives_nobody() {
        let path = std::env::temp_dir().join(format!("weir-revoked-{}", std::process::id()));
        assert!(Revoked::open(&path).is_err(), "a list that is not there");
        std::fs::write(&path, "# left the company\na-1\n").expect("written");
        let revoked = Revoked::open(&path).expect("a list");
        assert!(revoked.contains("a-1") && !revoked.contains("b-2") && !revoked.contains("# left the company"));
        std::fs::write(&path, "a-1\n  b-2\r\n").expect("written");
        assert!(revoked.contains("b-2"));
        std::fs::remove_file(&path).expect("removed");
        assert!(revoked.contains("a-1") && revoked.contains("b-2"));
    }
}
