//! Reads the table that the sink fills, including rows written by others, as events.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Config;
use super::table::{Name, Table};
use crate::component::reader::{Key, ReadOptions, Reading};
use crate::component::{Reader, SinkContext};
use crate::event::Id;
use crate::event::names::KNOWN;
use crate::net::postgres::Target;
use crate::query::request::{
    AggregateRequest, CountLimit, Filter, Group, Page, PageRequest, ReadError, Row, Sort, SortKey, Total,
};
use crate::query::{Check, FieldTest, Test};
use crate::visibility::Visibility;

mod aggregate;
mod columns;
mod connections;
mod filter;
mod held;
mod page;
mod regex;
mod row;
mod users;

use columns::{Columns, Kind};
use connections::{Connections, Lease, Length};
use filter::{Statement, Users};
use page::Part;
use row::Names;
use users::{UserIds, UserTable};

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
        let read = async {
            lease.limit(deadline).await?;
            let read = async |name| Table::read(lease.client(), name).await.map_err(|error| lease.failed(&error));
            let ids = match &self.users {
                Some(users) => read(&users.table).await?.map(|table| UserIds::of(&table, &users.id)),
                None => None,
            };
            Ok((read(&self.name).await?, ids))
        };
        let (table, user_ids) =
            tokio::time::timeout_at(deadline.into(), read).await.map_err(|_| ReadError::Deadline)??;
        let table = table.ok_or_else(|| {
            ReadError::Unavailable(format!("`{}` has no table `{}`", self.connections.place(), self.name))
        })?;
        if !table.columns.is_empty() && table.columns.iter().all(|column| !column.may_select) {
            return Err(ReadError::Unavailable(format!(
                "`{}`: permission denied for table `{}`: grant SELECT to the reading role, or set `api.read.url`",
                self.connections.place(),
                self.name
            )));
        }
        let mut columns = Columns::new(&table, &self.config).map_err(ReadError::Unsupported)?;
        columns.user_ids = user_ids.unwrap_or(UserIds::Other);
        let columns = Arc::new(columns);
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

    /// What went wrong may be that the table has changed, or that the server was started again: then it is asked once more.
    async fn asked<'r, T>(&self, ask: impl Fn() -> Reading<'r, T>) -> Result<T, ReadError> {
        for is_last in [false, true] {
            let outdated = self.connections.outdated();
            match ask().await {
                Err(ReadError::Unavailable(text)) => {
                    *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    if is_last || self.connections.outdated() == outdated {
                        return Err(ReadError::Unavailable(text));
                    }
                }
                answer => return answer,
            }
        }
        unreachable!("the last answer is returned")
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
        ids.retain(|id| columns.user_ids.has(id));
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(Names::new());
        }
        let found =
            lease.ask(&users.lookup(columns.user_ids), &[serde_json::Value::from(ids).to_string()], deadline).await?;
        Ok(found.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
    }

    async fn read_page(&self, request: &PageRequest, visibility: &Visibility) -> Result<Page, ReadError> {
        let deadline = request.deadline;
        let mut lease = self
            .connections
            .lease(
                match request.sort {
                    Sort::Field(_) => Length::Long,
                    Sort::Time | Sort::Seq => length(&request.filter),
                },
                deadline,
            )
            .await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let show = |visibility: &Visibility, line: &[u8]| visibility.show(line).map(std::borrow::Cow::into_owned);
        let (mut rows, mut offset) = (Vec::new(), request.offset);
        for part in page::parts(&request.sort, request.after.as_ref()) {
            let wanted = request.limit.saturating_add(1).saturating_sub(rows.len());
            if wanted == 0 {
                break;
            }
            let mut statement = self.statement(&columns, visibility);
            let (sql, sorted) = page::select(&columns, &mut statement, request, *part, (wanted, offset))?;
            let found = lease.ask(&sql, &statement.parameters, deadline).await?;
            if found.is_empty() && offset > 0 && *part == Part::WithValue {
                let mut statement = self.statement(&columns, visibility);
                let sql = page::count(&columns, &mut statement, request, *part)?;
                offset =
                    offset.saturating_sub(counted(&lease.ask(&sql, &statement.parameters, deadline).await?) as usize);
            } else {
                offset = 0;
            }
            let names = self.names_of(&columns, &mut lease, &found, deadline).await?;
            rows.extend(found.into_iter().map(|found| {
                let text = found.get(row::width(&columns));
                let key = sorted.as_ref().map_or(SortKey::None, |sorted| sorted.key(text));
                row::event(&columns, &found, key, &names, show, visibility)
            }));
        }
        let has_more = rows.len() > request.limit;
        rows.truncate(request.limit);
        Ok(Page { rows: rows.into_iter().flatten().collect(), has_more, resume: None })
    }

    async fn read_one(&self, key: &Key, visibility: &Visibility) -> Result<Option<Row>, ReadError> {
        let deadline = Instant::now() + PATIENCE;
        let text = match key {
            Key::Id(id) => id.to_string(),
            Key::Seq(seq) => seq.to_string(),
            Key::Text(text) => text.clone(),
        };
        let mut lease = self.connections.lease(Length::Short, deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        for name in ["id", super::key::ADDED] {
            let Some(column) = columns.member(name) else { continue };
            // However it is spelled, an id is one number.
            let id = Id::parse(&text).filter(|_| column.kind == Kind::Uuid);
            let text = id.map_or_else(|| text.clone(), |id| id.to_string());
            let filter = Filter { equals: vec![(name.to_owned(), text)], ..Filter::default() };
            let mut statement = self.statement(&columns, visibility);
            let sql = page::one(&columns, &mut statement, &filter);
            let found = lease.ask(&sql, &statement.parameters, deadline).await?;
            let names = self.names_of(&columns, &mut lease, &found, deadline).await?;
            let show =
                |visibility: &Visibility, line: &[u8]| visibility.show_whole(line).map(std::borrow::Cow::into_owned);
            if let Some(found) = found.first() {
                return Ok(row::event(&columns, found, SortKey::None, &names, show, visibility));
            }
        }
        Ok(None)
    }

    async fn read_count(
        &self,
        filter: &Filter,
        visibility: &Visibility,
        limit: CountLimit,
        deadline: Instant,
    ) -> Result<Total, ReadError> {
        let mut lease = self
            .connections
            .lease(if limit == CountLimit::Exact { Length::Long } else { length(filter) }, deadline)
            .await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let mut statement = self.statement(&columns, visibility);
        let condition = statement.condition(filter);
        let from = statement.from();
        let parameters = std::mem::take(&mut statement.parameters);
        match limit {
            CountLimit::Exact => {
                let sql = format!("SELECT count(*)::text FROM {from} WHERE {condition}");
                let rows = lease.ask(&sql, &parameters, deadline).await?;
                Ok(Total { count: counted(&rows), is_at_least: false })
            }
            CountLimit::UpTo(most) => {
                let sql = format!(
                    "SELECT count(*)::text FROM (SELECT FROM {from} WHERE {condition} LIMIT {}) counted",
                    most.saturating_add(1)
                );
                match lease.ask(&sql, &parameters, deadline.min(Instant::now() + COUNTING)).await {
                    Ok(rows) => {
                        let count = counted(&rows);
                        Ok(Total { count: count.min(most), is_at_least: count > most })
                    }
                    // That there are none is not known either.
                    Err(ReadError::Deadline) => Ok(Total { count: 0, is_at_least: true }),
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn read_groups(&self, request: &AggregateRequest, visibility: &Visibility) -> Result<Vec<Group>, ReadError> {
        let is_whole = visibility.only_user().is_none() && request.filter.equals.is_empty();
        if !is_whole {
            return self.ask_groups(request, visibility).await;
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
        let groups = self.ask_groups(request, visibility).await?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // What costs next to nothing is asked again, and is never old.
        if kept.len() < MAX_KEPT && started.elapsed() > COUNTING / 10 {
            kept.insert(name, (Instant::now(), groups.clone()));
        }
        Ok(groups)
    }

    async fn ask_groups(&self, request: &AggregateRequest, visibility: &Visibility) -> Result<Vec<Group>, ReadError> {
        let deadline = request.deadline;
        let mut lease = self
            .connections
            .lease(if visibility.only_user().is_none() { Length::Long } else { length(&request.filter) }, deadline)
            .await?;
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
        let mut lease = self.connections.lease(Length::Long, deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let has_time = columns.has_time();
        let sql = format!("SELECT count(*)::text FROM {} WHERE NOT coalesce({has_time}, FALSE)", columns.from);
        let rows = lease.ask(&sql, &[], deadline).await?;
        Ok(counted(&rows))
    }

    async fn read_names(&self) -> Result<Vec<String>, ReadError> {
        let deadline = Instant::now() + PATIENCE;
        let mut lease = self.connections.lease(Length::Short, deadline).await?;
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

    async fn read_lack(&self, path: &[String]) -> Result<Option<String>, ReadError> {
        let deadline = Instant::now() + PATIENCE;
        let mut lease = self.connections.lease(Length::Short, deadline).await?;
        let columns = self.columns(&mut lease, deadline).await?;
        let everything = Visibility::All { own: String::new(), preview: usize::MAX };
        let mut statement = self.statement(&columns, &everything);
        let known = crate::event::names::known(path.first().map_or(&b""[..], |name| name.as_bytes()));
        let canonical = known.and_then(crate::event::aliases::canonical).map(|name| KNOWN[name.0 as usize]);
        let has_column = path.first().is_none_or(|name| !columns.lacks_column(name));
        match statement.value(path, canonical) {
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

/// The number in the only row of an answer.
fn counted(rows: &[tokio_postgres::Row]) -> u64 {
    rows.first().and_then(|row| row.get::<_, &str>(0).parse().ok()).unwrap_or(0)
}

/// Whether a filter may have to look at every row: parts of texts, and fields that are not named.
fn length(filter: &Filter) -> Length {
    let is_long = |test: &&Test| match &test.check {
        Check::Is(pattern) => {
            test.field.is_none()
                || pattern.literal().is_none()
                || FieldTest::new(test).is_some_and(|test| test.is_contained())
        }
        Check::Matches(_) => true,
        Check::Exists | Check::Compare(..) | Check::Between(..) => false,
    };
    let query = filter.query.as_ref();
    if query.is_some_and(|query| query.expr().tests().iter().any(is_long)) { Length::Long } else { Length::Short }
}

impl Reader for TableReader {
    fn page(&self, request: PageRequest, visibility: Visibility) -> Reading<'_, Page> {
        Box::pin(async move { self.asked(|| Box::pin(self.read_page(&request, &visibility))).await })
    }

    fn get(&self, key: Key, visibility: Visibility) -> Reading<'_, Option<Row>> {
        Box::pin(async move { self.asked(|| Box::pin(self.read_one(&key, &visibility))).await })
    }

    fn count(
        &self,
        filter: Filter,
        visibility: Visibility,
        limit: CountLimit,
        deadline: Instant,
    ) -> Reading<'_, Total> {
        Box::pin(async move { self.asked(|| Box::pin(self.read_count(&filter, &visibility, limit, deadline))).await })
    }

    fn aggregate(&self, request: AggregateRequest, visibility: Visibility) -> Reading<'_, Vec<Group>> {
        Box::pin(async move {
            let mut groups = self.asked(|| Box::pin(self.read_groups(&request, &visibility))).await?;
            request.choose(&mut groups);
            Ok(groups)
        })
    }

    fn names(&self) -> Reading<'_, Vec<String>> {
        Box::pin(async move { self.asked(|| Box::pin(self.read_names())).await })
    }

    fn without_time(&self) -> Reading<'_, u64> {
        Box::pin(async move { self.asked(|| Box::pin(self.count_without_time())).await })
    }

    fn lacks(&self, path: Vec<String>) -> Reading<'_, Option<String>> {
        Box::pin(async move { self.asked(|| Box::pin(self.read_lack(&path))).await })
    }

    fn bytes(&self) -> Option<u64> {
        Some(self.bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }
}
