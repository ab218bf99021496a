//! Classifies Postgres errors by SQLSTATE: what happens next, and a hint for the operator.

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::component::Failure;
use crate::net::postgres::{Connection, Fault, Kind, innermost};
use crate::toolkit::reply::shown;

/// What should happen with rows that were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Try again, over a new connection.
    Again,
    /// The table is no longer what it was: look at it again, and try again.
    Stale,
    /// Somebody has to act.
    Act,
    /// An operator has to act, or a trigger or type refuses one row only.
    Ambiguous,
    /// Some row can never be stored.
    Poison,
}

/// The class of an SQLSTATE.
///
/// Triggers and functions raise what they like, so nearly every state may be one row's alone. What is not known holds the
/// sink if every row meets it, and loses nothing.
pub fn class(state: &str) -> Class {
    match state {
        // Columns that went or changed, an index that went.
        "42703" | "42804" | "42P10" => Class::Stale,
        // A statement that a pooler took to another server.
        "42P05" | "26000" => Class::Again,
        // The database was dropped.
        "57P04" => Class::Act,
        // Raised by a trigger or function.
        "P0001" => Class::Poison,
        // Something is locked or in use.
        "55P03" | "55006" => Class::Again,
        // A sequence has reached its end, whatever the row.
        "2200H" => Class::Ambiguous,
        _ => match state.get(..2).unwrap_or_default() {
            "08" | "25" | "40" | "53" | "57" | "58" | "HV" => Class::Again,
            "28" | "3D" => Class::Act,
            "09" | "21" | "22" | "23" | "38" | "39" | "44" | "54" => Class::Poison,
            _ => Class::Ambiguous,
        },
    }
}

/// What to try about an SQLSTATE.
fn hint(state: &str) -> Option<&'static str> {
    Some(match state {
        "28P01" | "28000" => "check user and password in `url`, and `pg_hba.conf` on the server",
        "3D000" => "create the database, or correct its name in `url`",
        "3F000" => "create the schema, or correct `table`",
        "42P01" => "create the table, or set `create_table: true`",
        "42501" => "grant the role what it lacks, such as USAGE on the sequence of a serial column",
        "53100" => "free disk space on the database server",
        "53300" => "raise `max_connections` on the server, or use a connection pooler",
        "25006" => "the server is read-only; list all hosts in `url`, and the writable one is used",
        "55P03" | "57014" => "the table is locked, or the server is slow",
        "57P03" => "the server is starting",
        "42P10" => "the unique index on the key is missing",
        "XX001" | "XX002" => "the database reports damaged data",
        _ => return None,
    })
}

/// What a fault while connecting means.
pub fn connecting(place: &str, fault: &Fault) -> Failure {
    match (fault.kind, fault.error.as_ref().and_then(Error::as_db_error)) {
        // Nothing was sent yet, so it is no row's fault.
        (_, Some(said)) => match of(said, place) {
            Failure::Ambiguous { answer } | Failure::Poison { answer } => Failure::Configuration { answer },
            failure => failure,
        },
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
        Some((None, error)) => Failure::transient(format!("`{place}` closed the connection: {}", innermost(error))),
        None => Failure::transient(format!("`{place}` closed the connection: {}", innermost(error))),
    }
}

fn of(said: &DbError, place: &str) -> Failure {
    let answer = answer(said, place);
    match class(said.code().code()) {
        Class::Again | Class::Stale => Failure::transient(answer),
        Class::Act => Failure::configuration(answer),
        Class::Ambiguous => Failure::ambiguous(answer),
        // A partitioned table has no partition for the row: for one row, or for all of today.
        Class::Poison if *said.code() == SqlState::CHECK_VIOLATION && said.constraint().is_none() => {
            Failure::ambiguous(answer)
        }
        Class::Poison => Failure::poison(answer),
    }
}

/// SQLSTATE, reason and what to try, in one line. Details are left out: they hold values of rows.
fn answer(said: &DbError, place: &str) -> String {
    let state = said.code().code();
    let message = if quotes_values(state) { without_quoted(said.message()) } else { said.message().to_owned() };
    let mut answer = format!("`{place}` says {state}: {}", shown(&message));
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

/// Whether the message of this state quotes values of rows and not only names: the text of a statement that a trigger put
/// together, and input that does not fit its type.
fn quotes_values(state: &str) -> bool {
    matches!(state, "42601" | "42602" | "42622") || state.starts_with("22")
}

/// A message without its quoted parts.
fn without_quoted(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(start), Some(end)) if start < end => format!("{}…{}", &message[..=start], &message[end..]),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_answers_has_its_way() {
        for (states, expected) in [
            ("08006 57P01 57P02 57P03 57P05 53100 53200 53300 40001 40P01 55P03 57014 58030 25006 25P03", Class::Again),
            ("HV000 55006", Class::Again),
            ("42703 42804 42P10", Class::Stale),
            ("28P01 28000 3D000 57P04", Class::Act),
            ("3F000 42P01 42501 42601 0A000 P0002 P0004 XX000 XX001 ZZ999 72000 MY001 2200H 55000", Class::Ambiguous),
            ("22001 22003 22P02 22P05 22021 22008 23502 23503 23505 23514 54000 21000 P0001 44000", Class::Poison),
        ] {
            for state in states.split(' ') {
                assert_eq!(class(state), expected, "{state}");
            }
        }
    }

    #[test]
    fn an_answer_shows_no_value_of_a_row() {
        assert!(quotes_values("42601") && quotes_values("22P02") && !quotes_values("42P01"));
        let without = without_quoted("unterminated quoted string at or near \"'it\"s secret\" here");
        assert_eq!(without, "unterminated quoted string at or near \"…\" here");
        assert_eq!(without_quoted("division by zero"), "division by zero");
    }
}
