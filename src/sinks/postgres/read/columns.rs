//! How table columns map to event members.

use super::super::Config;
use super::super::key::ADDED;
use super::super::plan::REST;
use super::super::table::{Column, Table, literal, quote};
use super::super::value::Form;
use super::users::UserIds;
use crate::event::{aliases, names};
use crate::visibility::HIDDEN;

/// How values of a member compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Bool,
    Uuid,
    Inet,
    Json,
    /// `timestamptz`.
    Time,
}

/// A value as SQL.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub sql: String,
    pub kind: Kind,
    /// What stands in the column itself, where `sql` makes something else of it: comparing that may use an index.
    pub stored: Stored,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    AsIs,
    /// A whole number: compared with one, an index may know it.
    Integer,
    /// A time without a zone, in that of the table.
    Local(String),
    /// Words for a status, in any of the spellings that producers use: these, in lower case, with the canonical word.
    Status(String, &'static [(&'static str, &'static str)]),
    /// `success`: true or false.
    Success(String),
}

/// A table, read.
#[derive(Clone, Debug)]
pub struct Columns {
    /// As a person calls it.
    pub name: String,
    /// As SQL, under the name `t`.
    pub from: String,
    /// The columns that may be read, as SQL.
    pub readable: Vec<String>,
    /// The zone of times without one, as SQL.
    pub zone: String,
    /// What rows have as their id.
    pub key: Option<Value>,
    /// What orders rows of the same time, where the key does not: it may be missing, or be there twice.
    tie: Option<String>,
    /// A second column that carries an event's id.
    pub event_id: Option<Value>,
    pub time: Value,
    /// Members by their canonical names; the last ones are those that have no column.
    pub members: Vec<(String, Value)>,
    /// How many members come from the object for all the rest: who may not see what is in them must not find it there.
    pub without_column: usize,
    /// The object for all the rest, without these.
    pub metadata: Option<Value>,
    /// The column that holds it.
    pub rest: Option<Value>,
    /// How ids are looked up in the table of users.
    pub user_ids: UserIds,
    /// Columns without a canonical name: shown below `metadata`.
    pub extras: Vec<(String, Value)>,
}

impl Columns {
    /// The error says what the table lacks.
    pub fn new(table: &Table, config: &Config) -> Result<Columns, String> {
        let zone = match &config.timezone {
            Some(zone) => literal(zone),
            None => "current_setting('TimeZone')".to_owned(),
        };
        let name = config.table.clone();
        let from = format!("{} t", table.name.quoted());
        let mut members: Vec<(String, Value)> = Vec::new();
        let (mut extras, mut in_rest, mut event_id, mut key) = (Vec::new(), None, None, None);
        let readable = || table.columns.iter().filter(|column| column.may_select);
        let is_rest = |column: &Column| {
            matches!(column.form, Form::Json | Form::Jsonb) && !config.columns.contains_key(&column.name)
        };
        let rest = REST.iter().find(|name| readable().any(|column| column.name == **name && is_rest(column)));
        for column in readable() {
            let value = value(column, &zone);
            let column_name = column.name.as_str();
            if Some(&column_name) == rest {
                in_rest = Some(value);
            } else if column_name == config.key {
                key = Some(value);
            } else if column_name == ADDED {
                event_id = Some(value);
            } else if let Some(written) = config.columns.get(column_name) {
                match written.split_once('.') {
                    _ if written.contains("{{") || written.contains('%') || written.is_empty() => {
                        extras.push((column.name.clone(), value));
                    }
                    None => members.push((written.clone(), value)),
                    Some(("metadata", below)) if !below.contains('.') => extras.push((below.to_owned(), value)),
                    Some(_) => extras.push((column.name.clone(), value)),
                }
            } else {
                let hidden = || HIDDEN.contains(&column_name).then(|| column_name.to_owned());
                match canonical(table, column_name).or_else(hidden) {
                    Some(member) if members.iter().all(|(known, _)| *known != member) => {
                        members.push((member.clone(), converted(column_name, &member, value)));
                    }
                    _ => extras.push((column.name.clone(), value)),
                }
            }
        }
        // The most usual name for when a row was written.
        if members.iter().all(|(name, _)| name != "received_at")
            && let Some(at) = extras.iter().position(|(name, value)| name == "created_at" && value.kind == Kind::Time)
        {
            let (_, value) = extras.remove(at);
            members.push(("received_at".to_owned(), value));
        }
        if members.iter().all(|(name, _)| name != "status")
            && let Some((_, code)) =
                members.iter().find(|(name, value)| name == "status_code" && value.kind == Kind::Number)
        {
            let sql = format!("CASE WHEN {} >= 400 THEN 'error' END", code.sql);
            members.push(("status".to_owned(), Value { sql, kind: Kind::Text, stored: Stored::AsIs }));
        }
        let of_time = |wanted: &str| members.iter().find(|(name, value)| name == wanted && value.kind == Kind::Time);
        let Some((_, time)) = of_time("timestamp").or_else(|| of_time("received_at")) else {
            return Err(format!("the table `{name}` has no time column `timestamp`"));
        };
        let time = time.clone();
        let time_column = readable().find(|column| value(column, &zone).sql == time.sql);
        let tells_apart = |name: &str| {
            let is_enough = |index: &Vec<String>| {
                let of_time = |column: &String| time_column.is_some_and(|time| time.name == *column);
                index.iter().all(|column| column == name || of_time(column))
            };
            table.column(name).is_some_and(|column| column.is_required) && table.unique.iter().any(is_enough)
        };
        let mut key_column = config.key.as_str();
        if key.is_none() {
            (key, key_column) = (event_id.take(), ADDED);
        }
        let tie = (key.is_none() || !tells_apart(key_column)).then(|| place(table));
        let lacking = HIDDEN.iter().filter(|name| members.iter().all(|(known, _)| known != *name));
        let lacking: Vec<&str> = lacking.filter(|_| in_rest.is_some()).copied().collect();
        let metadata = in_rest.as_ref().map(|rest| without(rest, &lacking));
        members.extend(in_rest.iter().flat_map(|rest| {
            lacking.iter().map(|name| {
                let sql = format!("({} -> {})", rest.sql, literal(name));
                ((*name).to_owned(), Value { sql, kind: Kind::Json, stored: Stored::AsIs })
            })
        }));
        let without_column = lacking.len();
        Ok(Columns {
            name,
            from,
            readable: readable().map(|column| format!("t.{}", quote(&column.name))).collect(),
            zone,
            key,
            tie,
            event_id,
            time,
            members,
            without_column,
            metadata,
            rest: in_rest,
            user_ids: UserIds::Other,
            extras,
        })
    }

    /// A member by its canonical name.
    pub fn member(&self, name: &str) -> Option<&Value> {
        match name {
            "id" => self.key.as_ref(),
            ADDED => self.event_id.as_ref(),
            "metadata" => self.metadata.as_ref(),
            _ => self.members.iter().find(|(known, _)| known == name).map(|(_, value)| value),
        }
    }

    /// The members that have a column.
    pub fn with_column(&self) -> &[(String, Value)] {
        &self.members[..self.members.len() - self.without_column]
    }

    /// Whether the member stands in the object for all the rest.
    pub fn lacks_column(&self, name: &str) -> bool {
        self.members[self.members.len() - self.without_column..].iter().any(|(known, _)| known == name)
    }

    pub fn extra(&self, name: &str) -> Option<&Value> {
        self.extras.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// That a row has a time: one without, or with an infinite one, has no place in any order.
    pub fn has_time(&self) -> String {
        // As it stands in the table, for an index to know it.
        let time = match &self.time.stored {
            Stored::Local(column) => column,
            _ => &self.time.sql,
        };
        format!("{time} > '-infinity' AND {time} < {END_OF_TIME}")
    }

    /// What orders rows of the same time, as text.
    pub fn tie(&self) -> String {
        let key = self.key.as_ref().map(|key| &key.sql);
        self.tie.as_ref().or(key).cloned().unwrap_or_else(|| "NULL".to_owned())
    }

    /// The key, where it is what orders rows of the same time.
    pub fn key_of_order(&self) -> Option<&Value> {
        self.key.as_ref().filter(|_| self.tie.is_none())
    }
}

/// An object without these members. Anything else stays as it is.
fn without(json: &Value, names: &[&str]) -> Value {
    if names.is_empty() {
        return json.clone();
    }
    let sql = &json.sql;
    let names = names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    let sql = format!("CASE jsonb_typeof({sql}) WHEN 'object' THEN {sql} - ARRAY[{names}] ELSE {sql} END");
    Value { sql: format!("({sql})"), ..json.clone() }
}

/// From here on a time is more than 64 bits of microseconds since 1970; it is taken for infinite.
const END_OF_TIME: &str = "'294247-01-01'";

/// Whether a time has a number.
fn is_countable(time: &str) -> String {
    format!("({time} > '-infinity' AND {time} < {END_OF_TIME})")
}

/// What tells rows apart that may have the same key: the columns of a key over several, else where a row lies, else all
/// that is in it.
fn place(table: &Table) -> String {
    let is_key = |index: &&Vec<String>| {
        index.iter().all(|name| table.column(name).is_some_and(|column| column.is_required && column.may_select))
    };
    match table.unique.iter().find(is_key) {
        Some(index) => {
            let columns: Vec<String> = index.iter().map(|name| format!("t.{}", quote(name))).collect();
            format!("(ROW({})::text)", columns.join(", "))
        }
        None if table.has_places => "(t.tableoid::text || t.ctid::text)".to_owned(),
        None => "md5(t::text)".to_owned(),
    }
}

/// The canonical name of a column.
fn canonical(table: &Table, column: &str) -> Option<String> {
    let id = names::known(column.as_bytes())?;
    let known = aliases::canonical(id).unwrap_or(id);
    let text = names::KNOWN[known.0 as usize];
    let is_its_own = id != known && table.column(text).is_some();
    (aliases::is_canonical(known) && !is_its_own && !matches!(text, "id" | "metadata")).then(|| text.to_owned())
}

/// A column under another name may hold its values in other units or words.
fn converted(column: &str, member: &str, value: Value) -> Value {
    match (member, column) {
        ("duration_ms", "duration_seconds" | "duration_s") if value.kind == Kind::Number => {
            // Not in the column's own type, in which it may be too much.
            let is_small = format!("{} BETWEEN -1e300 AND 1e300", value.sql);
            let sql = format!("(CASE WHEN {is_small} THEN {} * 1000::numeric END)", value.sql);
            Value { sql, stored: Stored::AsIs, ..value }
        }
        ("status", "success") if value.kind == Kind::Bool => {
            let sql = format!("CASE WHEN {0} THEN 'success' WHEN NOT {0} THEN 'error' END", value.sql);
            Value { sql, kind: Kind::Text, stored: Stored::Success(value.sql) }
        }
        ("status", "success") if value.kind == Kind::Number => {
            let is_success = format!("({} <> 0)", value.sql);
            let sql = format!("CASE WHEN {is_success} THEN 'success' WHEN NOT {is_success} THEN 'error' END");
            Value { sql, kind: Kind::Text, stored: Stored::Success(is_success) }
        }
        ("status", _) if value.kind == Kind::Text => {
            let words = if column == "success" { aliases::SUCCESS_WORDS } else { aliases::STATUS_WORDS };
            // Most rows have the canonical words, which cost no look at the letters.
            let mut sql = format!("CASE WHEN {0} IN ('success', 'error') THEN {0} ELSE CASE lower({0})", value.sql);
            for (word, canonical) in words {
                sql.push_str(&format!(" WHEN {} THEN {}", literal(word), literal(canonical)));
            }
            sql.push_str(&format!(" ELSE {} END END", value.sql));
            Value { sql, kind: Kind::Text, stored: Stored::Status(value.sql, words) }
        }
        _ => value,
    }
}

fn value(column: &Column, zone: &str) -> Value {
    let sql = format!("t.{}", quote(&column.name));
    let as_is = |sql: String, kind: Kind| Value { sql, kind, stored: Stored::AsIs };
    match &column.form {
        // Blanks that only fill such a column up are no part of its value.
        Form::Text(_) if column.sql_type.starts_with("character(") => as_is(format!("{sql}::text"), Kind::Text),
        Form::Text(_) => as_is(sql, Kind::Text),
        Form::Int2 | Form::Int4 | Form::Int8 => Value { sql, kind: Kind::Number, stored: Stored::Integer },
        Form::Float8 | Form::Numeric(_) => as_is(sql, Kind::Number),
        // 0.1 is to equal 0.1, which a float4 made wider does not.
        Form::Float4 => as_is(format!("({sql}::text::float8)"), Kind::Number),
        Form::Bool => as_is(sql, Kind::Bool),
        Form::TimestampTz => as_is(sql, Kind::Time),
        Form::Timestamp | Form::Local(_) | Form::Date => {
            let (sql, stored) = match column.form {
                // A day may be one that no timestamp reaches.
                Form::Date => (format!("(CASE WHEN {sql} < {END_OF_TIME}::date THEN {sql} END)"), Stored::AsIs),
                _ => (sql.clone(), Stored::Local(sql)),
            };
            Value { sql: format!("({sql}::timestamp AT TIME ZONE {zone})"), kind: Kind::Time, stored }
        }
        Form::Uuid => as_is(sql, Kind::Uuid),
        Form::Inet => as_is(sql, Kind::Inet),
        Form::Json => as_is(format!("{sql}::jsonb"), Kind::Json),
        Form::Jsonb => as_is(sql, Kind::Json),
        Form::Array(_) => as_is(format!("to_jsonb({sql})"), Kind::Json),
        Form::Bytea | Form::Cast => as_is(format!("{sql}::text"), Kind::Text),
    }
}

impl Value {
    /// The value as events show it, as text.
    pub fn text(&self) -> String {
        let sql = &self.sql;
        match self.kind {
            Kind::Text => sql.clone(),
            Kind::Number | Kind::Bool | Kind::Uuid => format!("({sql})::text"),
            Kind::Json => format!("({sql} #>> '{{}}')"),
            Kind::Inet => format!(
                "CASE WHEN masklen({sql}) = CASE family({sql}) WHEN 4 THEN 32 ELSE 128 END THEN host({sql}) ELSE ({sql})::text END"
            ),
            Kind::Time => format!(
                "CASE WHEN {} THEN to_char({sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') END",
                is_countable(sql)
            ),
        }
    }

    /// Microseconds since 1970, as text.
    pub fn micros(&self) -> String {
        let sql = &self.sql;
        let is_countable = is_countable(sql);
        format!("CASE WHEN {is_countable} THEN round(extract(epoch FROM {sql}) * 1000000)::bigint::text END")
    }

    /// The value as a line has it, as text: JSON where it is no text.
    pub fn written(&self) -> String {
        match self.kind {
            Kind::Json => format!("({})::text", self.sql),
            Kind::Time => self.micros(),
            _ => self.text(),
        }
    }
}
