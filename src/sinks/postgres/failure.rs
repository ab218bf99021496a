//! What Postgres' answers mean: one table from SQLSTATE to what happens next, and what the operator may try.

use tokio_postgres::Error;
use tokio_postgres::error::DbError;

use crate::component::Failure;
use crate::component::reply::shown;
use crate::net::postgres::{Connection, Fault, Kind, innermost};

/// What should happen with rows that were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again, over a new connection.
    Again,
    /// The table is no longer what it was: look at it again, and try again.
    Stale,
    /// Somebody has to act.
    Act,
    /// Some row can never be stored.
    Poison,
}

/// The class of an SQLSTATE.
///
/// What is not known is tried again: it holds the sink, and loses nothing.
pub fn class(state: &str) -> Class {
    match state {
        // Columns that went or changed, an index that went, a statement that a pooler took to another server.
        "42703" | "42804" | "42P10" | "42P05" | "26000" => Class::Stale,
        // The database was dropped.
        "57P04" => Class::Act,
        // Raised by somebody's trigger or function.
        "P0001" => Class::Poison,
        _ => match state.get(..2).unwrap_or_default() {
            "08" | "25" | "40" | "53" | "55" | "57" | "58" | "XX" => Class::Again,
            "0A" | "0L" | "0P" | "28" | "2B" | "3B" | "3D" | "3F" | "42" | "F0" => Class::Act,
            "09" | "21" | "22" | "23" | "38" | "39" | "44" | "54" => Class::Poison,
            _ => Class::Again,
        },
    }
}

/// What to try about an SQLSTATE.
fn hint(state: &str) -> Option<&'static str> {
    Some(match state {
        "28P01" | "28000" => "check user and password in `url`, and `pg_hba.conf` on the server",
        "3D000" => "create the database, or mend its name in `url`",
        "3F000" => "create the schema, or mend `table`",
        "42P01" => "create the table, or set `create_table: true`",
        "42501" => "grant the role what it lacks",
        "53100" => "make room on the database server",
        "53300" => "raise `max_connections` on the server, or put a pooler before it",
        "25006" => "the server takes no writes; name all hosts in `url`, and the one that does is found",
        "55P03" | "57014" => "somebody holds a lock on the table, or the server is slow",
        "57P03" => "the server is starting",
        "42P10" => "the unique index on the key is gone",
        "XX001" | "XX002" => "the database reports damaged data",
        _ => return None,
    })
}

/// What a fault while connecting means.
pub fn connecting(place: &str, fault: &Fault) -> Failure {
    match (fault.kind, fault.error.as_ref().and_then(Error::as_db_error)) {
        (_, Some(said)) => of(said, place),
        (Kind::Trust | Kind::Credentials, None) => Failure::configuration(&fault.reason),
        (Kind::Unreachable | Kind::Refused, None) => Failure::transient(&fault.reason),
    }
}

/// What an error over an open connection means.
pub fn writing(place: &str, connection: &Connection, error: &Error) -> Failure {
    if let Some(said) = error.as_db_error() {
        return of(said, place);
    }
    // A server that ends a connection says why, but to nobody in particular.
    let last = connection.last_words();
    match last.as_deref().map(|error| (error.as_db_error(), error)) {
        Some((Some(said), _)) => of(said, place),
        Some((None, error)) => Failure::transient(format!("`{place}` broke off: {}", innermost(error))),
        None => Failure::transient(format!("`{place}` broke off: {}", innermost(error))),
    }
}

fn of(said: &DbError, place: &str) -> Failure {
    let answer = answer(said, place);
    match class(said.code().code()) {
        Class::Again | Class::Stale => Failure::transient(answer),
        Class::Act => Failure::configuration(answer),
        Class::Poison => Failure::poison(answer),
    }
}

/// SQLSTATE, reason and what to try, in one line. Details are left out: they hold values of rows.
fn answer(said: &DbError, place: &str) -> String {
    let state = said.code().code();
    let mut answer = format!("`{place}` says {state}: {}", shown(said.message()));
    for (noun, name) in [("column", said.column()), ("constraint", said.constraint())] {
        if let Some(name) = name.filter(|name| !answer.contains(*name)) {
            answer.push_str(&format!(" ({noun} `{name}`)"));
        }
    }
    if let Some(hint) = hint(state) {
        answer.push_str(": ");
        answer.push_str(hint);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_answers_has_its_way() {
        for (states, expected) in [
            ("08006 57P01 57P02 57P03 57P05 53100 53200 53300 40001 40P01 55P03 57014 58030 25006 25P03", Class::Again),
            ("XX000 XX001 ZZ999 72000 HV000", Class::Again),
            ("42703 42804 42P10", Class::Stale),
            ("28P01 28000 3D000 3F000 42P01 42501 42601 0A000 57P04", Class::Act),
            ("22001 22003 22P02 22P05 22021 22008 23502 23503 23505 23514 54000 21000 P0001 44000", Class::Poison),
        ] {
            for state in states.split(' ') {
                assert_eq!(class(state), expected, "{state}");
            }
        }
    }
}
