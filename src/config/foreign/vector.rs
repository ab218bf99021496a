//! Vector: the Weir names of its types and keys, and its TOML files.

use super::{Row, TypeRow, find, find_type, foreign_key, foreign_type, is_private, lines};
use crate::diagnostic::{Problem, Problems, Span};

/// Types: section, type, and what to use.
const TYPES: &[TypeRow] = &[
    ("sources", "http_server", "use `type: http`"),
    ("sources", "http_client", "use a program that asks and posts to a source of `type: http`"),
    ("sources", "demo_logs", "use `type: demo`"),
    ("sources", "syslog", "use `type: socket` with `mode: tcp` or `udp` and `codec: syslog`"),
    (
        "sources",
        "docker_logs",
        "use `type: file` with `include` of the containers' files and `multiline: {preset: docker}`",
    ),
    (
        "sources",
        "kubernetes_logs",
        "use `type: file`, `include: [/var/log/containers/*.log]`, `symlinks_into: [/var/log/pods]` and `multiline: {preset: cri}`",
    ),
    ("sources", "journald", "let `journalctl -f -o json` write to Weir: pipe it into a source of `type: stdin`"),
    ("sources", "vector", "let Vector send with its sink `http` to a source of `type: http`"),
    ("sources", "splunk_hec", "let the sender post JSON to a source of `type: http`"),
    ("sources", "internal_logs", "leave it out: the log is on stderr, as JSON lines where nobody looks at a terminal"),
    ("sources", "internal_metrics", "leave it out: metrics are at `/metrics` of the API"),
    ("sources", "host_metrics", "leave it out: Weir reads events, not the machine's metrics"),
    (
        "transforms",
        "remap",
        "there is no VRL here: `normalize` knows the usual aliases, `enrich` sets fields, `filter` and `route` choose, `redact` hides",
    ),
    ("transforms", "exclusive_route", "use `type: route`, whose first match counts"),
    ("transforms", "log_to_metric", "use `type: metrics`"),
    ("transforms", "lua", "there is no Lua here: `normalize`, `enrich` and `route` do the usual work"),
    ("transforms", "throttle", "use `rate` of a sink"),
    ("sinks", "splunk_hec_logs", "use `type: splunk_hec`"),
    ("sinks", "aws_s3", "use `type: file` and a program that uploads finished files"),
    ("sinks", "vector", "let a source `http_server` of Vector take what a sink of `type: http` sends"),
    ("sinks", "socket", "use `type: http`"),
    ("sinks", "loki", "use `type: http` and a collector that forwards to Loki"),
    ("sinks", "prometheus_exporter", "use a transform of `type: metrics`; `/metrics` of the API has its series"),
];

const KEYS: &[Row] = &[
    ("", "", "api.playground|api.graphql", "leave it out"),
    ("", "", "log_schema", "leave it out: `normalize` gives fields their names"),
    ("", "", "acknowledgements", "leave it out: every source answers once its events are durable"),
    ("", "", "expire_metrics_secs", "leave it out"),
    ("", "", "timezone", "write `api: {timezone: …}`"),
    ("", "", "enrichment_tables", "write `lookup` of a transform of `type: enrich`"),
    ("", "", "secret", "write `${file:/run/secrets/x}` or `${VAR}` where the value is used"),
    ("", "", "schema", "leave it out"),
    ("", "", "proxy", "write `proxy` in each sink"),
    ("sources", "file", "ignore_older_secs|ignore_older", "write `read_from: end`, or name fewer files in `include`"),
    ("sources", "file", "max_line_bytes", "write `max_line: 1 MiB`"),
    ("sources", "file", "glob_minimum_cooldown_ms", "write `poll: 250ms`"),
    ("sources", "file", "fingerprint", "leave it out: files are known by inode, birth and content"),
    ("sources", "file", "remove_after_secs", "write `remove: when_done`"),
    ("sources", "file", "file_key", "leave it out"),
    ("sources", "file", "host_key", "leave it out: a transform of `type: enrich` adds `host`"),
    ("sources", "file", "offset_key", "leave it out"),
    ("sources", "file", "line_delimiter", "leave it out: lines end with a line feed"),
    ("sources", "file", "ignore_checkpoints", "leave it out: positions are in the journal"),
    ("sources", "file", "data_dir", "write `data_dir` at the top level"),
    ("sources", "file", "multiline.start_pattern", "write `multiline: {start: …}`"),
    (
        "sources",
        "file",
        "multiline.condition_pattern",
        "write `multiline: {continues: …}` for lines that belong to the one before",
    ),
    ("sources", "file", "multiline.mode", "leave it out: `start` begins an event, `continues` goes on with one"),
    ("sources", "file", "multiline.timeout_ms", "write `partial_timeout: 1s` beside `multiline`"),
    ("sources", "http_server|http", "decoding|encoding", "leave it out: bodies are JSON"),
    ("sources", "http_server|http", "framing", "leave it out: an object, an array or lines are told apart"),
    ("sources", "http_server|http", "strict_path", "leave it out: `path` is exact"),
    ("sources", "http_server|http", "method", "leave it out: it is POST"),
    ("sources", "http_server|http", "headers", "leave it out"),
    (
        "sources",
        "http_server|http",
        "auth.strategy",
        "write `auth: {type: basic, users: …}` or `{type: bearer, tokens: …}`",
    ),
    ("sources", "http_server|http", "response_code", "leave it out"),
    ("sources", "socket|syslog", "decoding", "write `codec: json`, `text`, `syslog`, `logfmt` or `csv`"),
    ("sources", "socket|syslog", "max_length", "write `max_frame: 1 MiB`"),
    ("sources", "socket|syslog", "framing.method", "write `framing: newline`, `length`, `octet` or `auto`"),
    ("sources", "socket|syslog", "host_key", "leave it out: the peer is in `peer_ip`"),
    ("sources", "kafka", "bootstrap_servers", "write `brokers: [host:9092]`"),
    ("sources", "kafka", "group_id", "write `group: …`"),
    ("sources", "kafka", "auto_offset_reset", "write `options: {auto.offset.reset: …}`"),
    ("sources", "kafka", "librdkafka_options", "write `options: {…}`"),
    ("sources", "kafka", "decoding", "write `codec: json`"),
    ("sources", "kafka", "key_field", "leave it out"),
    ("sources", "demo_logs", "interval", "write `rate: 10/s`"),
    ("sources", "demo_logs", "format", "leave it out"),
    (
        "transforms",
        "filter",
        "condition",
        "write `where:` as a query, such as `where: 'status:error'` for `.status == \"error\"`",
    ),
    (
        "transforms",
        "route|exclusive_route",
        "route|routes",
        "write each name directly under the transform: `NAME: 'status:error'`",
    ),
    ("transforms", "dedupe", "fields", "write `key: [user_id, …]`"),
    ("transforms", "dedupe", "cache", "write `window: 5m`"),
    ("transforms", "reduce", "group_by", "write `key: [session_id, …]`"),
    (
        "transforms",
        "remap",
        "source|file",
        "write a transform for each of its steps: `normalize`, `enrich`, `filter`, `route`, `redact`",
    ),
    (
        "transforms",
        "remap",
        "drop_on_error|drop_on_abort",
        "leave it out: an event that a transform cannot take is a dead letter",
    ),
    ("sinks", "", "healthcheck", "leave it out: `weir validate` tries the connection"),
    ("sinks", "", "acknowledgements", "leave it out: acknowledged events are durable"),
    ("sinks", "", "encoding.codec", "write `encoding: json`, `ndjson`, `csv`, `text` or `ecs`"),
    ("sinks", "", "encoding.only_fields", "leave it out: an event is sent as its transforms leave it"),
    ("sinks", "", "encoding.except_fields", "write a transform that removes them: `redact` with `action: remove`"),
    ("sinks", "", "encoding.timestamp_format", "leave it out: times are RFC 3339"),
    ("sinks", "", "framing", "leave it out: `encoding: ndjson` writes lines"),
    ("sinks", "", "batch.max_events", "write `batch: {events: 1000}`"),
    ("sinks", "", "batch.max_bytes", "write `batch: {bytes: 1 MiB}`"),
    ("sinks", "", "batch.timeout_secs", "write `batch: {age: 1s}`"),
    ("sinks", "", "buffer.type", "leave it out: every sink reads the one journal on disk"),
    ("sinks", "", "buffer.max_size|buffer.max_events", "write `buffer: {max_bytes: 100 MiB}`"),
    (
        "sinks",
        "",
        "request",
        "write `timeout: 60s`, `rate: 100/s`, `concurrency: 1` and `retry: {…}` in the sink itself",
    ),
    ("sinks", "", "bucket", "leave it out with the type"),
    ("sinks", "elasticsearch", "endpoint", "write `endpoints: [http://…]`"),
    ("sinks", "elasticsearch", "bulk", "write `index: …` in the sink itself"),
    ("sinks", "elasticsearch", "mode", "leave it out, or write `data_stream: true`"),
    ("sinks", "elasticsearch", "api_version", "leave it out: the server says which it is"),
    ("sinks", "elasticsearch", "id_key", "leave it out: the event's id is the document's"),
    ("sinks", "elasticsearch", "auth.strategy", "write `auth: {type: basic, …}`"),
    ("sinks", "elasticsearch", "doc_type", "leave it out"),
    ("sinks", "kafka", "bootstrap_servers", "write `brokers: [host:9092]`"),
    ("sinks", "kafka", "key_field", "write `key: '{{ user_id }}'`"),
    ("sinks", "kafka", "librdkafka_options", "write `options: {…}`"),
    ("sinks", "kafka", "message_timeout_ms", "write `timeout: 60s`"),
    ("sinks", "postgres", "endpoint", "write `url: postgres://…`"),
    ("sinks", "postgres", "pool_size", "write `concurrency: 1`"),
    ("sinks", "http", "auth.strategy", "write `auth: {type: basic, …}` or `{type: bearer, …}`"),
    ("sinks", "http", "payload_prefix|payload_suffix", "leave it out"),
    ("sinks", "splunk_hec|splunk_hec_logs", "default_token", "write `token: …`"),
    ("sinks", "splunk_hec|splunk_hec_logs", "host_key", "leave it out"),
    ("sinks", "splunk_hec|splunk_hec_logs", "indexed_fields", "leave it out: fields are in the event"),
    ("sinks", "blackhole", "print_interval_secs", "leave it out"),
    ("sinks", "file", "idle_timeout_secs", "leave it out"),
];

pub fn type_advice(section: &str, type_name: &str) -> Option<&'static str> {
    find_type(TYPES, section, type_name)
}

pub fn key_advice(section: &str, type_name: &str, key: &str) -> Option<&'static str> {
    find(KEYS, section, type_name, key)
}

/// A file in TOML whose sections are components: each key that is spelt otherwise here is a problem of its own.
pub fn toml(text: &str, file: u32, problems: &mut Problems) -> bool {
    let is_section = |line: &str| ["[sources.", "[transforms.", "[sinks."].iter().any(|start| line.starts_with(start));
    let Some((at, first)) = lines(text).find(|(_, line)| is_section(line)) else { return false };
    if !lines(text).any(|(_, line)| line.split_once('=').is_some_and(|(key, _)| is_key(key.trim()))) {
        return false;
    }
    let message = "this is a Vector configuration in TOML; Weir reads YAML";
    let hint = "`[sources.NAME]` becomes `sources: {NAME: …}` and `key = value` becomes `key: value`; the problems below say \
                what is called otherwise";
    problems.push(Problem::error("", Span::new(file, at..at + first.len()), message).hint(hint));
    let types: Vec<(String, String)> = keys(text)
        .filter(|key| key.path.is_some_and(|path| path.split('.').count() == 2) && key.name == "type")
        .map(|key| (key.path.unwrap_or_default().to_owned(), key.value.trim_matches(['"', '\'']).to_owned()))
        .collect();
    for key in keys(text) {
        let mut parts = key.path.unwrap_or_default().splitn(3, '.');
        let (section, name, below) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next());
        let component = format!("{section}.{name}");
        let type_name = types.iter().find(|(known, _)| *known == component).map_or("", |(_, type_name)| type_name);
        let span = Span::new(file, key.at..key.at + key.name.len());
        if is_private(key.name) {
            problems.hide(Span::new(file, key.at + key.name.len()..key.at + key.line_len));
        }
        let path = key.path.unwrap_or_default();
        if key.name == "type" && below.is_none() {
            if let Some(advice) = type_advice(section, type_name) {
                problems.push(Problem::error(path, span, foreign_type(type_name)).hint(advice));
            }
            continue;
        }
        let full = below.map_or(key.name.to_owned(), |below| format!("{below}.{}", key.name));
        let first = full.split('.').next().unwrap_or_default();
        let advice = key_advice(section, type_name, &full).or_else(|| key_advice(section, type_name, first));
        if let Some(advice) = advice {
            problems.push(Problem::error(path, span, foreign_key(key.name)).hint(advice));
        }
    }
    true
}

/// A key of a file in TOML.
struct Key<'t> {
    /// The section that it is in.
    path: Option<&'t str>,
    name: &'t str,
    value: &'t str,
    at: usize,
    line_len: usize,
}

fn keys(text: &str) -> impl Iterator<Item = Key<'_>> {
    let mut path = None;
    lines(text).filter_map(move |(at, line)| {
        if line.starts_with('[') {
            path = Some(line.trim_start_matches('[').split(']').next().unwrap_or_default().trim());
            return None;
        }
        let (name, value) = line.split_once('=')?;
        let name = name.trim();
        is_key(name).then_some(Key { path, name, value: value.trim(), at, line_len: line.len() })
    })
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"'))
}
