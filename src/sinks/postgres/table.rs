//! The table as the database describes it: columns, keys, and the role's privileges.

use std::fmt;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::value::Form;

/// A table's name in its parts, as they were written: nothing is folded to lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub schema: Option<String>,
    pub table: String,
}

impl Name {
    /// Reads `table` or `schema.table`; a part may stand in double quotes, with `""` for one of them.
    pub fn parse(text: &str) -> Result<Name, String> {
        let mut parts = vec![String::new()];
        let mut chars = text.chars().peekable();
        let mut is_quoted = false;
        while let Some(next) = chars.next() {
            let part = parts.last_mut().expect("there is always a part");
            match next {
                '"' if is_quoted && chars.next_if_eq(&'"').is_some() => part.push('"'),
                // A quote within a name that does not begin with one is a part of it.
                '"' if is_quoted || part.is_empty() => is_quoted = !is_quoted,
                '.' if !is_quoted => parts.push(String::new()),
                '\0' => return Err("a name cannot contain NUL".into()),
                next => part.push(next),
            }
        }
        if is_quoted {
            return Err("a `\"` is not closed".into());
        }
        if parts.iter().any(String::is_empty) {
            return Err("a part of the name is empty; write `table` or `schema.table`".into());
        }
        match <[String; 2]>::try_from(parts) {
            Ok([schema, table]) => Ok(Name { schema: Some(schema), table }),
            Err(mut parts) if parts.len() == 1 => Ok(Name { schema: None, table: parts.remove(0) }),
            Err(_) => Err("more than two parts; quote names that contain dots".into()),
        }
    }

    /// The same as SQL.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.table)),
            None => quote(&self.table),
        }
    }
}

/// As a person would call it.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.table),
            None => f.write_str(&self.table),
        }
    }
}

/// A name as SQL; whatever is in it, it stays a name.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// With its schema.
    pub name: Name,
    pub oid: u32,
    pub columns: Vec<Column>,
    /// The columns of every unique index that holds for all rows, at once.
    pub unique: Vec<Vec<String>>,
    /// Names of columns whose unique index is being built, or whose building failed.
    pub unfinished: Vec<String>,
    pub is_partitioned: bool,
    /// Whether the role may change the table.
    pub is_owned: bool,
    pub may_insert: bool,
    /// Whether rows can be copied in: there are no rules and no row-level security in the way.
    pub may_copy: bool,
    /// Whether a trigger may keep rows out, or put them elsewhere.
    pub has_triggers: bool,
    /// The time zone of our sessions.
    pub zone: String,
    /// Whether its rows have a place: a view has none, nor a foreign table.
    pub has_places: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub form: Form,
    /// The type as SQL, such as `character varying(50)`.
    pub sql_type: String,
    pub is_required: bool,
    /// The SQL expression of its default.
    pub default: Option<String>,
    /// Whether the database fills it, whatever is sent.
    pub is_generated: bool,
    /// Whether it counts up by itself: serial, or identity.
    pub is_counter: bool,
    /// The sequence behind its default, where the role may not use it.
    pub denied_sequence: Option<String>,
    pub may_insert: bool,
    pub may_select: bool,
}

impl Table {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Reads a table; `None` if there is none of this name.
    pub async fn read(client: &Client, name: &Name) -> Result<Option<Table>, Error> {
        let rows = client.query_typed(TABLE, &[(&name.quoted(), Type::TEXT)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let oid: u32 = row.get(0);
        let mut table = Table {
            name: Name { schema: Some(row.get(1)), table: row.get(2) },
            oid,
            columns: Vec::new(),
            unique: Vec::new(),
            unfinished: Vec::new(),
            is_partitioned: row.get(3),
            is_owned: row.get(4),
            may_insert: row.get(5),
            may_copy: row.get(6),
            has_triggers: row.get(7),
            zone: row.get(8),
            has_places: row.get(9),
        };
        for row in client.query_typed(COLUMNS, &[(&oid, Type::OID)]).await? {
            let (type_name, modifier): (String, i32) = (row.get(1), row.get(2));
            let default: Option<String> = row.get(5);
            let identity: String = row.get(6);
            table.columns.push(Column {
                name: row.get(0),
                form: Form::of(&type_name, modifier),
                sql_type: row.get(3),
                is_required: row.get(4),
                is_generated: row.get::<_, bool>(7) || identity == "a",
                is_counter: !identity.is_empty() || default.as_deref().is_some_and(|text| text.contains("nextval(")),
                default,
                may_insert: row.get(8),
                may_select: row.get(9),
                denied_sequence: row.get(10),
            });
        }
        for row in client.query_typed(INDEXES, &[(&oid, Type::OID)]).await? {
            let (columns, is_valid): (Vec<String>, bool) = (row.get(0), row.get(1));
            if is_valid {
                table.unique.push(columns);
            } else {
                table.unfinished.extend(columns);
            }
        }
        Ok(Some(table))
    }
}

/// Rules and row-level security are the two things that COPY cannot do. Of the bits of a trigger's type, 1 and 4 are for
/// each row and on INSERT, 2 and 64 before it and instead of it.
const TABLE: &str = "\
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind = 'p', pg_has_role(c.relowner, 'USAGE'),
       has_table_privilege(c.oid, 'INSERT') OR has_any_column_privilege(c.oid, 'INSERT'),
       c.relkind IN ('r', 'p') AND NOT c.relhasrules AND NOT (c.relrowsecurity AND row_security_active(c.oid)),
       EXISTS (SELECT FROM pg_catalog.pg_trigger t
               WHERE t.tgtype & 5 = 5 AND t.tgtype & 66 <> 0 AND t.tgenabled <> 'D' AND t.tgrelid IN
                     (SELECT c.oid UNION ALL SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = c.oid)),
       current_setting('TimeZone'), c.relkind IN ('r', 'p')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p', 'v', 'f')";

const COLUMNS: &str = "\
SELECT a.attname::text, t.typname::text, a.atttypmod, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid), a.attidentity::text, a.attgenerated <> '',
       has_column_privilege(a.attrelid, a.attnum, 'INSERT'), has_column_privilege(a.attrelid, a.attnum, 'SELECT'),
       (SELECT s.oid::regclass::text FROM pg_catalog.pg_depend p JOIN pg_catalog.pg_class s ON s.oid = p.refobjid
        WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
          AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE') ELSE false END LIMIT 1)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const INDEXES: &str = "\
SELECT array_agg(a.attname::text ORDER BY k.place), i.indisvalid AND i.indisready
FROM pg_catalog.pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisvalid, i.indisready ORDER BY i.indexrelid";

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(Option<String>, String), String> {
        Name::parse(text).map(|name| (name.schema, name.table))
    }

    #[test]
    fn a_name_is_a_name_whatever_is_in_it() {
        assert_eq!(parsed("logs"), Ok((None, "logs".into())));
        assert_eq!(parsed("audit.logs"), Ok((Some("audit".into()), "logs".into())));
        assert_eq!(parsed(r#""my.schema"."Logs""#), Ok((Some("my.schema".into()), "Logs".into())));
        assert_eq!(parsed(r#""a""b""#), Ok((None, "a\"b".into())));
        let evil = Name::parse(r#"evil"; drop table x;--"#).expect("a name");
        assert_eq!(evil.quoted(), r#""evil""; drop table x;--""#);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", ".logs", "a.", "a.b.c", "\"open", "a\0b"] {
            assert!(parsed(text).is_err(), "{text:?}");
        }
    }
}
