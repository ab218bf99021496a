//! Writes JSON answers: members in order, event values copied unchanged.

use std::borrow::Cow;

use crate::event::escape::{push_string, unescape};
use crate::event::{Id, Kind, Raw};
use crate::query::request::Row;
use crate::units::Timestamp;

/// An object while it is written.
pub struct Object {
    out: Vec<u8>,
}

impl Object {
    pub fn new() -> Object {
        Object { out: vec![b'{'] }
    }

    fn name(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        push_string(&mut self.out, name);
        self.out.push(b':');
    }

    /// A value that is JSON already; `null` if there is none.
    pub fn raw(&mut self, name: &str, value: Option<&[u8]>) -> &mut Object {
        self.name(name);
        self.out.extend_from_slice(value.unwrap_or(b"null"));
        self
    }

    pub fn text(&mut self, name: &str, value: Option<&str>) -> &mut Object {
        self.name(name);
        match value {
            Some(value) => push_string(&mut self.out, value),
            None => self.out.extend_from_slice(b"null"),
        }
        self
    }

    pub fn number(&mut self, name: &str, value: impl Into<serde_json::Number>) -> &mut Object {
        self.name(name);
        self.out.extend_from_slice(value.into().to_string().as_bytes());
        self
    }

    /// A number that may be unknown.
    pub fn count(&mut self, name: &str, value: Option<u64>) -> &mut Object {
        self.raw(name, value.map(|number| number.to_string()).as_deref().map(str::as_bytes))
    }

    /// A number with up to three digits behind the point.
    pub fn float(&mut self, name: &str, value: Option<f64>) -> &mut Object {
        let rounded = value.map(|value| (value * 1000.0).round() / 1000.0);
        let number = rounded.and_then(serde_json::Number::from_f64);
        self.raw(name, number.map(|number| number.to_string()).as_deref().map(str::as_bytes))
    }

    pub fn bool(&mut self, name: &str, value: bool) -> &mut Object {
        self.raw(name, Some(if value { b"true" } else { b"false" }))
    }

    pub fn time(&mut self, name: &str, value: Option<Timestamp>) -> &mut Object {
        self.text(name, value.map(|value| value.to_string()).as_deref())
    }

    pub fn finish(&mut self) -> Vec<u8> {
        self.out.push(b'}');
        std::mem::take(&mut self.out)
    }
}

/// An array of values that are JSON already.
pub fn array(values: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = vec![b'['];
    for (nth, value) in values.into_iter().enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&value);
    }
    out.push(b']');
    out
}

/// An event of a page, as the families read it.
pub struct Event<'a> {
    pub row: &'a Row,
    pub line: Raw<'a>,
}

impl<'a> Event<'a> {
    pub fn new(row: &'a Row) -> Event<'a> {
        Event { row, line: Raw::valid(&row.line) }
    }

    /// A member as JSON; none where it is null.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.line.get(name).filter(|value| !value.is_null()).map(|value| value.as_bytes())
    }

    pub fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.line.get(name).filter(|value| !value.is_null()).map(|value| value.display())
    }

    /// The id as the event spells it, else the one that was derived for it.
    pub fn id(&self) -> String {
        match self.text("id") {
            Some(id) if self.source_id().is_none() => id.into_owned(),
            _ => self.row.id.clone(),
        }
    }

    /// The id as JSON: a number where the key of a table is one.
    pub fn id_json(&self) -> Vec<u8> {
        match self.line.get("id") {
            Some(id) if id.kind() == Kind::Number && self.is_of_table() => id.as_bytes().to_vec(),
            _ => {
                let mut out = Vec::new();
                push_string(&mut out, &self.id());
                out
            }
        }
    }

    /// What its producer calls the event, where its id was derived from that.
    fn source_id(&self) -> Option<Raw<'a>> {
        let id = self.line.get("id").filter(|id| !id.is_null())?;
        let is_own = self.is_of_table() || id.as_str().is_some_and(|text| Id::parse(&text).is_some());
        (!is_own).then_some(id)
    }

    /// Rows of a table have no `seq`, and a key of any type.
    fn is_of_table(&self) -> bool {
        self.row.seq == 0
    }

    /// The member `metadata` as JSON, with what the producer calls the event where that is not its id.
    fn metadata(&self) -> Option<Cow<'a, [u8]>> {
        let metadata = self.line.get("metadata").filter(|value| !value.is_null());
        let Some(id) = self.source_id() else { return metadata.map(|value| value.as_bytes().into()) };
        let mut object = Object::new();
        object.raw("source_id", Some(id.as_bytes()));
        let members = metadata.into_iter().flat_map(|metadata| metadata.members());
        for (name, value) in members {
            object.raw(&unescape(name), Some(value.as_bytes()));
        }
        Some(object.finish().into())
    }

    /// The time by which the event is ordered.
    pub fn time(&self) -> String {
        match self.text("timestamp") {
            Some(text) if crate::event::time::is_canonical(text.as_bytes()) => text.into_owned(),
            _ => self.row.time.to_string(),
        }
    }

    pub fn is_success(&self) -> Option<bool> {
        match self.text("status").as_deref() {
            Some("success") => Some(true),
            Some("error" | "aborted" | "lost") => Some(false),
            _ => None,
        }
    }
}

/// Members that every row of `/api/logs` has.
pub const FIRST: [&str; 10] = [
    "id",
    "timestamp",
    "event_type",
    "entity_type",
    "entity_id",
    "user_id",
    "description",
    "metadata",
    "ip_address",
    "user_agent",
];

/// A row of the `/api/logs` family: ten members that are always there, then `seq` and every other of the event.
pub fn log_row(row: &Row) -> Vec<u8> {
    let event = Event::new(row);
    let mut object = Object::new();
    object.raw("id", Some(&event.id_json())).text("timestamp", Some(&event.time()));
    for name in &FIRST[2..] {
        match *name {
            "metadata" => object.raw(name, event.metadata().as_deref()),
            name => object.raw(name, event.get(name)),
        };
    }
    match row.seq {
        0 => object.raw("seq", None),
        seq => object.number("seq", seq),
    };
    let mut has_received = false;
    for (name, value) in event.line.members() {
        let name = unescape(name);
        has_received |= name == "received_at";
        if !FIRST.contains(&&*name) && name != "seq" && !value.is_null() {
            object.raw(&name, Some(value.as_bytes()));
        }
    }
    if !has_received {
        object.time("received_at", row.received_at);
    }
    object.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::request::{Keyset, SortKey};

    #[test]
    fn a_row_has_its_ten_members_and_the_rest_of_the_event() {
        let row = Row {
            seq: 7,
            time: Timestamp(1_767_225_600_000_000),
            received_at: Some(Timestamp(1_767_225_600_000_000)),
            id: "derived".into(),
            line: r#"{"user_id":"ali","metadata":{"n":9007199254740993},"code":"x","description":null}"#.into(),
            keyset: Keyset { key: SortKey::None, time: 0, seq: 7, row: None },
        };
        assert_eq!(
            String::from_utf8(log_row(&row)).unwrap(),
            r#"{"id":"derived","timestamp":"2026-01-01T00:00:00.000Z","event_type":null,"entity_type":null,"entity_id":null,"user_id":"ali","description":null,"metadata":{"n":9007199254740993},"ip_address":null,"user_agent":null,"seq":7,"code":"x","received_at":"2026-01-01T00:00:00.000Z"}"#
        );
        // The time of a row says nothing of when a table without a column for it got the row.
        let shown = String::from_utf8(log_row(&Row { received_at: None, ..row })).unwrap();
        assert!(shown.ends_with(r#","code":"x","received_at":null}"#), "{shown}");
    }
}
