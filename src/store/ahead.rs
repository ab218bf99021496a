//! Asks the system beforehand for what a search reads of many parts, so that the disk is waited for once and not part by part.

use super::candidates::Needs;
use super::layout::{EARLIER_LOOSE, LOOSE, Section};
use super::part::Part;
use super::postings::Stretch;

/// So many parts are looked through without this: few searches go on to all others.
pub const PARTS_BEFORE: usize = 4;

/// Asks for the postings that decide first whether a part has what is needed. Parts whose indexes were read already are
/// likely to be in memory.
pub fn ask<'a>(parts: impl Iterator<Item = &'a Part>, needs: &Needs) {
    let hashes = needs.first_hashes();
    let columns = |is_loose: bool| if is_loose { &[LOOSE.0, EARLIER_LOOSE.0][..] } else { &[0] };
    let wanted = parts.flat_map(|part| {
        hashes
            .iter()
            .flat_map(move |(hash, is_loose)| columns(*is_loose).iter().map(move |column| (part, *column, *hash)))
    });
    let unread: Vec<(&Part, usize, u32)> =
        wanted.filter(|(part, column, _)| part.has_postings(*column) && !part.has_read_postings(*column)).collect();
    for (part, column, _) in &unread {
        part.file.will_need(Section::PostingsIndex, *column, 0, part.file.bytes_of(Section::PostingsIndex, *column));
    }
    for (part, column, hash) in unread {
        // What cannot be read is told when it is asked for.
        let Ok(index) = part.postings(column) else { continue };
        if let Some(Stretch::Groups { at, len }) = index.group_of(hash) {
            part.file.will_need(Section::PostingsGroups, column, u64::from(at), len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Folder, Stored, all, fill, newest, plain};
    use super::super::{Options, Store};
    use super::*;

    #[test]
    fn a_search_of_many_parts_that_nobody_has_read_finds_in_each_what_is_there() {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let line = |n: u64| {
            format!("{{\"code\":\"part_{:04} of all\",\"trace\":\"{:032x}\"}}", n / 3, u128::from(n) << 64 | 0xabc)
        };
        let events: Vec<Stored> = (0..30).map(|n| plain(n + 1, &line(n))).collect();
        fill(&store, &events, 3, 1);
        drop(store);
        for (query, found) in
            [("part_0000", 3), ("part_0009", 3), ("all", 30), ("nowhere", 0), ("00abc", 30), ("fabc", 0)]
        {
            let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
            let snapshot = store.snapshot();
            assert!(snapshot.parts.len() > PARTS_BEFORE + 1);
            let request = newest(query, 100);
            let rows = snapshot.page(&request, &all()).expect("a page").rows.len();
            assert_eq!(rows, found, "{query}");
            let last = &snapshot.parts[0];
            assert!(last.has_read_postings(0) || found == 30, "{query}");
        }
    }
}
