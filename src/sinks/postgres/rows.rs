//! Encodes events as rows: each value once from the line into the column's bytes, for arrays or COPY.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::plan::{Absent, Convert, Fill, Filled, Plan, Take};
use super::value::{Form, Unfit, write_json};
use crate::component::{BatchEvent, Failure, WriteBatch};
use crate::event::aliases::STATUS_WORDS;
use crate::event::decimal::Decimal;
use crate::event::{Id, Kind, Raw, escape};

/// The signature, flags and extension of binary COPY.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The length that encodes NULL.
const NULL: [u8; 4] = (-1i32).to_be_bytes();
/// Most distinct names of omitted members.
const MOST_LEFT_OUT: usize = 64;

/// The rows of a batch.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub count: usize,
    pub body: Body,
    /// Values that were changed to fit.
    pub altered: u64,
    /// Whether some row needs a default that only the database knows.
    pub needs_default: bool,
    /// Members that no column holds.
    pub left_out: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// One array a column, in the form of a parameter; absent where all are NULL.
    Arrays(Vec<Option<Bytes>>),
    /// Binary COPY.
    Copy(Bytes),
}

impl Rows {
    /// The arrays of rows that were not to be copied.
    pub fn into_arrays(self) -> Vec<Option<Bytes>> {
        match self.body {
            Body::Arrays(arrays) => arrays,
            Body::Copy(_) => unreachable!("rows that are not to be copied are arrays"),
        }
    }
}

impl Default for Body {
    fn default() -> Body {
        Body::Arrays(Vec::new())
    }
}

/// Encodes a batch; events that do not fit fail one by one.
pub fn encode(plan: &Plan, batch: &WriteBatch, as_copy: bool) -> Result<Rows, Failure> {
    let size = batch.bytes();
    let mut rows = Rows { count: batch.len(), ..Rows::default() };
    let mut copied = Vec::new();
    let mut cells: Vec<Cells> = Vec::new();
    if as_copy {
        copied.reserve(size + size / 4 + rows.count * 4 * plan.columns.len());
        copied.extend_from_slice(COPY_HEADER);
    } else {
        cells = plan.columns.iter().map(|_| Cells::default()).collect();
    }
    let mut failures = Vec::new();
    let mut encoder = RowEncoder::new(plan);
    for (nth, event) in batch.events().enumerate() {
        encoder.read(event);
        if as_copy {
            copied.extend_from_slice(&(plan.columns.len() as u16).to_be_bytes());
        }
        for (at, column) in plan.columns.iter().enumerate() {
            let out = if as_copy { &mut copied } else { &mut cells[at].bytes };
            match encoder.cell(column, event, out, &mut rows) {
                Ok(is_null) if !as_copy => cells[at].note(is_null),
                Ok(_) => {}
                Err(answer) => {
                    failures.push((nth, Failure::poison(answer)));
                    break;
                }
            }
        }
    }
    if !failures.is_empty() {
        return Err(Failure::some(failures));
    }
    rows.left_out = encoder.left_out;
    rows.body = if as_copy {
        // The end of the rows.
        copied.extend_from_slice(&(-1i16).to_be_bytes());
        Body::Copy(copied.into())
    } else {
        let count = rows.count;
        // The longest array says how many rows there are, so that one has to be there though all is NULL.
        let is_all_null = cells.iter().all(|cells| !cells.has_value);
        if let Some(first) = cells.first_mut().filter(|_| is_all_null) {
            first.has_value = true;
        }
        let arrays = cells.into_iter().zip(&plan.columns);
        Body::Arrays(arrays.map(|(cells, column)| cells.into_array(&column.form, count)).collect())
    };
    Ok(rows)
}

/// One column of many rows.
struct Cells {
    /// Begins with room for the array's header.
    bytes: Vec<u8>,
    has_null: bool,
    has_value: bool,
}

const ARRAY_HEADER: usize = 20;

impl Default for Cells {
    fn default() -> Cells {
        Cells { bytes: vec![0; ARRAY_HEADER], has_null: false, has_value: false }
    }
}

impl Cells {
    fn note(&mut self, is_null: bool) {
        self.has_null |= is_null;
        self.has_value |= !is_null;
    }

    /// One dimension: flags, type of the elements, how many, the first one's number.
    fn into_array(mut self, form: &Form, count: usize) -> Option<Bytes> {
        if !self.has_value {
            return None;
        }
        let header = [1, u32::from(self.has_null), form.wire().0.oid(), count as u32, 1];
        for (at, word) in header.into_iter().enumerate() {
            self.bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_be_bytes());
        }
        Some(self.bytes.into())
    }
}

/// Where one event after the other is laid out.
struct RowEncoder<'a> {
    plan: &'a Plan,
    /// The names of its sources as JSON.
    names: Vec<Vec<u8>>,
    /// The member behind each of the plan's sources.
    found: Vec<Option<Raw<'a>>>,
    /// Which sources a column holds whole.
    is_used: Vec<bool>,
    /// Members that are no source.
    others: Vec<(&'a [u8], Raw<'a>)>,
    /// What each member was called last time, and which source that is: events of one shape need no look-up.
    shape: Vec<(Vec<u8>, Option<usize>)>,
    own_id: Option<(Id, Raw<'a>)>,
    scratch: String,
    left_out: BTreeSet<String>,
}

impl<'a> RowEncoder<'a> {
    fn new(plan: &'a Plan) -> RowEncoder<'a> {
        let count = plan.sources.len();
        let as_json = |name: &String| {
            let mut out = Vec::new();
            escape::push_inside(&mut out, name);
            out
        };
        RowEncoder {
            plan,
            names: plan.sources.iter().map(as_json).collect(),
            found: vec![None; count],
            is_used: vec![false; count],
            others: Vec::new(),
            shape: Vec::new(),
            own_id: None,
            scratch: String::new(),
            left_out: BTreeSet::new(),
        }
    }

    /// Lays out an event's members.
    fn read(&mut self, event: BatchEvent<'a>) {
        self.found.fill(None);
        self.is_used.fill(false);
        self.others.clear();
        self.own_id = None;
        for (nth, (name, value)) in event.json().members().enumerate() {
            let source = match self.shape.get(nth) {
                Some((known, source)) if known == name => *source,
                _ => self.look_up(nth, name),
            };
            match source {
                Some(source) => self.found[source] = Some(value).filter(|value| !value.is_null()),
                None if name == b"id" => self.read_id(name, value),
                None => self.others.push((name, value)),
            }
        }
    }

    fn read_id(&mut self, name: &'a [u8], value: Raw<'a>) {
        match value.as_str().and_then(|text| Id::parse(&text)) {
            Some(id) => self.own_id = Some((id, value)),
            None => self.others.push((name, value)),
        }
    }

    fn look_up(&mut self, nth: usize, name: &[u8]) -> Option<usize> {
        let text = escape::unescape(name);
        let source = self.plan.sources.iter().position(|source| *source == *text);
        if self.shape.len() <= nth {
            self.shape.resize(nth + 1, (Vec::new(), None));
        }
        self.shape[nth] = (name.to_vec(), source);
        if source.is_none() && name != b"id" && self.plan.rest().is_none() && self.left_out.len() < MOST_LEFT_OUT {
            self.left_out.insert(text.into_owned());
        }
        source
    }

    /// Appends a column's value with its length, and tells whether it is NULL. The error names the column.
    fn cell(
        &mut self,
        column: &'a Filled,
        event: BatchEvent<'a>,
        out: &mut Vec<u8>,
        rows: &mut Rows,
    ) -> Result<bool, String> {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut unfit = None;
        let is_written = match &column.fill {
            Fill::Id => {
                let id = self.own_id.map_or_else(|| event.record.lines.derived_id(event.index), |(id, _)| id);
                out.extend_from_slice(&id.0.to_be_bytes());
                true
            }
            Fill::IdText => {
                match self.own_id {
                    Some((_, text)) => out.extend_from_slice(text.display().as_bytes()),
                    None => out.extend_from_slice(event.id().to_string().as_bytes()),
                }
                true
            }
            Fill::Template(template) => {
                let values = event.values();
                let text = template.render(|path| values.get(path)).map_err(|missing| missing.to_string())?;
                let quoted = serde_json::Value::from(text).to_string();
                let written = column.form.write(Raw::valid(quoted.as_bytes()), out, &mut rows.altered);
                written.map_err(|Unfit| self.refusal(column, Raw::valid(quoted.as_bytes())))?;
                true
            }
            Fill::Rest(bases) => self.rest(bases, &column.form, out, rows),
            Fill::Event(takes) => match self.taken(takes) {
                None => false,
                Some((take, value, is_whole)) => {
                    let altered = rows.altered;
                    let written = match &value {
                        Cow::Borrowed(raw) => column.form.write(Raw::valid(raw), out, &mut rows.altered),
                        Cow::Owned(text) => column.form.write(Raw::valid(text), out, &mut rows.altered),
                    };
                    if written.is_ok() {
                        // A part of an object stays in it.
                        self.is_used[take.source] |= is_whole && take.path.is_empty();
                    } else {
                        out.truncate(start + 4);
                        rows.altered = altered;
                        unfit = Some(value);
                    }
                    written.is_ok()
                }
            },
        };
        if let Some(value) = &unfit {
            // With a column for the rest, the value is kept there.
            let is_kept = self.plan.rest().is_some() && column.absent != Absent::Refuse;
            if !is_kept {
                return Err(self.refusal(column, Raw::valid(value)));
            }
            rows.altered += 1;
        }
        if !is_written && !self.absent(column, event, out, rows)? {
            out[start..].copy_from_slice(&NULL);
            return Ok(true);
        }
        let len = out.len() - start - 4;
        out[start..start + 4].copy_from_slice(&(len as u32).to_be_bytes());
        Ok(false)
    }

    /// The first member that the event has, converted, and whether the column then holds all of it.
    fn taken(&mut self, takes: &'a [Take]) -> Option<(&'a Take, Cow<'a, [u8]>, bool)> {
        for take in takes {
            let Some(value) = self.found[take.source].and_then(|value| value.path(&take.path)) else { continue };
            if value.is_null() {
                continue;
            }
            if let Some((value, is_whole)) = converted(value, take.convert, &mut self.scratch) {
                return Some((take, value, is_whole));
            }
        }
        None
    }

    /// What stands in for a value; `false` for NULL.
    fn absent(
        &self,
        column: &Filled,
        event: BatchEvent<'a>,
        out: &mut Vec<u8>,
        rows: &mut Rows,
    ) -> Result<bool, String> {
        match &column.absent {
            Absent::Null => Ok(false),
            Absent::Value(value) => {
                out.extend_from_slice(value);
                Ok(true)
            }
            Absent::Expression(_) => {
                rows.needs_default = true;
                Ok(false)
            }
            Absent::ReceivedAt => {
                let written = column.form.write_time(event.record.received_at, out);
                Ok(written.is_ok())
            }
            Absent::Refuse => Err(format!(
                "column `{}` is NOT NULL and the event has no value: set `defaults.{}`",
                column.name, column.name
            )),
        }
    }

    /// An object, and in it what has no column; `false` if there is nothing at all.
    fn rest(&mut self, bases: &[usize], form: &Form, out: &mut Vec<u8>, rows: &mut Rows) -> bool {
        let object = |source: &usize| self.found[*source].filter(|value| value.kind() == Kind::Object);
        let base = bases.iter().find(|source| object(source).is_some()).copied();
        let inside = base.and_then(|source| self.found[source]);
        if let Some(source) = base {
            self.is_used[source] = true;
        }
        let sources = self.names.iter().zip(&self.found).zip(&self.is_used);
        let unused = sources
            .filter(|(_, is_used)| !**is_used)
            .filter_map(|((name, value), _)| value.map(|value| (&name[..], value)));
        let mut extra = unused.chain(self.others.iter().copied()).filter(|(_, value)| !value.is_null()).peekable();
        if extra.peek().is_none() && inside.is_none() {
            return false;
        }
        if *form == Form::Jsonb {
            out.push(1);
        }
        let Some(inside) = inside.filter(|_| extra.peek().is_some()) else {
            if let Some(inside) = inside {
                write_json(inside.as_bytes(), out, &mut rows.altered);
                return true;
            }
            out.push(b'{');
            push_members(extra, false, out, &mut rows.altered);
            return true;
        };
        // What is there wins.
        let body = inside.as_bytes()[1..inside.as_bytes().len() - 1].trim_ascii();
        out.push(b'{');
        write_json(body, out, &mut rows.altered);
        let is_known = |name: &[u8]| inside.members().any(|(known, _)| known == name);
        push_members(extra.filter(|(name, _)| !is_known(name)), !body.is_empty(), out, &mut rows.altered);
        true
    }

    fn refusal(&self, column: &Filled, value: Raw<'_>) -> String {
        let shown: String = value.display().chars().take(60).collect();
        format!("column `{}` is {}, and {shown:?} does not fit", column.name, column.sql_type)
    }
}

fn push_members<'b>(
    members: impl Iterator<Item = (&'b [u8], Raw<'b>)>,
    mut has_some: bool,
    out: &mut Vec<u8>,
    altered: &mut u64,
) {
    for (name, value) in members {
        if has_some {
            out.push(b',');
        }
        has_some = true;
        out.push(b'"');
        write_json(name, out, altered);
        out.extend_from_slice(b"\":");
        write_json(value.as_bytes(), out, altered);
    }
    out.push(b'}');
}

/// A member's value as a column of another name has it, and whether nothing of it is lost.
fn converted<'a>(value: Raw<'a>, convert: Convert, scratch: &mut String) -> Option<(Cow<'a, [u8]>, bool)> {
    let shifted = |places: i64| {
        let text = value.display();
        let mut out = Vec::new();
        Decimal::parse(text.trim().as_bytes())?.times_power_of_ten(places)?.write(&mut out);
        Some((Cow::Owned(out), true))
    };
    match convert {
        Convert::Same => Some((Cow::Borrowed(value.as_bytes()), true)),
        Convert::Text => (value.kind() == Kind::String).then_some((Cow::Borrowed(value.as_bytes()), true)),
        Convert::Thousandfold => shifted(3),
        Convert::Thousandth => shifted(-3),
        Convert::Word => {
            let word: &[u8] = if value.as_bool()? { b"\"success\"" } else { b"\"error\"" };
            Some((Cow::Borrowed(word), true))
        }
        Convert::Success => {
            scratch.clear();
            scratch.push_str(&value.display());
            scratch.make_ascii_lowercase();
            let word = STATUS_WORDS.iter().find(|(word, _)| *word == scratch).map_or(&**scratch, |(_, word)| *word);
            let (success, is_whole): (&[u8], bool) = match word {
                "success" => (b"true", true),
                "warning" => (b"true", false),
                "error" => (b"false", true),
                "aborted" | "lost" => (b"false", false),
                _ => return None,
            };
            Some((Cow::Borrowed(success), is_whole))
        }
        Convert::Code => {
            let success: &[u8] = if value.as_f64()? < 400.0 { b"true" } else { b"false" };
            Some((Cow::Borrowed(success), false))
        }
    }
}
