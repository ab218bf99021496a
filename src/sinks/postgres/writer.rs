//! Writes rows in one transaction: from arrays, by COPY into a temporary table, or by COPY into the table.
//!
//! A transaction sets what it needs by itself and leaves no named statement behind that it counts on, so that a pooler
//! may give every transaction another connection.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use tokio_postgres::{Client, Error};
use tracing::{debug, warn};

use super::failure;
use super::plan::{Absent, Fill, Plan, quoted_list};
use super::rows::{self, Body, Rows};
use super::table::quote;
use crate::component::{BatchEvent, Failure, WriteBatch, Written};
use crate::event::Id;
use crate::net::postgres::{Connection, Target};

/// Longest wait for a lock; a writer that waits longer only holds more back.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// After a repeat was met, so many batches go the way that expects more of them.
const WARY: u32 = 64;
/// Bytes of one message of a COPY: the server works on one while the next is on its way.
const PIECE: usize = 128 << 10;
/// Where rows are copied to before they are inserted.
const STAGE: &str = "pg_temp.weir_rows";

pub struct Writer {
    target: Target,
    plan: Plan,
    /// Connections that no write uses; the loop's concurrency bounds them.
    idle: Mutex<Vec<Connection>>,
    /// Begins a transaction with its settings.
    begin: String,
    insert: String,
    /// The same for rows whose ids are not there.
    insert_unseen: Option<String>,
    /// Batches that still go through the temporary table.
    wary: AtomicU32,
    /// A pooler or a privilege is in the way of COPY.
    never_copies: AtomicBool,
    /// Whether the plan has worked.
    has_written: AtomicBool,
    /// Whether the log has it that rows were not kept.
    said_discarded: AtomicBool,
}

impl Writer {
    pub fn new(target: Target, plan: Plan, connection: Connection, timeout: Duration) -> Writer {
        let (insert, insert_unseen) =
            (insert(&plan, &plan.conflict), plan.unseen.as_ref().map(|rest| insert(&plan, rest)));
        Writer {
            target,
            plan,
            idle: Mutex::new(vec![connection]),
            begin: begin(timeout),
            insert,
            insert_unseen,
            wary: AtomicU32::new(0),
            never_copies: AtomicBool::new(false),
            has_written: AtomicBool::new(false),
            said_discarded: AtomicBool::new(false),
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn may_copy(&self) -> bool {
        !self.never_copies.load(Ordering::Relaxed)
    }

    /// `stages` says that rows are never copied straight into the table.
    pub async fn write(&self, batch: &WriteBatch, rows: &Rows, stages: bool) -> Result<Written, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle.filter(|connection| !connection.client.is_closed()) {
            Some(connection) => connection,
            None => {
                let connected = self.target.connect().await;
                connected.map_err(|fault| failure::connecting(&self.target.place, &fault))?
            }
        };
        let stored = self.store(&connection, batch, rows, stages).await;
        if matches!(stored, Ok(_) | Err(Failure::Poison { .. } | Failure::Ambiguous { .. })) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        let written = stored?;
        self.has_written.store(true, Ordering::Relaxed);
        if written.conflicts > 0 {
            warn!(
                table = self.plan.table,
                events = written.conflicts,
                "the ids of some events are there with other content; the events are not stored and count as dropped"
            );
        }
        if written.discarded > written.conflicts && !self.said_discarded.swap(true, Ordering::Relaxed) {
            warn!(
                table = self.plan.table,
                rows = written.discarded,
                "a trigger suppresses rows; they count as dropped"
            );
        }
        Ok(written)
    }

    /// Stores rows over one connection and returns their outcome.
    async fn store(
        &self,
        connection: &Connection,
        batch: &WriteBatch,
        rows: &Rows,
        stages: bool,
    ) -> Result<Written, Failure> {
        let client = &connection.client;
        let counted = match &self.plan.count {
            Some(query) => {
                let ids = self.ids(batch);
                let before = count(client, query, &ids).await.map_err(|error| self.classify(connection, &error))?;
                Some((query, ids, before))
            }
            None => None,
        };
        let inserted = match &rows.body {
            Body::Arrays(arrays) => self.insert(client, &self.insert, arrays).await,
            Body::Copy(bytes) => self.copy(client, batch, rows, bytes, stages).await?,
        };
        let (inserted, were_there) = match (inserted, &self.insert_unseen) {
            (Err(error), Some(insert)) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                (self.insert(client, insert, &self.arrays(batch, rows)?).await, true)
            }
            (inserted, _) => (inserted, false),
        };
        let inserted = inserted.map_err(|error| self.classify(connection, &error))?;
        let missing = (rows.count as u64).saturating_sub(inserted);
        let written = Written { bytes: rows.body.len() as u64, altered: rows.altered, ..Written::default() };
        let written = match counted {
            _ if missing == 0 => written,
            Some((query, ids, before)) => {
                let distinct = ids.len() as u64;
                let repeats = (before + rows.count as u64).saturating_sub(distinct).min(missing);
                // The rows are committed, so that a question without an answer changes nothing about them.
                let there = count(client, query, &ids).await.unwrap_or(distinct);
                Written { duplicates: repeats, discarded: distinct.saturating_sub(there), ..written }
            }
            None if were_there => Written { duplicates: missing, ..written },
            // A row that a trigger has put elsewhere would be missing, too; nothing tells them apart without a key.
            None if self.plan.conflict.is_empty() && self.plan.has_triggers => {
                Written { discarded: missing, ..written }
            }
            None if self.plan.conflict.is_empty() => written,
            None => Written { duplicates: missing, ..written },
        };
        if written.duplicates == 0 {
            return Ok(written);
        }
        // The rows are committed: a question without an answer changes nothing about them.
        let conflicts = self.conflicts(client, batch, rows).await.unwrap_or_else(|error| {
            debug!(table = self.plan.table, %error, "cannot compare events with the rows of their ids");
            0
        });
        let conflicts = conflicts.min(written.duplicates);
        Ok(Written {
            duplicates: written.duplicates - conflicts,
            discarded: written.discarded + conflicts,
            conflicts,
            ..written
        })
    }

    /// How many events of a batch have other content than the row of their id.
    async fn conflicts(&self, client: &Client, batch: &WriteBatch, rows: &Rows) -> Result<u64, Error> {
        let Some(query) = &self.plan.conflicts else { return Ok(0) };
        let Ok(arrays) = self.arrays(batch, rows) else { return Ok(0) };
        self.count_rows(client, query, &arrays).await
    }

    /// The rows as arrays; encoded once more where they were encoded for COPY.
    fn arrays<'a>(&self, batch: &WriteBatch, rows: &'a Rows) -> Result<Cow<'a, [Option<Bytes>]>, Failure> {
        match &rows.body {
            Body::Arrays(arrays) => Ok(Cow::Borrowed(arrays)),
            Body::Copy(_) => Ok(Cow::Owned(rows::encode(&self.plan, batch, false)?.into_arrays())),
        }
    }

    async fn count_rows(&self, client: &Client, query: &str, arrays: &[Option<Bytes>]) -> Result<u64, Error> {
        let cells: Vec<Cells> = arrays.iter().map(|array| Cells(array.clone())).collect();
        let row = client.query_typed_one(query, &self.typed(&cells)).await?;
        Ok(row.get::<_, i64>(0).unsigned_abs())
    }

    /// The cells as parameters, each with the type of its column's array.
    fn typed<'a>(&self, cells: &'a [Cells]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
        let typed = cells.iter().zip(&self.plan.columns);
        typed.map(|(cells, column)| (cells as &(dyn ToSql + Sync), column.form.wire().1)).collect()
    }

    /// The ids of a batch as the key column has them, each once.
    fn ids(&self, batch: &WriteBatch) -> Vec<String> {
        let is_text = self.plan.columns.iter().any(|column| matches!(column.fill, Fill::IdText));
        let id = |event: BatchEvent<'_>| match event.json().get("id").and_then(|value| value.as_str()) {
            Some(text) if is_text && Id::parse(&text).is_some() => text.into_owned(),
            _ => event.id().to_string(),
        };
        let ids: BTreeSet<String> = batch.events().map(id).collect();
        ids.into_iter().collect()
    }

    /// A column that the plan does not know to be required became so since, or columns are not what they were: then the
    /// table is looked at again. If a new plan meets it at once, it is no change of the table.
    fn classify(&self, connection: &Connection, error: &Error) -> Failure {
        let failure = failure::writing(&self.target.place, connection, error);
        let is_stale = error.code().is_some_and(|code| failure::class(code.code()) == failure::Class::Stale);
        match (failure, error.as_db_error()) {
            (Failure::Transient { answer, .. }, _) if is_stale && !self.has_written.load(Ordering::Relaxed) => {
                Failure::Ambiguous { answer }
            }
            (Failure::Poison { answer }, Some(said)) if *said.code() == SqlState::NOT_NULL_VIOLATION => {
                let known = self.plan.columns.iter().find(|column| Some(&*column.name) == said.column());
                match known.is_some_and(|column| column.is_required) {
                    true => Failure::Poison { answer },
                    false => Failure::transient(answer),
                }
            }
            (failure, _) => failure,
        }
    }

    /// One round trip: the three are sent together, and answered in order.
    async fn insert(&self, client: &Client, sql: &str, arrays: &[Option<Bytes>]) -> Result<u64, Error> {
        let cells: Vec<Cells> = arrays.iter().map(|array| Cells(array.clone())).collect();
        let params = self.typed(&cells);
        let (begun, inserted, committed) = tokio::join!(
            biased;
            client.batch_execute(&self.begin),
            client.execute_typed(sql, &params),
            client.batch_execute("COMMIT"),
        );
        begun?;
        let inserted = inserted?;
        committed?;
        Ok(inserted)
    }

    /// Copies, and finds another way where the server or a pooler does not let it.
    async fn copy(
        &self,
        client: &Client,
        batch: &WriteBatch,
        rows: &Rows,
        bytes: &Bytes,
        stages: bool,
    ) -> Result<Result<u64, Error>, Failure> {
        let is_wary = self.wary.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        let plan = &self.plan;
        let straight = !stages && !is_wary && !rows.needs_default && plan.may_copy && !plan.needs_cast();
        let copied = if straight { self.copy_straight(client, bytes).await } else { self.stage(client, bytes).await };
        let Err(error) = copied else { return Ok(copied) };
        let copied = match error.code() {
            // Some rows are there already: what was sent before comes again.
            Some(&SqlState::UNIQUE_VIOLATION) if straight && !plan.conflict.is_empty() => {
                debug!(table = plan.table, "rows exist already; checking the next ones before writing");
                self.wary.store(WARY, Ordering::Relaxed);
                self.stage(client, bytes).await
            }
            _ => Err(error),
        };
        match copied {
            Err(error) if is_in_the_way(&error) && !self.never_copies.swap(true, Ordering::Relaxed) => {
                warn!(table = plan.table, reason = %error, "COPY is not possible; using INSERT from now on");
                let rows = rows::encode(plan, batch, false)?;
                Ok(self.insert(client, &self.insert, &rows.into_arrays()).await)
            }
            copied => Ok(copied),
        }
    }

    /// COPY is the fastest way in, and all or nothing: a row that is there already undoes it.
    async fn copy_straight(&self, client: &Client, bytes: &Bytes) -> Result<u64, Error> {
        let copy = copy_into(&self.plan);
        let (begun, statement) = tokio::join!(biased; client.batch_execute(&self.begin), client.prepare(&copy));
        let copied = match (begun, statement) {
            (Ok(()), Ok(statement)) => send(client, &statement, bytes).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        finish(client, copied).await
    }

    /// Copies into a temporary table and inserts from there what is not yet known.
    async fn stage(&self, client: &Client, bytes: &Bytes) -> Result<u64, Error> {
        let stage = stage(&self.plan);
        let begin = format!("{}; {stage}", self.begin);
        let begun = client.batch_execute(&begin).await;
        let copied = match begun {
            Ok(()) => match client.prepare(&copy_stage(&self.plan)).await {
                Ok(statement) => send(client, &statement, bytes).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let inserted = match copied {
            Ok(_) => client.execute_typed(&from_stage(&self.plan), &[]).await,
            Err(error) => Err(error),
        };
        finish(client, inserted).await
    }
}

impl Body {
    fn len(&self) -> usize {
        match self {
            Body::Arrays(arrays) => arrays.iter().flatten().map(Bytes::len).sum(),
            Body::Copy(bytes) => bytes.len(),
        }
    }
}

/// Whether an error is about COPY itself: a pooler that keeps statements apart, or a role without temporary tables.
fn is_in_the_way(error: &Error) -> bool {
    let Some(said) = error.as_db_error() else { return false };
    match said.code().code() {
        "42P05" | "26000" => true,
        "42501" => said.message().contains("temporary"),
        _ => false,
    }
}

/// How many rows with these ids there are.
async fn count(client: &Client, query: &str, ids: &[String]) -> Result<u64, Error> {
    let row = client.query_typed_one(query, &[(&ids, Type::TEXT_ARRAY)]).await?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

async fn send(client: &Client, statement: &tokio_postgres::Statement, bytes: &Bytes) -> Result<u64, Error> {
    let mut sink = pin!(client.copy_in::<_, Bytes>(statement).await?);
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        sink.feed(rest.split_to(rest.len().min(PIECE))).await?;
    }
    sink.finish().await
}

/// Ends the transaction as it went.
async fn finish(client: &Client, went: Result<u64, Error>) -> Result<u64, Error> {
    match went {
        Ok(count) => client.batch_execute("COMMIT").await.map(|()| count),
        Err(error) => {
            #[expect(
                clippy::let_underscore_must_use,
                reason = "the first error counts; a connection that cannot even roll back is closed"
            )]
            let _ = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}

fn begin(timeout: Duration) -> String {
    let statement = timeout.mul_f64(0.9).as_millis().max(1);
    let lock = LOCK_TIMEOUT.min(timeout / 2).as_millis().max(1);
    format!(
        "BEGIN; SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
         SET LOCAL idle_in_transaction_session_timeout = {statement}; \
         SELECT set_config('synchronous_commit', 'on', true) \
         WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
    )
}

fn names(plan: &Plan) -> String {
    quoted_list(plan.columns.iter().map(|column| &*column.name))
}

/// What is inserted of each column of `r`.
fn values(plan: &Plan) -> String {
    let value = |(nth, column): (usize, &super::plan::Filled)| {
        let cast = if column.form.needs_cast() { format!("::{}", column.sql_type) } else { String::new() };
        match &column.absent {
            Absent::Expression(default) => format!("COALESCE(r.c{nth}{cast}, ({default}))"),
            _ => format!("r.c{nth}{cast}"),
        }
    };
    plan.columns.iter().enumerate().map(value).collect::<Vec<_>>().join(", ")
}

fn insert(plan: &Plan, rest: &str) -> String {
    let rows = plan.rows();
    format!("INSERT INTO {} ({}) SELECT {} FROM {rows}{rest}", plan.table, names(plan), values(plan))
}

fn copy_into(plan: &Plan) -> String {
    format!("COPY {} ({}) FROM STDIN (FORMAT binary)", plan.table, names(plan))
}

fn copy_stage(plan: &Plan) -> String {
    let columns: Vec<String> = (0..plan.columns.len()).map(|nth| format!("c{nth}")).collect();
    format!("COPY {STAGE} ({}) FROM STDIN (FORMAT binary)", columns.join(", "))
}

/// It ends with its transaction.
fn stage(plan: &Plan) -> String {
    let column =
        |(nth, column): (usize, &super::plan::Filled)| format!("c{nth} {}", quote(column.form.wire().0.name()));
    let columns: Vec<String> = plan.columns.iter().enumerate().map(column).collect();
    format!("CREATE TEMPORARY TABLE {STAGE} ({}) ON COMMIT DROP", columns.join(", "))
}

fn from_stage(plan: &Plan) -> String {
    format!("INSERT INTO {} ({}) SELECT {} FROM {STAGE} r{}", plan.table, names(plan), values(plan), plan.conflict)
}

/// An array whose bytes are ready.
struct Cells(Option<Bytes>);

/// Values of events are in no log.
impl fmt::Debug for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.as_ref().map_or(0, Bytes::len))
    }
}

impl ToSql for Cells {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn to_sql_checked(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.to_sql(ty, out)
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }
}
