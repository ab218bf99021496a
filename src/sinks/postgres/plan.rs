//! Which column receives which value: by name, by alias, or by configuration.

use jiff::tz::TimeZone;

use super::key::{self, Key};
use super::table::{Column, Name, Table, quote};
use super::value::Form;
use super::{Config, conflicts};
use crate::codec::template::Template;
use crate::component::Promise;
use crate::event::{NameId, Raw, aliases, names};

/// Columns that can hold what has no column of its own, the preferred one first.
pub const REST: [&str; 3] = ["metadata", "details", "extra"];

/// What is written where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The table as SQL.
    pub table: String,
    /// In the order they are written; the one for all the rest is last.
    pub columns: Vec<Filled>,
    /// Top-level members that the columns are taken from; [`Take::source`] is a place in here.
    pub sources: Vec<String>,
    /// Behind an INSERT: what happens to rows that are there already.
    pub conflict: String,
    /// Behind an INSERT where no index of the table itself knows the ids, once a row was refused because something else
    /// does, such as an index behind a view: only rows whose id is not there.
    pub unseen: Option<String>,
    /// Whether rows can be copied straight into the table.
    pub may_copy: bool,
    /// Counts the rows that are there of ids in `$1`, where fewer rows than were sent may be there without having been
    /// there before: triggers may keep some out.
    pub count: Option<String>,
    /// Counts rows of `r` that differ from the row of their id; where that can be told.
    pub conflicts: Option<String>,
    /// Whether triggers may keep rows out.
    pub has_triggers: bool,
    /// Of columns that hold times without one.
    pub zone: TimeZone,
    pub promise: Promise,
    /// For the operator.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Filled {
    pub name: String,
    pub form: Form,
    pub sql_type: String,
    /// Whether the column may be NULL.
    pub is_required: bool,
    pub fill: Fill,
    pub absent: Absent,
}

impl Filled {
    /// The value of `r` as the column has it, if it is the n-th.
    pub fn written(&self, nth: usize) -> String {
        format!("r.c{nth}::{}", self.sql_type)
    }
}

#[derive(Clone, Debug)]
pub enum Fill {
    /// The event's id as a UUID.
    Id,
    /// The event's id as it is spelled.
    IdText,
    /// The first of these that the event has.
    Event(Vec<Take>),
    Template(Template),
    /// The first of these that is an object, and in it all that has no column.
    Rest(Vec<usize>),
}

/// What a row gets where the event has nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Absent {
    Null,
    /// A constant in the column's form.
    Value(Vec<u8>),
    /// The default of the database, as SQL.
    Expression(String),
    /// When the event was received.
    ReceivedAt,
    /// The event cannot be stored.
    Refuse,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Take {
    pub source: usize,
    /// Names below it.
    pub path: Vec<String>,
    pub convert: Convert,
}

/// What lies between an event's member and a column of another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convert {
    Same,
    /// Only a text counts.
    Text,
    /// Seconds to milliseconds.
    Thousandfold,
    /// Milliseconds to seconds.
    Thousandth,
    /// `success: true` to a status.
    Word,
    /// A status to `success`.
    Success,
    /// An HTTP status to `success`.
    Code,
}

impl Plan {
    /// The error says what is wrong with the configuration, or what the table lacks.
    pub fn new(table: &Table, config: &Config) -> Result<Plan, String> {
        let strange: Vec<&str> = config
            .columns
            .keys()
            .chain(config.defaults.keys())
            .filter(|name| table.column(name).is_none())
            .map(String::as_str)
            .collect();
        if !strange.is_empty() {
            return Err(format!("`{}` has no column {}", table.name, listed(&strange)));
        }
        let key = Key::choose(table, config);
        let mut plan = Plan {
            table: table.name.quoted(),
            columns: Vec::new(),
            sources: Vec::new(),
            conflict: String::new(),
            unseen: None,
            may_copy: table.may_copy,
            count: None,
            conflicts: None,
            has_triggers: table.has_triggers,
            zone: zone(&table.zone)?,
            promise: key.promise(),
            notes: key.notes(table),
        };
        let is_json = |name: &&str| {
            let column = table.column(name).filter(|column| matches!(column.form, Form::Json | Form::Jsonb));
            column.is_some_and(|column| column.may_insert && !config.columns.contains_key(*name))
        };
        let rest = REST.iter().find(|name| is_json(name)).copied();
        let (mut left, mut refused) = (Vec::new(), Vec::new());
        for column in &table.columns {
            if column.is_generated || Some(&*column.name) == rest {
                continue;
            }
            let Some(fill) = plan.fill(table, column, &key, config)? else {
                if column.is_required && column.default.is_none() && !column.is_counter {
                    let name = &column.name;
                    return Err(format!("`{name}` is NOT NULL and nothing fills it: add it to `columns`"));
                }
                left.push(&*column.name);
                continue;
            };
            if !column.may_insert {
                refused.push(&*column.name);
                continue;
            }
            plan.add(column, fill, config)?;
        }
        if let Some(column) = rest.and_then(|name| table.column(name)) {
            let mut sources = vec![plan.source("metadata")];
            if column.name != "metadata" {
                sources.push(plan.source(&column.name));
            }
            plan.add(column, Fill::Rest(sources), config)?;
        }
        if config.mode != super::Mode::AppendOnly {
            plan.conflict = key.conflict(table);
        }
        // Where the configuration fills the key by itself, its values are not the events' ids.
        let has_id = plan.columns.iter().any(|column| matches!(column.fill, Fill::Id | Fill::IdText));
        plan.count = key.count(table).filter(|_| has_id);
        plan.conflicts = conflicts::query(&plan, &key, table).filter(|_| has_id);
        if config.mode != super::Mode::AppendOnly {
            plan.unseen = plan.unseen(&key, table);
        }
        plan.note(rest, &left, &refused, &table.name.to_string());
        plan.note_unfit();
        Ok(plan)
    }

    /// The events of a batch as rows `r` with the columns `c0`, `c1` and so on, from one array a column.
    pub fn rows(&self) -> String {
        let each = |format: fn(usize) -> String| (0..self.columns.len()).map(format).collect::<Vec<_>>().join(", ");
        format!("unnest({}) AS r({})", each(|nth| format!("${}", nth + 1)), each(|nth| format!("c{nth}")))
    }

    fn unseen(&self, key: &Key, table: &Table) -> Option<String> {
        let Key::None { name: Some(name), .. } = key else { return None };
        let is_carrier =
            |column: &&(usize, &Filled)| column.1.name == *name && matches!(column.1.fill, Fill::Id | Fill::IdText);
        let (nth, column) = self.columns.iter().enumerate().find(|column| is_carrier(&column))?;
        let may_read = table.column(name).is_some_and(|column| column.may_select);
        let same = format!("t.{} = {}", quote(name), column.written(nth));
        may_read.then(|| format!(" WHERE NOT EXISTS (SELECT FROM {} t WHERE {same})", self.table))
    }

    /// For a table that is still to be made.
    pub fn to_come(name: &Name, by_month: bool) -> Plan {
        let mut notes = vec![format!("the table `{name}` is created at start")];
        if by_month {
            notes.push(key::holds_more("timestamp"));
        }
        Plan {
            table: name.quoted(),
            columns: Vec::new(),
            sources: Vec::new(),
            conflict: String::new(),
            unseen: None,
            may_copy: true,
            count: None,
            conflicts: None,
            has_triggers: false,
            zone: TimeZone::UTC,
            promise: if by_month { Promise::AtLeastOnce } else { Promise::EffectivelyOnce },
            notes,
        }
    }

    /// The column for what has none, if there is one.
    pub fn rest(&self) -> Option<&Filled> {
        self.columns.last().filter(|column| matches!(column.fill, Fill::Rest(_)))
    }

    /// Which columns' types the server has to make out of texts.
    pub fn needs_cast(&self) -> bool {
        self.columns.iter().any(|column| column.form.needs_cast())
    }

    /// Where a column's values come from; nothing if they are left to the database.
    fn fill(&mut self, table: &Table, column: &Column, key: &Key, config: &Config) -> Result<Option<Fill>, String> {
        if let Some(text) = config.columns.get(&column.name) {
            return self.explicit(&column.name, text);
        }
        if key.column() == Some(&*column.name) {
            let is_uuid = column.form == Form::Uuid;
            return Ok(Some(if is_uuid { Fill::Id } else { Fill::IdText }));
        }
        let id = names::known(column.name.as_bytes());
        let known = id.map(|id| aliases::canonical(id).unwrap_or(id)).filter(|id| aliases::is_canonical(*id));
        let fixed = constant(column).is_some();
        let is_left = column.is_counter || (known.is_none() && column.default.is_some() && !fixed);
        if is_left && !config.defaults.contains_key(&column.name) || column.name == "id" {
            return Ok(None);
        }
        let takes = match (id, known) {
            (Some(id), Some(known)) => self.known(table, column, id, known),
            _ => self.unknown(&column.name),
        };
        Ok(Some(Fill::Event(takes)))
    }

    /// A path or a template; an empty text leaves the column to the database.
    fn explicit(&mut self, column: &str, text: &str) -> Result<Option<Fill>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        if text.contains("{{") || text.contains('%') {
            let template = Template::parse(text).map_err(|wrong| format!("`columns.{column}`: {}", wrong.message))?;
            return Ok(Some(Fill::Template(template)));
        }
        let mut path = text.split('.').map(str::to_owned);
        let source = self.source(&path.next().unwrap_or_default());
        Ok(Some(Fill::Event(vec![Take { source, path: path.collect(), convert: Convert::Same }])))
    }

    /// A column without a canonical name: the event's own member, else the one in its metadata.
    fn unknown(&mut self, name: &str) -> Vec<Take> {
        let below = Take { source: self.source("metadata"), path: vec![name.to_owned()], convert: Convert::Same };
        vec![self.take(name, Convert::Same), below]
    }

    /// A canonical name or one of its aliases: the canonical member, else an alias.
    fn known(&mut self, table: &Table, column: &Column, id: NameId, known: NameId) -> Vec<Take> {
        let text = |id: NameId| names::KNOWN[id.0 as usize];
        let is_json = matches!(column.form, Form::Json | Form::Jsonb);
        if id == names::DETAILS && is_json {
            return self.unknown(text(id));
        }
        let outward = outward(id);
        let mut takes = Vec::new();
        if id != known && table.column(text(known)).is_some() {
            // Both are there, so they are two things to whoever made the table.
            takes = self.unknown(text(id));
        }
        takes.push(self.take(text(known), outward));
        for alias in aliases::aliases(known) {
            let convert = if alias == id { Convert::Same } else { composed(inward(alias), outward) };
            let take = self.take(text(alias), convert);
            if !takes.contains(&take) {
                takes.push(take);
            }
        }
        if id == names::SUCCESS {
            takes.push(self.take(text(names::STATUS_CODE), Convert::Code));
        }
        takes
    }

    fn take(&mut self, name: &str, convert: Convert) -> Take {
        Take { source: self.source(name), path: Vec::new(), convert }
    }

    fn source(&mut self, name: &str) -> usize {
        self.sources.iter().position(|known| known == name).unwrap_or_else(|| {
            self.sources.push(name.to_owned());
            self.sources.len() - 1
        })
    }

    fn add(&mut self, column: &Column, fill: Fill, config: &Config) -> Result<(), String> {
        let is_time = matches!(column.form, Form::TimestampTz | Form::Timestamp | Form::Date);
        let is_received = |take: &Take| matches!(&*self.sources[take.source], "timestamp" | "received_at");
        let absent = if let Some(text) = config.defaults.get(&column.name) {
            Absent::Value(
                encoded(&column.form, text)
                    .ok_or_else(|| format!("`defaults.{}` is not of type {}", column.name, column.sql_type))?,
            )
        } else if let (true, Fill::Event(takes)) = (is_time, &fill)
            && takes.first().is_some_and(is_received)
        {
            Absent::ReceivedAt
        } else if let Some(value) = constant(column) {
            Absent::Value(value)
        } else if let Some(expression) = &column.default {
            Absent::Expression(expression.clone())
        } else if column.is_required {
            match fill {
                Fill::Rest(_) => Absent::Value(encoded(&column.form, "{}").unwrap_or_default()),
                _ => Absent::Refuse,
            }
        } else {
            Absent::Null
        };
        self.columns.push(Filled {
            name: column.name.clone(),
            form: match &column.form {
                Form::Timestamp if self.zone != TimeZone::UTC => Form::Local(self.zone.clone()),
                form => form.clone(),
            },
            sql_type: column.sql_type.clone(),
            is_required: column.is_required,
            fill,
            absent,
        });
        Ok(())
    }

    /// Columns that take nothing of what `normalize` makes of every event.
    fn note_unfit(&mut self) {
        let unfit = self.columns.iter().filter_map(|column| {
            let Fill::Event(takes) = &column.fill else { return None };
            let take = takes.first().filter(|take| take.path.is_empty() && take.convert == Convert::Same)?;
            let member = &*self.sources[take.source];
            let usual = match member {
                "timestamp" | "received_at" => "2026-01-01T00:00:00.000Z",
                "status" => "success",
                _ => return None,
            };
            encoded(&column.form, usual).is_none().then(|| {
                let (name, sql_type) = (&column.name, &column.sql_type);
                format!(
                    "`{name}` is {sql_type} and cannot hold a {member} such as \"{usual}\": such events become dead \
                     letters; change the column's type, or set `columns.{name}`"
                )
            })
        });
        let unfit: Vec<String> = unfit.collect();
        self.notes.extend(unfit);
    }

    fn note(&mut self, rest: Option<&str>, left: &[&str], refused: &[&str], table: &str) {
        if !left.is_empty() {
            self.notes.push(format!("filled by the database: {}", listed(left)));
        }
        if !refused.is_empty() {
            self.notes.push(format!("the role may not write {}: grant insert on {table}", listed(refused)));
        }
        match rest {
            Some(name) => self.notes.push(format!("fields without a column go into `{name}`")),
            None => {
                let is_placed = |name: &&&str| self.sources.iter().any(|source| source == *name);
                let canonical = names::KNOWN.iter().take(names::METADATA.0 as usize + 1).skip(1);
                let homeless: Vec<&str> = canonical.filter(|name| !is_placed(name)).copied().collect();
                if !homeless.is_empty() {
                    let listed = listed(&homeless);
                    self.notes.push(format!("no column for {listed}, and no JSON column: omitted"));
                }
            }
        }
    }
}

/// The error is for the operator.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    crate::units::zone(name)
        .ok_or_else(|| format!("unknown time zone `{name}`: set `timezone` to one such as `Asia/Tehran`"))
}

/// From an alias to what the canonical member would be.
fn inward(alias: NameId) -> Convert {
    match alias {
        names::DURATION_SECONDS | names::DURATION_S => Convert::Thousandfold,
        names::SUCCESS => Convert::Word,
        names::DETAILS => Convert::Text,
        _ => Convert::Same,
    }
}

/// From a canonical member to what a column of this name holds.
fn outward(name: NameId) -> Convert {
    match name {
        names::DURATION_SECONDS | names::DURATION_S => Convert::Thousandth,
        names::SUCCESS => Convert::Success,
        _ => Convert::Same,
    }
}

fn composed(inward: Convert, outward: Convert) -> Convert {
    match (inward, outward) {
        (Convert::Thousandfold, Convert::Thousandth) => Convert::Same,
        (Convert::Same, outward) => outward,
        (inward, _) => inward,
    }
}

/// The column's default, if it is the same for all rows and can be written out.
fn constant(column: &Column) -> Option<Vec<u8>> {
    let expression = column.default.as_deref()?;
    let literal = match expression.strip_prefix('\'') {
        Some(rest) => {
            let (literal, behind) = rest.rsplit_once('\'')?;
            let is_plain = behind.is_empty()
                || (behind.starts_with("::") && !behind.contains('('))
                || behind.starts_with("::character varying");
            (is_plain && !literal.replace("''", "").contains(['\'', '\\'])).then(|| literal.replace("''", "'"))?
        }
        None if expression.parse::<f64>().is_ok() || matches!(expression, "true" | "false") => expression.to_owned(),
        None => return None,
    };
    encoded(&column.form, &literal)
}

/// A text from the configuration or the catalogue in a column's form.
fn encoded(form: &Form, text: &str) -> Option<Vec<u8>> {
    let quoted = serde_json::Value::from(text).to_string();
    let is_json = matches!(form, Form::Json | Form::Jsonb | Form::Array(_));
    let json = if is_json && serde_json::from_str::<serde_json::Value>(text).is_ok() { text } else { &quoted };
    let mut out = Vec::new();
    form.write(Raw::valid(json.as_bytes()), &mut out, &mut 0).ok()?;
    Some(out)
}

pub fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// `"a", "b"` as SQL.
pub fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}

impl Key {
    fn conflict(&self, table: &Table) -> String {
        match self {
            Key::Column { index, .. } => {
                let may_name = index.iter().all(|name| table.column(name).is_some_and(|column| column.may_select));
                match may_name {
                    true => format!(" ON CONFLICT ({}) DO NOTHING", quoted_list(index.iter().map(String::as_str))),
                    false => " ON CONFLICT DO NOTHING".to_owned(),
                }
            }
            Key::Add | Key::None { .. } => String::new(),
        }
    }
}
