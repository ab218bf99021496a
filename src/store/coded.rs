//! Dictionary-coded columns of a tail chunk for the members queried most.

use super::bits::CHUNK;
use super::hashing::words;
use super::members::Member;
use crate::event::Raw;

/// These members are kept, where an event has them at its top.
pub const NAMES: [&str; 12] = [
    "event_type",
    "status",
    "user_id",
    "session_id",
    "entity_type",
    "entity_id",
    "host",
    "endpoint",
    "http_method",
    "status_code",
    "ip_address",
    "duration_ms",
];
/// Longer values are not kept: only the line tells.
const MAX_VALUE: usize = 256;
/// Slots of the table that finds a value again; more than twice as many as a chunk has rows.
const SLOTS: usize = 1024;

/// The row has no such member.
pub const NONE: u16 = 0;
/// The row has the member; its value is in the line alone.
pub const IN_LINE: u16 = u16::MAX;

/// One member.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// For each row one more than the place of its value. Rows at the end may be missing: they have no such member.
    codes: Vec<u16>,
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

impl Column {
    pub fn code(&self, row: usize) -> u16 {
        self.codes.get(row).copied().unwrap_or(NONE)
    }

    /// The distinct values, by their codes from 1 on.
    pub fn values(&self) -> impl Iterator<Item = Raw<'_>> {
        (0..self.ends.len()).map(|nth| Raw::valid(self.value(nth)))
    }

    /// The value with this code, which is neither [`NONE`] nor [`IN_LINE`].
    pub fn value_of(&self, code: u16) -> Raw<'_> {
        Raw::valid(self.value(usize::from(code) - 1))
    }

    fn value(&self, nth: usize) -> &[u8] {
        let start = if nth == 0 { 0 } else { self.ends[nth - 1] as usize };
        &self.bytes[start..self.ends[nth] as usize]
    }

    fn weight(&self) -> usize {
        self.codes.len() * 2 + self.ends.len() * 4 + self.bytes.len()
    }
}

/// Of this member it is only kept which rows have it.
pub const PRESENT: &str = "code";

/// All members of one chunk.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// In the order of [`NAMES`].
    columns: Vec<Column>,
    /// Whether each row has [`PRESENT`], and not null. Rows at the end may be missing: they have not.
    present: Vec<bool>,
}

impl Columns {
    /// The column of a name that is kept; none while the chunk is open.
    pub fn of(&self, nth: usize) -> Option<&Column> {
        self.columns.get(nth)
    }

    /// Whether there is nothing to be told, since the chunk is open.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    pub fn weight(&self) -> usize {
        self.columns.iter().map(Column::weight).sum::<usize>() + self.present.len()
    }

    /// Whether a row has [`PRESENT`].
    pub fn has_present(&self, row: usize) -> bool {
        self.present.get(row).copied().unwrap_or(false)
    }
}

/// The place of a name in [`NAMES`].
pub fn number_of(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

/// Collects the columns of one chunk at a time.
pub struct Builder {
    columns: Vec<Column>,
    /// For each column where a value may be found: its code.
    slots: Vec<[u16; SLOTS]>,
    present: Vec<bool>,
    rows: usize,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            columns: vec![Column::default(); NAMES.len()],
            slots: vec![[NONE; SLOTS]; NAMES.len()],
            present: Vec::new(),
            rows: 0,
        }
    }
}

impl Builder {
    /// Notes a value of the next event. Of two members with one name the last counts. `repeats` if the event before that has
    /// the member has the same value.
    pub fn add(&mut self, member: &Member, value: Raw<'_>, repeats: bool) {
        if let Some(number) = member.coded {
            self.add_coded(number, value.as_bytes(), repeats);
        } else if member.name == PRESENT {
            self.present.resize(self.rows + 1, false);
            self.present[self.rows] = !value.is_null();
        }
    }

    pub fn end_event(&mut self) {
        self.rows += 1;
    }

    fn add_coded(&mut self, number: usize, value: &[u8], repeats: bool) {
        let code = match self.columns[number].codes.last().filter(|_| repeats) {
            Some(code) => *code,
            None if value.len() > MAX_VALUE => IN_LINE,
            None => self.code(number, value),
        };
        let codes = &mut self.columns[number].codes;
        if codes.is_empty() {
            codes.reserve(CHUNK);
        }
        if codes.len() == self.rows {
            return codes.push(code);
        }
        codes.resize(self.rows + 1, NONE);
        codes[self.rows] = code;
    }

    fn code(&mut self, number: usize, value: &[u8]) -> u16 {
        let (column, slots) = (&mut self.columns[number], &mut self.slots[number]);
        let mut slot = slot_of(value);
        while slots[slot] != NONE {
            if column.value(usize::from(slots[slot]) - 1) == value {
                return slots[slot];
            }
            slot = (slot + 1) % SLOTS;
        }
        // Fewer values than rows, or one more for a name that stands twice: the table is never full.
        if column.ends.len() >= SLOTS / 2 {
            return IN_LINE;
        }
        column.bytes.extend_from_slice(value);
        column.ends.push(column.bytes.len() as u32);
        slots[slot] = column.ends.len() as u16;
        slots[slot]
    }

    /// The columns; the builder is empty afterwards.
    pub fn take(&mut self) -> Columns {
        for (column, slots) in self.columns.iter().zip(&mut self.slots) {
            if !column.ends.is_empty() {
                slots.fill(NONE);
            }
        }
        self.rows = 0;
        let mut columns = std::mem::replace(&mut self.columns, vec![Column::default(); NAMES.len()]);
        for column in &mut columns {
            column.codes.shrink_to_fit();
            column.ends.shrink_to_fit();
            column.bytes.shrink_to_fit();
        }
        Columns { columns, present: std::mem::take(&mut self.present) }
    }
}

fn slot_of(value: &[u8]) -> usize {
    let mut hash = value.len() as u64;
    let (blocks, rest) = value.as_chunks::<16>();
    for (low, high) in blocks.iter().map(|block| words(block)).chain([words(rest)]) {
        hash = (hash ^ low).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
        hash = (hash ^ high).wrapping_mul(0xC2B2_AE3D_27D4_EB4F).rotate_left(31);
    }
    (hash >> 40) as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::super::members::Walked;
    use super::*;

    #[test]
    fn each_row_has_the_value_that_its_line_has_last() {
        let mut builder = Builder::default();
        for round in 0..2 {
            let lines: Vec<String> = (0..200)
                .map(|n| match n % 4 {
                    0 => format!(r#"{{"status":"s{}","user_id":{n}}}"#, n % 3 + round),
                    1 => r#"{"status":"first","\u0073tatus":"last"}"#.to_owned(),
                    2 => format!(r#"{{"status":"{}"}}"#, "long".repeat(100)),
                    _ => format!(r#"{{"code":"x","code":{}}}"#, ["null", "\"y\""][n / 4 % 2]),
                })
                .collect();
            lines.iter().for_each(|line| {
                let mut walked = Walked::default();
                let members = walked.add(line.as_bytes());
                let named = walked.shape(members).members.iter().zip(walked.values(members));
                named.for_each(|(member, value)| builder.add(member, *value, false));
                builder.end_event();
            });
            let columns = builder.take();
            let column = columns.of(number_of("status").unwrap()).unwrap();
            let values: Vec<&[u8]> = column.values().map(|value| value.as_bytes()).collect();
            for (row, line) in lines.iter().enumerate() {
                let code = Raw::valid(line.as_bytes()).get(PRESENT);
                assert_eq!(columns.has_present(row), code.is_some_and(|code| !code.is_null()));
                let value = Raw::valid(line.as_bytes()).get("status");
                match column.code(row) {
                    NONE => assert!(value.is_none()),
                    IN_LINE => assert!(value.unwrap().as_bytes().len() > MAX_VALUE),
                    code => assert_eq!(values[usize::from(code) - 1], value.unwrap().as_bytes()),
                }
            }
        }
    }
}
