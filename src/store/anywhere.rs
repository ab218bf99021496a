//! Free-text search over whole events by columns: distinct values once, texts only if nothing else decides.

use std::io;
use std::sync::Arc;

use super::bits::{CHUNK, Packed};
use super::layout::{Encoding, Section};
use super::part::{Part, TextCursor};
use super::plan::{MAYBE, NO, YES};
use super::split::WHOLE;
use super::text::Texts;
use crate::event::Raw;
use crate::query::AnywhereTest;

pub struct Anywhere {
    test: AnywhereTest,
    columns: Vec<Column>,
}

struct Column {
    column: u32,
    name: String,
    /// For each shape, whether it has the member.
    in_shape: Vec<bool>,
    values: Values,
}

enum Values {
    /// The answer for each code of a dictionary.
    Codes(Arc<Packed>, Vec<bool>),
    /// The rows whose exceptions are accepted; other values never are.
    Rows(Vec<u32>),
    /// The number among the text columns.
    Text(usize),
    Each,
}

impl Anywhere {
    pub fn new(part: &Part, test: AnywhereTest) -> io::Result<Anywhere> {
        let mut columns = Vec::new();
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
                Encoding::Time { .. } | Encoding::SameTime { .. } => test.may_accept(is_of_time),
                Encoding::Uuid | Encoding::DerivedId => test.may_accept(is_of_uuid),
            };
            let values = match described.encoding {
                Encoding::Text => Values::Text(part.text_number(column)),
                Encoding::Dictionary if !may_accept => Values::Rows(Vec::new()),
                Encoding::Dictionary => codes(part, column, &described.name, &test)?,
                _ if may_accept => Values::Each,
                _ => Values::Rows(part.exceptions(column)?.rows_where(|value| test.accepts(&described.name, value))),
            };
            let is_in_vain = match &values {
                Values::Codes(_, accepted) => !accepted.contains(&true),
                Values::Rows(rows) => rows.is_empty(),
                Values::Text(_) | Values::Each => false,
            };
            if !is_in_vain {
                let in_shape = part.in_shape(column);
                columns.push(Column { column, name: described.name.clone(), in_shape, values });
            }
        }
        Ok(Anywhere { test, columns })
    }

    /// Whether some rows can only be told by their texts.
    pub fn is_open(&self) -> bool {
        self.columns.iter().any(|column| matches!(column.values, Values::Text(_) | Values::Each))
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
                Values::Text(_) | Values::Each => {
                    for (out, shape) in out.iter_mut().zip(shapes).filter(|(out, _)| **out == NO) {
                        if has(*shape) {
                            *out = MAYBE;
                        }
                    }
                }
            }
        }
    }

    /// Whether a row of this block may be accepted; where `is_told`, one that neither codes nor exceptions accept.
    pub fn may_accept_within(&self, texts: &Texts, is_told: bool) -> bool {
        self.columns.iter().any(|column| match &column.values {
            Values::Text(text) => self.test.may_accept_within(texts.column(*text)),
            Values::Each => true,
            Values::Codes(..) | Values::Rows(_) => !is_told,
        })
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
                Values::Text(text) => self.test.accepts(&column.name, Raw::valid(part.text_at(cursor, row, *text)?)),
                Values::Each => part
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

fn codes(part: &Part, column: u32, name: &str, test: &AnywhereTest) -> io::Result<Values> {
    let dictionary = part.dictionary(column)?;
    let accepts = |code: i64| dictionary.get(code).is_some_and(|value| test.accepts(name, Raw::valid(value)));
    let accepted = (1..=dictionary.len() as i64).map(accepts).collect();
    Ok(Values::Codes(part.packed(Section::Codes, column)?, accepted))
}

/// Bytes of a canonical time, in lower case as patterns are.
fn is_of_time(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'.' | b't' | b'z')
}

fn is_of_uuid(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || byte == b'-'
}
