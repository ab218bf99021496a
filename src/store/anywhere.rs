//! Free-text search over whole events by columns: distinct values once, texts only if nothing else decides.

use std::io;
use std::ops::BitOr;
use std::sync::Arc;

use super::bits::{CHUNK, Packed};
use super::chunks::ChunkSet;
use super::grams::is_unsearched;
use super::layout::{Encoding, Section};
use super::part::{Part, TextCursor};
use super::plan::{MAYBE, NO, YES, is_among};
use super::split::WHOLE;
use super::text::Texts;
use super::uuid_piece::UuidPiece;
use super::value::{UUID_BYTES, time_bytes, write_uuid};
use crate::event::Raw;
use crate::query::AnywhereTest;

pub struct Anywhere {
    test: AnywhereTest,
    /// What stands in every UUID that is accepted.
    piece: Option<UuidPiece>,
    columns: Vec<Column>,
    /// The chunks that may have it in texts of plain columns, where others are known not to.
    text_chunks: Option<ChunkSet>,
}

struct Column {
    column: u32,
    name: String,
    /// For each shape, whether it has the member.
    in_shape: Vec<bool>,
    values: Values,
    /// Whether it has no identifiers, and what is searched in it is looked for by substrings.
    is_plain: bool,
}

enum Values {
    /// The answer for each code of a dictionary.
    Codes(Arc<Packed>, Vec<bool>),
    /// The rows whose exceptions are accepted; other values never are.
    Rows(Vec<u32>),
    /// The number among the text columns.
    Text(usize),
    /// UUIDs, none of which is an exception.
    Uuids(Arc<Vec<u8>>),
    Each,
}

impl Anywhere {
    pub fn new(part: &Part, test: AnywhereTest, text_chunks: Option<ChunkSet>) -> io::Result<Anywhere> {
        let (piece, mut columns) = (test.piece().and_then(UuidPiece::of), Vec::new());
        // The first column is that of lines kept whole.
        for (nth, described) in part.meta.columns.iter().enumerate().skip(1) {
            let column = nth as u32;
            let may_accept = match described.encoding {
                Encoding::Text => true,
                Encoding::Dictionary => {
                    let bytes = part.bytes_of_dictionary(column)?;
                    test.may_accept(|byte| bytes.has(byte))
                }
                Encoding::Number { .. } => false,
                Encoding::Time { digits } | Encoding::SameTime { digits } => {
                    test.may_accept(is_of_time) && test.may_accept_text(&described.name, time_bytes(digits))
                }
                // Nobody knows a part of an event's own id.
                Encoding::Uuid | Encoding::DerivedId => {
                    test.may_accept(is_of_uuid) && test.may_accept_text(&described.name, UUID_BYTES)
                }
            };
            let values = match described.encoding {
                Encoding::Text => Values::Text(part.text_number(column)),
                Encoding::Dictionary if !may_accept => Values::Rows(Vec::new()),
                Encoding::Dictionary => codes(part, column, &described.name, &test, piece.as_ref())?,
                Encoding::Uuid if may_accept && part.exceptions(column)?.is_empty() => {
                    Values::Uuids(part.uuids(column)?)
                }
                _ if may_accept => Values::Each,
                _ => Values::Rows(part.exceptions(column)?.rows_where(|value| test.accepts(&described.name, value))),
            };
            let is_in_vain = match &values {
                Values::Rows(rows) => rows.is_empty(),
                Values::Codes(..) | Values::Text(_) | Values::Uuids(_) | Values::Each => false,
            };
            if !is_in_vain {
                let (name, in_shape) = (described.name.clone(), part.in_shape(column));
                let is_time = matches!(described.encoding, Encoding::Time { .. } | Encoding::SameTime { .. });
                let is_plain = (described.has_no_identifier || is_time) && !is_unsearched(name.as_bytes());
                columns.push(Column { column, name, in_shape, values, is_plain });
            }
        }
        Ok(Anywhere { test, piece, columns, text_chunks })
    }

    /// Whether some rows can only be told by their texts.
    pub fn is_open(&self) -> bool {
        self.columns.iter().any(|column| matches!(column.values, Values::Text(_) | Values::Uuids(_) | Values::Each))
    }

    /// Whether a column of texts or times may have it in this chunk.
    fn searches(&self, column: &Column, chunk: usize) -> bool {
        !column.is_plain || is_among(self.text_chunks.as_ref(), chunk)
    }

    /// Whether texts of a chunk that are looked at together may show that no row is accepted.
    pub fn is_told_by_texts(&self, chunk: usize) -> bool {
        self.columns.iter().any(|column| matches!(column.values, Values::Text(_)) && self.searches(column, chunk))
    }

    /// Whether one of the UUIDs of a chunk may be accepted: all together are looked through at once.
    fn may_accept_uuids(&self, all: &[u8], chunk: usize) -> bool {
        if let Some(piece) = &self.piece {
            let of_chunk = all.get(chunk * CHUNK * 16..).unwrap_or_default();
            return piece.places_in(&of_chunk[..of_chunk.len().min(CHUNK * 16)]).next().is_some();
        }
        let of_chunk = all.as_chunks::<16>().0.iter().skip(chunk * CHUNK).take(CHUNK);
        let mut texts = Vec::with_capacity(CHUNK * (UUID_BYTES + 2));
        of_chunk.for_each(|bits| write_uuid(u128::from_le_bytes(*bits), &mut texts));
        self.test.may_accept_within(&texts)
    }

    pub fn evaluate(&self, chunk: usize, shapes: &[i64], scratch: &mut Vec<i64>, out: &mut Vec<u8>) {
        out.clear();
        out.extend(shapes.iter().map(|shape| if *shape == i64::from(WHOLE) { MAYBE } else { NO }));
        for column in &self.columns {
            let has = |shape: i64| column.in_shape.get(shape as usize).copied().unwrap_or(false);
            match &column.values {
                Values::Codes(packed, accepted) => {
                    packed.chunk(chunk, scratch);
                    for ((code, out), shape) in scratch.iter().zip(&mut *out).zip(shapes) {
                        if *code > 0 && has(*shape) && accepted.get(*code as usize - 1).copied().unwrap_or(false) {
                            *out = YES;
                        }
                    }
                }
                Values::Rows(rows) => {
                    let first = (chunk * CHUNK) as u32;
                    let from = rows.partition_point(|row| *row < first);
                    let within = rows[from..].iter().take_while(|row| **row < first + CHUNK as u32);
                    within.for_each(|row| out[(row - first) as usize] = YES);
                }
                Values::Text(_) | Values::Each if !self.searches(column, chunk) => {}
                Values::Uuids(all) if !self.may_accept_uuids(all, chunk) => {}
                Values::Text(_) | Values::Uuids(_) | Values::Each => {
                    for (out, shape) in out.iter_mut().zip(shapes).filter(|(out, _)| **out == NO) {
                        if has(*shape) {
                            *out = MAYBE;
                        }
                    }
                }
            }
        }
    }

    /// The rows of this block, a bit for each, that may be accepted; where `is_told`, of those that neither codes nor
    /// exceptions accept.
    pub fn rows_within(&self, texts: &Texts, is_told: bool) -> u64 {
        let of_column = |column: &Column| match &column.values {
            Values::Text(text) => texts.rows_at(*text, |json, tell| self.test.each_place_within(json, tell)),
            Values::Uuids(_) | Values::Each => u64::MAX,
            Values::Codes(..) | Values::Rows(_) if is_told => 0,
            Values::Codes(..) | Values::Rows(_) => u64::MAX,
        };
        self.columns.iter().map(of_column).fold(0, BitOr::bitor)
    }

    /// The answer for a row that is not kept whole.
    pub fn decide(&self, part: &Part, row: usize, shape: usize, cursor: &mut TextCursor) -> io::Result<bool> {
        for column in self.columns.iter().filter(|column| column.in_shape.get(shape).copied().unwrap_or(false)) {
            let accepted = match &column.values {
                Values::Codes(packed, accepted) => {
                    let code = packed.get(row);
                    code > 0 && accepted.get(code as usize - 1).copied().unwrap_or(false)
                }
                Values::Rows(rows) => rows.binary_search(&(row as u32)).is_ok(),
                Values::Text(_) | Values::Each if !self.searches(column, row / CHUNK) => false,
                Values::Text(text) => self.test.accepts(&column.name, Raw::valid(part.text_at(cursor, row, *text)?)),
                Values::Uuids(_) | Values::Each => part
                    .value(row, column.column)?
                    .is_some_and(|value| self.test.accepts(&column.name, Raw::valid(&value))),
            };
            if accepted {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn codes(part: &Part, column: u32, name: &str, test: &AnywhereTest, piece: Option<&UuidPiece>) -> io::Result<Values> {
    if let Some(piece) = piece.filter(|_| part.has_uuids(column)) {
        return codes_of_uuids(part, column, name, test, piece);
    }
    let dictionary = part.dictionary(column)?;
    if !test.may_accept_within(dictionary.all()) {
        return Ok(Values::Rows(Vec::new()));
    }
    let accepts = |code: i64| dictionary.get(code).is_some_and(|value| test.accepts(name, Raw::valid(value)));
    let accepted: Vec<bool> = (1..=dictionary.len() as i64).map(accepts).collect();
    match accepted.contains(&true) {
        true => Ok(Values::Codes(part.packed(Section::Codes, column)?, accepted)),
        false => Ok(Values::Rows(Vec::new())),
    }
}

/// The same of a dictionary of UUIDs: only those that have a piece of what is searched are written out.
fn codes_of_uuids(part: &Part, column: u32, name: &str, test: &AnywhereTest, piece: &UuidPiece) -> io::Result<Values> {
    let (all, mut json) = (part.uuids_once(column)?, Vec::new());
    let (bits, mut accepted) = (all.as_chunks::<16>().0, Vec::new());
    for nth in piece.places_in(&all) {
        json.clear();
        write_uuid(u128::from_le_bytes(bits[nth]), &mut json);
        if test.accepts(name, Raw::valid(&json)) {
            accepted.resize(bits.len(), false);
            accepted[nth] = true;
        }
    }
    match accepted.is_empty() {
        true => Ok(Values::Rows(Vec::new())),
        false => Ok(Values::Codes(part.packed(Section::Codes, column)?, accepted)),
    }
}

/// Bytes of a canonical time, in lower case as patterns are.
fn is_of_time(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'.' | b't' | b'z')
}

fn is_of_uuid(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::super::layout::Encoding;
    use super::super::tests::{Folder, Stored, all, filter, later, plain};
    use super::super::{Options, Store};
    use crate::event::Raw;
    use crate::query::request::CountLimit;

    const TIME: &str = "2026-01-02T03:04:05.678Z";

    #[test]
    fn random_identifiers_are_found_by_their_parts_and_an_own_id_as_a_whole() {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let uuid = |n: u64| {
            let random = u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            let (high, low) = ((random >> 64) as u64, random as u64);
            format!(
                "{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}",
                high >> 32,
                high >> 16 & 0xffff,
                high & 0xfff,
                low >> 48 & 0xfff,
                low & 0xffff_ffff_ffff
            )
        };
        // So many that no dictionary has them all.
        let events: Vec<Stored> = (1..=16_000)
            .map(|n| {
                let (id, request) = (uuid(n), uuid(n + 100_000));
                let line = format!(r#"{{"id":"{id}","timestamp":"{TIME}","request_id":"{request}","code":"x = {n}"}}"#);
                plain(n, &if n == 77 { line.replace(&id, "not-an-id").replace(TIME, "yesterday") } else { line })
            })
            .collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("they are stored");
        store.seal_now().expect("a part is made");
        let part = store.snapshot().parts[0].clone();
        let encoding = |name: &str| part.column(name).map(|(_, column)| column.encoding);
        assert_eq!((encoding("id"), encoding("request_id")), (Some(Encoding::Uuid), Some(Encoding::Uuid)));
        let (id, request) = (uuid(4711), uuid(104_711));
        for query in [
            id.clone(),
            format!("\"{}\"", &id[..8]),
            format!("id:{}*", &id[..6]),
            format!("{}*", &id[..6]),
            "not-an-id".to_owned(),
            "not-an*".to_owned(),
            TIME.to_owned(),
            "yesterday".to_owned(),
            "2026".to_owned(),
            request.to_uppercase(),
            format!("\"{}\"", &request[..8]),
            format!("\"{}\"", &request[9..20]),
            format!("request_id:{request}"),
            format!("request_id:{}*", &request[..7]),
            "4711".to_owned(),
            "*77*9a*".to_owned(),
        ] {
            let filter = filter(&query);
            let parsed = filter.query.clone().expect("a query");
            let wanted = events.iter().filter(|event| parsed.matches_line(Raw::valid(event.line.as_bytes()))).count();
            let found = store.snapshot().count(&filter, &all(), CountLimit::Exact, later()).expect("a count");
            assert_eq!(found.count, wanted as u64, "{query}");
        }
        for event in [&events[4710], &events[76]] {
            let row = store.snapshot().by_seq(event.seq, &all()).expect("read").expect("it is there");
            assert_eq!(String::from_utf8(row.line).expect("text"), event.line);
        }
    }
    #[test]
    fn digits_that_identifiers_alone_may_have_open_no_texts() {
        let folder = Folder::new();
        let (store, _) = Store::open(&Options::new(&folder.0)).expect("it opens");
        let session = |n: u64| format!("{:016x}", (n % 300).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 63);
        let events: Vec<Stored> = (1..=16_000)
            .map(|n| {
                let line = format!(
                    r#"{{"timestamp":"{TIME}","session_id":"{}","status":"ok","code":"x = {n} # {}"}}"#,
                    session(n),
                    "a text that is long enough to be kept as one, since no dictionary has room".repeat(2)
                );
                plain(n, &line)
            })
            .collect();
        store.append(&events.iter().map(Stored::event).collect::<Vec<_>>()).expect("they are stored");
        store.seal_now().expect("a part is made");
        let part = store.snapshot().parts[0].clone();
        let described = |name: &str| part.column(name).map(|(_, column)| (column.encoding, column.has_no_identifier));
        assert_eq!(described("session_id"), Some((Encoding::Dictionary, false)));
        assert_eq!(described("code"), Some((Encoding::Text, true)));
        // In every chunk, and in none of its other texts.
        let needle = session(77)[3..10].to_owned();
        for query in [needle.clone(), format!("\"{needle}\" status:ok"), format!("\"{needle}\" OR \"absent text\"")] {
            let filter = filter(&query);
            let parsed = filter.query.clone().expect("a query");
            let wanted = events.iter().filter(|event| parsed.matches_line(Raw::valid(event.line.as_bytes()))).count();
            let found = store.snapshot().count(&filter, &all(), CountLimit::UpTo(100_000), later()).expect("a count");
            assert!(wanted > 50, "{query}");
            assert_eq!((found.count, found.is_at_least), (wanted as u64, false), "{query}");
        }
    }
}
