//! Roles beyond what a token states: named in the configuration, or looked up in a table.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::types::Type;
use tracing::{info, warn};

use crate::config::settings::{RoleTable, Roles as Settings};
use crate::net::postgres::{Connection, Target, innermost};
use crate::net::{Principal, Role};

/// How long an answer of the table holds.
const MAX_AGE: Duration = Duration::from_secs(60);
/// How long the lookup may take; after that the role is the token's.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Users whose roles are remembered.
const MAX_KNOWN: usize = 10_000;

#[derive(Default)]
pub struct Roles {
    admins: Vec<String>,
    viewers: Vec<String>,
    table: Option<Table>,
}

impl Roles {
    pub fn new(settings: Settings) -> Result<Roles, String> {
        let table = settings.postgres.map(Table::new).transpose()?;
        Ok(Roles { admins: settings.admin, viewers: settings.viewer, table })
    }

    /// The same user with all the rights that they have; none are taken away.
    pub async fn complete(&self, mut who: Principal) -> Principal {
        let listed = if self.admins.contains(&who.name) {
            Some(Role::Admin)
        } else if self.viewers.contains(&who.name) {
            Some(Role::Viewer)
        } else {
            None
        };
        let found = match (&self.table, listed, who.role) {
            // A service that sends has no profile, and an administrator cannot become more.
            (Some(table), None, Role::User | Role::Viewer) => table.role_of(&who.name).await,
            _ => listed,
        };
        match found {
            Some(Role::Admin) => who.role = Role::Admin,
            Some(Role::Viewer) if who.role == Role::User => who.role = Role::Viewer,
            _ => {}
        }
        who
    }
}

struct Table {
    target: Target,
    query: String,
    connection: tokio::sync::Mutex<Option<Connection>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    roles: HashMap<String, (Option<Role>, Instant)>,
    failing: bool,
}

impl Table {
    fn new(RoleTable { url, query }: RoleTable) -> Result<Table, String> {
        let target = Target::parse(url.expose(), None, "weir roles")
            .map_err(|wrong| format!("`api.auth.roles.postgres.url`: {wrong}"))?;
        Ok(Table { target, query, connection: tokio::sync::Mutex::default(), known: Mutex::default() })
    }

    /// While the table cannot be asked, nobody has a role from it.
    async fn role_of(&self, user: &str) -> Option<Role> {
        let remembered = self.known().roles.get(user).copied().filter(|(_, at)| at.elapsed() < MAX_AGE);
        if let Some((role, _)) = remembered {
            return role;
        }
        let asked = tokio::time::timeout(TIMEOUT, self.ask(user)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer from `{}` in time", self.target.place)));
        let mut known = self.known();
        match asked {
            Ok(role) => {
                if std::mem::replace(&mut known.failing, false) {
                    info!("role lookup works again");
                }
                if known.roles.len() >= MAX_KNOWN {
                    known.roles.retain(|_, (_, at)| at.elapsed() < MAX_AGE);
                }
                if known.roles.len() < MAX_KNOWN {
                    known.roles.insert(user.to_owned(), (role, Instant::now()));
                }
                role
            }
            Err(reason) => {
                if !std::mem::replace(&mut known.failing, true) {
                    warn!(reason, "role lookup failed; roles are taken from the tokens");
                }
                None
            }
        }
    }

    async fn ask(&self, user: &str) -> Result<Option<Role>, String> {
        let mut slot = self.connection.lock().await;
        // A connection whose answer was not awaited, or that broke, is not used again.
        let connection = match slot.take().filter(|connection| !connection.client.is_closed()) {
            Some(connection) => connection,
            None => self.target.connect().await.map_err(|fault| fault.reason)?,
        };
        let rows = connection.client.query_typed(&self.query, &[(&user, Type::TEXT)]).await;
        let rows =
            rows.map_err(|error| format!("the query of `api.auth.roles.postgres` fails: {}", innermost(&error)))?;
        *slot = Some(connection);
        let Some(row) = rows.first() else { return Ok(None) };
        if let Ok(is_admin) = row.try_get::<_, Option<bool>>(0) {
            return Ok(is_admin.unwrap_or(false).then_some(Role::Admin));
        }
        let name: Option<String> =
            row.try_get(0).map_err(|_| "the query of `api.auth.roles.postgres` returns no text".to_owned())?;
        Ok(name.and_then(|name| Role::parse(&name)))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
