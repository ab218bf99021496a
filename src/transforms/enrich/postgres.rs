//! A snapshot of a Postgres table, refreshed at an interval.

use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::TryStreamExt;
use schemars::JsonSchema;
use serde::Deserialize;

use super::lookup::{self, Rows};
use super::quoted;
use crate::component::Check;
use crate::component::refresh::Refresh;
use crate::net::postgres::Target;
use crate::secret::Secret;
use crate::units::Duration;

/// The most rows and bytes of a snapshot: it is in memory.
const MAX_ROWS: usize = 500_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A table whose rows are read at start and then again and again. While it cannot be read, the last snapshot counts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Database URL, `postgres://user:password@host:5432/database`. The role only needs SELECT.
    pub url: Secret<String>,
    /// The table, as `table` or `schema.table`; at most 500,000 rows and 64 MiB.
    pub table: String,
    /// How often the table is read again.
    #[serde(default = "default_refresh")]
    pub refresh: Duration,
}

fn default_refresh() -> Duration {
    Duration::from_secs(300)
}

/// What reads the table, or a problem.
pub fn refresh(
    config: &Config,
    lookup: &lookup::Config,
    rows: Arc<RwLock<Arc<Rows>>>,
    check: &mut Check,
) -> Option<Refresh> {
    let target = match Target::parse(config.url.expose(), None, "weir lookup") {
        Ok(target) => target.for_reading(),
        Err(wrong) => {
            check.problem("lookup.postgres.url", wrong);
            return None;
        }
    };
    if config.table.is_empty() || config.table.split('.').count() > 2 || config.table.split('.').any(str::is_empty) {
        check.problem(
            "lookup.postgres.table",
            format!("`{}` is not a table name: expected `table` or `schema.table`", config.table),
        );
        return None;
    }
    let every: std::time::Duration = config.refresh.into();
    if every < std::time::Duration::from_secs(1) {
        check.problem("lookup.postgres.refresh", "the minimum is 1s");
        return None;
    }
    let columns: Vec<String> = [lookup.key_column()]
        .into_iter()
        .chain(lookup.columns.keys().map(String::as_str))
        .map(|column| format!("{}::text", identifier(column)))
        .collect();
    let table: Vec<String> = config.table.split('.').map(identifier).collect();
    let sql = format!("SELECT {} FROM {} LIMIT {}", columns.join(", "), table.join("."), MAX_ROWS + 1);
    let read = move || {
        let (target, sql, rows) = (target.clone(), sql.clone(), rows.clone());
        let reading = async move {
            let snapshot = snapshot(&target, &sql).await?;
            *rows.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
            Ok(())
        };
        Box::pin(reading) as crate::component::refresh::Reading
    };
    Some(Refresh { every, read: Arc::new(read) })
}

async fn snapshot(target: &Target, sql: &str) -> Result<Rows, String> {
    let connection = target.connect().await.map_err(|fault| fault.reason)?;
    let failed = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(said) => format!("lookup in `{}` failed: {}", target.place, said.message()),
        None => format!("no answer from `{}`: {error}", target.place),
    };
    let parameters: [&str; 0] = [];
    let stream = connection.client.query_raw(sql, parameters).await.map_err(failed)?;
    let mut stream = pin!(stream);
    let (mut rows, mut bytes, mut seen) = (Rows::new(), 0, 0);
    while let Some(row) = stream.try_next().await.map_err(failed)? {
        let cell = |at: usize| row.try_get::<_, Option<&str>>(at).ok().flatten();
        seen += 1;
        let cells: Vec<Box<[u8]>> = (1..row.len())
            .map(|at| cell(at).filter(|text| !text.is_empty()).map_or_else(Box::default, |text| quoted(text).into()))
            .collect();
        let Some(key) = cell(0) else { continue };
        bytes += key.len() + cells.iter().map(|cell| cell.len()).sum::<usize>();
        if seen > MAX_ROWS || bytes > MAX_BYTES {
            return Err(format!("the table is larger than {MAX_ROWS} rows or 64 MiB"));
        }
        rows.entry(key.to_owned()).or_insert(cells);
    }
    Ok(rows)
}

/// A name as SQL has it.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
