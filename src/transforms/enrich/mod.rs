//! `enrich`: adds members from configuration, environment, host and tables.

mod agents;
mod lookup;
mod postgres;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rustix::system::uname;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use self::lookup::Table;
use crate::codec::template::Template;
use crate::component::refresh::Refresh;
use crate::component::{Check, Failure, Outputs, Transform};
use crate::event::names::{HOST, USER_AGENT};
use crate::event::object::with_path;
use crate::event::{Batch, Raw, escape};

/// Adds fields to every event, in this order: `from_env`, `set`, `host`, `lookup`, `user_agent`; each sees those before
/// it. A name with dots sets a member inside an object, which is created if needed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Fields and their values, of any JSON type. Text may be a template over the event and its time, such as `{{
    /// metadata.tenant }}-%Y`; if a field of the template is missing and has no default, nothing is set. Existing
    /// values are replaced.
    pub set: BTreeMap<String, Value>,
    /// Field and environment variable; read at start.
    pub from_env: BTreeMap<String, String>,
    /// Adds `host`, the name of this host, to events without one.
    pub host: bool,
    /// Adds fields from a lookup table.
    pub lookup: Option<lookup::Config>,
    /// Adds `metadata.client` {name, version, os, device}, parsed from `user_agent`.
    pub user_agent: bool,
}

pub struct Enrich {
    members: Vec<Member>,
    /// As JSON.
    host: Option<Vec<u8>>,
    table: Option<Table>,
    user_agent: bool,
}

struct Member {
    path: Vec<String>,
    value: Source,
}

enum Source {
    /// As JSON.
    Constant(Vec<u8>),
    Template(Template),
}

impl Transform for Enrich {
    const TYPE: &'static str = "enrich";
    type Config = Config;

    fn build(config: Config, check: &mut Check) -> Option<Enrich> {
        let before = check.problems.len();
        let mut members = Vec::new();
        for (field, variable) in config.from_env {
            let at = format!("from_env.{field}");
            match std::env::var(&variable) {
                Ok(value) => members.extend(Member::new(&field, Source::Constant(quoted(&value)), &at, check)),
                Err(_) => check.problem(at, format!("the environment variable `{variable}` is not set")),
            }
        }
        for (field, value) in config.set {
            let at = format!("set.{field}");
            let value = match value {
                Value::String(text) => match Template::parse(&text) {
                    Ok(template) => match template.constant() {
                        Some(text) => Source::Constant(quoted(text)),
                        None => Source::Template(template),
                    },
                    Err(wrong) => {
                        check.problem_within(at, wrong.range, wrong.message);
                        continue;
                    }
                },
                value => Source::Constant(value.to_string().into_bytes()),
            };
            members.extend(Member::new(&field, value, &at, check));
        }
        let host = config.host.then(|| quoted(&uname().nodename().to_string_lossy()));
        let table = config.lookup.and_then(|lookup| Table::load(lookup, check));
        (check.problems.len() == before).then_some(Enrich { members, host, table, user_agent: config.user_agent })
    }

    fn files(&self) -> Vec<PathBuf> {
        self.table.iter().filter_map(|table| table.file.clone()).collect()
    }

    fn refresh(&self) -> Option<Refresh> {
        self.table.as_ref().and_then(|table| table.refresh.clone())
    }

    fn apply(&self, mut batch: Batch, out: &mut Outputs) -> Result<(), Failure> {
        for member in &self.members {
            match (&member.value, &member.path[..]) {
                (Source::Constant(json), [name]) => {
                    let (name, value) = (batch.name_id(name), batch.make(json));
                    for event in 0..batch.len() {
                        batch.set_made(event, name, value);
                    }
                }
                (Source::Constant(json), path) => {
                    for event in 0..batch.len() {
                        set(&mut batch, event, path, json);
                    }
                }
                (Source::Template(template), path) => {
                    for event in 0..batch.len() {
                        if let Ok(text) = template.render(|path| batch.get_path(event, path)) {
                            set(&mut batch, event, path, &quoted(&text));
                        }
                    }
                }
            }
        }
        let rows = self.table.as_ref().map(|table| (table, table.rows()));
        for event in 0..batch.len() {
            if let Some(host) = &self.host
                && batch.get(event, HOST).is_none_or(|host| host.is_null())
            {
                batch.set_json(event, HOST, host);
            }
            if let Some((table, rows)) = &rows {
                for (path, json) in table.row(rows, &batch, event) {
                    set(&mut batch, event, path, json);
                }
            }
            if self.user_agent
                && let Some(client) = batch.get_str(event, USER_AGENT).and_then(|text| agents::client(&text))
            {
                set(&mut batch, event, &["metadata".to_owned(), "client".to_owned()], &client);
            }
        }
        out.emit(batch);
        Ok(())
    }
}

impl Member {
    fn new(field: &str, value: Source, at: &str, check: &mut Check) -> Option<Member> {
        path(field, at, check).map(|path| Member { path, value })
    }
}

/// The names that a field's name is made of.
fn path(field: &str, at: &str, check: &mut Check) -> Option<Vec<String>> {
    let path: Vec<String> = field.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        check.problem(at, format!("`{field}` is not a field: expected names separated by dots"));
        return None;
    }
    Some(path)
}

/// Sets the value at a path.
fn set(batch: &mut Batch, event: usize, path: &[String], json: &[u8]) {
    let (first, rest) = path.split_first().expect("a path has at least one name");
    let name = batch.name_id(first);
    if rest.is_empty() {
        return batch.set_json(event, name, json);
    }
    let outer = with_path(batch.get(event, name), first, rest, Raw::valid(json));
    batch.set_json(event, name, &outer);
}

/// A text as JSON.
fn quoted(text: &str) -> Vec<u8> {
    let mut json = Vec::with_capacity(text.len() + 2);
    escape::push_string(&mut json, text);
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::testing::{apply, batch, build, problems, provenance};

    fn enriched(config: &str, line: &str) -> String {
        apply(&build::<Enrich>(config), batch(&[line], provenance(None, None))).remove(0)
    }

    #[test]
    fn values_are_set_as_what_they_are() {
        assert_eq!(
            enriched(
                "set: {site: berlin, n: 1.5, big: 12345678901234567890, yes: true, no: null, list: [1, a], o: {a: '1'}}",
                r#"{"code": "x","n":0}"#
            ),
            r#"{"code": "x","n":1.5,"big":12345678901234567890,"list":[1,"a"],"no":null,"o":{"a":"1"},"site":"berlin","yes":true}"#
        );
    }

    #[test]
    fn templates_see_the_event_and_set_nothing_where_it_lacks_a_field() {
        let config = r#"set: {a: "{{ user_id }}@{{ metadata.org | 'no \"org\"' }}", b: "{{ missing }}", c: "50%"}"#;
        assert_eq!(enriched(config, r#"{"user_id":"ali"}"#), r#"{"user_id":"ali","a":"ali@no \"org\"","c":"50%"}"#);
    }

    #[test]
    fn a_name_with_dots_sets_inside_an_object() {
        assert_eq!(
            enriched("set: {metadata.tenant: acme, metadata.a.b: 1}", r#"{"metadata":{ "tenant":"x","k":[1] },"z":0}"#),
            r#"{"metadata":{ "tenant":"acme","k":[1],"a":{"b":1}},"z":0}"#
        );
        assert_eq!(enriched("set: {metadata.tenant: acme}", "{}"), r#"{"metadata":{"tenant":"acme"}}"#);
    }

    #[test]
    fn the_environment_is_read_at_start() {
        let line = enriched("from_env: {metadata.path: PATH}", "{}");
        assert!(line.starts_with(r#"{"metadata":{"path":"/"#), "{line}");
        assert_eq!(
            problems::<Enrich>("from_env: {a: WEIR_TEST_NOT_SET}"),
            ["from_env.a: the environment variable `WEIR_TEST_NOT_SET` is not set"]
        );
    }

    #[test]
    fn the_host_is_named_where_no_one_else_did() {
        let host = uname().nodename().to_string_lossy().into_owned();
        assert_eq!(enriched("host: true", "{}"), format!(r#"{{"host":"{host}"}}"#));
        assert_eq!(enriched("host: true", r#"{"host":null}"#), format!(r#"{{"host":"{host}"}}"#));
        assert_eq!(enriched("host: true", r#"{"host":"nb-12"}"#), r#"{"host":"nb-12"}"#);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        assert_eq!(
            problems::<Enrich>("set: {a: '{{ x', b..c: 1}\nlookup: {csv: /no/such.csv, key: a, columns: {b: c}}"),
            [
                "set.a: unclosed `{{`",
                "set.b..c: `b..c` is not a field: expected names separated by dots",
                "lookup.csv: cannot read `/no/such.csv`: No such file or directory (os error 2)",
            ]
        );
    }
}
