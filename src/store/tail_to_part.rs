//! Makes parts of tails that take no more.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::open::{keep_damaged, read_tail};
use super::part::Part;
use super::tail::TailFile;
use super::tail_memory::Frozen;
use super::{Inner, Report, classes, layout, lock, read, seal, write};

impl Inner {
    /// Makes parts of all tails that are full, those included of which it failed before.
    pub fn seal_all(&self) {
        let frozen = read(&self.published).frozen.clone();
        for one in frozen {
            if let Err(error) = self.seal(&one) {
                tracing::error!(%error, tail = one.number, "cannot make a part of the store; its events stay in their tail, and it is tried again with the next");
            }
        }
    }

    /// Makes a part of a frozen tail, without what cannot be read of it any more.
    fn seal(&self, frozen: &Arc<Frozen>) -> io::Result<()> {
        match self.seal_whole(frozen) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.seal_whole(&self.read_again(frozen)?),
            sealed => sealed,
        }
    }

    /// What is left of a tail whose file is damaged, in its place; the rest is copied to `quarantine/`.
    fn read_again(&self, frozen: &Frozen) -> io::Result<Arc<Frozen>> {
        let (file, content) = TailFile::read_again(&self.disk, &self.dir, frozen.number)?;
        keep_damaged(&self.disk, &self.dir, &file, &content, &mut Report::default())?;
        let in_parts = || read(&self.published).parts.iter().map(|part| part.meta.newest()).max().unwrap_or(0);
        let from = content.newest_before_damage().flatten().unwrap_or_else(in_parts) + 1;
        {
            let mut lost_from = lock(&self.lost_from);
            *lost_from = Some(lost_from.map_or(from, |other| other.min(from)));
        }
        let mut memory = read_tail(&content, &file.path);
        let left = Arc::new(memory.freeze(file.number, file.path)?);
        let mut published = write(&self.published);
        published.frozen.iter_mut().filter(|one| one.number == left.number).for_each(|one| *one = left.clone());
        Ok(left)
    }

    /// Makes a part of a frozen tail, or one for each time that events stay, and lets them take the tail's place.
    fn seal_whole(&self, frozen: &Arc<Frozen>) -> io::Result<()> {
        if frozen.view.chunks.is_empty() {
            return self.replace(frozen, Vec::new());
        }
        let retention = lock(&self.retention).clone();
        let classes = classes::split(&frozen.indexed()?, &retention.types, retention.hold.as_ref())?;
        let paths: Vec<PathBuf> =
            (0..classes.len()).map(|nth| self.dir.join(layout::part_name(frozen.number, nth as u64))).collect();
        for (class, path) in classes.iter().zip(&paths) {
            seal::write_part(&self.disk, &path.with_extension("new"), class)?;
        }
        // The first is renamed last, when the others are there for certain.
        for path in paths[1..].iter().rev() {
            self.disk.rename(&path.with_extension("new"), path)?;
        }
        if paths.len() > 1 {
            self.disk.sync_dir(&self.dir)?;
        }
        self.disk.rename(&paths[0].with_extension("new"), &paths[0])?;
        self.disk.sync_dir(&self.dir)?;
        let open = |(nth, path): (usize, &PathBuf)| {
            Part::open(path, (frozen.number, nth as u64), self.cache.clone()).map(Arc::new)
        };
        self.replace(frozen, paths.iter().enumerate().map(open).collect::<io::Result<_>>()?)
    }

    /// Parts take the place of a frozen tail.
    fn replace(&self, frozen: &Frozen, parts: Vec<Arc<Part>>) -> io::Result<()> {
        {
            let mut published = write(&self.published);
            published.frozen.retain(|other| other.number != frozen.number);
            self.lend_to_cache(&published);
            published.parts.extend(parts);
            published.parts.sort_by_key(|part| part.number);
        }
        self.disk.remove(&frozen.path)?;
        self.disk.sync_dir(&self.dir)
    }
}
