//! Tests of damage on disk: torn and flipped bytes, files of earlier versions, foreign bytes.

use proptest::prelude::*;

use super::tests::{Folder, START, Stored, all, check, fill, filter, later, newest, plain};
use super::*;
use crate::event::Raw;
use crate::query::request::{AggregateRequest, CountLimit, GroupKey, Zone};
use crate::units::Timestamp;
use crate::visibility::Visibility;

#[test]
fn a_torn_frame_is_cut_off_and_everything_before_it_stays() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let events: Vec<Stored> = (1..=20).map(|n| plain(n, &format!("{{\"n\":{n}}}"))).collect();
    let mut ends = Vec::new();
    for event in &events {
        store.append(&[event.event()]).unwrap();
        ends.push(store.bytes());
    }
    drop(store);
    let path = folder.0.join(tail::tail_name(1));
    let whole = std::fs::read(&path).unwrap();
    for len in 0..=whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let frames = ends.iter().filter(|end| **end <= len as u64).count();
        let end = if frames == 0 { 0 } else { ends[frames - 1] };
        assert_eq!((report.events, report.cut_bytes), (frames as u64, len as u64 - end), "cut at {len}");
        drop(store);
    }
}

#[test]
fn a_damaged_part_costs_itself_and_is_set_aside() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let events: Vec<Stored> =
        (1..=300).map(|n| plain(n, &format!("{{\"n\":{n},\"code\":\"print({n}) some text\"}}"))).collect();
    for some in events.chunks(100) {
        store.append(&some.iter().map(Stored::event).collect::<Vec<_>>()).unwrap();
        store.seal_now().unwrap();
    }
    drop(store);
    let path = folder.0.join(layout::part_name(2, 0));
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let request = newest("print", 1000);
        let everything = Visibility::All { own: String::new(), preview: 1000 };
        let rows = store.snapshot().page(&request, &everything).expect("the others are read").rows;
        for row in &rows {
            assert!(
                events.iter().any(|event| event.line.as_bytes() == row.line),
                "damage at {at} shows {:?}",
                row.line
            );
        }
        assert!(rows.len() >= 200, "damage at {at} costs other parts");
        store.tidy(Timestamp::now()).unwrap();
        if rows.len() < 300 && report.damaged.is_empty() {
            assert!(folder.0.join("quarantine").join(layout::part_name(2, 0)).exists(), "damage at {at}");
        }
        drop(store);
        let _ = std::fs::remove_dir_all(folder.0.join("quarantine"));
    }
}

#[test]
fn damage_in_the_file_of_the_newest_events_costs_the_write_where_it_is_once_they_become_a_part() {
    for at in ["in the middle", "at the end", "cut off", "emptied"] {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let events: Vec<Stored> =
            (1..=1000).map(|n| plain(n, &format!("{{\"n\":{n},\"code\":\"print({n}) some text\"}}"))).collect();
        let mut ends = Vec::new();
        for some in events.chunks(100) {
            store.append(&some.iter().map(Stored::event).collect::<Vec<_>>()).unwrap();
            ends.push(store.bytes() as usize);
        }
        let path = folder.0.join(tail::tail_name(1));
        let mut bytes = std::fs::read(&path).unwrap();
        let lost = if at == "in the middle" { 3 } else { 9 };
        match at {
            "cut off" => bytes.truncate(ends[9] - 20),
            "emptied" => bytes.clear(),
            _ => bytes[ends[lost] - 20] ^= 0x55,
        }
        std::fs::write(&path, &bytes).unwrap();
        let rows = || store.snapshot().page(&newest("print", 2000), &all()).expect("the others are read").rows;
        // The lines of a chunk that is not full are in memory.
        assert_eq!(rows().len() < 1000, lost == 3 || at == "emptied", "{at}");
        // What is there is a repeat, also where nobody can read it any more.
        let again: Vec<_> = events[lost * 100..].iter().take(2).map(Stored::event).collect();
        assert_eq!(store.append(&again).expect("it is not new").repeated, 2, "{at}");
        store.seal_now().expect("a part is made");
        let mut seqs: Vec<u64> = rows().iter().map(|row| row.seq).collect();
        seqs.sort_unstable();
        let is_emptied = at == "emptied";
        let (first_lost, last_lost) =
            if is_emptied { (1, 1000) } else { (lost as u64 * 100 + 1, lost as u64 * 100 + 100) };
        assert!(seqs.into_iter().eq((1..=1000).filter(|seq| !(first_lost..=last_lost).contains(seq))), "{at}");
        assert!(store.snapshot().tails.iter().all(|tail| tail.chunks.is_empty()), "{at}: it is a part");
        assert_eq!(folder.0.join("quarantine").exists(), !is_emptied, "{at}");
        assert_eq!(store.take_lost_from(), Some(first_lost), "{at}");
    }
}

/// Writes a part anew with what `earlier` makes of each of its sections.
fn rewrite(
    path: &std::path::Path,
    mut earlier: impl FnMut(layout::Section, usize, Vec<u8>) -> Option<(layout::Section, usize, Vec<u8>)>,
) {
    let file = layout::PartFile::open(path).unwrap();
    let mut writer = layout::PartWriter::create(&Disk::default(), &path.with_extension("old")).unwrap();
    for (section, column) in file.sections() {
        let bytes = file.section(section, column).unwrap();
        if let Some((section, column, bytes)) = earlier(section, column, bytes) {
            writer.section(section, column, &bytes).unwrap();
        }
    }
    writer.finish().unwrap();
    std::fs::rename(path.with_extension("old"), path).unwrap();
}

/// The same part as earlier builds wrote it: without postings, sums and types, and with a plain text dictionary.
fn as_format_1(path: &std::path::Path) {
    rewrite(path, |section, column, bytes| {
        let bytes = match section {
            layout::Section::PostingsIndex
            | layout::Section::PostingsGroups
            | layout::Section::PostingsLists
            | layout::Section::Summary
            | layout::Section::ValueSums
            | layout::Section::ValueTops
            | layout::Section::ChunkTops
            | layout::Section::WordNumberIndex
            | layout::Section::WordNumberLists
            | layout::Section::RunIndex
            | layout::Section::RunLists
            | layout::Section::WordBlockIndex
            | layout::Section::WordBlockTables => return None,
            layout::Section::TextDictionary => {
                seal::expanded(&bytes, &mut zstd::zstd_safe::DCtx::create()).unwrap().to_vec()
            }
            layout::Section::Meta => {
                let mut meta: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                meta["version"] = 1.into();
                for name in ["types", "last_journalled"] {
                    meta.as_object_mut().unwrap().remove(name);
                }
                meta.to_string().into()
            }
            _ => bytes,
        };
        Some((section, column, bytes))
    });
}

/// The same part as the first builds of format 4 wrote it: without greatest durations, with numbers behind characters alone,
/// and without what is known of identifiers.
fn as_format_4(path: &std::path::Path, events: &[Stored]) {
    as_format_5(path, events);
    let (index, lists) = lists_of_numbers(events, numbers::BITS, |number| matches!(number, numbers::Number::Behind(_)));
    rewrite(path, |section, column, bytes| match section {
        layout::Section::ValueTops
        | layout::Section::ChunkTops
        | layout::Section::RunIndex
        | layout::Section::RunLists => None,
        layout::Section::WordNumberIndex => Some((layout::Section::NumberIndex, column, index.clone())),
        layout::Section::WordNumberLists => Some((layout::Section::NumberLists, column, lists.clone())),
        // There is one chunk, in units of either size.
        _ if column == layout::LOOSE.0 && format!("{section:?}").starts_with("Postings") => {
            Some((section, layout::EARLIER_LOOSE.0, bytes))
        }
        layout::Section::Meta => {
            let mut meta: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            meta["version"] = 4.into();
            for column in meta["columns"].as_array_mut().unwrap() {
                column.as_object_mut().unwrap().remove("has_no_identifier");
            }
            Some((section, column, meta.to_string().into()))
        }
        _ => Some((section, column, bytes)),
    });
}

/// The numbers behind characters of each chunk, as parts before format 6 have them.
fn lists_of_numbers(events: &[Stored], bits: u32, is_kept: impl Fn(&numbers::Number) -> bool) -> (Vec<u8>, Vec<u8>) {
    let of_event = |event: &Stored| numbers::numbers_in(&event.line.chars().map(u32::from).collect::<Vec<_>>());
    let of_chunk = |chunk: &[Stored]| {
        let kept = chunk.iter().flat_map(of_event).filter(|number| is_kept(number));
        numbers::NumberList::narrow(kept.filter_map(|number| match number {
            numbers::Number::Behind(hash) | numbers::Number::Word(hash) => Some((hash >> 6) as u16),
            numbers::Number::Near(_) | numbers::Number::Run(_) => None,
        }))
    };
    let lists: Vec<numbers::NumberList> = events.chunks(CHUNK).map(of_chunk).collect();
    numbers::encode(&lists.iter().collect::<Vec<_>>(), bits)
}

/// The same part as builds of format 5 wrote it: with numbers apart, and with lists of chunks in bytes.
fn as_format_5(path: &std::path::Path, events: &[Stored]) {
    use layout::Section::{Meta, PostingsGroups, PostingsIndex, PostingsLists, RunIndex};
    let file = layout::PartFile::open(path).unwrap();
    let earlier = |column: usize| {
        postings::tests::as_format_5(
            [PostingsIndex, PostingsGroups, PostingsLists].map(|section| file.section(section, column).unwrap()),
        )
    };
    let (index, lists) = lists_of_numbers(events, numbers::BITS + 1, |_| true);
    rewrite(path, |section, column, bytes| {
        let bytes = match section {
            PostingsIndex => earlier(column).index,
            PostingsGroups => earlier(column).groups,
            PostingsLists => earlier(column).lists,
            Meta => {
                let mut meta: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                meta["version"] = 5.into();
                meta.to_string().into()
            }
            _ => bytes,
        };
        Some((section, column, bytes))
    });
    let mut runs = None;
    rewrite(path, |section, column, bytes| match section {
        // A section for each call: the index stands before its lists.
        RunIndex => {
            runs = Some(bytes);
            Some((layout::Section::WordNumberIndex, column, index.clone()))
        }
        layout::Section::RunLists => Some((layout::Section::WordNumberLists, column, lists.clone())),
        layout::Section::WordBlockIndex | layout::Section::WordBlockTables => None,
        _ => Some((section, column, bytes)),
    });
    assert!(runs.is_some(), "every part has them");
}

#[test]
fn a_part_of_format_5_with_many_chunks_answers_as_before() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let line = |n: u64| {
        format!(
            "{{\"user_id\":\"u{}\",\"trace\":\"{:032x}\",\"code\":\"run_{} of {} # key_1{:03}\"}}",
            n % 7,
            u128::from(n / 3).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) | 1 << 127,
            100 + n / 3 % 800,
            if n.is_multiple_of(5) { "most things" } else { "things" },
            n % 40,
        )
    };
    let events: Vec<Stored> = (1..=4000).map(|n| plain(n, &line(n))).collect();
    fill(&store, &events, 400, 10);
    drop(store);
    let path = folder.0.join(layout::part_name(1, 0));
    let bytes = std::fs::metadata(&path).unwrap().len();
    // Format 6 had fewer hashes: none of those that it lacks is asked for.
    let chunks_of_new_hash = || {
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let part = store.snapshot().parts[0].clone();
        let all = chunks::ChunkSet::all(part.chunks());
        let hashes = (0..50).map(|hash| numbers::Number::Near(hash * 77_777));
        let found = hashes.map(|hash| candidates::Index::number(&mut &*part, hash, &all).expect("it is read"));
        (found.map(|chunks| chunks.iter().count()).sum::<usize>(), 50 * part.chunks())
    };
    let (found, all_of_them) = chunks_of_new_hash();
    assert!(found < all_of_them / 2, "{found} of {all_of_them}");
    rewrite(&path, |section, column, bytes| match section {
        layout::Section::Meta => {
            let mut meta: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            meta["version"] = 6.into();
            Some((section, column, meta.to_string().into()))
        }
        _ => Some((section, column, bytes)),
    });
    let (found, all_of_them) = chunks_of_new_hash();
    assert_eq!(found, all_of_them);
    for is_earlier in [false, true] {
        if is_earlier {
            as_format_5(&path, &events);
            assert!(std::fs::metadata(&path).unwrap().len() > bytes, "it takes more room");
        }
        let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
        assert_eq!((report.events, report.damaged.len()), (4000, 0));
        let snapshot = store.snapshot();
        assert!(snapshot.parts[0].chunks() > 15);
        for query in [
            "run_160",
            "run_99",
            "key_1021",
            "key_1",
            "user_id:u3",
            "most",
            "nothing",
            "9e3779b97f4a",
            "\"run_777 of\"",
        ] {
            let query = filter(query);
            let parsed = query.query.clone().expect("a query");
            let wanted = events.iter().filter(|event| parsed.matches_line(Raw::valid(event.line.as_bytes()))).count();
            let found = snapshot.count(&query, &all(), CountLimit::Exact, later()).expect("a count");
            assert_eq!(found.count, wanted as u64, "{} {is_earlier}", parsed.text());
        }
    }
}

#[test]
fn parts_of_earlier_builds_answer_as_before() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let line = |n: u64| {
        format!(
            "{{\"user_id\":\"ali\",\"status\":\"{}\",\"duration_ms\":{n},\"trace\":\"{:032x}\",\"code\":\"import pandas as pd # run_1{n:02} 12345{n}\"}}",
            if n.is_multiple_of(3) { "error" } else { "success" },
            u128::from(n) * 0x1234_5678_9123_4567,
        )
    };
    let events: Vec<Stored> = (1..=90).map(|n| plain(n, &line(n))).collect();
    fill(&store, &events, 45, 2);
    drop(store);
    as_format_1(&folder.0.join(layout::part_name(1, 0)));
    let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
    assert_eq!((report.events, report.damaged.len()), (90, 0));
    check(&store, &events);
    let more: Vec<Stored> = (91..=120).map(|n| plain(n, &line(n))).collect();
    fill(&store, &more, 30, 1);
    drop(store);
    as_format_4(&folder.0.join(layout::part_name(2, 0)), &more);
    let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
    assert_eq!((report.events, report.damaged.len()), (120, 0));
    check(&store, &[events, more].concat());
}

#[test]
fn a_flipped_byte_in_a_tail_costs_its_own_write_and_no_other() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let events: Vec<Stored> = (1..=30).map(|n| plain(n, &format!("{{\"n\":{n},\"code\":\"print({n})\"}}"))).collect();
    let mut ends = vec![0];
    for some in events.chunks(3) {
        store.append(&some.iter().map(Stored::event).collect::<Vec<_>>()).unwrap();
        ends.push(store.bytes() as usize);
    }
    drop(store);
    let path = folder.0.join(tail::tail_name(1));
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(5) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let hurt = ends.iter().rposition(|end| *end <= at).expect("it is in a write");
        let is_last = hurt + 2 == ends.len();
        assert_eq!((report.events, report.damaged.len()), (27, usize::from(!is_last)), "damage at {at}");
        for (nth, event) in events.iter().enumerate() {
            let found = store.snapshot().by_seq(event.seq, &all()).unwrap();
            assert_eq!(found.is_some(), nth / 3 != hurt, "damage at {at}, event {nth}");
        }
        // What comes afterwards is kept, and the damaged stretch is there for whoever wants to look at it.
        store.append(&[plain(100, "{\"n\":100}").event()]).unwrap();
        store.seal_now().unwrap();
        drop(store);
        let (store, again) = Store::open(&Options::new(&folder.0)).expect("it opens again");
        assert_eq!((again.events, again.damaged.len()), (28, 0), "damage at {at}");
        assert_eq!(folder.0.join("quarantine").exists(), !is_last, "damage at {at}");
        drop(store);
        std::fs::remove_dir_all(&folder.0).unwrap();
        std::fs::create_dir_all(&folder.0).unwrap();
    }
}

#[test]
fn behind_a_lost_write_each_event_has_its_own_line_though_all_are_of_one_length() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let events: Vec<Stored> = (1..=900).map(|n| plain(n, &format!("{{\"n\":{:05}}}", 10_000 + n))).collect();
    let mut ends = vec![0];
    let writes = [&events[..246], &events[246..251], &events[251..]];
    for some in writes {
        store.append(&some.iter().map(Stored::event).collect::<Vec<_>>()).unwrap();
        ends.push(store.bytes() as usize);
    }
    drop(store);
    let path = folder.0.join(tail::tail_name(1));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[(ends[1] + ends[2]) / 2] ^= 0x55;
    std::fs::write(&path, &bytes).unwrap();
    let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
    assert_eq!((report.events, report.damaged.len()), (895, 1));
    for sealed in [false, true] {
        if sealed {
            store.seal_now().unwrap();
        }
        for event in writes[0].iter().chain(writes[2]) {
            let found = store.snapshot().by_seq(event.seq, &all()).unwrap().expect("it is stored");
            assert_eq!(String::from_utf8_lossy(&found.line), event.line, "sealed: {sealed}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_tail_or_cut_off(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..40, keep: bool) {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        store.append(&[plain(1, "{\"n\":1}").event()]).unwrap();
        let len = store.bytes() as usize;
        drop(store);
        let path = folder.0.join(tail::tail_name(1));
        let mut content = std::fs::read(&path).unwrap();
        // Behind a whole write, or over it.
        let from = if keep { len } else { at.min(len) };
        content.truncate(from);
        content.extend_from_slice(&bytes);
        std::fs::write(&path, &content).unwrap();
        let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
        prop_assert_eq!(report.events, u64::from(from == len));
        store.append(&[plain(2, "{\"n\":2}").event()]).unwrap();
        prop_assert!(store.snapshot().by_seq(2, &all()).unwrap().is_some());
    }
}

#[test]
fn any_bytes_in_a_section_are_read_or_refused() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let events: Vec<Stored> = (1..=300)
        .map(|n| {
            let line = format!(
                "{{\"id\":\"0190163d-8694-739b-aea5-{n:012x}\",\"status\":\"ok\",\"user_id\":\"u{}\",\"session_id\":\"{:032x}\",\"duration_ms\":{}.5,\"code\":\"print({n}) text_{n:05}\"}}",
                n % 3, n % 7, n
            );
            plain(n, &line)
        })
        .collect();
    fill(&store, &events, 300, 1);
    drop(store);
    let path = folder.0.join(layout::part_name(1, 0));
    let whole = folder.0.join("whole");
    std::fs::copy(&path, &whole).unwrap();
    let file = layout::PartFile::open(&whole).unwrap();
    let sections: Vec<_> = file.sections().collect();
    let mut state = 7u64;
    let mut random = move |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit.max(1)
    };
    for round in 0..sections.len() * 6 {
        let hurt = round % sections.len();
        // The table of sections fits, so that only the reader of the section can tell.
        let mut writer = layout::PartWriter::create(&Disk::default(), &path).unwrap();
        for (nth, (section, column)) in sections.iter().enumerate() {
            let mut bytes = file.section(*section, *column).unwrap();
            if nth == hurt && !bytes.is_empty() {
                match round / sections.len() {
                    0 => bytes.clear(),
                    1 => bytes.truncate(random(bytes.len())),
                    _ => (0..1 + random(4)).for_each(|_| {
                        let at = random(bytes.len());
                        bytes[at] = random(256) as u8;
                    }),
                }
            }
            writer.section(*section, *column, &bytes).unwrap();
        }
        writer.finish().unwrap();
        let Ok((store, _)) = Store::open(&Options::new(&folder.0)) else { continue };
        let snapshot = store.snapshot();
        for query in ["", "print", "status:ok", "duration_ms:>100", "session_id:0*", "-code:zzz", "text_001", "00123"] {
            let request = newest(query, 50);
            let _ = snapshot.page(&request, &all());
            let _ = snapshot.count(&filter(query), &all(), CountLimit::Exact, later());
            let field = |name: &str| GroupKey::Field(vec![name.to_owned()]);
            let day = GroupKey::Day(Zone::default());
            for group_by in [vec![field("status"), day], vec![field("user_id")], vec![]] {
                let groups = AggregateRequest {
                    filter: filter(query),
                    group_by,
                    with_durations: true,
                    with_percentiles: query != "print",
                    max_groups: 100,
                    min_count: 0,
                    top: None,
                    deadline: later(),
                };
                let _ = snapshot.aggregate(&groups, &all());
            }
        }
        let _ = snapshot.by_id(events[7].event().prepare(&mut Walked::default()).id, &all());
        let _ = snapshot.by_seq(9, &all());
        drop((snapshot, store));
        let _ = std::fs::remove_dir_all(folder.0.join("quarantine"));
    }
}

#[test]
fn a_damaged_part_holds_up_nobody_who_stores() {
    let folder = Folder::new();
    let own = |n: u64| plain(n, &format!("{{\"id\":\"0190163d-8694-739b-aea5-{n:012x}\",\"code\":\"print({n})\"}}"));
    let events: Vec<Stored> =
        (1..=300).map(|n| if n % 3 == 0 { plain(n, &format!("{{\"n\":{n}}}")) } else { own(n) }).collect();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    fill(&store, &events, 300, 1);
    drop(store);
    let path = folder.0.join(layout::part_name(1, 0));
    let whole = std::fs::read(&path).unwrap();
    let file = layout::PartFile::open(&path).unwrap();
    let mut set_aside = 0;
    for (section, column) in file.sections() {
        let mut bytes = whole.clone();
        bytes[file.place_of(section, column).unwrap()].iter_mut().for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, &bytes).unwrap();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let more: Vec<Stored> = events.iter().cloned().chain([own(301), own(302)]).collect();
        let appended = store.append(&more.iter().map(Stored::event).collect::<Vec<_>>());
        let appended = appended.unwrap_or_else(|error| panic!("{section:?} of {column}: {error}"));
        assert_eq!(appended.stored + appended.repeated, 302, "{section:?} of {column}");
        store.tidy(Timestamp(START)).expect("it is tidied");
        set_aside += u64::from(folder.0.join("quarantine").join(layout::part_name(1, 0)).exists());
        drop(store);
        std::fs::remove_dir_all(&folder.0).unwrap();
        std::fs::create_dir(&folder.0).unwrap();
    }
    assert!(set_aside >= 5, "{set_aside} sections are looked at");
}

#[test]
fn what_is_no_file_or_a_copy_of_a_part_is_set_aside() {
    let folder = Folder::new();
    let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
    let events: Vec<Stored> = (1..=300).map(|n| plain(n, &format!("{{\"n\":{n}}}"))).collect();
    fill(&store, &events, 100, 1);
    drop(store);
    let part = |nth: u64| folder.0.join(layout::part_name(nth, 0));
    for name in ["0000000007.part", "0000000000.tail", "0000000004.new"] {
        std::fs::create_dir_all(folder.0.join(name).join("more")).unwrap();
    }
    std::os::unix::fs::symlink("nowhere", part(6)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, part(8), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    std::fs::copy(part(2), part(9)).unwrap();
    let (store, report) = Store::open(&Options::new(&folder.0)).expect("it opens");
    assert_eq!(report.damaged.len(), 6, "{:?}", report.damaged);
    assert!(report.damaged.iter().all(|name| folder.0.join("quarantine").join(name).symlink_metadata().is_ok()));
    check(&store, &events);
}
