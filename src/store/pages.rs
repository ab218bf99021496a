//! Single values of large columns, read without the rest: each page of a column has a checksum of its own.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::bits::{Packed, PackedHeads};
use super::cache::Key;
use super::layout::{PAGE, PageSums, Section};
use super::part::Part;

/// Smaller columns are read as a whole.
const MIN_BYTES: usize = 4 * PAGE;
/// So many bytes are read at first of the heads of a column's chunks, and twice as many each time they are not all.
const HEADS_BYTES: usize = 4 * PAGE;
/// In a key, what is kept of a section beside the whole.
const HEADS: u32 = 1;

impl Part {
    /// The value of one row. A whole column is not read for it, unless it is small.
    pub fn value_at(&self, section: Section, column: u32, row: usize) -> io::Result<i64> {
        let whole = Key { part: self.number, section: section as u16, column, block: 0 };
        let is_paged = self.bytes_of(section, column) >= MIN_BYTES && self.file.has(Section::PageSums, 0);
        if let Some(packed) = self.cache().kept::<Packed>(whole) {
            return Ok(packed.get(row));
        }
        if !is_paged {
            return Ok(self.packed(section, column)?.get(row));
        }
        let read = || self.heads(section, column);
        let heads = self.cache().get(Key { block: HEADS, ..whole }, PackedHeads::weight, read)?;
        let broken = || self.damaged("a packed column cannot be read");
        let place = heads.place_of(row).ok_or_else(broken)?;
        place.value(&self.within(section, column, place.bytes.clone())?).ok_or_else(broken)
    }

    fn heads(&self, section: Section, column: u32) -> io::Result<PackedHeads> {
        let all = self.bytes_of(section, column);
        let mut len = HEADS_BYTES.min(all);
        loop {
            let heads = PackedHeads::read(&self.within(section, column, 0..len)?, all);
            match heads.filter(|heads| heads.len() == self.events()) {
                Some(heads) => return Ok(heads),
                None if len == all => return Err(self.damaged("a packed column cannot be read")),
                None => len = (len * 2).min(all),
            }
        }
    }

    /// The bits of the UUID of one row.
    pub fn uuid_at(&self, column: u32, row: usize) -> io::Result<u128> {
        let key = Key { part: self.number, section: Section::Uuids as u16, column, block: 0 };
        let broken = || self.damaged("a UUID is missing");
        let bits: Option<[u8; 16]> = match self.cache().kept::<Vec<u8>>(key) {
            None if self.file.has(Section::PageSums, 0) => {
                let at = row * 16..row * 16 + 16;
                let is_there = at.end <= self.bytes_of(Section::Uuids, column);
                if is_there { self.within(Section::Uuids, column, at)?.try_into().ok() } else { None }
            }
            kept => {
                let all = kept.map_or_else(|| self.uuids(column), Ok)?;
                all.as_chunks::<16>().0.get(row).copied()
            }
        };
        bits.map(u128::from_le_bytes).ok_or_else(broken)
    }

    /// Some bytes of a section whose pages have checksums.
    fn within(&self, section: Section, column: u32, range: Range<usize>) -> io::Result<Vec<u8>> {
        let key = Key { part: self.number, section: Section::PageSums as u16, column: 0, block: 0 };
        let sums: Arc<PageSums> = self.cache().get(key, PageSums::weight, || self.file.page_sums())?;
        self.file.within(section, column as usize, range, &sums)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Encoding;
    use super::super::tests::{Folder, Stored, all, plain};
    use super::super::{Options, Store};
    use super::*;

    fn line(n: u64) -> String {
        let random = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let (session, request, run) = (format!("session-{:06}", random % 3000), random as u32, random % 3000);
        format!(
            r#"{{"session_id":"{session}","request":"{request:08x}-0000-4000-8000-{n:012x}","run":"{run:08x}-1111-4000-8000-000000000000","duration_ms":{}.{:03},"code":"x = {n}"}}"#,
            random % 90_000,
            n % 1000
        )
    }

    #[test]
    fn a_line_is_read_without_its_columns_and_damage_elsewhere_in_them_does_not_touch_it() {
        const EVENTS: u64 = 20_000;
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let events: Vec<Stored> = (1..=EVENTS).map(|n| plain(n, &line(n))).collect();
        for some in events.chunks(5000) {
            store.append(&some.iter().map(Stored::event).collect::<Vec<_>>()).expect("they are stored");
        }
        store.seal_now().expect("a part is made");
        let part = store.snapshot().parts[0].clone();
        let column = |name: &str| part.column(name).map(|(column, _)| column).expect("it is there");
        let whole = |section: Section, column: u32| {
            let key = Key { part: part.number, section: section as u16, column, block: 0 };
            part.cache().kept::<Packed>(key).is_some() || part.cache().kept::<Vec<u8>>(key).is_some()
        };
        assert_eq!(part.meta.columns[column("request") as usize].encoding, Encoding::Uuid);
        let run = &part.meta.columns[column("run") as usize];
        assert!(run.encoding == Encoding::Dictionary && part.file.has(Section::Uuids, column("run") as usize));
        let columns = [
            (Section::Codes, column("session_id")),
            (Section::Uuids, column("request")),
            (Section::Uuids, column("run")),
            (Section::Numbers, column("duration_ms")),
        ];
        for seq in (1..=EVENTS).step_by(97).chain([EVENTS]) {
            let row = part.find_seq(seq).expect("read").expect("it is there");
            assert_eq!(String::from_utf8(part.line(row).expect("read")).expect("text"), line(seq));
        }
        assert!(columns.iter().all(|(section, column)| !whole(*section, *column)), "no column was read as a whole");
        let file = part.path().to_owned();
        let places = columns.map(|(section, column)| part.file.place_of(section, column as usize).expect("a section"));
        drop((part, store));
        let bytes = std::fs::read(&file).expect("read");
        for (nth, place) in places.iter().enumerate() {
            // The last page but one, of which the first rows need nothing.
            let mut hurt = bytes.clone();
            hurt[place.end - 2 * PAGE] ^= 0x10;
            std::fs::write(&file, &hurt).expect("written");
            let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
            assert_eq!(report.damaged.len(), 0);
            let found = store.snapshot().by_seq(3, &all()).expect("read").expect("it is there");
            assert_eq!(String::from_utf8(found.line).expect("text"), line(3), "{nth}");
            let part = store.snapshot().parts[0].clone();
            let broken = (0..part.events()).filter(|row| part.line(*row).is_err()).count();
            assert!((1..part.events() / 4).contains(&broken), "{nth}: {broken} rows");
        }
    }
}
