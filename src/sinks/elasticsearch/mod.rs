//! Writes documents to Elasticsearch or OpenSearch by bulk requests under the events' ids, so that a repeat changes
//! nothing.

use bytes::Bytes;
use hyper::Request;
use hyper::header::{self, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::codec::encoding::{Encoding, Format};
use crate::codec::name::{NameTemplate, Rules};
use crate::component::{BatchEvent, Check, Failure, Findings, Promise, Sink, SinkContext, WriteBatch, Written};
use crate::net::client::Answer;
use crate::net::compress::Compression;
use crate::secret::SecretMask;
use crate::units::{OneOrMany, one_or_many};

mod answer;
mod auth;
mod cluster;
mod conflicts;
pub mod encode;
mod opening;
mod template;

#[cfg(test)]
mod tests;

use auth::Auth;
use cluster::{Cluster, Endpoint};
use conflicts::Comparison;
use encode::{Encoder, Shape};

/// Elasticsearch and OpenSearch. An event whose id is there with other content counts as dropped (`id_conflict`); a role
/// without `read` cannot tell it from a repeat.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// URLs of the nodes, such as `https://es-1:9200`, with an optional base path. They are used in turn; a node that
    /// cannot be reached is skipped.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub endpoints: Vec<String>,
    /// Index or data stream, a template over the event and its time, such as `activity-%Y.%m.%d`. It must start with
    /// fixed text, so that no event can choose any index.
    #[serde(default = "default_index")]
    pub index: String,
    /// Authentication to the cluster.
    #[serde(default)]
    pub auth: Auth,
    /// Ingest pipeline for the documents.
    #[serde(default)]
    pub pipeline: Option<String>,
    /// Whether `index` names data streams. A data stream detects a repeated id only until it rolls over, so that an
    /// event sent again after a failure may be stored twice.
    #[serde(default)]
    pub data_stream: bool,
    /// Whether an index template with mappings for event fields is installed, unless one of that name exists: ids as
    /// keywords, `code` as text with a code analyzer, dates, IP addresses, `metadata` flattened.
    #[serde(default)]
    pub install_template: bool,
    /// Compression of requests.
    #[serde(default)]
    pub compression: Packing,
    /// Format of documents: `json` is the event with `@timestamp` added, `ecs` uses the names of the Elastic Common
    /// Schema.
    #[serde(default)]
    pub encoding: Encoding,
}

fn default_index() -> String {
    "activity-%Y.%m.%d".into()
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ElasticsearchCompression")]
pub enum Packing {
    #[default]
    Gzip,
    None,
}

/// What both servers allow; a name begins with a letter or digit besides.
static INDEX: Rules = Rules {
    noun: "index",
    allowed: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c),
    max_len: 255,
};

pub struct Elasticsearch {
    cluster: Cluster,
    encoder: Encoder,
    /// Path and query of bulk requests.
    bulk: String,
    notes: Vec<String>,
    /// Who answers may quote what we sent.
    mask: SecretMask,
    /// Absent where a pipeline may change documents.
    comparison: Option<Comparison>,
}

/// Where in the configuration what is wrong.
pub type Wrong = (String, String);

impl Config {
    fn endpoints(&self) -> Result<Vec<Endpoint>, Wrong> {
        if self.endpoints.is_empty() {
            return Err(("endpoints".into(), "there is no node to write to".into()));
        }
        let parse =
            |(nth, text): (usize, &String)| Endpoint::parse(text).map_err(|wrong| (format!("endpoints[{nth}]"), wrong));
        self.endpoints.iter().enumerate().map(parse).collect()
    }

    /// What turns events into requests.
    pub fn encoder(&self) -> Result<Encoder, Wrong> {
        let shape = match self.encoding.format() {
            Format::Json | Format::Ndjson => Shape::Line,
            Format::Ecs => Shape::Ecs,
            Format::Csv | Format::Text => {
                return Err(("encoding".into(), "documents are JSON: write `json` or `ecs`".into()));
            }
        };
        let names = NameTemplate::parse(&self.index, &INDEX).map_err(|wrong| ("index".into(), wrong.message))?;
        let compression = match self.compression {
            Packing::Gzip => Compression::Gzip,
            Packing::None => Compression::None,
        };
        Ok(Encoder { names, shape, compression })
    }
}

impl Sink for Elasticsearch {
    const TYPE: &'static str = "elasticsearch";
    const PROMISE: Promise = Promise::EffectivelyOnce;
    type Config = Config;
    type Payload = Bytes;

    fn check(config: &Config, check: &mut Check) {
        match config.endpoints() {
            Err((path, wrong)) => check.problem(path, wrong),
            Ok(endpoints) => {
                if config.auth.kind != auth::Kind::None
                    && let Some(nth) = endpoints.iter().position(|endpoint| endpoint.is_plain)
                {
                    let path = format!("endpoints[{nth}]");
                    check.warning(path, "credentials go over the network unencrypted; use `https`");
                }
            }
        }
        if let Err(wrong) = NameTemplate::parse(&config.index, &INDEX) {
            check.problem_within("index", wrong.range, wrong.message);
        } else if config.index.starts_with(['.', '_', '-']) {
            check.problem_within("index", 0..1, "the name of an index begins with a letter or a digit");
        }
        if let Err((path, wrong)) = config.encoder()
            && path != "index"
        {
            check.problem(path, wrong);
        }
        if let Err((name, wrong)) = config.auth.header() {
            check.problem(format!("auth.{name}"), wrong);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if config.pipeline.as_ref().is_some_and(|name| name.is_empty() || !name.chars().all(is_plain)) {
            check.problem("pipeline", "the name of a pipeline consists of letters, digits, `.`, `_` and `-`");
        }
    }

    fn promise(config: &Config) -> Promise {
        if config.data_stream { Promise::AtLeastOnce } else { Promise::EffectivelyOnce }
    }

    async fn open(config: &Config, cx: &SinkContext) -> Result<Elasticsearch, Failure> {
        let wrong = |(_, wrong): Wrong| Failure::configuration(wrong);
        let encoder = config.encoder().map_err(wrong)?;
        let authorization = config.auth.header().map_err(|(_, wrong)| Failure::configuration(wrong))?;
        let client = cx.http_client()?;
        let mut mask = client.mask();
        config.auth.cover(&mut mask);
        let cluster = Cluster::new(client, config.endpoints().map_err(wrong)?, authorization);
        let looked = opening::look_around(&cluster, config, &encoder, cx).await;
        let notes = looked.map_err(|failure| failure.reworded(|said| mask.hide(said)))?;
        let index = encoder.names.constant().map(|name| format!("/{name}")).unwrap_or_default();
        let pipeline = config.pipeline.as_ref().map(|name| format!("&pipeline={name}")).unwrap_or_default();
        // The node's own patience with its shards is shorter than ours with it, so that it can say which events fail.
        let patience = (cx.timeout.as_secs() / 2).max(1);
        let bulk = format!("{index}/_bulk?{}&timeout={patience}s{pipeline}", answer::FILTER);
        let comparison = config.pipeline.is_none().then(|| Comparison::within(cx.timeout));
        Ok(Elasticsearch { cluster, encoder, bulk, notes, mask, comparison })
    }

    fn findings(&self) -> Findings {
        Findings { promise: None, notes: self.notes.clone() }
    }

    fn encode(&self, batch: &WriteBatch) -> Result<Bytes, Failure> {
        self.encoder.encode(batch)
    }

    fn destination(&self, event: BatchEvent<'_>) -> Option<String> {
        self.encoder.index_of(event)
    }

    fn preview(config: &Config, _: &SinkContext, batch: &WriteBatch) -> Option<Result<Vec<u8>, Failure>> {
        let encoder = config.encoder().map_err(|(_, wrong)| Failure::configuration(wrong));
        Some(encoder.and_then(|encoder| encoder.body(batch)))
    }

    async fn write(&self, batch: &WriteBatch, payload: &Bytes) -> Result<Written, Failure> {
        let indices_vary = self.encoder.names.constant().is_none();
        let mut there = Vec::new();
        let sent = self.send(payload).await;
        let classified = sent.and_then(|answer| answer::classify(&answer, batch.len(), indices_vary, &mut there));
        let conflicts = match &self.comparison {
            Some(comparison) => comparison.conflicts(&self.cluster, &self.encoder, batch, &there).await,
            None => 0,
        };
        if conflicts > 0 {
            tracing::warn!(
                events = conflicts,
                "the ids of some events are there with other content; the events are not stored and count as dropped"
            );
        }
        let told_apart = |written: Written| Written {
            duplicates: written.duplicates - conflicts,
            discarded: conflicts,
            conflicts,
            ..written
        };
        match classified {
            Ok(written) => Ok(Written { bytes: payload.len() as u64, ..told_apart(written) }),
            Err(Failure::Some(failures, written)) => {
                let failed = Failure::Some(failures, told_apart(written));
                Err(failed.reworded(|said| self.mask.hide(said)))
            }
            Err(failure) => Err(failure.reworded(|said| self.mask.hide(said))),
        }
    }
}

impl Elasticsearch {
    async fn send(&self, payload: &Bytes) -> Result<Answer, Failure> {
        let mut request: Request<Bytes> =
            self.cluster.request(hyper::Method::POST, &self.bulk).map(|_| payload.clone());
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        if let Some(word) = self.encoder.compression.word() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(word));
        }
        Ok(self.cluster.send(request).await?)
    }
}
