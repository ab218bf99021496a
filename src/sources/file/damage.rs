//! Handles and reports files that cannot be read, or not completely.

use std::io;
use std::path::Path;
use std::time::Instant;

use tracing::warn;

use super::body::Body;
use super::classify::open_found;
use super::content::{Content, LOOK_BYTES, Packing, Unreadable, by_magic, content};
use super::discover::Found;
use super::followed::Followed;
use super::identity::HEAD_BYTES;
use super::shape::{LineEnd, looks_wide, marked_order};
use super::tail::Tail;

impl Tail {
    /// Opens a file that was found and says what it holds.
    pub(super) fn open_classified(&self, found: &Found) -> io::Result<(Body, Content)> {
        let mut body = open_found(&self.settings.patterns.folders, found)?;
        let mut head = Vec::new();
        body.read_at(0, LOOK_BYTES, &mut head)?;
        let content = content(&head, &found.path, self.is_wide());
        let packing = if let Content::Lines(packing) = content { packing } else { Packing::None };
        Ok((Body::new(body.file().clone(), packing), content))
    }

    /// Looks at the first bytes of an open file, and prepares to read it as what it is. Returns these bytes.
    pub(super) fn classify_content(&mut self, file: &mut Followed) -> io::Result<Vec<u8>> {
        // If this fails, the file is opened and looked at again.
        let Some(body) = file.body.take() else { return Ok(Vec::new()) };
        let mut head = Vec::new();
        Body::new(body.file().clone(), Packing::None).read_at(0, LOOK_BYTES, &mut head)?;
        file.encoding = marked_order(&head).filter(|_| self.is_wide());
        // What was read before is not given up for what stands at its beginning now.
        let found = match file.ranges.cursor() {
            0 => content(&head, &file.path, self.is_wide()),
            _ => by_magic(&head).unwrap_or(Content::Lines(Packing::None)),
        };
        (file.is_unreadable, file.packing) = match found {
            Content::Lines(packing) => (false, packing),
            Content::Undecided => (true, Packing::None),
            Content::Unreadable(_) => {
                self.say_unreadable_content(&file.path, found);
                (true, Packing::None)
            }
        };
        let mut body = Body::new(body.file().clone(), file.packing);
        body.note_size(file.size);
        file.body = Some(body);
        Ok(head)
    }

    fn is_wide(&self) -> bool {
        LineEnd::of(self.settings.reader.shape.encoding) != LineEnd::Byte
    }

    /// Says of a file that is read for the first time, if so, that it must be UTF-16.
    pub(super) fn say_wide(&mut self, file: &mut Followed, first: Option<Vec<u8>>) -> std::io::Result<()> {
        if self.settings.reader.shape.encoding.is_some() {
            return Ok(());
        }
        let Some(body) = &mut file.body else { return Ok(()) };
        let head = match first.filter(|_| matches!(body, Body::Plain(_))) {
            Some(head) => head,
            None => {
                let mut head = Vec::new();
                body.read_at(0, HEAD_BYTES, &mut head)?;
                head
            }
        };
        if let Some(encoding) = looks_wide(&head)
            && self.refused.insert(file.path.clone())
        {
            warn!(source = %self.cx.name, path = %file.path.display(), "the file looks like UTF-16 and is read as UTF-8, set `encoding: {encoding}`");
        }
        Ok(())
    }

    /// Says once of a name, and counts, that it is not read.
    pub(super) fn say_unreadable_content(&mut self, path: &Path, content: Content) {
        let why = if let Content::Unreadable(why) = content { why } else { Unreadable::NotPacked };
        if self.refused.insert(path.to_path_buf()) {
            warn!(source = %self.cx.name, path = %path.display(), reason = why.reason(), "file skipped: {why}");
            self.cx.intake.file_skipped(why.reason());
        }
    }

    /// Whether a packed file cannot be read beyond the place that reading has come to. Its last line is not given if its
    /// end is missing. A file that ends in the middle may still be being written, so that is said only once it is quiet.
    pub(super) fn is_damaged_here(&self, file: &mut Followed, now: Instant) -> bool {
        let Some(damage) = file.body.as_ref().and_then(Body::damage) else { return false };
        let from = match file.unfinished {
            Some((from, _)) => from,
            None if file.ranges.cursor() >= damage.text_bytes => damage.text_bytes,
            None => return false,
        };
        let quiet = now.saturating_duration_since(file.quiet_since);
        if file.is_damage_said || (damage.is_cut_off && quiet < self.settings.patience) {
            return true;
        }
        (file.is_damage_said, file.is_spent) = (true, true);
        let packed = file.size.saturating_sub(damage.offset);
        let path = file.path.display();
        warn!(
            source = %self.cx.name, %path, reason = damage.reason, offset = damage.offset, text_offset = from,
            unread_bytes = packed, "the compressed file is damaged after this offset"
        );
        self.cx.intake.file_damaged(packed + damage.text_bytes.saturating_sub(from));
        true
    }
}
