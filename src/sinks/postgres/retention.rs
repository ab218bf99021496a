//! Retention: archives or deletes old rows in small steps, without delaying writes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::AbortHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error};
use tracing::{info, warn};

use super::create::{Month, add_month};
use super::failure;
use super::plan::quoted_list;
use super::table::{Name, Table, literal, quote};
use crate::component::Failure;
use crate::net::postgres::Target;
use crate::secret::Secret;
use crate::units::{self, Timestamp};

/// Rows of one transaction.
const BATCH: u32 = 1000;
/// Between two of them, so that others come to their turn.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two looks, where there was nothing to do.
const EVERY: Duration = Duration::from_secs(600);
/// Where there was: rows that somebody held were passed over.
const SOON: Duration = Duration::from_secs(5);
/// Months that are made ahead, beyond the one that is.
const MONTHS_AHEAD: usize = 2;
/// Most months that are kept apart; what is older is kept together.
const MOST_MONTHS: usize = 240;

/// How long rows are kept.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Maximum age, by the column `timestamp`.
    #[serde(alias = "keep")]
    pub age: units::Duration,
    /// Table that older rows are moved to; created if it is missing. If absent, they are deleted.
    #[serde(default)]
    pub archive: Option<String>,
    /// Database URL of another role, which may delete rows and fill the archive if the writing role may only insert.
    #[serde(default)]
    pub url: Option<Secret<String>>,
}

impl Retention {
    /// The name of the archive.
    pub fn archive(&self) -> Option<Result<Name, String>> {
        self.archive.as_deref().map(Name::parse)
    }
}

/// The work beside the sink; ends with it.
pub struct Keeper(AbortHandle);

/// What it looks after.
pub struct Ward {
    pub target: Target,
    pub table: Table,
    pub retention: Retention,
    pub archive: Option<Name>,
    /// Whether the months are ours to make.
    pub makes_months: bool,
}

impl Ward {
    /// Whether its role may do what retention does; else with what to grant.
    pub async fn check(&self) -> Result<(), Failure> {
        let connected = self.target.connect().await;
        let connection = connected.map_err(|fault| failure::connecting(&self.target.place, &fault))?;
        let archive = self.archive.as_ref().map(Name::quoted);
        let schema = self.archive.as_ref().and_then(|archive| archive.schema.clone());
        let names: [(&(dyn ToSql + Sync), Type); 3] =
            [(&self.table.oid, Type::OID), (&archive, Type::TEXT), (&schema, Type::TEXT)];
        let row = connection.client.query_typed_one(RIGHTS, &names).await;
        let row = row.map_err(|error| failure::writing(&self.target.place, &connection, &error))?;
        let (role, may_move, may_archive, there): (String, bool, bool, bool) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let table = &self.table.name;
        if !may_move {
            return Err(Failure::configuration(format!(
                "`retention`: role `{role}` may not remove rows from `{table}`: \
                 grant select, update, delete on {table} to {role}"
            )));
        }
        match &self.archive {
            Some(archive) if !may_archive => Err(Failure::configuration(match there {
                true => format!(
                    "`retention`: role `{role}` may not fill `{archive}`: grant select, insert on {archive} to {role}"
                ),
                false => format!(
                    "`retention`: role `{role}` may not create `{archive}`: create it, or grant create on its schema to {role}"
                ),
            })),
            _ => Ok(()),
        }
    }
}

/// Rows that are removed are locked first, which needs UPDATE. Without an archive its name is null.
const RIGHTS: &str = "\
SELECT current_user::text,
       has_table_privilege($1, 'DELETE') AND has_table_privilege($1, 'SELECT') AND has_table_privilege($1, 'UPDATE'),
       CASE WHEN $2 IS NULL THEN true
            WHEN to_regclass($2) IS NOT NULL THEN has_table_privilege(to_regclass($2), 'INSERT')
            ELSE COALESCE(has_schema_privilege(COALESCE($3, current_schema()), 'CREATE'), false) END,
       to_regclass($2) IS NOT NULL";

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Partitions for every month that is kept, and for those to come.
pub async fn make_months(client: &Client, table: &Table, keep: Duration) -> Result<(), Error> {
    let now = Timestamp::now();
    let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    let mut month = Month::of(Timestamp(now.0.saturating_sub(keep).max(0)));
    let mut last = Month::of(now);
    for _ in 0..MONTHS_AHEAD {
        last = last.next();
    }
    for _ in 0..MOST_MONTHS {
        if month > last {
            break;
        }
        add_month(client, &table.name, month).await?;
        month = month.next();
    }
    Ok(())
}

impl Keeper {
    pub fn start(ward: Ward) -> Keeper {
        let keeping = async move {
            let mut wait = SOON;
            loop {
                wait = match look(&ward).await {
                    Ok(0) => EVERY,
                    Ok(rows) => {
                        info!(table = %ward.table.name, rows, "retention removed old rows");
                        SOON
                    }
                    Err(reason) => {
                        warn!(table = %ward.table.name, reason, "retention failed and will be retried");
                        (wait * 2).min(EVERY)
                    }
                };
                tokio::time::sleep(wait).await;
            }
        };
        Keeper(tokio::spawn(keeping).abort_handle())
    }
}

/// Removes all rows that are too old, and returns their number.
async fn look(ward: &Ward) -> Result<u64, String> {
    let Ward { target, table, retention, archive, makes_months } = ward;
    let connection = target.connect().await.map_err(|fault| fault.reason)?;
    let said = |error: Error| error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned());
    let client = &connection.client;
    client.batch_execute("SET lock_timeout = '5s'").await.map_err(said)?;
    let archive = match archive {
        Some(name) => Some(ready_archive(client, table, name).await.map_err(said)?),
        None => None,
    };
    if table.is_partitioned && *makes_months {
        make_months(client, table, *retention.age).await.map_err(said)?;
    }
    let mut gone = 0;
    for leaf in leaves(client, table).await.map_err(said)? {
        let month = Month::of_partition(&table.name, &leaf.table).filter(|_| table.is_partitioned);
        let cutoff = Timestamp(Timestamp::now().0.saturating_sub(retention.age.as_micros() as i64));
        let is_old = month.is_some_and(|month| month < Month::of(cutoff));
        if is_old && archive.is_none() {
            gone += drop_partition(client, table, &leaf).await.map_err(said)?;
            continue;
        }
        loop {
            let moved = move_some(client, table, &leaf, cutoff, archive.as_ref()).await.map_err(said)?;
            gone += moved;
            if moved == 0 {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if is_old {
            drop_partition(client, table, &leaf).await.map_err(said)?;
        }
    }
    Ok(gone)
}

/// The archive, and the columns that it shares with the table.
async fn ready_archive(client: &Client, table: &Table, name: &Name) -> Result<(Name, String), Error> {
    if Table::read(client, name).await?.is_none() {
        let like = table.name.quoted();
        // With the key: what is sent again after its row has moved would come a second time.
        let made = format!("CREATE TABLE IF NOT EXISTS {} (LIKE {like} INCLUDING INDEXES)", name.quoted());
        client.batch_execute(&made).await?;
    }
    let archive = Table::read(client, name).await?;
    let has = |column: &&str| archive.as_ref().is_some_and(|archive| archive.column(column).is_some());
    let shared = table.columns.iter().filter(|column| !column.is_generated || column.is_counter);
    Ok((name.clone(), quoted_list(shared.map(|column| &*column.name).filter(has))))
}

/// The tables that hold the rows.
async fn leaves(client: &Client, table: &Table) -> Result<Vec<Name>, Error> {
    if !table.is_partitioned {
        return Ok(vec![table.name.clone()]);
    }
    let leaves = "SELECT n.nspname::text, c.relname::text FROM pg_partition_tree($1) p \
                  JOIN pg_catalog.pg_class c ON c.oid = p.relid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                  WHERE p.isleaf ORDER BY c.relname";
    let rows = client.query_typed(leaves, &[(&table.oid, Type::OID)]).await?;
    Ok(rows.iter().map(|row| Name { schema: Some(row.get(0)), table: row.get(1) }).collect())
}

/// Moves or deletes a few rows in one transaction; locked ones wait for the next time.
async fn move_some(
    client: &Client,
    table: &Table,
    leaf: &Name,
    cutoff: Timestamp,
    archive: Option<&(Name, String)>,
) -> Result<u64, Error> {
    let time = quote("timestamp");
    let has_zone = table.column("timestamp").is_none_or(|column| column.sql_type == "timestamp with time zone");
    let at = if has_zone { String::new() } else { format!(" AT TIME ZONE {}", literal(&table.zone)) };
    let leaf = leaf.quoted();
    let old = format!(
        "SELECT ctid FROM {leaf} WHERE {time} < ('{cutoff}'::timestamptz{at}) LIMIT {BATCH} FOR UPDATE SKIP LOCKED"
    );
    let delete = format!("DELETE FROM {leaf} WHERE ctid = ANY (ARRAY({old}))");
    let sql = match archive {
        None => delete,
        Some((name, columns)) => format!(
            "WITH gone AS ({delete} RETURNING {columns}) INSERT INTO {} ({columns}) SELECT {columns} FROM gone \
             ON CONFLICT DO NOTHING",
            name.quoted()
        ),
    };
    client.execute_typed(&sql, &[]).await
}

/// Tells how many rows went with it.
async fn drop_partition(client: &Client, table: &Table, leaf: &Name) -> Result<u64, Error> {
    let (table, leaf) = (table.name.quoted(), leaf.quoted());
    let count = client.query_typed_one(&format!("SELECT count(*) FROM {leaf}"), &[]).await?.get::<_, i64>(0);
    let sql = format!("BEGIN; ALTER TABLE {table} DETACH PARTITION {leaf}; DROP TABLE {leaf}; COMMIT");
    if let Err(error) = client.batch_execute(&sql).await {
        client.batch_execute("ROLLBACK").await?;
        return Err(error);
    }
    Ok(count as u64)
}
