//! A table from a CSV file, in memory, looked up by one field.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{path, quoted};
use crate::component::Check;
use crate::event::Batch;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// A table and how events find their row in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file: CSV with a header line, at most 64 MiB. It is read at start and on reload.
    pub csv: PathBuf,
    /// The field of the event whose value is looked for, such as `user_id`. Text and numbers match by their text.
    pub key: String,
    /// The column it is looked for in, if it is named otherwise than the last name of `key`. The first row counts.
    pub column: Option<String>,
    /// Column and the field it is written to. An empty cell sets nothing.
    pub columns: BTreeMap<String, String>,
}

pub struct Table {
    pub file: PathBuf,
    key: Vec<String>,
    fields: Vec<Vec<String>>,
    /// For each key the cells of its row as JSON, one per field; empty for an empty cell.
    rows: HashMap<String, Vec<Box<[u8]>>>,
}

impl Table {
    /// Reads the file; adds a problem for everything that is wrong with it.
    pub fn load(config: Config, check: &mut Check) -> Option<Table> {
        let before = check.problems.len();
        let key = path(&config.key, "lookup.key", check);
        let mut fields = Vec::new();
        for (column, field) in &config.columns {
            fields.extend(path(field, &format!("lookup.columns.{column}"), check));
        }
        if config.columns.is_empty() {
            check.problem("lookup.columns", "no column is taken over");
        }
        let text = match read(&config) {
            Ok(text) => text,
            Err(message) => {
                check.problem("lookup.csv", message);
                return None;
            }
        };
        let rows = rows(&config, &text, check);
        (check.problems.len() == before).then_some(Table { file: config.csv, key: key?, fields, rows: rows? })
    }

    /// The fields for an event, with their values as JSON.
    pub fn row<'t>(&'t self, batch: &Batch, event: usize) -> impl Iterator<Item = (&'t [String], &'t [u8])> + use<'t> {
        let value = batch.get_path(event, &self.key).filter(|value| !value.is_null());
        let row = value.and_then(|value| self.rows.get(&*value.display()));
        let cells = row.into_iter().flat_map(|cells| self.fields.iter().zip(cells));
        cells.filter(|(_, json)| !json.is_empty()).map(|(path, json)| (&path[..], &json[..]))
    }
}

fn read(config: &Config) -> Result<Vec<u8>, String> {
    let named = |wrong: &dyn std::fmt::Display| format!("cannot read `{}`: {wrong}", config.csv.display());
    let mut text = Vec::new();
    let file = File::open(&config.csv).map_err(|error| named(&error))?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(|error| named(&error))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(named(&"it is larger than 64 MiB"));
    }
    Ok(text)
}

fn rows(config: &Config, text: &[u8], check: &mut Check) -> Option<HashMap<String, Vec<Box<[u8]>>>> {
    let file = config.csv.display();
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
    let last = config.key.rsplit('.').next().unwrap_or(&config.key);
    let (key_name, key_at) = config.column.as_deref().map_or((last, "lookup.key"), |name| (name, "lookup.column"));
    let key = column(key_name, key_at.into());
    let wanted: Vec<_> =
        config.columns.keys().filter_map(|name| column(name, format!("lookup.columns.{name}"))).collect();
    let mut rows = HashMap::new();
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
                "lookup.columns.team: `b.` is no path of names joined by dots".to_string(),
                format!("lookup.key: `{path}` has no column `user_id`"),
                format!("lookup.columns.tem: `{path}` has no column `tem`"),
                format!(
                    "lookup.csv: cannot read `{path}`: CSV error: record 1 (line: 2, byte: 10): found record with 3 fields, but the previous record has 2 fields"
                ),
            ]
        );
    }
}
