//! Writes rows in one transaction each: from arrays, copied into a temporary table, or copied straight in.
//!
//! A transaction sets what it needs by itself and leaves no named statement behind that it counts on, so that a pooler
//! may give every transaction another connection.

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
use super::plan::{Absent, Plan, quoted_list};
use super::rows::{self, Body, Rows};
use super::table::quote;
use crate::component::{Failure, WriteBatch, Written};
use crate::net::postgres::{Connection, Target};

/// Longest wait for a lock; a writer that waits longer only holds more back.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// After a repeat was met, so many cuts go the way that expects more of them.
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
    /// Cuts that still go through the temporary table.
    wary: AtomicU32,
    /// A pooler or a privilege is in the way of COPY.
    never_copies: AtomicBool,
}

impl Writer {
    pub fn new(target: Target, plan: Plan, connection: Connection, timeout: Duration) -> Writer {
        let insert = insert(&plan);
        Writer {
            target,
            plan,
            idle: Mutex::new(vec![connection]),
            begin: begin(timeout),
            insert,
            wary: AtomicU32::new(0),
            never_copies: AtomicBool::new(false),
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn may_copy(&self) -> bool {
        !self.never_copies.load(Ordering::Relaxed)
    }

    /// `stages` says that rows are never copied straight into the table.
    pub async fn write(&self, cut: &WriteBatch, rows: &Rows, stages: bool) -> Result<Written, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle.filter(|connection| !connection.client.is_closed()) {
            Some(connection) => connection,
            None => {
                let connected = self.target.connect().await;
                connected.map_err(|fault| failure::connecting(&self.target.place, &fault))?
            }
        };
        let written = match &rows.body {
            Body::Arrays(arrays) => self.insert(&connection.client, arrays).await,
            Body::Copy(bytes) => self.copy(&connection.client, cut, rows, bytes, stages).await?,
        };
        let inserted = written.map_err(|error| self.judge(&connection, &error));
        if matches!(inserted, Ok(_) | Err(Failure::Poison { .. })) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
        let known = if self.plan.conflict.is_empty() { 0 } else { (rows.count as u64).saturating_sub(inserted?) };
        Ok(Written { bytes: rows.body.len() as u64, duplicates: known, altered: rows.altered })
    }

    /// A column that the plan does not know to be required became so since.
    fn judge(&self, connection: &Connection, error: &Error) -> Failure {
        let failure = failure::writing(&self.target.place, connection, error);
        match (failure, error.as_db_error()) {
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
    async fn insert(&self, client: &Client, arrays: &[Option<Bytes>]) -> Result<u64, Error> {
        let cells: Vec<Cells> = arrays.iter().map(|array| Cells(array.clone())).collect();
        let typed = cells.iter().zip(&self.plan.columns);
        let params: Vec<(&(dyn ToSql + Sync), Type)> =
            typed.map(|(cells, column)| (cells as &(dyn ToSql + Sync), column.form.wire().1)).collect();
        let (begun, inserted, committed) = tokio::join!(
            biased;
            client.batch_execute(&self.begin),
            client.execute_typed(&self.insert, &params),
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
        cut: &WriteBatch,
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
                debug!(table = plan.table, "rows are there already; the next ones are looked at before");
                self.wary.store(WARY, Ordering::Relaxed);
                self.stage(client, bytes).await
            }
            _ => Err(error),
        };
        match copied {
            Err(error) if is_in_the_way(&error) && !self.never_copies.swap(true, Ordering::Relaxed) => {
                warn!(table = plan.table, reason = %error, "rows cannot be copied; they are inserted from now on");
                let rows = rows::encode(plan, cut, false)?;
                let Body::Arrays(arrays) = &rows.body else {
                    unreachable!("rows that are not to be copied are arrays")
                };
                Ok(self.insert(client, arrays).await)
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
            // The first error counts; a connection that cannot even roll back is closed.
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

fn insert(plan: &Plan) -> String {
    let each = |format: fn(usize) -> String| (0..plan.columns.len()).map(format).collect::<Vec<_>>().join(", ");
    format!(
        "INSERT INTO {} ({}) SELECT {} FROM unnest({}) AS r({}){}",
        plan.table,
        names(plan),
        values(plan),
        each(|nth| format!("${}", nth + 1)),
        each(|nth| format!("c{nth}")),
        plan.conflict
    )
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
