//! A small pool of read-only connections; each query has a deadline that the server enforces too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use crate::net::postgres::{Connection, Target, innermost};
use crate::query::request::ReadError;

/// Questions at a time; others wait for their turn.
const MAX_CONNECTIONS: usize = 4;
/// Of these, questions that may look at every row: one place is left for those that an index answers.
const MAX_LONG: usize = 3;
/// What the server is given beyond our own deadline, so that it does not answer an instant too late.
const GRACE: Duration = Duration::from_millis(50);

/// What a question may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Some rows, which an index may find.
    Short,
    /// All rows.
    Long,
}

pub struct Connections {
    target: Target,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
    turns_of_long: Arc<Semaphore>,
    /// How often a connection, or what was known of the table, turned out not to be true any more.
    outdated: AtomicU64,
}

/// A connection for one question after the other; it goes back when dropped, unless a question was left unanswered.
pub struct Lease<'a> {
    connections: &'a Connections,
    connection: Option<Connection>,
    is_clean: bool,
    /// Whether nobody has yet been answered on a connection that waited in the pool.
    is_untried: bool,
    _turns: [Option<OwnedSemaphorePermit>; 2],
}

impl Connections {
    pub fn new(target: Target) -> Connections {
        let turns = |most| Arc::new(Semaphore::new(most));
        Connections {
            target,
            idle: Mutex::default(),
            turns: turns(MAX_CONNECTIONS),
            turns_of_long: turns(MAX_LONG),
            outdated: AtomicU64::new(0),
        }
    }

    pub fn place(&self) -> &str {
        &self.target.place
    }

    /// Counts what a second question may answer, as the first one has found what is not true any more.
    pub fn outdated(&self) -> u64 {
        self.outdated.load(Ordering::Relaxed)
    }

    pub async fn lease(&self, length: Length, deadline: Instant) -> Result<Lease<'_>, ReadError> {
        let turn = async |turns: &Arc<Semaphore>| {
            let turn = tokio::time::timeout_at(deadline.into(), turns.clone().acquire_owned());
            let turn = turn.await.map_err(|_| ReadError::Deadline)?;
            turn.map_err(|_| ReadError::Unavailable("the agent is stopping".into()))
        };
        let long = if length == Length::Long { Some(turn(&self.turns_of_long).await?) } else { None };
        let turns = [long, Some(turn(&self.turns).await?)];
        let known = loop {
            match self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
                Some(connection) if connection.client.is_closed() => {}
                other => break other,
            }
        };
        let is_untried = known.is_some();
        let connection = match known {
            Some(connection) => connection,
            None => {
                let opening = async {
                    let connection =
                        self.target.connect().await.map_err(|fault| ReadError::Unavailable(fault.reason))?;
                    // Compiling a long list of columns takes longer than most answers; old servers have no `jit`.
                    let settings = "SET default_transaction_read_only = on; \
                                    SET idle_in_transaction_session_timeout = '60s'; \
                                    SELECT set_config(name, 'off', false) FROM pg_settings WHERE name = 'jit'";
                    connection.client.batch_execute(settings).await.map_err(|error| self.explain(&error))?;
                    Ok(connection)
                };
                tokio::time::timeout_at(deadline.into(), opening)
                    .await
                    .map_err(|_| ReadError::Unavailable(format!("`{}` does not answer", self.target.place)))??
            }
        };
        Ok(Lease { connections: self, connection: Some(connection), is_clean: true, is_untried, _turns: turns })
    }

    fn explain(&self, error: &tokio_postgres::Error) -> ReadError {
        let place = &self.target.place;
        match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                ReadError::Unavailable(format!("`{place}`: another session holds a lock on what is read"))
            }
            Some(&SqlState::INVALID_REGULAR_EXPRESSION) => {
                ReadError::Invalid(format!("invalid pattern: {}", innermost(error)))
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => ReadError::Unavailable(format!(
                "`{place}`: {}: grant SELECT to the reading role, or set `api.read.url`",
                innermost(error)
            )),
            _ => ReadError::Unavailable(format!("`{place}`: {}", innermost(error))),
        }
    }
}

impl Lease<'_> {
    /// The client, for those who read the catalogue.
    pub fn client(&self) -> &tokio_postgres::Client {
        &self.connection.as_ref().expect("it is there until the lease ends").client
    }

    /// Limits what is asked by the client itself.
    pub async fn limit(&self, deadline: Instant) -> Result<(), ReadError> {
        let limit = limits(deadline.saturating_duration_since(Instant::now()));
        self.client().batch_execute(&limit).await.map_err(|error| self.failed(&error))
    }

    pub fn failed(&self, error: &tokio_postgres::Error) -> ReadError {
        self.connections.explain(error)
    }

    /// Asks; every parameter is a text.
    pub async fn ask(&mut self, sql: &str, parameters: &[String], deadline: Instant) -> Result<Vec<Row>, ReadError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ReadError::Deadline);
        }
        // Until there is an answer, nobody else may have the connection.
        self.is_clean = false;
        let limit = limits(left);
        let typed: Vec<(&(dyn ToSql + Sync), Type)> =
            parameters.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
        let answer = async {
            let client = self.client();
            // Both are sent at once.
            let (limited, rows) =
                futures_util::future::join(client.batch_execute(&limit), client.query_typed(sql, &typed)).await;
            limited.and(rows)
        };
        let answer =
            tokio::time::timeout_at((deadline + GRACE).into(), answer).await.map_err(|_| ReadError::Deadline)?;
        self.is_clean = true;
        let was_untried = std::mem::take(&mut self.is_untried);
        answer.map_err(|error| {
            match error.code() {
                // Whoever ended it is not the deadline, unless that has come.
                Some(&SqlState::QUERY_CANCELED) if deadline.saturating_duration_since(Instant::now()) < GRACE => {
                    return ReadError::Deadline;
                }
                // It ended while it waited in the pool, and others there with it.
                None if was_untried => {
                    self.connections.outdated.fetch_add(1, Ordering::Relaxed);
                    self.connections.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                }
                Some(code) if OUTDATED.contains(code) => {
                    self.connections.outdated.fetch_add(1, Ordering::Relaxed);
                }
                _ => {}
            }
            self.connections.explain(&error)
        })
    }
}

/// Ends what takes longer than this. Waiting for a lock ends before, so that it is told from a question that takes long.
fn limits(left: Duration) -> String {
    let (millis, of_locks) = (left.as_millis().max(1), (left * 9 / 10).as_millis().max(1));
    format!("SET statement_timeout = {millis}; SET lock_timeout = {of_locks}")
}

/// The table is not what it was when it was looked at.
const OUTDATED: [SqlState; 4] =
    [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE, SqlState::DATATYPE_MISMATCH, SqlState::UNDEFINED_FUNCTION];

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take().filter(|connection| self.is_clean && !connection.client.is_closed());
        if let Some(connection) = connection {
            self.connections.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}
