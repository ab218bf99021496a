//! Folders of stores that no sink of the configuration has any more: nobody reads them, and no retention removes them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::snapshots;
use crate::config::Plan;
use crate::store;
use crate::units::ByteSize;

/// The file in the data folder that names the folders of stores that there were.
const FILE: &str = "stores";

/// Where the sinks of a plan keep events, and where those before them did.
pub struct StoreFolders {
    data_dir: PathBuf,
    used: BTreeSet<PathBuf>,
    known: BTreeSet<PathBuf>,
}

/// A folder with events of a store that has no sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    pub folder: PathBuf,
    pub bytes: u64,
}

impl fmt::Display for LeftBehind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (folder, bytes) = (self.folder.display(), ByteSize(self.bytes));
        write!(
            f,
            "`{folder}` has {bytes} of events of a `store` sink that is not configured any more: they are in no answer, and \
             no retention removes them. A `store` sink with `path: {folder}` reads them again; else remove the folder"
        )
    }
}

impl StoreFolders {
    pub fn of(plan: &Plan) -> StoreFolders {
        let data_dir = absolute(&plan.data_dir);
        let folder = |sink: &crate::config::PlannedSink| sink.sink.folder(&sink.dry_context("".into(), &data_dir));
        let used = plan.sinks.iter().filter_map(folder).map(|folder| absolute(&folder)).collect();
        let noted = fs::read_to_string(data_dir.join(FILE)).unwrap_or_default();
        let beside = fs::read_dir(data_dir.join(store::FOLDER)).into_iter().flatten().flatten();
        let known = noted.lines().map(PathBuf::from).chain(beside.map(|folder| folder.path()));
        let known = known.map(|folder| absolute(&folder)).collect();
        StoreFolders { data_dir, used, known }
    }

    pub fn left_behind(&self) -> Vec<LeftBehind> {
        let left = self.known.difference(&self.used).map(|folder| (folder, store::bytes_in(folder)));
        let left = left.filter(|(_, bytes)| *bytes > 0);
        left.map(|(folder, bytes)| LeftBehind { folder: folder.clone(), bytes }).collect()
    }

    /// Warns of what is left behind, and notes where events are from now on, so that a later configuration can.
    pub(super) fn report(&self) {
        let left = self.left_behind();
        for one in &left {
            tracing::warn!(folder = %one.folder.display(), bytes = one.bytes, "{one}");
        }
        let folders: BTreeSet<&Path> =
            self.used.iter().chain(left.iter().map(|one| &one.folder)).map(PathBuf::as_path).collect();
        // One whose name is no text, or has a line break, is found beside the others or not at all.
        let names = folders.into_iter().filter_map(|folder| folder.to_str().filter(|name| !name.contains('\n')));
        let text: String = names.map(|name| format!("{name}\n")).collect();
        let file = self.data_dir.join(FILE);
        let is_nothing = text.is_empty() && !file.exists();
        if is_nothing || !self.data_dir.is_dir() {
            return;
        }
        if let Err(error) = snapshots::write(&file, &text) {
            tracing::warn!(%error, "cannot note where the stores are: one that is left behind would not be named");
        }
    }
}

/// With the links of the way resolved, as far as it is there.
fn absolute(path: &Path) -> PathBuf {
    fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}
