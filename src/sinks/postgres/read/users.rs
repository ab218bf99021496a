//! The table of users: where e-mail and name of the users of events are looked up.

use super::super::table::{Name, Table, quote};
use super::super::value::Form;
use super::filter;
use crate::component::reader::ReadOptions;

/// Where e-mail and name of users are, as SQL.
pub struct UserTable {
    /// Without the user of a row, which stands at the end.
    pub join: String,
    pub email: Option<String>,
    pub name: Option<String>,
    pub table: Name,
    pub id: String,
    /// What is shown of a user, without the condition that says of which.
    lookup: String,
}

/// How ids of users are looked up: in the type of their column, which its index knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserIds {
    Uuid,
    Integer,
    Text,
    /// By what they are as text.
    Other,
}

impl UserIds {
    pub fn of(table: &Table, id: &str) -> UserIds {
        let Some(column) = table.column(id) else { return UserIds::Other };
        match column.form {
            Form::Uuid => UserIds::Uuid,
            Form::Int2 | Form::Int4 | Form::Int8 => UserIds::Integer,
            // Such a column is filled up with blanks.
            Form::Text(_) if !column.sql_type.starts_with("character(") => UserIds::Text,
            _ => UserIds::Other,
        }
    }

    /// Whether a user may have this id.
    pub fn has(self, id: &str) -> bool {
        match self {
            UserIds::Uuid => filter::is_uuid(id),
            UserIds::Integer => id.parse::<i64>().is_ok_and(|number| number.to_string() == id),
            UserIds::Text | UserIds::Other => true,
        }
    }

    /// That a user is one of those in the first parameter.
    fn are(self, id: &str) -> String {
        let among = |column: &str, cast: &str| {
            format!("{column} = ANY (ARRAY (SELECT jsonb_array_elements_text($1::text::jsonb){cast}))")
        };
        match self {
            UserIds::Uuid => among(id, "::uuid"),
            UserIds::Integer => among(id, "::bigint"),
            UserIds::Text => among(id, ""),
            UserIds::Other => among(&format!("{id}::text"), ""),
        }
    }
}

impl UserTable {
    pub fn new(options: &ReadOptions) -> Result<Option<UserTable>, String> {
        let Some(users) = &options.users else { return Ok(None) };
        let table = Name::parse(&users.table)?;
        let (quoted, id) = (table.quoted(), quote(&users.id));
        let column = |name: &Option<String>| name.as_ref().map(|name| format!("u.{}", quote(name)));
        let (email, name) = (column(&users.email), column(&users.name));
        let shown =
            |column: &Option<String>| column.as_ref().map_or("NULL::text".to_owned(), |sql| format!("{sql}::text"));
        Ok(Some(UserTable {
            join: format!("LEFT JOIN {quoted} u ON u.{id}::text ="),
            lookup: format!("SELECT u.{id}::text, {}, {} FROM {quoted} u WHERE", shown(&email), shown(&name)),
            table,
            id: users.id.clone(),
            email,
            name,
        }))
    }

    /// The statement for the users whose ids are in the first parameter.
    pub fn lookup(&self, ids: UserIds) -> String {
        format!("{} {}", self.lookup, ids.are(&format!("u.{}", quote(&self.id))))
    }
}
