//! Translates a filter into a SQL condition. Values are bound, never written into the statement.

use std::net::IpAddr;

use super::super::table::literal;
use super::columns::{Columns, Kind, Stored, Value};
use super::{held, regex};
use crate::event::Id;
use crate::query::request::Filter;
use crate::query::{Bound, Check, Expr, FieldTest, Op, Pattern, Test};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// A table of users, joined for their names.
pub struct Users<'a> {
    pub join: String,
    pub email: Option<&'a str>,
    pub name: Option<&'a str>,
}

/// A statement on its way: what is bound, and whether users have to be joined.
pub struct Statement<'a> {
    columns: &'a Columns,
    visibility: &'a Visibility,
    users: Option<Users<'a>>,
    pub needs_users: bool,
    pub parameters: Vec<String>,
}

/// A time as Postgres reads it. Before the year 1 it counts otherwise, and no event is from there or from beyond 9999.
fn as_read_by_postgres(time: Timestamp) -> String {
    const YEAR_1: i64 = -62_135_596_800_000_000;
    const YEAR_10000: i64 = 253_402_300_800_000_000;
    match time.0 {
        ..YEAR_1 => "-infinity".into(),
        YEAR_10000.. => "infinity".into(),
        _ => time.to_string(),
    }
}

impl<'a> Statement<'a> {
    pub fn new(columns: &'a Columns, visibility: &'a Visibility, users: Option<Users<'a>>) -> Statement<'a> {
        Statement { columns, visibility, users, needs_users: false, parameters: Vec::new() }
    }

    /// Binds a text.
    pub fn bind(&mut self, text: impl Into<String>) -> String {
        self.parameters.push(text.into());
        format!("${}", self.parameters.len())
    }

    /// The FROM clause.
    pub fn from(&self) -> String {
        match &self.users {
            Some(users) if self.needs_users => format!("{} {}", self.columns.from, users.join),
            _ => self.columns.from.clone(),
        }
    }

    /// The WHERE clause.
    pub fn condition(&mut self, filter: &Filter) -> String {
        let mut parts = vec![self.columns.has_time()];
        if let Some(user) = self.visibility.only_user() {
            parts.push(self.equal("user_id", user));
        }
        for (name, value) in &filter.equals {
            parts.push(self.equal(name, value));
        }
        for (time, sign) in [(filter.from, ">="), (filter.to, "<")] {
            if let Some(time) = time {
                let time_value = self.columns.time.clone();
                parts.push(self.compare_time(&time_value, sign, time));
            }
        }
        if let Some(query) = &filter.query {
            parts.push(self.expr(query.expr()));
        }
        parts.join(" AND ")
    }

    /// A time of the table against one.
    pub fn compare_time(&mut self, value: &Value, sign: &str, time: Timestamp) -> String {
        let bound = self.bind(as_read_by_postgres(time));
        match &value.stored {
            Stored::Local(column) => {
                format!("{column} {sign} ({bound}::text::timestamptz AT TIME ZONE {})", self.columns.zone)
            }
            _ => format!("{} {sign} {bound}::text::timestamptz", value.sql),
        }
    }

    /// The member is exactly this.
    fn equal(&mut self, name: &str, text: &str) -> String {
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        let Some(value) = self.value(&path, None) else { return NEVER.to_owned() };
        if text.contains('\0') {
            return NEVER.to_owned();
        }
        match (&value.stored, value.kind) {
            (Stored::Status(column, words), _) => {
                let spellings = words.iter().filter(|(_, canonical)| *canonical == text).map(|(word, _)| *word);
                let all: Vec<String> = spellings.map(literal).collect();
                let own = self.bind(text);
                // A spelling that stands for another word is not this one.
                match words.iter().any(|(word, _)| *word == text) {
                    true => NEVER.to_owned(),
                    false if all.is_empty() => format!("{column} = {own}"),
                    false => format!("({column} = {own} OR lower({column}) IN ({}))", all.join(", ")),
                }
            }
            (Stored::Success(column), _) => match text {
                "success" => column.clone(),
                "error" => format!("NOT {column}"),
                _ => NEVER.to_owned(),
            },
            (_, Kind::Text) => {
                let bound = self.bind(text);
                format!("{} = {bound}", value.sql)
            }
            (_, Kind::Uuid) if is_uuid(text) => self.equal_as(&value, "uuid", text),
            (_, Kind::Inet) if is_inet(text) => self.equal_as(&value, "inet", text),
            (Stored::Integer, _) => match text.parse::<i64>() {
                // Whoever is called 07 is not 7.
                Ok(number) if number.to_string() == text => format!("{} = {}", value.sql, self.number(&value, text)),
                _ => NEVER.to_owned(),
            },
            (_, Kind::Number) if crate::query::number(text).is_some() => self.equal_as(&value, "numeric", text),
            (_, Kind::Bool) if matches!(text, "true" | "false") => format!("{} IS {text}", value.sql),
            (_, Kind::Json | Kind::Time) => {
                let bound = self.bind(text);
                format!("{} = {bound}", value.text())
            }
            _ => NEVER.to_owned(),
        }
    }

    /// The value is this as the column's type compares, for an index to know it, and is spelt so: who is called 07 is not
    /// who is called 7.
    fn equal_as(&mut self, value: &Value, sql_type: &str, text: &str) -> String {
        let bound = self.bind(text);
        format!("({} = {bound}::text::{sql_type} AND {} = {bound})", value.sql, value.text())
    }

    /// A number to compare with this value, in the type in which an index has it.
    fn number(&mut self, value: &Value, text: &str) -> String {
        let is_integer = value.stored == Stored::Integer && text.parse::<i64>().is_ok();
        format!("{}::text::{}", self.bind(text), if is_integer { "bigint" } else { "numeric" })
    }

    fn expr(&mut self, expr: &Expr) -> String {
        match expr {
            Expr::All => "TRUE".to_owned(),
            Expr::And(parts) => self.joined(parts, " AND "),
            Expr::Or(parts) => self.joined(parts, " OR "),
            // What is unknown does not hold, so that its opposite does.
            Expr::Not(inner) => format!("NOT coalesce({}, FALSE)", self.expr(inner)),
            Expr::Test(test) => self.test(test),
        }
    }

    fn joined(&mut self, parts: &[Expr], by: &str) -> String {
        let parts: Vec<String> = parts.iter().map(|part| self.expr(part)).collect();
        format!("({})", parts.join(by))
    }

    /// The value at a path, by the name as it is written or by the canonical one.
    pub fn value(&mut self, path: &[String], canonical: Option<&str>) -> Option<Value> {
        let (first, rest) = path.split_first()?;
        let found = self.top(first).or_else(|| self.top(canonical?));
        if first == "metadata"
            && let Some((name, below)) = rest.split_first()
        {
            if let Some(extra) = self.columns.extra(name).cloned() {
                return below_of(extra, below);
            }
            if self.columns.lacks_column(name) {
                return below_of(self.top(name)?, below);
            }
            // As it stands in the table, for an index to know it.
            return below_of(self.columns.rest.clone()?, rest);
        }
        below_of(found?, rest)
    }

    /// A member as this reader may see it.
    fn top(&mut self, name: &str) -> Option<Value> {
        let Some(value) = self.columns.member(name) else { return self.of_users(name) };
        match self.visibility {
            Visibility::Previews { preview } if name == "code" => {
                let sql = match value.kind {
                    Kind::Json => format!(
                        "CASE WHEN jsonb_typeof({}) NOT IN ('object', 'array') THEN left({}, {preview}) END",
                        value.sql,
                        value.text()
                    ),
                    _ => format!("left({}, {preview})", value.text()),
                };
                Some(Value { sql, kind: Kind::Text, stored: Stored::AsIs })
            }
            visibility if visibility.hides(name) => None,
            _ => Some(value.clone()),
        }
    }

    fn of_users(&mut self, name: &str) -> Option<Value> {
        let users = self.users.as_ref()?;
        let column = match name {
            "user_email" => users.email?,
            "user_display_name" => users.name?,
            _ => return None,
        };
        self.needs_users = true;
        Some(Value { sql: format!("{column}::text"), kind: Kind::Text, stored: Stored::AsIs })
    }

    fn test(&mut self, test: &Test) -> String {
        let Some(field) = &test.field else { return self.anywhere(&test.check) };
        let Some(known) = FieldTest::new(test) else { return NEVER.to_owned() };
        let Some(value) = self.value(field, known.canonical) else { return NEVER.to_owned() };
        match &test.check {
            Check::Exists => exists(&value),
            Check::Is(pattern) if known.is_contained() => match value.kind {
                Kind::Json => self.in_some_string(&value.sql, |me, text| me.contains(text, pattern)),
                _ => self.contains(&value.text(), pattern),
            },
            Check::Is(pattern) => self.is(&value, pattern),
            Check::Compare(op, bound) => self.range(&value, &[(*op, bound)]),
            Check::Between(from, to) => {
                let from = from.as_ref().map(|bound| (Op::GreaterOrEqual, bound));
                let to = to.as_ref().map(|bound| (Op::LessOrEqual, bound));
                self.range(&value, &from.into_iter().chain(to).collect::<Vec<_>>())
            }
            Check::Matches(pattern) if value.kind == Kind::Json => {
                let Some(bound) = regex::translated(pattern).map(|pattern| self.bind(pattern)) else {
                    return NEVER.to_owned();
                };
                let texts = ["string", "number", "boolean"];
                held::some_element(&value.sql, |json| format!("({} ~ {bound})", held::text_of(json, &texts)))
            }
            Check::Matches(pattern) => self.matches(&value.text(), pattern),
        }
    }

    fn matches(&mut self, text: &str, pattern: &str) -> String {
        let Some(expression) = regex::translated(pattern) else { return NEVER.to_owned() };
        let bound = self.bind(expression);
        format!("{text} ~ {bound}")
    }

    fn contains(&mut self, text: &str, pattern: &Pattern) -> String {
        if pattern.0.iter().any(|part| part.contains('\0')) {
            return NEVER.to_owned();
        }
        let bound = self.bind(format!("%{}%", like(pattern)));
        format!("{text} ILIKE {bound}")
    }

    /// Some string within a JSON value, at any depth.
    fn in_some_string(&mut self, json: &str, holds: impl FnOnce(&mut Self, &str) -> String) -> String {
        let holds = holds(self, "(s.v #>> '{}')");
        format!(
            "EXISTS (SELECT FROM jsonb_path_query({json}, 'strict $.** ? (@.type() == \"string\")') s(v) WHERE {holds})"
        )
    }

    /// The value is this, in any case.
    fn is(&mut self, value: &Value, pattern: &Pattern) -> String {
        if pattern.0.iter().any(|part| part.contains('\0')) {
            return NEVER.to_owned();
        }
        let Some(text) = pattern.literal() else {
            let bound = self.bind(like(pattern));
            return match value.kind {
                Kind::Json => {
                    held::some_element(&value.sql, |json| format!("({} ILIKE {bound})", held::text_of(json, &SCALARS)))
                }
                _ => format!("{} ILIKE {bound}", value.text()),
            };
        };
        if matches!(value.stored, Stored::Status(..) | Stored::Success(_)) {
            return self.equal("status", &text.to_lowercase());
        }
        let number = crate::query::number(text);
        match value.kind {
            Kind::Number if number.is_some() => {
                format!("{} = {}", value.sql, self.number(value, text))
            }
            Kind::Uuid if is_uuid(text) => {
                let bound = self.bind(text);
                format!("{} = {bound}::text::uuid", value.sql)
            }
            Kind::Inet if is_inet(text) => {
                let bound = self.bind(text);
                format!("{} = {bound}::text::inet", value.sql)
            }
            Kind::Time => match crate::query::times(text) {
                Some((first, last)) => {
                    let from = self.compare_time(value, ">=", first);
                    format!("({from} AND {})", self.compare_time(value, "<=", last))
                }
                None => NEVER.to_owned(),
            },
            Kind::Json => self.is_json(&value.sql, text),
            Kind::Text => {
                // Without letters that have a case, the value itself is compared, which an index may know.
                let has_case = text.to_lowercase() != text || text.to_uppercase() != text;
                let bound = self.bind(text);
                let is_spelt = match has_case {
                    true => format!("lower({}) = lower({bound})", value.text()),
                    false => format!("{} = {bound}", value.sql),
                };
                match self.is_time(text) {
                    Some(is_time) => format!("({is_spelt} OR {})", is_time(&value.sql)),
                    None => is_spelt,
                }
            }
            _ => {
                let bound = self.bind(text);
                format!("lower({}) = lower({bound})", value.text())
            }
        }
    }

    /// That a text is the time, or within the day, that this one names.
    fn is_time(&mut self, text: &str) -> Option<impl Fn(&str) -> String + use<>> {
        let (first, last) = crate::query::times(text)?;
        let (first, last) = (self.bind(as_read_by_postgres(first)), self.bind(as_read_by_postgres(last)));
        Some(move |text: &str| {
            format!("{} BETWEEN {first}::text::timestamptz AND {last}::text::timestamptz", held::time_in(text))
        })
    }

    /// A JSON value is this, or one of its elements is.
    fn is_json(&mut self, json: &str, text: &str) -> String {
        let bound = self.bind(text);
        let is_number = crate::query::number(text).is_some();
        let is_time = self.is_time(text);
        held::some_element(json, |json| {
            let own = held::text_of(json, &SCALARS);
            let is_spelt = format!("lower({own}) = lower({bound})");
            match &is_time {
                _ if is_number => format!(
                    "CASE jsonb_typeof({json}) WHEN 'number' THEN ({json} #>> '{{}}')::numeric = {bound}::text::numeric \
                     ELSE {is_spelt} END"
                ),
                Some(is_time) => format!("({is_spelt} OR {})", is_time(&format!("({own})"))),
                None => is_spelt,
            }
        })
    }

    /// The value lies within these ends. The first says what is compared: numbers, times or texts.
    fn range(&mut self, value: &Value, ends: &[(Op, &Bound)]) -> String {
        let Some((_, first)) = ends.first() else {
            return exists(value);
        };
        if ends.iter().any(|(_, bound)| bound.0.contains('\0')) {
            return NEVER.to_owned();
        }
        let is_number = first.number().is_some();
        let is_time = !is_number && first.times().is_some();
        let mut bounds = Vec::with_capacity(ends.len());
        for (op, bound) in ends {
            let right = match (is_number, is_time, bound.times()) {
                (true, ..) if bound.number().is_some() => self.number(value, &bound.0),
                (false, true, Some((first, last))) => {
                    // After a day is after its end, from a day on is from its beginning.
                    let time = if matches!(op, Op::Greater | Op::LessOrEqual) { last } else { first };
                    match value.kind {
                        Kind::Time => {
                            bounds.push(self.compare_time(value, op.sign(), time));
                            continue;
                        }
                        _ => format!("{}::text::timestamptz", self.bind(as_read_by_postgres(time))),
                    }
                }
                (false, false, _) => self.bind(bound.0.to_lowercase()),
                _ => return NEVER.to_owned(),
            };
            bounds.push(format!("{} {right}", op.sign()));
        }
        let all = |left: &str| {
            let parts: Vec<String> = bounds.iter().map(|bound| format!("{left} {bound}")).collect();
            format!("({})", parts.join(" AND "))
        };
        let of_text = |text: &str| match (is_number, is_time) {
            (true, _) => all(&held::number_in(text)),
            (_, true) => all(&held::time_in(text)),
            _ => all(&format!("lower({text}) COLLATE \"C\"")),
        };
        match value.kind {
            Kind::Number if is_number => all(&value.sql),
            Kind::Time if is_time => format!("({})", bounds.join(" AND ")),
            Kind::Text => of_text(&value.text()),
            Kind::Json => held::some_element(&value.sql, |json| {
                of_text(&format!("({})", held::text_of(json, &["string", "number"])))
            }),
            Kind::Number | Kind::Uuid | Kind::Inet | Kind::Time if !is_number && !is_time => of_text(&value.text()),
            _ => NEVER.to_owned(),
        }
    }

    /// In any string of the event.
    fn anywhere(&mut self, check: &Check) -> String {
        let pattern = match check {
            Check::Is(pattern) => pattern,
            Check::Matches(pattern) => {
                let pattern = pattern.clone();
                return self.anywhere_where(move |me, text| me.matches(text, &pattern), |_, _| NEVER.to_owned());
            }
            Check::Compare(..) | Check::Between(..) | Check::Exists => return NEVER.to_owned(),
        };
        if pattern.0.iter().any(|part| part.contains('\0')) {
            return NEVER.to_owned();
        }
        self.anywhere_where(
            |me, text| me.contains(text, pattern),
            |me, value| {
                // Nobody knows a part of an id or of a time.
                let bound = me.bind(like(pattern));
                format!("{} ILIKE {bound}", value.text())
            },
        )
    }

    fn anywhere_where(
        &mut self,
        holds: impl Fn(&mut Self, &str) -> String,
        is: impl Fn(&mut Self, &Value) -> String,
    ) -> String {
        let mut parts = Vec::new();
        let names: Vec<String> = self.columns.members.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(value) = self.top(&name) else { continue };
            match value.kind {
                Kind::Number | Kind::Bool => {}
                Kind::Time => parts.push(is(self, &value)),
                Kind::Json => parts.push(self.in_some_string(&value.sql, &holds)),
                Kind::Text | Kind::Uuid | Kind::Inet => parts.push(holds(self, &value.text())),
            }
        }
        if let Some(key) = self.columns.key.clone().filter(|key| key.kind != Kind::Number) {
            parts.push(is(self, &key));
        }
        if let Some(metadata) = self.top("metadata") {
            parts.push(self.in_some_string(&metadata.sql, &holds));
        }
        for (_, value) in self.columns.extras.clone() {
            match value.kind {
                Kind::Number | Kind::Bool | Kind::Time => {}
                Kind::Json => parts.push(self.in_some_string(&value.sql, &holds)),
                _ => parts.push(holds(self, &value.text())),
            }
        }
        if parts.is_empty() { NEVER.to_owned() } else { format!("({})", parts.join(" OR ")) }
    }
}

const NEVER: &str = "FALSE";

/// That there is a value, and not null.
fn exists(value: &Value) -> String {
    match value.kind {
        Kind::Json => format!("({0} IS NOT NULL AND jsonb_typeof({0}) <> 'null')", value.sql),
        _ => format!("({}) IS NOT NULL", value.sql),
    }
}

/// JSON values that are neither lists nor objects.
const SCALARS: [&str; 4] = ["string", "number", "boolean", "null"];

/// What lies below a value.
fn below_of(value: Value, path: &[String]) -> Option<Value> {
    if path.is_empty() {
        return Some(value);
    }
    if value.kind != Kind::Json {
        return None;
    }
    let mut sql = value.sql;
    for name in path {
        sql = format!("({sql} -> {})", literal(&name.replace('\0', "")));
    }
    Some(Value { sql, kind: Kind::Json, stored: Stored::AsIs })
}

/// The pattern for LIKE; what means something there means itself.
fn like(pattern: &Pattern) -> String {
    let escaped = pattern.0.iter().map(|part| part.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
    escaped.collect::<Vec<_>>().join("%")
}

pub fn is_uuid(text: &str) -> bool {
    text.len() == 36 && Id::parse(text).is_some()
}

fn is_inet(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}
