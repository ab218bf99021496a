//! Writes rows to Postgres: existing tables are used as they are, and repeated events are stored once.
//!
//! Opening reads the catalogue and plans which column gets what; encoding brings each value into the bytes of its
//! column's type; a write is one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{info, warn};

use crate::codec::template::Template;
use crate::component::{
    Check, Failure, Findings, Promise, ReadOptions, Readable, Reader, Sink, SinkContext, WriteBatch, Written,
};
use crate::net::postgres::{Connection, Target};
use crate::net::tls::Trust;
use crate::secret::Secret;

mod conflicts;
mod create;
mod failure;
mod key;
mod plan;
#[cfg(test)]
mod plan_test;
mod read;
mod retention;
mod rows;
mod table;
mod value;
mod writer;

use key::Key;
use plan::Plan;
use read::TableReader;
use retention::{Keeper, Retention, Ward};
use rows::Rows;
use table::{Name, Table, quote};
use writer::Writer;

/// For so long the table is taken for what it was when it was looked at.
const FRESH: Duration = Duration::from_secs(5);
/// From this many rows on, COPY is faster than INSERT.
const COPY_ROWS: usize = 200;

/// Writes each event as one row, once per id. Columns are filled by name, by the aliases of `normalize`, or as
/// `columns` says; fields without a column go into a JSON column `metadata`, `details` or `extra`, if there is one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Database URL, such as `postgres://user:password@host:5432/database?sslmode=verify-full`. Of several hosts,
    /// separated by commas, the one that accepts writes is used. `sslmode=require` and stricter verify the certificate.
    pub url: Secret<String>,
    /// Table, as `table` or `schema.table`, case-sensitive; parts may be in double quotes.
    pub table: String,
    /// Columns that are not filled by name, and what fills them: a field such as `metadata.tenant`, or a template such
    /// as `{{ host }}/{{ notebook | none }}`. An empty text leaves the column to the database.
    #[serde(default)]
    pub columns: BTreeMap<String, String>,
    /// Default values of columns.
    #[serde(default)]
    pub defaults: BTreeMap<String, String>,
    /// Column of the event's id, of type uuid or text. If it is a serial column, the id is stored in `event_id`.
    #[serde(default = "default_key")]
    pub key: String,
    /// How rows are inserted.
    #[serde(default)]
    pub mode: Mode,
    /// Whether a missing table is created, with a column for each canonical field, indexes, and `metadata` for
    /// everything else; with `retention`, partitioned by month.
    #[serde(default)]
    pub create_table: bool,
    /// Time zone of `timestamp` columns without a zone, such as `Asia/Tehran`. Default: the session's.
    #[serde(default)]
    pub timezone: Option<String>,
    /// How long rows are kept; unlimited if absent.
    #[serde(default)]
    pub retention: Option<Retention>,
}

/// How rows are inserted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// What is fastest for the number of rows; each is stored once.
    #[default]
    Auto,
    /// One INSERT a batch, which passes over rows that are there.
    Insert,
    /// COPY into a temporary table, then one INSERT from it, which passes over rows that are there.
    Copy,
    /// COPY straight into the table, whatever is there: what is sent again after a fault is stored again.
    AppendOnly,
}

/// The database as the role that takes old rows away.
fn other_role(url: &Secret<String>, trust: Option<&Trust>, application: &str) -> Result<Target, Failure> {
    let target = Target::parse(url.expose(), trust, application);
    target.map_err(|wrong| Failure::configuration(format!("`retention.url`: {wrong}")))
}

fn default_key() -> String {
    key::DEFAULT.to_owned()
}

pub struct Postgres {
    name: Arc<str>,
    table: String,
    /// Absent while a configuration is only checked.
    writer: Option<Writer>,
    mode: Mode,
    findings: Findings,
    /// Members that were left out and said so.
    left_out: Mutex<BTreeSet<String>>,
    _keeper: Option<Keeper>,
    opened: Instant,
}

impl Sink for Postgres {
    const TYPE: &'static str = "postgres";
    const PROMISE: Promise = Promise::EffectivelyOnce;
    const READ: Readable = Readable::WhenNamed;
    type Config = Config;
    type Payload = Rows;

    fn check(config: &Config, check: &mut Check) {
        if let Err(wrong) = Target::parse(config.url.expose(), None, "weir") {
            check.problem("url", wrong);
        }
        if let Err(wrong) = Name::parse(&config.table) {
            check.problem("table", wrong);
        }
        let other = config.retention.as_ref().and_then(|retention| retention.url.as_ref());
        if let Some(Err(wrong)) = other.map(|url| Target::parse(url.expose(), None, "weir")) {
            check.problem("retention.url", wrong);
        }
        if let Some(Err(wrong)) = config.timezone.as_deref().map(plan::zone) {
            check.problem("timezone", wrong);
        }
        if let Some(Err(wrong)) = config.retention.as_ref().and_then(Retention::archive) {
            check.problem("retention.archive", wrong);
        }
        for (column, text) in &config.columns {
            if let Err(wrong) = Template::parse(text) {
                check.problem_within(format!("columns.{column}"), wrong.range, wrong.message);
            }
        }
    }

    async fn open(config: &Config, cx: &SinkContext) -> Result<Postgres, Failure> {
        let name = Name::parse(&config.table).map_err(Failure::configuration)?;
        let application = format!("weir {}", cx.name);
        let trust = cx.encrypted.then_some(&cx.tls);
        let target = Target::parse(config.url.expose(), trust, &application);
        let target = target.map_err(|wrong| Failure::configuration(format!("`url`: {wrong}")))?;
        let connected = target.connect().await;
        let connection = connected.map_err(|fault| failure::connecting(&target.place, &fault))?;
        let opened = open(config, cx, &target.place, &connection, &name).await;
        let (plan, table) = opened.map_err(|trouble| match trouble {
            Trouble::Server(error) => failure::writing(&target.place, &connection, &error),
            Trouble::Table(answer) => Failure::configuration(answer),
            Trouble::ReadOnly => Failure::transient(format!(
                "`{}` takes no writes at the moment: name all hosts in `url`, and the one that does is found",
                target.place
            )),
        })?;
        let findings = Findings { promise: Some(plan.promise), notes: plan.notes.clone() };
        match plan.promise {
            Promise::EffectivelyOnce => info!(sink = %cx.name, table = %name, notes = plan.notes.join("; "), "opened"),
            _ => warn!(sink = %cx.name, table = %name, notes = plan.notes.join("; "), "opened; repeats are possible"),
        }
        let mut keeper = None;
        if let (Some(retention), Some(table)) = (&config.retention, table) {
            let archive = retention.archive().transpose().map_err(Failure::configuration)?;
            let target = match &retention.url {
                Some(url) => other_role(url, trust, &application)?,
                None => target.clone(),
            };
            let retention = retention.clone();
            let ward = Ward { target, table, retention, archive, makes_months: config.create_table };
            match cx.dry {
                true => ward.check().await?,
                false => keeper = Some(Keeper::start(ward)),
            }
        }
        let writer = (!cx.dry).then(|| Writer::new(target, plan, connection, cx.timeout));
        Ok(Postgres {
            name: cx.name.clone(),
            table: config.table.clone(),
            writer,
            mode: config.mode,
            findings,
            left_out: Mutex::default(),
            _keeper: keeper,
            opened: Instant::now(),
        })
    }

    fn encode(&self, batch: &WriteBatch) -> Result<Rows, Failure> {
        let writer = self.writer()?;
        let plan = writer.plan();
        let as_copy = writer.may_copy()
            && match self.mode {
                Mode::Insert => false,
                Mode::Copy => true,
                Mode::Auto => batch.len() >= COPY_ROWS && plan.may_copy && !plan.needs_cast(),
                Mode::AppendOnly => plan.may_copy && !plan.needs_cast(),
            };
        match rows::encode(plan, batch, as_copy) {
            // A column that had to have a value may be gone by now: the table is looked at again before all are given up.
            Err(Failure::Some(failures, _)) if failures.len() == batch.len() && self.opened.elapsed() >= FRESH => {
                let answer = failures.first().map_or("", |(_, failure)| failure.answer());
                Err(Failure::transient(format!("no event fits the table, which is looked at again: {answer}")))
            }
            encoded => encoded,
        }
    }

    async fn write(&self, batch: &WriteBatch, rows: &Rows) -> Result<Written, Failure> {
        let written = self.writer()?.write(batch, rows, self.mode == Mode::Copy).await?;
        self.say_left_out(&rows.left_out);
        Ok(written)
    }

    fn reader(config: &Config, cx: &SinkContext, options: &ReadOptions) -> Option<Arc<dyn Reader>> {
        match TableReader::new(config, cx, options) {
            Ok(reader) => Some(Arc::new(reader)),
            Err(wrong) => {
                tracing::error!(sink = %cx.name, wrong, "the table cannot be read");
                None
            }
        }
    }

    fn promise(config: &Config) -> Promise {
        match config.mode {
            Mode::AppendOnly => Promise::AtLeastOnce,
            _ => Promise::EffectivelyOnce,
        }
    }

    fn findings(&self) -> Findings {
        self.findings.clone()
    }
}

impl Postgres {
    fn writer(&self) -> Result<&Writer, Failure> {
        self.writer.as_ref().ok_or_else(|| Failure::configuration("opened for a check only"))
    }

    /// Each name once.
    fn say_left_out(&self, names: &BTreeSet<String>) {
        if names.is_empty() {
            return;
        }
        let mut said = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<&str> = names.difference(&said).map(String::as_str).collect();
        if !new.is_empty() {
            let members = plan::listed(&new);
            warn!(sink = %self.name, table = %self.table, members, "no column and no JSON column holds these; they are left out");
            *said = said.union(names).cloned().collect();
        }
    }
}

enum Trouble {
    Server(tokio_postgres::Error),
    /// For the operator.
    Table(String),
    ReadOnly,
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Trouble {
        Trouble::Server(error)
    }
}

/// Looks at the table, makes it or gives it a key if it may, and plans. A table that is still to be made is absent.
async fn open(
    config: &Config,
    cx: &SinkContext,
    place: &str,
    connection: &Connection,
    name: &Name,
) -> Result<(Plan, Option<Table>), Trouble> {
    let client = &connection.client;
    let row =
        client.query_typed_one("SELECT current_setting('transaction_read_only'), current_user::text", &[]).await?;
    if row.get::<_, &str>(0) == "on" {
        return Err(Trouble::ReadOnly);
    }
    let role: String = row.get(1);
    let by_month = config.retention.is_some();
    let missing = || Trouble::Table(format!("`{place}` has no table `{name}`: create it, or set `create_table: true`"));
    let mut found = Table::read(client, name).await?;
    if found.is_none() && config.create_table {
        if cx.dry {
            return Ok((Plan::to_come(name, by_month), None));
        }
        info!(sink = %cx.name, table = %name, "creating the table");
        create::create(client, name, &config.key, by_month).await?;
        found = Table::read(client, name).await?;
    }
    let mut table = found.ok_or_else(missing)?;
    let in_zone = |table: Table| Table { zone: config.timezone.clone().unwrap_or_else(|| table.zone.clone()), ..table };
    if !table.may_insert {
        let wrong = format!("role `{role}` may not insert into `{name}`: grant insert on {name} to {role}");
        return Err(Trouble::Table(wrong));
    }
    if !cx.dry && Key::choose(&table, config) == Key::Add {
        info!(sink = %cx.name, table = %name, column = key::ADDED, "adding a column for the event's id");
        add_key(client, &table).await?;
        table = Table::read(client, name).await?.ok_or_else(missing)?;
    }
    table = in_zone(table);
    if let Some(retention) = &config.retention {
        if table.column("timestamp").is_none() {
            return Err(Trouble::Table(format!("`retention` goes by a column `timestamp`, which `{name}` has not")));
        }
        // Rows of a month without a partition would wait together with all other strays.
        if !cx.dry && table.is_partitioned && config.create_table {
            retention::make_months(client, &table, *retention.age).await?;
        }
    }
    let plan = Plan::new(&table, config).map_err(Trouble::Table)?;
    let is_filled = |name: &str| plan.columns.iter().any(|column| column.name == name);
    let denied = table.columns.iter().filter(|column| !is_filled(&column.name));
    if let Some((column, sequence)) =
        denied.filter_map(|column| Some((column, column.denied_sequence.as_ref()?))).next()
    {
        return Err(Trouble::Table(format!(
            "role `{role}` may not use the sequence that fills `{}`: grant usage on sequence {sequence} to {role}",
            column.name
        )));
    }
    Ok((plan, Some(table)))
}

/// Adds the column at once, and its index while others write.
async fn add_key(client: &tokio_postgres::Client, table: &Table) -> Result<(), tokio_postgres::Error> {
    let (quoted, added) = (table.name.quoted(), quote(key::ADDED));
    let column = format!(
        "BEGIN; SET LOCAL lock_timeout = '5s'; ALTER TABLE {quoted} ADD COLUMN IF NOT EXISTS {added} uuid; COMMIT"
    );
    if let Err(error) = client.batch_execute(&column).await {
        client.batch_execute("ROLLBACK").await?;
        return Err(error);
    }
    let index = format!("{}_{}_key", table.name.table, key::ADDED);
    let index: String = index.chars().take(60).collect();
    let create = format!("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {} ON {quoted} ({added})", quote(&index));
    client.execute_typed(&create, &[]).await.map(drop)
}
