//! An in-memory lookup table with one key: a CSV file, or a snapshot of a Postgres table.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{path, postgres, quoted};
use crate::component::Check;
use crate::component::refresh::Refresh;
use crate::event::Batch;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// A table and how events find their row in it: from a CSV file, or from Postgres.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// CSV file with a header line, at most 64 MiB. Read at start and on reload.
    pub csv: Option<PathBuf>,
    /// A Postgres table, instead of a file.
    pub postgres: Option<postgres::Config>,
    /// Field of the event to look up, such as `user_id`. Text and numbers are compared as text.
    pub key: String,
    /// Column to search, if its name is not the last part of `key`. The first matching row is used.
    pub column: Option<String>,
    /// Columns and the fields they are written to. An empty cell sets nothing.
    pub columns: BTreeMap<String, String>,
}

impl Config {
    /// The column that keys are looked for in.
    pub fn key_column(&self) -> &str {
        self.column.as_deref().unwrap_or_else(|| self.key.rsplit('.').next().unwrap_or(&self.key))
    }
}

/// For each key the cells of its row as JSON, one per field; empty for an empty cell.
pub type Rows = HashMap<String, Vec<Box<[u8]>>>;

pub struct Table {
    pub file: Option<PathBuf>,
    pub refresh: Option<Refresh>,
    key: Vec<String>,
    fields: Vec<Vec<String>>,
    rows: Arc<RwLock<Arc<Rows>>>,
}

impl Table {
    /// Reads a file, or makes ready to read a table; adds a problem for everything that is wrong.
    pub fn load(config: Config, check: &mut Check) -> Option<Table> {
        let before = check.problems.len();
        let key = path(&config.key, "lookup.key", check);
        let mut fields = Vec::new();
        for (column, field) in &config.columns {
            fields.extend(path(field, &format!("lookup.columns.{column}"), check));
        }
        if config.columns.is_empty() {
            check.problem("lookup.columns", "expected at least one column");
        }
        let shared = Arc::new(RwLock::new(Arc::new(Rows::new())));
        let mut refresh = None;
        match (&config.csv, &config.postgres) {
            (Some(file), None) => {
                let text = match read(file) {
                    Ok(text) => text,
                    Err(message) => {
                        check.problem("lookup.csv", message);
                        return None;
                    }
                };
                let rows = rows(&config, file, &text, check)?;
                *shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rows);
            }
            (None, Some(table)) => refresh = postgres::refresh(table, &config, shared.clone(), check),
            _ => check.problem("lookup", "expected exactly one of `csv` and `postgres`"),
        }
        let file = config.csv;
        (check.problems.len() == before).then_some(Table { file, refresh, key: key?, fields, rows: shared })
    }

    /// The rows as they were read last.
    pub fn rows(&self) -> Arc<Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The fields for an event, with their values as JSON.
    pub fn row<'t>(
        &'t self,
        rows: &'t Rows,
        batch: &Batch,
        event: usize,
    ) -> impl Iterator<Item = (&'t [String], &'t [u8])> + use<'t> {
        let value = batch.get_path(event, &self.key).filter(|value| !value.is_null());
        let row = value.and_then(|value| rows.get(&*value.display()));
        let cells = row.into_iter().flat_map(|cells| self.fields.iter().zip(cells));
        cells.filter(|(_, json)| !json.is_empty()).map(|(path, json)| (&path[..], &json[..]))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let named = |wrong: &dyn std::fmt::Display| format!("cannot read `{}`: {wrong}", path.display());
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| named(&error))?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(|error| named(&error))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(named(&"it is larger than 64 MiB"));
    }
    Ok(text)
}

fn rows(config: &Config, path: &Path, text: &[u8], check: &mut Check) -> Option<Rows> {
    let file = path.display();
    let mut reader = csv::Reader::from_reader(text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text));
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => {
            check.problem("lookup.csv", format!("cannot read `{file}`: {error}"));
            return None;
        }
    };
    let mut column = |name: &str, at: String| {
        let found = header.iter().position(|column| column == name);
        if found.is_none() {
            let columns: Vec<String> = header.iter().map(|column| format!("`{column}`")).collect();
            let hint = format!("its columns are {}", columns.join(", "));
            check.problem_with_hint(at, format!("`{file}` has no column `{name}`"), hint);
        }
        found
    };
    let key_at = if config.column.is_some() { "lookup.column" } else { "lookup.key" };
    let key = column(config.key_column(), key_at.into());
    let wanted: Vec<_> =
        config.columns.keys().filter_map(|name| column(name, format!("lookup.columns.{name}"))).collect();
    let mut rows = Rows::new();
    for record in reader.records() {
        match record {
            Ok(record) => {
                let cell = |at: usize| record.get(at).unwrap_or("");
                let json = |text: &str| if text.is_empty() { Box::default() } else { quoted(text).into_boxed_slice() };
                let cells = || wanted.iter().map(|at| json(cell(*at))).collect();
                rows.entry(cell(key?).to_owned()).or_insert_with(cells);
            }
            Err(error) => {
                check.problem("lookup.csv", format!("cannot read `{file}`: {error}"));
                return None;
            }
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Enrich;
    use crate::transforms::testing::{apply, batch, build, problems, provenance};

    /// A file that is gone when the test is.
    struct Csv(std::path::PathBuf);

    impl Csv {
        fn new(name: &str, text: &str) -> Csv {
            let path = std::env::temp_dir().join(format!("weir-lookup-{}-{name}.csv", std::process::id()));
            std::fs::write(&path, text).expect("the temporary folder can be written");
            Csv(path)
        }

        fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Csv {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn events_take_the_columns_of_their_row() {
        let csv = Csv::new("rows", "\u{feff}user,team,mail\nali,\"R&D \"\"x\"\"\",a@b\n7,ops,\nali,later,\n");
        let config = format!(
            "lookup: {{csv: {}, key: user_id, column: user, columns: {{team: metadata.team, mail: user_email}}}}",
            csv.path().display()
        );
        let lines =
            [r#"{"user_id":"\u0061li"}"#, r#"{"user_id":7}"#, r#"{"user_id":"eve"}"#, r#"{"user_id":null}"#, "{}"];
        assert_eq!(
            apply(&build::<Enrich>(&config), batch(&lines, provenance(None, None))),
            [
                r#"{"user_id":"\u0061li","user_email":"a@b","metadata":{"team":"R&D \"x\""}}"#,
                r#"{"user_id":7,"metadata":{"team":"ops"}}"#,
                r#"{"user_id":"eve"}"#,
                r#"{"user_id":null}"#,
                "{}",
            ]
        );
    }

    #[test]
    fn a_table_that_does_not_fit_is_an_error_at_its_key() {
        let csv = Csv::new("wrong", "user,team\nali,x,y\n");
        let path = csv.path().display();
        let config = format!("lookup: {{csv: {path}, key: metadata.user_id, columns: {{tem: a, team: b.}}}}");
        assert_eq!(
            problems::<Enrich>(&config),
            [
                "lookup.columns.team: `b.` is not a field: expected names separated by dots".to_string(),
                format!("lookup.key: `{path}` has no column `user_id`"),
                format!("lookup.columns.tem: `{path}` has no column `tem`"),
                format!(
                    "lookup.csv: cannot read `{path}`: CSV error: record 1 (line: 2, byte: 10): found record with 3 fields, but the previous record has 2 fields"
                ),
            ]
        );
    }
}
