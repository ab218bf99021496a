//! Reads the table that the sink fills, including rows written by others, as events.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Config;
use super::table::{Name, Table, quote};
use crate::component::reader::{Key, ReadOptions, Reading};
use crate::component::{Reader, SinkContext};
use crate::event::Id;
use crate::event::names::KNOWN;
use crate::net::postgres::Target;
use crate::query::request::{
    AggregateRequest, CountLimit, Filter, Group, Keyset, Page, PageRequest, ReadError, Row, SORTED_CHARS, Sort,
    SortKey, Total,
};
use crate::visibility::Visibility;

mod aggregate;
mod columns;
mod connections;
mod filter;
mod held;
mod regex;
mod row;

use columns::{Columns, Kind, Value};
use connections::{Connections, Lease};
use filter::{Statement, Users};
use row::Names;

/// How long the table is taken for what it was when it was looked at.
const FRESH: Duration = Duration::from_secs(60);
/// What one event, or the names of members, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long rows are counted before it is said that there are more.
const COUNTING: Duration = Duration::from_secs(2);
/// Rows whose metadata is looked into for names.
const SAMPLE: usize = 1000;
/// Answers over the whole table that are kept, and for how long.
const MAX_KEPT: usize = 64;
const KEPT: Duration = Duration::from_secs(60);

pub struct TableReader {
    config: Config,
    name: Name,
    connections: Connections,
    users: Option<UserTable>,
    known: Mutex<Option<(Instant, Arc<Columns>)>>,
    bytes: AtomicU64,
    kept: Mutex<HashMap<String, (Instant, Vec<Group>)>>,
    /// Answers over the whole table are worked out one at a time.
    whole: tokio::sync::Mutex<()>,
}

/// Where e-mail and name of users are, as SQL.
struct UserTable {
    /// Without the user of a row, which stands at the end.
    join: String,
    email: Option<String>,
    name: Option<String>,
    lookup: String,
}

impl UserTable {
    fn new(options: &ReadOptions) -> Result<Option<UserTable>, String> {
        let Some(users) = &options.users else { return Ok(None) };
        let table = Name::parse(&users.table)?.quoted();
        let id = quote(&users.id);
        let column = |name: &Option<String>| name.as_ref().map(|name| format!("u.{}", quote(name)));
        let (email, name) = (column(&users.email), column(&users.name));
        let shown =
            |column: &Option<String>| column.as_ref().map_or("NULL::text".to_owned(), |sql| format!("{sql}::text"));
        Ok(Some(UserTable {
            join: format!("LEFT JOIN {table} u ON u.{id}::text ="),
            lookup: format!(
                "SELECT u.{id}::text, {}, {} FROM {table} u WHERE u.{id}::text IN (SELECT jsonb_array_elements_text($1::text::jsonb))",
                shown(&email),
                shown(&name)
            ),
            email,
            name,
        }))
    }
}

impl TableReader {
    pub fn new(config: &Config, cx: &SinkContext, options: &ReadOptions) -> Result<TableReader, String> {
        let application = format!("weir {} (reading)", cx.name);
        let url = options.url.as_ref().unwrap_or(&config.url);
        let target = Target::parse(url.expose(), cx.encrypted.then_some(&cx.tls), &application)?.for_reading();
        Ok(TableReader {
            name: Name::parse(&config.table)?,
            config: config.clone(),
            connections: Connections::new(target),
            users: UserTable::new(options)?,
            known: Mutex::default(),
            bytes: AtomicU64::new(0),
            kept: Mutex::default(),
            whole: tokio::sync::Mutex::default(),
        })
    }

    /// What the table looks like, looked at again from time to time.
    async fn columns(&self, lease: &mut Lease<'_>, deadline: Instant) -> Result<Arc<Columns>, ReadError> {
        if let Some((at, columns)) = &*self.known.lock().unwrap_or_else(PoisonError::into_inner)
            && at.elapsed() < FRESH
        {
            return Ok(columns.clone());
        }
        let read = tokio::time::timeout_at(deadline.into(), Table::read(lease.client(), &self.name));
        let table = read.await.map_err(|_| ReadError::Deadline)?.map_err(|error| lease.failed(&error))?;
        let table = table.ok_or_else(|| {
            ReadError::Unavailable(format!("`{}` has no table `{}`", self.connections.place(), self.name))
        })?;
        let columns = Arc::new(Columns::new(&table, &self.config).map_err(ReadError::Unsupported)?);
        let quoted = [self.name.quoted()];
        let size = lease.ask("SELECT pg_total_relation_size(to_regclass($1))::text", &quoted, deadline).await;
        if let Ok(rows) = size
            && let Some(bytes) =
                rows.first().and_then(|row| row.get::<_, Option<&str>>(0)).and_then(|text| text.parse().ok())
        {
            self.bytes.store(bytes, Ordering::Relaxed);
        }
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), columns.clone()));
        Ok(columns)
    }

    /// What went wrong may be that the table has changed.
    fn doubt<T>(&self, answer: Result<T, ReadError>) -> Result<T, ReadError> {
        if matches!(answer, Err(ReadError::Unavailable(_))) {
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answer
    }

    fn statement<'a>(&'a self, columns: &'a Columns, visibility: &'a Visibility) -> Statement<'a> {
        let of = |column: &'a Option<String>| column.as_deref();
        let users = self.users.as_ref().zip(columns.member("user_id")).map(|(users, user)| Users {
            join: format!("{} {}", users.join, user.text()),
            email: of(&users.email),
            name: of(&users.name),
        });
        Statement::new(columns, visibility, users)
    }

    async fn names_of(
        &self,
        columns: &Columns,
        lease: &mut Lease<'_>,
        rows: &[tokio_postgres::Row],
        deadline: Instant,
    ) -> Result<Names, ReadError> {
        let Some(users) = &self.users else { return Ok(Names::new()) };
        let mut ids: Vec<String> = rows.iter().filter_map(|row| row::user(columns, row)).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(Names::new());
        }
        let found = lease.ask(&users.lookup, &[serde_json::Value::from(ids).to_string()], deadline).await?;
        Ok(found.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
    }

    async fn read_page(&self, request: PageRequest, visibility: Visibility) -> Result<Page, ReadError> {
        let deadline = request.deadline;
        let mut lease = self.connections.lease(deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let mut statement = self.statement(&columns, &visibility);
        let mut condition = statement.condition(&request.filter);
        let (key, is_number) = match &request.sort {
            Sort::Field(name) => {
                let value = statement.value(std::slice::from_ref(name), None).ok_or_else(|| missing(&columns, name))?;
                let is_number = value.kind == Kind::Number;
                let text = || format!("left({}, {SORTED_CHARS}) COLLATE \"C\"", value.text());
                (Some(if is_number { value.sql.clone() } else { text() }), is_number)
            }
            Sort::Time | Sort::Seq => (None, false),
        };
        if let Some(after) = &request.after {
            let key = key.as_deref().map(|sql| (sql, is_number));
            let behind = behind(&mut statement, &columns, key, after, request.is_descending);
            let behind = behind.ok_or_else(|| ReadError::Invalid("`cursor` is of another table or column".into()))?;
            condition = format!("{condition} AND {behind}");
        }
        let direction = if request.is_descending { "DESC" } else { "ASC" };
        let sorted = key.as_ref().map_or(String::new(), |key| format!("{key} {direction} NULLS LAST, "));
        let sort_key = key.as_ref().map_or("NULL::text".to_owned(), |key| format!("({key})::text"));
        let sql = format!(
            "SELECT {}, {sort_key} FROM {} WHERE {condition} ORDER BY {sorted}{} {direction}, {} {direction} LIMIT {} OFFSET {}",
            row::selected(&columns),
            statement.from(),
            ordered_time(&columns.time),
            columns.tie(),
            request.limit.saturating_add(1),
            request.offset,
        );
        let parameters = std::mem::take(&mut statement.parameters);
        let found = lease.ask(&sql, &parameters, deadline).await?;
        let names = self.names_of(&columns, &mut lease, &found, deadline).await?;
        let sort = |found: &tokio_postgres::Row| match (found.get::<_, Option<String>>(row::width(&columns)), is_number)
        {
            _ if key.is_none() => SortKey::None,
            (None, _) => SortKey::Missing,
            (Some(text), true) => SortKey::Decimal(text),
            (Some(text), false) => SortKey::Text(text),
        };
        let show = |visibility: &Visibility, line: &[u8]| visibility.show(line).map(std::borrow::Cow::into_owned);
        let rows = found.iter().take(request.limit);
        let rows =
            rows.filter_map(|found| row::event(&columns, found, sort(found), &names, show, &visibility)).collect();
        Ok(Page { rows, has_more: found.len() > request.limit, resume: None })
    }

    async fn read_one(&self, key: Key, visibility: Visibility) -> Result<Option<Row>, ReadError> {
        let deadline = Instant::now() + PATIENCE;
        let text = match key {
            Key::Id(id) => id.to_string(),
            Key::Seq(seq) => seq.to_string(),
            Key::Text(text) => text,
        };
        let mut lease = self.connections.lease(deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        for name in ["id", super::key::ADDED] {
            let Some(column) = columns.member(name) else { continue };
            // However it is spelled, an id is one number.
            let id = Id::parse(&text).filter(|_| column.kind == Kind::Uuid);
            let text = id.map_or_else(|| text.clone(), |id| id.to_string());
            let filter = Filter { equals: vec![(name.to_owned(), text)], ..Filter::default() };
            let mut statement = self.statement(&columns, &visibility);
            let condition = statement.condition(&filter);
            let sql = format!("SELECT {} FROM {} WHERE {condition} LIMIT 1", row::selected(&columns), statement.from());
            let parameters = std::mem::take(&mut statement.parameters);
            let found = lease.ask(&sql, &parameters, deadline).await?;
            let names = self.names_of(&columns, &mut lease, &found, deadline).await?;
            let show =
                |visibility: &Visibility, line: &[u8]| visibility.show_whole(line).map(std::borrow::Cow::into_owned);
            if let Some(found) = found.first() {
                return Ok(row::event(&columns, found, SortKey::None, &names, show, &visibility));
            }
        }
        Ok(None)
    }

    async fn read_count(
        &self,
        filter: Filter,
        visibility: Visibility,
        limit: CountLimit,
        deadline: Instant,
    ) -> Result<Total, ReadError> {
        let mut lease = self.connections.lease(deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let mut statement = self.statement(&columns, &visibility);
        let condition = statement.condition(&filter);
        let from = statement.from();
        let parameters = std::mem::take(&mut statement.parameters);
        let count = |rows: Vec<tokio_postgres::Row>| {
            rows.first().and_then(|row| row.get::<_, &str>(0).parse().ok()).unwrap_or(0)
        };
        match limit {
            CountLimit::Exact => {
                let sql = format!("SELECT count(*)::text FROM {from} WHERE {condition}");
                let rows = lease.ask(&sql, &parameters, deadline).await?;
                Ok(Total { count: count(rows), is_at_least: false })
            }
            CountLimit::UpTo(most) => {
                let sql = format!(
                    "SELECT count(*)::text FROM (SELECT FROM {from} WHERE {condition} LIMIT {}) counted",
                    most.saturating_add(1)
                );
                match lease.ask(&sql, &parameters, deadline.min(Instant::now() + COUNTING)).await {
                    Ok(rows) => {
                        let count: u64 = count(rows);
                        Ok(Total { count: count.min(most), is_at_least: count > most })
                    }
                    // That there are none is not known either.
                    Err(ReadError::Deadline) => Ok(Total { count: 0, is_at_least: true }),
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn read_groups(&self, request: AggregateRequest, visibility: Visibility) -> Result<Vec<Group>, ReadError> {
        let is_whole = visibility.only_user().is_none() && request.filter.equals.is_empty();
        if !is_whole {
            return self.ask_groups(&request, &visibility).await;
        }
        let name = format!("{:?} {:?} {:?} {visibility:?}", request.filter, request.group_by, request.with_percentiles);
        let turn = tokio::time::timeout_at(request.deadline.into(), self.whole.lock());
        let _turn = turn.await.map_err(|_| ReadError::Deadline)?;
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|_, (at, _)| at.elapsed() < KEPT);
            if let Some((_, groups)) = kept.get(&name) {
                return Ok(groups.clone());
            }
        }
        let started = Instant::now();
        let groups = self.ask_groups(&request, &visibility).await?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // What costs next to nothing is asked again, and is never old.
        if kept.len() < MAX_KEPT && started.elapsed() > COUNTING / 10 {
            kept.insert(name, (Instant::now(), groups.clone()));
        }
        Ok(groups)
    }

    async fn ask_groups(&self, request: &AggregateRequest, visibility: &Visibility) -> Result<Vec<Group>, ReadError> {
        let deadline = request.deadline;
        let mut lease = self.connections.lease(deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let mut statement = self.statement(&columns, visibility);
        let sql = aggregate::select(&columns, &mut statement, request)?;
        let parameters = std::mem::take(&mut statement.parameters);
        let rows = lease.ask(&sql, &parameters, deadline).await?;
        if rows.len() > request.max_groups {
            return Err(ReadError::Invalid(format!(
                "more than {} groups: narrow the filter or the time",
                request.max_groups
            )));
        }
        Ok(rows.iter().map(|row| aggregate::group(row, &request.group_by)).collect())
    }

    async fn count_without_time(&self) -> Result<u64, ReadError> {
        let deadline = Instant::now() + PATIENCE;
        let mut lease = self.connections.lease(deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let has_time = columns.has_time();
        let sql = format!("SELECT count(*)::text FROM {} WHERE NOT coalesce({has_time}, FALSE)", columns.from);
        let rows = lease.ask(&sql, &[], deadline).await?;
        Ok(rows.first().and_then(|row| row.get::<_, &str>(0).parse().ok()).unwrap_or(0))
    }

    async fn read_names(&self) -> Result<Vec<String>, ReadError> {
        let deadline = Instant::now() + PATIENCE;
        let mut lease = self.connections.lease(deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let mut names: Vec<String> = columns.with_column().iter().map(|(name, _)| name.clone()).collect();
        names.extend(columns.key.iter().map(|_| "id".to_owned()));
        names.extend(columns.extras.iter().map(|(name, _)| format!("metadata.{name}")));
        if let Some(metadata) = &columns.metadata {
            let sql = format!(
                "SELECT DISTINCT jsonb_object_keys(m) FROM (SELECT {} AS m FROM {} WHERE jsonb_typeof({}) = 'object' LIMIT {SAMPLE}) s",
                metadata.sql, columns.from, metadata.sql
            );
            let rows = lease.ask(&sql, &[], deadline).await?;
            names.extend(rows.iter().map(|row| format!("metadata.{}", row.get::<_, &str>(0))));
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    async fn read_lack(&self, path: Vec<String>) -> Result<Option<String>, ReadError> {
        let deadline = Instant::now() + PATIENCE;
        let mut lease = self.connections.lease(deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let everything = Visibility::All { own: String::new(), preview: usize::MAX };
        let mut statement = self.statement(&columns, &everything);
        let known = crate::event::names::known(path.first().map_or(&b""[..], |name| name.as_bytes()));
        let canonical = known.and_then(crate::event::aliases::canonical).map(|name| KNOWN[name.0 as usize]);
        let has_column = path.first().is_none_or(|name| !columns.lacks_column(name));
        match statement.value(&path, canonical) {
            Some(_) if has_column => Ok(None),
            _ => Ok(Some(lack(&columns, &path.join(".")))),
        }
    }
}

fn lack(columns: &Columns, name: &str) -> String {
    format!("the table `{}` has no column for `{name}`", columns.name)
}

fn missing(columns: &Columns, name: &str) -> ReadError {
    ReadError::Invalid(lack(columns, name))
}

/// The time as an index has it.
fn ordered_time(time: &Value) -> String {
    match &time.stored {
        columns::Stored::Local(column) => column.clone(),
        _ => time.sql.clone(),
    }
}

/// Rows that come after the one where the page before has ended; none if it was a page of something else. The key is
/// what rows are sorted by, and whether it is a number.
fn behind(
    statement: &mut Statement<'_>,
    columns: &Columns,
    key: Option<(&str, bool)>,
    after: &Keyset,
    is_descending: bool,
) -> Option<String> {
    let sign = if is_descending { "<" } else { ">" };
    let time = crate::units::Timestamp(after.time);
    let earlier = statement.compare_time(&columns.time, sign, time);
    let same = statement.compare_time(&columns.time, "=", time);
    let row = after.row.as_deref()?;
    let tie = statement.bind(row);
    let tie = match columns.key_of_order() {
        Some(key) if key.kind == Kind::Number => format!("{} {sign} {tie}::text::{}", key.sql, number_type(row)?),
        Some(key) if key.kind == Kind::Uuid => {
            filter::is_uuid(row).then(|| format!("{} {sign} {tie}::text::uuid", key.sql))?
        }
        Some(key) => format!("{} {sign} {tie}", key.text()),
        None => format!("{} {sign} {tie}", columns.tie()),
    };
    let rest = format!("({earlier} OR ({same} AND {tie}))");
    // Gives an index on the time a place to begin.
    let or_same = statement.compare_time(&columns.time, if is_descending { "<=" } else { ">=" }, time);
    let Some((key, is_number)) = key else { return Some(format!("{or_same} AND {rest}")) };
    let value = match &after.key {
        SortKey::Missing => return Some(format!("({key} IS NULL AND {rest})")),
        SortKey::Decimal(text) if is_number => format!("{}::text::{}", statement.bind(text), number_type(text)?),
        SortKey::Text(text) if !is_number => statement.bind(text),
        SortKey::None | SortKey::Number(_) | SortKey::Decimal(_) | SortKey::Text(_) => return None,
    };
    Some(format!("({key} {sign} {value} OR {key} IS NULL OR ({key} = {value} AND {rest}))"))
}

/// The type in which a number, as a table has written it, is itself again.
fn number_type(text: &str) -> Option<&'static str> {
    match text {
        "NaN" => Some("numeric"),
        // No type but this has them in every version.
        "Infinity" | "-Infinity" => Some("float8"),
        _ => crate::query::number(text).map(|_| "numeric"),
    }
}

impl Reader for TableReader {
    fn page(&self, request: PageRequest, visibility: Visibility) -> Reading<'_, Page> {
        Box::pin(async move { self.doubt(self.read_page(request, visibility).await) })
    }

    fn get(&self, key: Key, visibility: Visibility) -> Reading<'_, Option<Row>> {
        Box::pin(async move { self.doubt(self.read_one(key, visibility).await) })
    }

    fn count(
        &self,
        filter: Filter,
        visibility: Visibility,
        limit: CountLimit,
        deadline: Instant,
    ) -> Reading<'_, Total> {
        Box::pin(async move { self.doubt(self.read_count(filter, visibility, limit, deadline).await) })
    }

    fn aggregate(&self, request: AggregateRequest, visibility: Visibility) -> Reading<'_, Vec<Group>> {
        Box::pin(async move {
            let mut groups = self.doubt(self.read_groups(request.clone(), visibility).await)?;
            request.choose(&mut groups);
            Ok(groups)
        })
    }

    fn names(&self) -> Reading<'_, Vec<String>> {
        Box::pin(async move { self.doubt(self.read_names().await) })
    }

    fn without_time(&self) -> Reading<'_, u64> {
        Box::pin(async move { self.doubt(self.count_without_time().await) })
    }

    fn lacks(&self, path: Vec<String>) -> Reading<'_, Option<String>> {
        Box::pin(async move { self.doubt(self.read_lack(path).await) })
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }
}
