//! The last running configuration of each sink and stage, so that a removed one can finish what it owes.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::agent::{Agent, Running};
use crate::config::Snapshots;

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
        save(&snapshots_file(&self.data_dir), &running.snapshots);
    }

    /// Adds the texts of a plan to come. They are on the disk before the first of its cursors is: events may wait for a
    /// cursor from then on, and after a kill only its text says what becomes of them.
    pub(super) async fn announce_snapshots(&self, coming: &Snapshots) {
        if !self.is_durable() {
            return;
        }
        let mut all = coming.clone();
        let running = self.running.lock().await;
        // What runs now is what is owed until the plan has changed.
        all.sinks.extend(running.snapshots.sinks.clone());
        all.stages.extend(running.snapshots.stages.clone());
        drop(running);
        let file = snapshots_file(&self.data_dir);
        if tokio::task::spawn_blocking(move || save(&file, &all)).await.is_err() {
            tracing::error!("saving the configuration of sinks and stages panicked");
        }
    }
}

fn save(file: &Path, snapshots: &Snapshots) {
    let text = format!("{HEAD}{}", snapshots.render());
    if let Err(error) = write(file, &text) {
        tracing::warn!(%error, "cannot save the configuration of sinks and stages: a removed one would have to be configured again");
    }
}

/// Puts a text into a file of the agent's own, which has what it had until then or all of it.
pub(super) fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if std::fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push("~");
    let mut file = std::fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
