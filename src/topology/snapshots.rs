//! The last running configuration of each sink and stage, so that a removed one can finish what it owes.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::agent::{Agent, Running};

/// The file in the data folder. Variables and files are named in it, not filled in.
const FILE: &str = "sinks.yaml";
const HEAD: &str = "# Sinks and stages as they last ran, read at a start to finish what one that is gone still owes.\n";

/// Where the snapshots of a data folder are.
pub fn snapshots_file(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

impl Agent {
    /// Keeps the text of every sink and stage that runs, is leaving, or waits for the operator to decide.
    pub(super) fn save_snapshots(&self, running: &Running) {
        if !self.is_durable() {
            return;
        }
        let mut text = HEAD.to_owned();
        text.push_str(&running.snapshots.render());
        if let Err(error) = write(&snapshots_file(&self.data_dir), &text) {
            tracing::warn!(%error, "cannot save the configuration of sinks and stages: a removed one would have to be configured again");
        }
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if std::fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    let beside = path.with_extension("yaml~");
    let mut file = std::fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
