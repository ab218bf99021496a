//! Tests of reading: lines of every kind, in buffers of every size.

use bytes::Bytes;

use std::os::fd::OwnedFd;

use super::body::Body;
use super::buffers::Buffers;
use super::content::Packing;
use super::reader::{ChunkReader, Notes, ReadResult, View};
use super::shape::{Grouping, Shape};
use crate::codec::framing::cut_mark;
use crate::codec::{Frames, Ordinals};
use crate::component::source::CHUNK_BYTES;
use crate::toolkit::fake::Folder;

fn reader(line_bytes: usize) -> ChunkReader {
    ChunkReader { shape: Shape { encoding: None, grouping: None, line_bytes }, buffers: Buffers::default() }
}

struct Cuts {
    chunks: Vec<(Bytes, Frames, Ordinals)>,
    notes: Vec<Notes>,
    end: u64,
    rest: Option<u64>,
}

/// Cuts a whole file, each chunk from where the one before ended.
fn cut(reader: &ChunkReader, content: &[u8], is_last: bool) -> Cuts {
    let folder = Folder::new();
    let path = folder.write("f", content);
    cut_body(reader, &mut Body::new(OwnedFd::from(std::fs::File::open(path).unwrap()), Packing::None), is_last)
}

fn cut_body(reader: &ChunkReader, body: &mut Body, is_last: bool) -> Cuts {
    let mut cuts = Cuts { chunks: Vec::new(), notes: Vec::new(), end: 0, rest: None };
    let mut scanned = None;
    loop {
        let view = View { at: cuts.end, limit: None, is_last };
        match reader.next(body, view, &mut scanned).unwrap() {
            ReadResult::Chunk(chunk) => {
                assert!(chunk.end > cuts.end, "every chunk moves on");
                cuts.end = chunk.end;
                cuts.notes.push(chunk.notes);
                cuts.chunks.push((chunk.bytes, chunk.frames, chunk.ordinals));
            }
            ReadResult::Hole { end } => cuts.end = end,
            ReadResult::Later => {}
            ReadResult::Unfinished { from } => {
                cuts.rest = Some(from);
                return cuts;
            }
            ReadResult::End => return cuts,
        }
    }
}

impl Cuts {
    fn text(&self) -> Vec<u8> {
        self.chunks.iter().flat_map(|(bytes, ..)| bytes.to_vec()).collect()
    }
}

#[test]
fn pieces_are_whole_lines_and_put_together_they_are_the_file() {
    let text: Vec<u8> = (0..60_000).flat_map(|n| format!("line {n} {}\n", "x".repeat(n % 37)).into_bytes()).collect();
    let cuts = cut(&reader(1 << 20), &text, false);
    assert_eq!(cuts.text(), text);
    let mut base = 0;
    for (bytes, frames, ordinals) in &cuts.chunks {
        assert!(bytes.ends_with(b"\n") && bytes.len() <= CHUNK_BYTES && bytes.len() > CHUNK_BYTES / 2 || base > 0);
        assert_eq!((frames, ordinals), (&Frames::Lines, &Ordinals::Offset(base)));
        base += bytes.len() as u64;
    }
}

#[test]
fn a_packed_file_with_long_lines_and_holes_is_unpacked_once() {
    let mut text = Vec::new();
    for n in 0..5 {
        text.extend_from_slice(format!("short {n}\n").as_bytes());
        text.extend(std::iter::repeat_n(b'a' + n, 9_000_000 + usize::from(n) * 1000));
        text.extend_from_slice(b"\nbetween\n");
        text.extend(std::iter::repeat_n(0, 10_000_000));
        text.extend(std::iter::repeat_n(b'x', 3_000_000));
        text.push(b'\n');
    }
    text.extend_from_slice(b"last\n");
    let plain = cut(&reader(1 << 20), &text, true);
    let folder = Folder::new();
    let path = folder.write("f.gz", super::tail_test::gzip(&text));
    let mut body = Body::new(OwnedFd::from(std::fs::File::open(path).unwrap()), Packing::Gzip);
    let packed = cut_body(&reader(1 << 20), &mut body, true);
    assert_eq!(packed.text(), plain.text());
    assert_eq!((packed.end, packed.notes.len()), (text.len() as u64, plain.notes.len()));
    assert_eq!(packed.text().windows(6).filter(|bytes| bytes == b"short ").count(), 5);
    let Body::Packed(packed) = body else { panic!("it is packed") };
    assert_eq!(packed.rewinds, 0);
}

#[test]
fn a_line_longer_than_a_piece_is_a_piece_alone() {
    let long = [vec![b'a'; 700_000], b"\nshort\n".to_vec()].concat();
    let text = [b"first\n".to_vec(), long].concat();
    let cuts = cut(&reader(1 << 20), &text, false);
    assert_eq!(cuts.text(), text);
    assert_eq!(cuts.chunks.iter().map(|chunk| chunk.0.len()).collect::<Vec<_>>(), [6, 700_001, 6]);
}

#[test]
fn a_line_over_the_limit_is_cut_and_the_next_line_is_whole() {
    let text = [b"one\n".to_vec(), vec![b'x'; 30_000_000], b"\ntwo\n".to_vec()].concat();
    let cuts = cut(&reader(1 << 20), &text, false);
    let cut_line = [&vec![b'x'; 1 << 20][..], cut_mark(1 << 20).as_bytes(), b"\n"].concat();
    assert_eq!(cuts.text(), [&b"one\n"[..], &cut_line, b"two\n"].concat());
    assert_eq!(cuts.notes[1].cut, Some(30_000_001));
    assert_eq!(cuts.chunks[1].2, Ordinals::Given(vec![4]));
    assert_eq!(cuts.end, text.len() as u64);
}

#[test]
fn a_long_line_without_an_end_waits_and_then_is_cut() {
    let text = vec![b'x'; 3_000_000];
    let cuts = cut(&reader(1 << 20), &text, false);
    assert_eq!((cuts.chunks.len(), cuts.rest), (0, Some(0)));
    let cuts = cut(&reader(1 << 20), &text, true);
    assert_eq!((cuts.notes[0].cut, cuts.end), (Some(3_000_000), 3_000_000));
}

#[test]
fn an_unfinished_line_waits_and_is_the_last_one_of_a_file_that_ends() {
    let cuts = cut(&reader(1 << 20), b"one\nhal", false);
    assert_eq!((cuts.text(), cuts.rest), (b"one\n".to_vec(), Some(4)));
    let cuts = cut(&reader(1 << 20), b"one\nhal", true);
    assert_eq!((cuts.text(), cuts.end), (b"one\nhal\n".to_vec(), 7));
    assert!(cuts.notes[1].unfinished);
}

#[test]
fn a_last_line_without_an_end_may_be_as_long_as_a_buffer() {
    for len in [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1] {
        let folder = Folder::new();
        let path = folder.write("f", vec![b'x'; len]);
        let mut body = Body::new(OwnedFd::from(std::fs::File::open(path).unwrap()), Packing::None);
        body.note_size(len as u64);
        let cuts = cut_body(&reader(1 << 20), &mut body, true);
        assert!(cuts.text() == [vec![b'x'; len], b"\n".to_vec()].concat(), "{len}");
    }
}

#[test]
fn a_byte_order_mark_is_removed_once() {
    let cuts = cut(&reader(1 << 20), b"\xEF\xBB\xBFone\n\xEF\xBB\xBFtwo\n", false);
    assert_eq!((cuts.text(), cuts.chunks[0].2.clone()), (b"one\n\xEF\xBB\xBFtwo\n".to_vec(), Ordinals::Offset(3)));
}

#[test]
fn holes_are_passed_over_where_data_follows_and_awaited_at_the_end() {
    for hole in [5000, 300_000, 20_000_000] {
        let text = [b"one\n".to_vec(), vec![0; hole], b"two\n".to_vec()].concat();
        let cuts = cut(&reader(1 << 20), &text, false);
        assert_eq!((cuts.text(), cuts.end), (b"one\ntwo\n".to_vec(), text.len() as u64), "{hole}");
        assert_eq!(cuts.notes.iter().map(|n| n.hole).sum::<u64>(), hole as u64);
        let open = cut(&reader(1 << 20), &text[..4 + hole], false);
        assert_eq!((open.text(), open.rest.is_some(), open.end), (b"one\n".to_vec(), true, 4), "{hole}");
        assert_eq!(cut(&reader(1 << 20), &text[..4 + hole], true).end, 4 + hole as u64);
    }
    let few = cut(&reader(1 << 20), b"one\n\0\0\0two\n", false);
    assert_eq!(few.text(), b"one\n\0\0\0two\n", "a few NUL bytes are text");
}

#[test]
fn groups_wait_for_the_line_that_begins_the_next() {
    let grouping = Some(Grouping::Continues(regex::bytes::Regex::new(r"^\s").unwrap()));
    let reader =
        ChunkReader { shape: Shape { encoding: None, grouping, line_bytes: 1 << 20 }, buffers: Buffers::default() };
    let cuts = cut(&reader, b"a\n b\nc\n d\n", false);
    assert_eq!((cuts.text(), cuts.rest), (b"a\n b\n".to_vec(), Some(5)));
    assert_eq!(cut(&reader, b"a\n b\nc\n d\n", true).text(), b"a\n b\nc\n d\n");
    let long: Vec<u8> = [b"a\n".to_vec(), b" continued\n".repeat(100_000)].concat();
    let cuts = cut(&reader, &long, true);
    assert_eq!(cuts.end, long.len() as u64);
    let most = cuts.chunks.iter().flat_map(|(_, frames, _)| match frames {
        Frames::At(ranges) => ranges.iter().map(ExactSizeIterator::len).collect(),
        _ => Vec::new(),
    });
    assert!(most.max().is_some_and(|len| len > 900_000 && len <= 1 << 20));
}

#[test]
fn utf_16_is_read_by_units() {
    let text: Vec<u8> = "\u{feff}ا\nb\u{a0a}c\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let shape = Shape { encoding: Some(encoding_rs::UTF_16LE), grouping: None, line_bytes: 1 << 20 };
    let cuts = cut(&ChunkReader { shape, buffers: Buffers::default() }, &text, false);
    assert_eq!((cuts.text(), cuts.end), ("ا\nb\u{a0a}c\n".as_bytes().to_vec(), text.len() as u64));
    assert_eq!(cuts.chunks[0].2, Ordinals::Given(vec![2, 6]));
}
