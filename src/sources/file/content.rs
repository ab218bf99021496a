//! The kind of a file by its first bytes and its name: lines, compressed lines, or neither.

use std::path::Path;

use super::shape::looks_wide;

/// Bytes of a file that are looked at.
pub const LOOK_BYTES: usize = 1024;

/// NUL bytes inside the text, of which a file with lines has no more than one in so many bytes.
const NUL_SHARE: usize = 20;
const LEAST_NULS: usize = 4;

/// Endings of files that an editor or a program has not finished or uses for itself.
const TEMPORARY: [&[u8]; 10] =
    [b".tmp", b".temp", b".swp", b".swo", b".swx", b".part", b".partial", b".filepart", b".crdownload", b"~"];

/// How the lines of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    None,
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Lines, as they are or packed.
    Lines(Packing),
    /// Too few bytes to tell.
    Undecided,
    Unreadable(Unreadable),
}

/// Why no lines can be read from a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is packed in a format that is not unpacked here.
    Format(&'static str),
    /// Its name says that it is packed, its first bytes are those of no packed file.
    NotPacked,
    Binary,
}

impl Unreadable {
    /// For the metric.
    pub fn reason(self) -> &'static str {
        match self {
            Unreadable::Format(_) => "format",
            Unreadable::NotPacked => "damaged",
            Unreadable::Binary => "binary",
        }
    }
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unreadable::Format(name) => {
                write!(f, "{name} compression is not supported; use gzip or zstd, or add the file to `exclude`")
            }
            Unreadable::NotPacked => f.write_str("its name says compressed, but its content is not"),
            Unreadable::Binary => {
                f.write_str("it is a binary file; add it to `exclude`, or set `encoding` if it is UTF-16")
            }
        }
    }
}

/// Formats by the bytes they begin with.
const FORMATS: [(&[u8], Content); 15] = [
    (b"\x1F\x8B", Content::Lines(Packing::Gzip)),
    (b"\x28\xB5\x2F\xFD", Content::Lines(Packing::Zstd)),
    (b"\xFD7zXZ\0", foreign("xz")),
    (b"BZh", foreign("bzip2")),
    (b"PK\x03\x04", foreign("zip")),
    (b"PK\x05\x06", foreign("zip")),
    (b"\x04\x22\x4D\x18", foreign("lz4")),
    (b"\x02\x21\x4C\x18", foreign("lz4")),
    (b"7z\xBC\xAF\x27\x1C", foreign("7z")),
    (b"LZIP\x01", foreign("lzip")),
    (b"\x89LZO\0", foreign("lzop")),
    (b"\xFF\x06\0\0sNaPpY", foreign("snappy")),
    (b"\x1F\x9D", foreign("compress")),
    (b"\x1F\xA0", foreign("compress")),
    (b"Rar!\x1A\x07", foreign("rar")),
];

/// What may follow `BZh` and its digit: a block or the end.
const BZIP2_BLOCKS: [&[u8]; 2] = [b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"];

/// Endings of packed files, without the dot.
const PACKED_ENDINGS: [&str; 15] =
    ["gz", "gzip", "tgz", "zst", "zstd", "xz", "lzma", "bz2", "zip", "lz4", "7z", "lz", "lzo", "br", "Z"];

const fn foreign(name: &'static str) -> Content {
    Content::Unreadable(Unreadable::Format(name))
}

/// Whether the name is that of a packed file.
pub fn has_packed_name(path: &Path) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| PACKED_ENDINGS.contains(&ending))
}

/// The ending by which a name is that of a file that is not finished, or that an editor keeps for itself.
pub fn temporary_ending(name: &[u8]) -> Option<&'static [u8]> {
    let hidden = [(&b".#"[..], &b""[..]), (b"#", b"#")];
    if hidden.iter().any(|(start, end)| name.starts_with(start) && name.ends_with(end) && name.len() > 2) {
        return Some(b"#");
    }
    TEMPORARY.into_iter().find(|ending| name.ends_with(ending) && name.len() > ending.len())
}

/// What a file of this name holds that begins with `head`, up to [`LOOK_BYTES`] of it. `is_wide` says that it is read as
/// UTF-16, which is full of NULs.
pub fn content(head: &[u8], path: &Path, is_wide: bool) -> Content {
    if let Some(known) = by_magic(head) {
        return known;
    }
    if has_packed_name(path) {
        let may_begin = FORMATS.iter().any(|(magic, _)| magic.starts_with(head));
        return if may_begin { Content::Undecided } else { Content::Unreadable(Unreadable::NotPacked) };
    }
    if !is_wide && is_binary(head) { Content::Unreadable(Unreadable::Binary) } else { Content::Lines(Packing::None) }
}

/// What is known from the first bytes alone.
pub fn by_magic(head: &[u8]) -> Option<Content> {
    let is_skippable = head.len() >= 4 && head[0] & 0xF0 == 0x50 && head[1..4] == *b"\x2A\x4D\x18";
    if is_skippable {
        return Some(Content::Lines(Packing::Zstd));
    }
    let (magic, found) = FORMATS.iter().find(|(magic, _)| head.starts_with(magic))?;
    let is_text = *magic == b"BZh" && !head.get(4..10).is_some_and(|block| BZIP2_BLOCKS.contains(&block));
    (!is_text).then_some(*found)
}

/// Holes before and behind the text are left by whoever makes room in a file before writing it.
fn is_binary(head: &[u8]) -> bool {
    let (Some(first), Some(last)) = (head.iter().position(|b| *b != 0), head.iter().rposition(|b| *b != 0)) else {
        return false;
    };
    let text = &head[first..=last];
    let nuls = memchr::memchr_iter(0, text).count();
    nuls >= LEAST_NULS.max(text.len() / NUL_SHARE) && looks_wide(head).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(head: &[u8], name: &str) -> Content {
        content(head, Path::new(name), false)
    }

    #[test]
    fn packed_files_are_known_by_their_first_bytes_whatever_their_name() {
        for name in ["a.log", "a.log.1", "a.log.gz", "a.log.xz"] {
            assert_eq!(of(b"\x1F\x8B\x08\0", name), Content::Lines(Packing::Gzip), "{name}");
            assert_eq!(of(b"\x28\xB5\x2F\xFD\0", name), Content::Lines(Packing::Zstd), "{name}");
            assert_eq!(of(b"\x52\x2A\x4D\x18\0", name), Content::Lines(Packing::Zstd), "{name}");
            assert_eq!(of(b"\xFD7zXZ\0\0", name), foreign("xz"), "{name}");
            assert_eq!(of(b"BZh91AY&SY\0", name), foreign("bzip2"), "{name}");
            assert_eq!(of(b"PK\x03\x04\0", name), foreign("zip"), "{name}");
            assert_eq!(of(b"\x04\x22\x4D\x18\0", name), foreign("lz4"), "{name}");
        }
        assert_eq!(of(b"BZhello\n", "a.log"), Content::Lines(Packing::None));
    }

    #[test]
    fn a_packed_name_needs_packed_content_once_there_is_enough_of_it() {
        for head in [&b""[..], b"\x1F", b"\x28\xB5"] {
            assert_eq!(of(head, "a.log.gz"), Content::Undecided, "{head:?}");
        }
        for head in [&b"{\"a\":1}\n"[..], b"\x1E\x8B\x08\0"] {
            assert_eq!(of(head, "a.log.gz"), Content::Unreadable(Unreadable::NotPacked), "{head:?}");
        }
        assert_eq!(of(b"", "a.log"), Content::Lines(Packing::None));
    }

    #[test]
    fn nuls_inside_make_a_file_binary_and_holes_around_the_text_do_not() {
        let swap = [b"b0VIM 9.0".as_slice(), &[0; 40], b"user", &[0; 40], b"host", &[0; 900]].concat();
        assert_eq!(of(&swap, "a.log.1"), Content::Unreadable(Unreadable::Binary));
        let hole = [0; LOOK_BYTES];
        let begun = [b"line 1\nline 2\n".as_slice(), &[0; 1000]].concat();
        let behind = [&[0; 1000], b"line 1\n".as_slice()].concat();
        let wide: Vec<u8> = "{\"a\":1}\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for text in [&hole[..], &begun, &behind, &wide, b"one\0two\n", b"\0\0a\n", "سلام\n".as_bytes()] {
            assert_eq!(of(text, "a.log"), Content::Lines(Packing::None), "{text:?}");
        }
        assert_eq!(content(&swap, Path::new("a.log"), true), Content::Lines(Packing::None));
    }

    #[test]
    fn names_of_unfinished_and_of_editors_files_are_known() {
        for name in ["a.log.tmp", ".a.log.swp", "a.log~", "0.log.20260101.gz.part", "#a.log#", ".#a.log"] {
            assert!(temporary_ending(name.as_bytes()).is_some(), "{name}");
        }
        for name in ["a.log", "a.log.1", "a.log-20260101.gz", "tmp", "~", "a.tmpl", "#a.log"] {
            assert_eq!(temporary_ending(name.as_bytes()), None, "{name}");
        }
    }
}
