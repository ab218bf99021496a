//! Checks before the first write: credentials, permissions, missing indices.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Config;
use super::answer;
use super::cluster::Cluster;
use super::encode::Encoder;
use super::template::{self, Abilities};
use crate::component::{Failure, SinkContext};
use crate::event::Raw;
use crate::net::client::Answer;
use crate::units::Timestamp;

/// Where the index of now, or all that the sink can write to, is.
struct Target {
    /// A name, or a pattern with `*` if events have a say in it.
    name: String,
    is_pattern: bool,
    /// The fixed beginning of all names, and `*` if there is more; for the template.
    all: String,
}

/// Looks around; what it found, for the operator.
pub async fn look_around(
    cluster: &Cluster,
    config: &Config,
    encoder: &Encoder,
    cx: &SinkContext,
) -> Result<Vec<String>, Failure> {
    let opening = Opening { cluster, config, encoder, target: target(encoder), is_dry: cx.dry };
    opening.run(cx.timeout).await
}

fn target(encoder: &Encoder) -> Target {
    let names = &encoder.names;
    let all = match names.constant() {
        Some(name) => name.to_owned(),
        None => format!("{}*", names.prefix()),
    };
    let now = format!("\"{}\"", Timestamp::now());
    let today =
        names.render_with(|path| (path.len() == 1 && path[0] == "timestamp").then_some(Raw::valid(now.as_bytes())));
    match (names.constant(), names.time_bytes(), today) {
        (Some(_), ..) => Target { name: all.clone(), is_pattern: false, all },
        (None, Some(_), Ok(name)) => Target { name, is_pattern: false, all },
        _ => Target { name: all.clone(), is_pattern: true, all },
    }
}

struct Opening<'a> {
    cluster: &'a Cluster,
    config: &'a Config,
    encoder: &'a Encoder,
    target: Target,
    is_dry: bool,
}

impl Opening<'_> {
    async fn run(&self, timeout: Duration) -> Result<Vec<String>, Failure> {
        let (greeting, is_opensearch) = read_greeting(&self.cluster.greet(timeout).await?);
        let mut notes = vec![greeting];
        self.may_write().await?;
        self.has_pipeline().await?;
        if self.config.install_template {
            notes.push(self.install_template(is_opensearch).await?);
        }
        if self.config.data_stream && !self.target.is_pattern {
            self.has_data_stream().await?;
        }
        if self.is_dry && !self.target.is_pattern {
            notes.push(self.takes_writes().await?);
        }
        Ok(notes)
    }

    /// Asks the security of Elasticsearch, where there is one. Others have nothing to ask: there, a write tells.
    async fn may_write(&self) -> Result<(), Failure> {
        let name = &self.target.name;
        let wanted = json!({"index": [{"names": [name], "privileges": ["create_doc"]}]});
        let path = "/_security/user/_has_privileges";
        let answer = self.ask(self.cluster.request_with(Method::POST, path, &wanted)).await?;
        #[derive(Deserialize)]
        struct Privileges {
            username: String,
            has_all_requested: bool,
        }
        match serde_json::from_slice::<Privileges>(&answer.body) {
            Ok(Privileges { username, has_all_requested: false }) if answer.status.is_success() => {
                Err(Failure::configuration(format!(
                    "`{username}` may not write to `{name}`: grant it `create_doc` and `auto_configure` there"
                )))
            }
            _ => Ok(()),
        }
    }

    async fn has_pipeline(&self) -> Result<(), Failure> {
        let Some(pipeline) = &self.config.pipeline else { return Ok(()) };
        match self.get(&format!("/_ingest/pipeline/{pipeline}")).await?.status.as_u16() {
            404 => Err(Failure::configuration(format!("the cluster has no ingest pipeline `{pipeline}`"))),
            _ => Ok(()),
        }
    }

    /// Leaves a template of that name alone, whoever changed it since.
    async fn install_template(&self, is_opensearch: bool) -> Result<String, Failure> {
        let suffix = if self.encoder.shape == super::encode::Shape::Ecs { "-ecs" } else { "" };
        let fixed = self.target.all.trim_end_matches(['*', '-', '.', '_']);
        let name = format!("weir-{fixed}{suffix}");
        let path = format!("/_index_template/{name}");
        let there = self.get(&path).await?;
        match there.status.as_u16() {
            404 if self.is_dry => return Ok(format!("index template `{name}` will be installed")),
            404 => {}
            200..=299 => return Ok(format!("index template `{name}` exists")),
            _ => return Err(refused(&there, "look at index templates (`install_template`)")),
        }
        let abilities = Abilities { is_opensearch, has_patterns: self.has_patterns().await? };
        let template = template::template(&self.target.all, self.encoder.shape, self.config.data_stream, abilities);
        let request = self.cluster.request_with(Method::PUT, &format!("{path}?create=true"), &template);
        let answer = self.ask(request).await?;
        match answer.status.is_success() {
            true => Ok(format!("index template `{name}` installed")),
            false => Err(refused(&answer, &format!("install the index template `{name}` (`install_template`)"))),
        }
    }

    /// Whether our analyser for code can be had.
    async fn has_patterns(&self) -> Result<bool, Failure> {
        let (tokenizer, filter) = template::code_analyzer();
        let try_out = json!({"tokenizer": tokenizer, "filter": [filter, "lowercase"], "text": "a_b"});
        let answer = self.ask(self.cluster.request_with(Method::POST, "/_analyze", &try_out)).await?;
        // Who may not ask gets it too: all but minimal builds have it.
        Ok(answer.status != 400)
    }

    /// A data stream is there, or made now, so that no index of its name is made by a write instead.
    async fn has_data_stream(&self) -> Result<(), Failure> {
        let name = &self.target.name;
        let path = format!("/_data_stream/{name}");
        let there = self.get(&path).await?;
        let streams: Value = serde_json::from_slice(&there.body).unwrap_or_default();
        let is_none = there.status == 404 || streams["data_streams"].as_array().is_some_and(Vec::is_empty);
        if !is_none {
            return Ok(());
        }
        if self.get(&format!("/{name}?filter_path=*.aliases")).await?.status.is_success() {
            return Err(Failure::configuration(format!("`{name}` is an index or alias, not a data stream")));
        }
        if self.is_dry {
            return Ok(());
        }
        let answer = self.ask(self.cluster.request(Method::PUT, &path)).await?;
        match answer.status.as_u16() {
            // Who may not make data streams may still have them made by a write.
            200..=299 | 403 => Ok(()),
            _ => Err(refused(&answer, &format!("make the data stream `{name}`"))),
        }
    }

    /// Whether the index would take a write now.
    async fn takes_writes(&self) -> Result<String, Failure> {
        let name = &self.target.name;
        let path =
            format!("/{name}/_settings?filter_path=*.settings.index.blocks,*.settings.index.verified_before_close");
        let answer = self.get(&path).await?;
        match answer.status.as_u16() {
            200..=299 => {
                let settings: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                match settings.as_object().and_then(|indices| indices.iter().find_map(|(index, of)| block(index, of))) {
                    Some(blocked) => Err(Failure::configuration(blocked)),
                    None => Ok(format!("writes to `{name}`")),
                }
            }
            404 => {
                self.may_be_made().await?;
                Ok(format!("`{name}` will be created by the first write"))
            }
            _ => Ok(format!("may write to `{name}`")),
        }
    }

    async fn may_be_made(&self) -> Result<(), Failure> {
        let setting = "action.auto_create_index";
        let path = format!(
            "/_cluster/settings?include_defaults=true&flat_settings=true&filter_path=*.{}",
            setting.replace('.', "%5C.")
        );
        let answer = self.get(&path).await?;
        let settings: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let scopes = ["transient", "persistent", "defaults"];
        let value = scopes.iter().find_map(|scope| settings[*scope][setting].as_str());
        match value {
            Some("false") => Err(Failure::configuration(format!(
                "there is no index `{}`, and the cluster does not create it (`{setting}: false`): create it",
                self.target.name
            ))),
            _ => Ok(()),
        }
    }

    async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(self.cluster.request(Method::GET, path)).await
    }

    /// Asks, and passes on only what keeps from asking on: an unreachable, overloaded or broken node, or one that
    /// does not know us.
    async fn ask(&self, request: Request<Bytes>) -> Result<Answer, Failure> {
        let answer = self.cluster.send(request).await?;
        match answer::whole(&answer) {
            Err(transient @ Failure::Transient { .. }) => Err(transient),
            Err(unknown) if answer.status == 401 => Err(unknown),
            _ => Ok(answer),
        }
    }
}

fn refused(answer: &Answer, act: &str) -> Failure {
    let said = answer::reason(answer).unwrap_or_else(|| answer.status.to_string());
    Failure::configuration(format!("cannot {act}: {said}"))
}

/// What blocks an index, from its settings.
fn block(index: &str, settings: &Value) -> Option<String> {
    let index_settings = &settings["settings"]["index"];
    let is_set = |value: &Value| value == &json!(true) || value == &json!("true");
    let blocks = &index_settings["blocks"];
    let blocked = ["read_only", "read_only_allow_delete", "write"].into_iter().find(|name| is_set(&blocks[*name]));
    match blocked {
        Some(name) => Some(format!("`{index}` is read-only: remove `index.blocks.{name}`")),
        None if is_set(&index_settings["verified_before_close"]) => Some(format!("`{index}` is closed: open it")),
        None => None,
    }
}

/// What the node says it is, and whether that is OpenSearch.
fn read_greeting(answer: &Answer) -> (String, bool) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Greeting {
        version: Version,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Version {
        distribution: String,
        number: String,
    }
    let Greeting { version } = serde_json::from_slice(&answer.body).unwrap_or_default();
    let is_opensearch = version.distribution == "opensearch";
    let product = answer.headers.get("x-elastic-product").and_then(|product| product.to_str().ok());
    let name = match (is_opensearch, product) {
        (true, _) => "OpenSearch",
        (false, Some("Elasticsearch")) => "Elasticsearch",
        // Before 7.14 there was no such header; with less than a look at the cluster there may be no version.
        (false, _) if !version.number.is_empty() => "Elasticsearch",
        _ => "a search node",
    };
    (format!("{name} {}", version.number).trim_end().to_owned(), is_opensearch)
}
