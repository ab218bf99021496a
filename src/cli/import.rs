//! `weir import`: copies the rows of an activity table into the embedded store, through the transforms. Repeating it is
//! safe: rows that are already stored are skipped.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value, json};

use super::Configuration;
use crate::component::{ReadOptions, Reader, Sink};
use crate::config::Plan;
use crate::event::{Id, Seed};
use crate::journal::fs::Real;
use crate::journal::{Journal, OpenError};
use crate::query::request::{Filter, Keyset, PageRequest, ReadError, Row, Sort};
use crate::sinks::postgres::{Config, Postgres};
use crate::store::{NewEvent, Store, Stores};
use crate::topology::{Outcome, Trial, make_private_folder};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// Rows that are read, changed and stored at a time.
const ROWS: usize = 1000;
/// How long one read of the table may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Refused rows that are printed one by one.
const SHOWN_REFUSALS: usize = 10;
/// The source at which events come in, for the transforms.
const SOURCE: &str = "api";

#[derive(Args)]
pub struct Arguments {
    /// Table, as `table` or `schema.table`
    #[arg(long, value_name = "TABLE")]
    table: String,
    /// File with the database URL, instead of $WEIR_IMPORT_URL
    #[arg(long, value_name = "FILE")]
    url_file: Option<PathBuf>,
    /// Name of the store, if the configuration has several
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    #[command(flatten)]
    configuration: Configuration,
}

/// What became of the rows.
#[derive(Default)]
struct Counts {
    read: u64,
    stored: u64,
    known: u64,
    filtered: u64,
    refused: u64,
    /// Why the first of them were refused.
    refusals: Vec<String>,
    /// More of them that one reason stands for.
    refused_together: u64,
}

impl Counts {
    fn refuse(&mut self, reason: String) {
        self.refused += 1;
        if self.refusals.len() < SHOWN_REFUSALS {
            self.refusals.push(reason);
        }
    }
}

pub fn run(arguments: Arguments) -> ExitCode {
    let loaded = match arguments.configuration.load(&arguments.configuration.overrides(false)) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return super::complain(format!("cannot start: {error}")),
    };
    match runtime.block_on(import(&arguments, loaded.plan)) {
        Err(message) => super::complain(message),
        Ok(counts) => {
            counts.refusals.iter().for_each(|refusal| eprintln!("refused: {refusal}"));
            let left = counts.refused - counts.refused_together - counts.refusals.len() as u64;
            if left > 0 {
                eprintln!("refused: and {left} more");
            }
            let text = format!(
                "read {}, stored {}, there already {}, filtered {}, refused {}\n",
                counts.read, counts.stored, counts.known, counts.filtered, counts.refused
            );
            let is_all_filtered = counts.filtered > 0 && counts.stored + counts.known == 0;
            if is_all_filtered {
                eprintln!(
                    "nothing was stored: rows enter at the source `api`, and no transform or sink of the store takes it, or one filters all of them"
                );
            }
            match super::print(&text) {
                code if counts.refused == 0 && !is_all_filtered => code,
                _ => ExitCode::from(super::FAILED),
            }
        }
    }
}

fn url(arguments: &Arguments) -> Result<String, String> {
    match &arguments.url_file {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            text.map(|text| text.trim().to_owned())
                .map_err(|error| format!("cannot read `{}`: {error}", path.display()))
        }
        None => std::env::var("WEIR_IMPORT_URL")
            .map_err(|_| "no database: set $WEIR_IMPORT_URL or give --url-file".to_owned()),
    }
}

async fn import(arguments: &Arguments, plan: Plan) -> Result<Counts, String> {
    let name = store_of(&plan, arguments.sink.as_deref())?;
    let url = url(arguments)?;
    let config: Config = serde_json::from_value(json!({ "url": url, "table": arguments.table }))
        .map_err(|error| format!("the table: {error}"))?;
    let sink = plan.sinks.iter().find(|sink| *sink.name == *name).expect("it was just found");
    let mut context = sink.dry_context("import".into(), &plan.data_dir);
    let reader = Postgres::reader(&config, &context, &ReadOptions::default())
        .ok_or_else(|| format!("`{}` cannot be read", arguments.table))?;
    // Who has the journal has the folder: an agent that runs is in the way, and is kept away meanwhile.
    make_private_folder(&plan.data_dir).map_err(|error| error.message)?;
    let journal = plan.settings.journal.options(plan.data_dir.join("journal"));
    let (journal, _) = Journal::open(journal, Arc::new(Real::default())).map_err(|error| match error {
        OpenError::Locked { .. } => format!("{error}: stop the agent during the import"),
        other => format!("cannot open the journal: {other}"),
    })?;
    let stores = Stores::default();
    (context.dry, context.stores) = (false, stores.clone());
    let opened = sink.sink.open(&context).await.map_err(|failure| failure.answer().to_owned())?;
    let store = stores.all().pop().ok_or_else(|| format!("`{name}` has not opened its store"))?;
    let cannot = |error: std::io::Error| format!("cannot store events: {error}");
    // Imported events have parts of their own: their retention counts from now.
    store.seal_now().map_err(cannot)?;
    let trial = Trial::new(plan).receiving_at(Timestamp::now());
    let next = store.next_imported_seq();
    let mut importer = Importer { table: &arguments.table, name: &name, trial, next, store, counts: Counts::default() };
    importer.read_all(&*reader).await?;
    let without_time = reader.without_time().await.map_err(text_of)?;
    importer.counts.read += without_time;
    importer.counts.refused += without_time;
    if without_time > 0 {
        importer.counts.refusals.insert(0, format!("{without_time} rows whose time is NULL or infinite"));
        importer.counts.refused_together = without_time - 1;
    }
    importer.store.seal_now().map_err(cannot)?;
    drop(opened);
    journal.close();
    Ok(importer.counts)
}

fn text_of(error: ReadError) -> String {
    match error {
        ReadError::Deadline => "reading the table took too long".to_owned(),
        ReadError::Unavailable(text)
        | ReadError::Unsupported(text)
        | ReadError::Invalid(text)
        | ReadError::TooLarge(text) => text,
    }
}

fn store_of(plan: &Plan, wanted: Option<&str>) -> Result<Arc<str>, String> {
    let stores: Vec<&Arc<str>> =
        plan.sinks.iter().filter(|sink| sink.type_name == "store").map(|sink| &sink.name).collect();
    match (wanted, &stores[..]) {
        (Some(wanted), _) => {
            let found = stores.iter().find(|name| &****name == wanted);
            found.map(|name| (**name).clone()).ok_or_else(|| format!("the configuration has no store `{wanted}`"))
        }
        (None, [only]) => Ok((*only).clone()),
        (None, []) => Err("the configuration has no sink of type `store` to import into".to_owned()),
        (None, _) => Err("the configuration has several stores: choose one with --sink".to_owned()),
    }
}

struct Importer<'a> {
    table: &'a str,
    name: &'a str,
    trial: Trial,
    store: Store,
    next: u64,
    counts: Counts,
}

impl Importer<'_> {
    async fn read_all(&mut self, reader: &dyn Reader) -> Result<(), String> {
        let mut after: Option<Keyset> = None;
        loop {
            let request = PageRequest {
                filter: Filter::default(),
                sort: Sort::Time,
                is_descending: false,
                after: after.clone(),
                offset: 0,
                limit: ROWS,
                deadline: Instant::now() + PATIENCE,
                may_be_partial: false,
            };
            let everything = Visibility::All { own: String::new(), preview: usize::MAX };
            let page = reader.page(request, everything).await.map_err(text_of)?;
            self.counts.read += page.rows.len() as u64;
            self.take(&page.rows)?;
            match page.rows.last() {
                Some(last) if page.has_more => after = Some(last.keyset.clone()),
                _ => return Ok(()),
            }
        }
    }

    /// Rows through the transforms, into the store.
    fn take(&mut self, rows: &[Row]) -> Result<(), String> {
        let snapshot = self.store.snapshot();
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, is_own) = id_of(row, self.table);
            match snapshot.line_of(id, true).map_err(|error| format!("cannot read the store: {error}"))? {
                Some(_) => self.counts.known += 1,
                None => events.push(event_of(row, id, is_own)),
            }
        }
        drop(snapshot);
        if events.is_empty() {
            return Ok(());
        }
        let new: Vec<&str> = events.iter().map(String::as_str).collect();
        match self.trial.run(SOURCE, &new) {
            Ok(outcome) => self.store_all(&outcome, new.len()),
            // One that breaks a transform, or is no event, costs itself.
            Err(_) => new.iter().try_for_each(|event| match self.trial.run(SOURCE, &[event]) {
                Ok(outcome) => self.store_all(&outcome, 1),
                Err(reason) => {
                    self.counts.refuse(reason);
                    Ok(())
                }
            }),
        }
    }

    fn store_all(&mut self, outcome: &Outcome, given: usize) -> Result<(), String> {
        let lines = self.trial.at(outcome, self.name)?;
        for (component, reason) in &outcome.dead {
            self.counts.refuse(format!("by `{component}`: {reason}"));
        }
        let (received_at, seed) = (Timestamp::now(), Seed::random());
        let events: Vec<NewEvent<'_>> = (self.next..)
            .zip(&lines)
            .map(|(seq, line)| NewEvent { seq, received_at, seed, ordinal: seq, line })
            .collect();
        let appended = self.store.append(&events).map_err(|error| format!("cannot store events: {error}"))?;
        self.next += events.len() as u64;
        self.counts.stored += appended.stored as u64;
        self.counts.known += appended.repeated as u64;
        self.counts.filtered += given.saturating_sub(lines.len() + outcome.dead.len()) as u64;
        appended.conflicts.iter().for_each(|_| self.counts.refuse("its id belongs to another event".to_owned()));
        Ok(())
    }
}

/// The id of a row's event, and whether it is the row's own: else it follows from table and key.
fn id_of(row: &Row, table: &str) -> (Id, bool) {
    match Id::parse(&row.id) {
        Some(id) => (id, true),
        None => (Seed::derive(&[b"import", table.as_bytes(), row.id.as_bytes()]).id(0), false),
    }
}

/// The row as an event comes in: with an id, and its key in the metadata where that is none.
fn event_of(row: &Row, id: Id, is_own: bool) -> String {
    let mut event: Map<String, Value> = serde_json::from_slice(&row.line).unwrap_or_default();
    event.insert("id".into(), if is_own { row.id.clone() } else { id.to_string() }.into());
    event.insert("timestamp".into(), row.time.to_string().into());
    if !is_own {
        let metadata = event.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("source_id".into(), row.id.clone().into());
        }
    }
    Value::Object(event).to_string()
}
