//! Creates a missing table: canonical columns, indexes for the usual queries, monthly partitions if asked for.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::table::{Name, quote};
use crate::event::names;
use crate::units::Timestamp;

/// Columns that are no text.
const TYPES: [(&str, &str); 11] = [
    ("id", "uuid NOT NULL"),
    ("timestamp", "timestamptz NOT NULL"),
    ("received_at", "timestamptz"),
    ("duration_ms", "double precision"),
    ("cell_number", "integer"),
    ("status_code", "integer"),
    ("db_query_count", "integer"),
    ("ip_address", "inet"),
    ("peer_ip", "text"),
    ("is_admin", "boolean"),
    ("metadata", "jsonb"),
];

/// What is looked up, and by which columns. The user's index serves those who ask for a user at any time, too.
const INDEXES: [(&str, &str); 5] = [
    ("time", "(\"timestamp\")"),
    ("user", "(\"user_id\", \"timestamp\" DESC)"),
    ("type", "(\"event_type\")"),
    ("status", "(\"status\")"),
    ("metadata", "USING gin (\"metadata\")"),
];

/// The longest name in Postgres, less what is appended to it.
const NAME_LEN: usize = 48;

/// Creates the table and its indexes in one transaction; who comes second finds it there.
pub async fn create(client: &Client, name: &Name, key: &str, by_month: bool) -> Result<(), Error> {
    let trigrams = trigrams(client).await?;
    let create = format!("BEGIN; {}; {}; COMMIT", lock(name), definition(name, key, by_month, trigrams.as_deref()));
    let created = client.batch_execute(&create).await;
    if created.is_err() {
        client.batch_execute("ROLLBACK").await?;
    }
    created
}

/// The schema of the extension that finds parts of texts, which is created if we may.
async fn trigrams(client: &Client) -> Result<Option<String>, Error> {
    #[expect(clippy::let_underscore_must_use, reason = "a role that may not create it does without")]
    let _ = client.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_trgm").await;
    let schema = "SELECT extnamespace::regnamespace::text FROM pg_catalog.pg_extension WHERE extname = 'pg_trgm'";
    Ok(client.query_typed_opt(schema, &[]).await?.map(|row| row.get(0)))
}

fn definition(name: &Name, key: &str, by_month: bool, trigrams: Option<&str>) -> String {
    let canonical = names::KNOWN.iter().take(names::METADATA.0 as usize + 1);
    let column = |name: &&str| {
        let own = TYPES.iter().find(|(known, _)| known == name).map_or("text", |(_, sql)| sql);
        let name = if *name == "id" { key } else { name };
        format!("{} {own}", quote(name))
    };
    let mut columns: Vec<String> = canonical.map(column).collect();
    let (time, partitions) =
        if by_month { (", \"timestamp\"", " PARTITION BY RANGE (\"timestamp\")") } else { ("", "") };
    columns.push(format!("PRIMARY KEY ({}{time})", quote(key)));
    let table = name.quoted();
    let mut sql = vec![format!("CREATE TABLE IF NOT EXISTS {table} ({}){partitions}", columns.join(", "))];
    let short = short(&name.table);
    for (word, columns) in INDEXES {
        sql.push(format!("CREATE INDEX IF NOT EXISTS {} ON {table} {columns}", quote(&format!("{short}_{word}"))));
    }
    if let Some(schema) = trigrams {
        let index = quote(&format!("{short}_code"));
        sql.push(format!("CREATE INDEX IF NOT EXISTS {index} ON {table} USING gin (\"code\" {schema}.gin_trgm_ops)"));
    }
    if by_month {
        let other = Name { schema: name.schema.clone(), table: format!("{short}_other") };
        sql.push(format!("CREATE TABLE IF NOT EXISTS {} PARTITION OF {table} DEFAULT", other.quoted()));
    }
    sql.join("; ")
}

/// One at a time changes the tables of this name.
fn lock(name: &Name) -> String {
    let text = name.quoted().replace('\'', "''");
    format!("SET LOCAL lock_timeout = '5s'; SELECT pg_advisory_xact_lock(hashtext('weir'), hashtext('{text}'))")
}

/// The name, as far as something can be put behind it.
fn short(table: &str) -> &str {
    &table[..table.floor_char_boundary(NAME_LEN)]
}

/// A month in UTC, counted from the year 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(i32);

impl Month {
    pub fn of(at: Timestamp) -> Month {
        let text = at.to_string();
        let number = |range: std::ops::Range<usize>| text[range].parse().unwrap_or(1);
        Month(number(0..4) * 12 + number(5..7) - 1)
    }

    pub fn next(self) -> Month {
        Month(self.0 + 1)
    }

    /// Where it begins, as SQL has it.
    fn begin(self) -> String {
        format!("{:04}-{:02}-01 00:00:00+00", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }

    pub fn partition(self, name: &Name) -> Name {
        let (year, month) = (self.0.div_euclid(12), self.0.rem_euclid(12) + 1);
        Name { schema: name.schema.clone(), table: format!("{}_p{year:04}_{month:02}", short(&name.table)) }
    }

    /// The month of a partition that we named.
    pub fn of_partition(name: &Name, partition: &str) -> Option<Month> {
        let rest = partition.strip_prefix(short(&name.table))?.strip_prefix("_p")?;
        let (year, month) = rest.split_once('_')?;
        Some(Month(
            year.parse::<i32>().ok()? * 12 + month.parse::<i32>().ok().filter(|month| (1..=12).contains(month))? - 1,
        ))
    }
}

/// Makes a month's partition if it is missing; what the table for all other times has of it moves there.
pub async fn add_month(client: &Client, name: &Name, month: Month) -> Result<(), Error> {
    let (table, quoted) = (name.quoted(), month.partition(name).quoted());
    if is_there(client, &quoted).await? {
        return Ok(());
    }
    let other = Name { schema: name.schema.clone(), table: format!("{}_other", short(&name.table)) }.quoted();
    let (from, to) = (month.begin(), month.next().begin());
    let add = format!(
        "BEGIN; {}; CREATE TABLE {quoted} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS); \
         WITH moved AS (DELETE FROM {other} WHERE \"timestamp\" >= '{from}' AND \"timestamp\" < '{to}' RETURNING *) \
         INSERT INTO {quoted} SELECT * FROM moved; \
         ALTER TABLE {table} ATTACH PARTITION {quoted} FOR VALUES FROM ('{from}') TO ('{to}'); COMMIT",
        lock(name)
    );
    let added = client.batch_execute(&add).await;
    if added.is_err() {
        client.batch_execute("ROLLBACK").await?;
        // Another agent was quicker.
        return if is_there(client, &quoted).await? { Ok(()) } else { added };
    }
    Ok(())
}

async fn is_there(client: &Client, quoted: &str) -> Result<bool, Error> {
    let known = client.query_typed_one("SELECT to_regclass($1) IS NOT NULL", &[(&quoted, Type::TEXT)]).await?;
    Ok(known.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_known_by_their_partitions() {
        let name = Name::parse("audit.logs").expect("a name");
        let december = Month::of(Timestamp::parse("2025-12-31T23:59:59Z").expect("a time"));
        let partition = december.partition(&name);
        assert_eq!(partition.quoted(), "\"audit\".\"logs_p2025_12\"");
        assert_eq!(Month::of_partition(&name, &partition.table), Some(december));
        assert_eq!(
            (december.begin(), december.next().begin()),
            ("2025-12-01 00:00:00+00".into(), "2026-01-01 00:00:00+00".into())
        );
        for other in ["logs_other", "logs_p2025_13", "log_p2025_12", "logs_p2025"] {
            assert_eq!(Month::of_partition(&name, other), None, "{other}");
        }
    }
}
