//! A small pool of read-only connections; each query has a deadline that the server enforces too.

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
/// What the server is given beyond our own deadline, so that it does not answer an instant too late.
const GRACE: Duration = Duration::from_millis(50);

pub struct Connections {
    target: Target,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

/// A connection for one question after the other; it goes back when dropped, unless a question was left unanswered.
pub struct Lease<'a> {
    connections: &'a Connections,
    connection: Option<Connection>,
    is_clean: bool,
    _turn: OwnedSemaphorePermit,
}

impl Connections {
    pub fn new(target: Target) -> Connections {
        Connections { target, idle: Mutex::default(), turns: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    pub fn place(&self) -> &str {
        &self.target.place
    }

    pub async fn lease(&self, deadline: Instant) -> Result<Lease<'_>, ReadError> {
        let turn = self.turns.clone().acquire_owned();
        let turn = tokio::time::timeout_at(deadline.into(), turn).await.map_err(|_| ReadError::Deadline)?;
        let turn = turn.map_err(|_| ReadError::Unavailable("the agent is stopping".into()))?;
        let known = loop {
            match self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
                Some(connection) if connection.client.is_closed() => {}
                other => break other,
            }
        };
        let connection = match known {
            Some(connection) => connection,
            None => {
                let opening = async {
                    let connection =
                        self.target.connect().await.map_err(|fault| ReadError::Unavailable(fault.reason))?;
                    let settings =
                        "SET default_transaction_read_only = on; SET idle_in_transaction_session_timeout = '60s'";
                    connection.client.batch_execute(settings).await.map_err(|error| self.explain(&error))?;
                    Ok(connection)
                };
                tokio::time::timeout_at(deadline.into(), opening)
                    .await
                    .map_err(|_| ReadError::Unavailable(format!("`{}` does not answer", self.target.place)))??
            }
        };
        Ok(Lease { connections: self, connection: Some(connection), is_clean: true, _turn: turn })
    }

    fn explain(&self, error: &tokio_postgres::Error) -> ReadError {
        let place = &self.target.place;
        match error.code() {
            Some(&SqlState::QUERY_CANCELED) => ReadError::Deadline,
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
        let limit = format!("SET statement_timeout = {}", left.as_millis().max(1));
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
        answer.map_err(|error| self.connections.explain(&error))
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(|_| self.is_clean) {
            self.connections.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}
