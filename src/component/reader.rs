//! Readers: places whose events can be queried. Nothing is read without a [`Visibility`].

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::event::Id;
use crate::query::request::{AggregateRequest, CountLimit, Filter, Group, Page, PageRequest, ReadError, Row, Total};
use crate::secret::Secret;
use crate::visibility::Visibility;

/// What a reader gives, later.
pub type Reading<'a, T> = Pin<Box<dyn Future<Output = Result<T, ReadError>> + Send + 'a>>;

/// Which event is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Id(Id),
    Seq(u64),
    /// The key of a table's row, as text.
    Text(String),
}

/// How a target is read, where it is not read as it is written.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Where another role reads.
    pub url: Option<Secret<String>>,
    pub users: Option<UsersTable>,
}

/// A table with the e-mail addresses and names of users.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct UsersTable {
    /// The table, as `table` or `schema.table`.
    pub table: String,
    /// Column with the user's id; compared as text.
    #[serde(default = "default_id")]
    pub id: String,
    /// Column with the e-mail address.
    pub email: Option<String>,
    /// Column with the display name.
    pub name: Option<String>,
}

fn default_id() -> String {
    "id".to_owned()
}

pub trait Reader: Send + Sync {
    /// Some of the events that a filter means, in order. Lines are as the reader's visibility shows them in lists.
    fn page(&self, request: PageRequest, visibility: Visibility) -> Reading<'_, Page>;

    /// One event, whole as far as it may be seen; `None` also where it is another's.
    fn get(&self, key: Key, visibility: Visibility) -> Reading<'_, Option<Row>>;

    /// How many events a filter means.
    fn count(&self, filter: Filter, visibility: Visibility, limit: CountLimit, deadline: Instant)
    -> Reading<'_, Total>;

    /// The groups of the events that a filter means, as far as they are wanted, in no order.
    fn aggregate(&self, request: AggregateRequest, visibility: Visibility) -> Reading<'_, Vec<Group>>;

    /// The first of the events from one `seq` to before another, and how many of them the place has; `None` where there are
    /// none, or where no event has a `seq`.
    fn between(&self, _from: u64, _to: u64) -> Reading<'_, Option<(u64, u64)>> {
        Box::pin(async { Ok(None) })
    }

    /// How many groups of the events that a filter means have a first key.
    fn distinct(&self, request: AggregateRequest, visibility: Visibility) -> Reading<'_, u64> {
        Box::pin(async move {
            let groups = self.aggregate(request, visibility).await?;
            Ok(groups.iter().filter(|group| group.keys.first().is_some_and(Option::is_some)).count() as u64)
        })
    }

    /// The names of the members that events have.
    fn names(&self) -> Reading<'_, Vec<String>>;

    /// How many rows no question finds, because they have no time.
    fn without_time(&self) -> Reading<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    /// What the place can never have at this path: the text names the place and the member. `None` where it can.
    fn lacks(&self, _path: Vec<String>) -> Reading<'_, Option<String>> {
        Box::pin(async { Ok(None) })
    }

    /// Bytes on disk, where that is known.
    fn bytes(&self) -> Option<u64>;
}
