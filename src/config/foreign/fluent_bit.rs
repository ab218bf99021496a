//! Fluent Bit: classic and YAML files, and the Weir names of its plugins and keys.

use super::{Row, TypeRow, find, find_type, is_private, lines};
use crate::diagnostic::{Kind, Node, Problem, Problems, Span};

/// Plugins: section, name, and what to use.
const PLUGINS: &[TypeRow] = &[
    ("input", "tail", "a source of `type: file`"),
    ("input", "http", "a source of `type: http`"),
    ("input", "tcp", "a source of `type: socket` with `mode: tcp`"),
    ("input", "udp", "a source of `type: socket` with `mode: udp`"),
    ("input", "syslog", "a source of `type: socket` with `codec: syslog`"),
    (
        "input",
        "forward",
        "a source of `type: http`; Fluent Bit sends there with its output `http` and `Format json_lines`",
    ),
    ("input", "stdin", "a source of `type: stdin`"),
    ("input", "dummy", "a source of `type: demo`"),
    ("input", "kafka", "a source of `type: kafka`"),
    ("input", "systemd", "`journalctl -f -o json` piped into a source of `type: stdin`"),
    ("filter", "grep", "a transform of `type: filter` with `where: 'status:error'`"),
    ("filter", "modify", "a transform of `type: enrich` with `set`, or `normalize` for the usual aliases"),
    ("filter", "record_modifier", "a transform of `type: enrich` with `set` and `host`"),
    ("filter", "rewrite_tag", "a transform of `type: route`"),
    ("filter", "parser", "`codec` of the source, and a transform of `type: normalize`"),
    ("filter", "multiline", "`multiline` of the source of `type: file`"),
    ("filter", "kubernetes", "`type: file` with `multiline: {preset: cri}`, and `enrich` with `set`"),
    ("filter", "throttle", "`rate` of the sink"),
    ("filter", "nest", "a transform of `type: normalize`"),
    ("filter", "lua", "no Lua: `normalize`, `enrich` and `route` do the usual work"),
    ("output", "es", "a sink of `type: elasticsearch`"),
    ("output", "opensearch", "a sink of `type: elasticsearch`"),
    ("output", "http", "a sink of `type: http`"),
    ("output", "kafka", "a sink of `type: kafka`"),
    ("output", "pgsql", "a sink of `type: postgres`"),
    ("output", "splunk", "a sink of `type: splunk_hec`"),
    ("output", "file", "a sink of `type: file`"),
    ("output", "stdout", "a sink of `type: console`"),
    ("output", "null", "a sink of `type: blackhole`"),
    ("output", "forward", "a sink of `type: http`"),
    ("output", "prometheus_exporter", "a transform of `type: metrics`; `/metrics` of the API has its series"),
];

const KEYS: &[Row] = &[
    ("service", "", "flush", "`batch: {age: 1s}` of each sink"),
    ("service", "", "grace", "`limits: {shutdown_timeout: 10s}`"),
    ("service", "", "daemon", "nothing: a service manager starts it"),
    ("service", "", "log_level", "`log: {level: info}`"),
    ("service", "", "log_file", "nothing: the log is on stderr"),
    ("service", "", "parsers_file", "nothing: `codec` of a source says how its lines are read"),
    ("service", "", "http_server|http_listen|http_port", "`api: {address: 127.0.0.1:8686}`"),
    ("service", "", "storage.path", "`data_dir`"),
    ("service", "", "storage.sync", "nothing: what is acknowledged is synced"),
    ("service", "", "storage.backlog.mem_limit", "`limits: {memory: 256 MiB}`"),
    ("", "", "tag", "nothing: `inputs` of a transform or sink names the source"),
    ("", "", "match", "`inputs: [NAME, …]`"),
    ("", "", "match_regex", "`inputs: [NAME, …]`, with `*`"),
    ("", "", "alias", "the component's name, which is its key under `sources`, `transforms` or `sinks`"),
    ("", "", "mem_buf_limit", "`limits: {memory: 256 MiB}`"),
    ("", "", "storage.type", "nothing: everything is in the journal on disk"),
    ("", "", "storage.total_limit_size", "`buffer: {max_bytes: 1 GiB}`"),
    ("", "", "retry_limit", "`retry: {attempts: …}`; without it for ever"),
    ("", "", "workers", "`concurrency`"),
    ("", "", "tls", "`tls: {…}`, or `https://` in the address"),
    ("", "", "tls.verify", "`tls: {…}`"),
    ("input", "tail", "path", "`include: [/var/log/*.log]`"),
    ("input", "tail", "exclude_path", "`exclude: […]`"),
    ("input", "tail", "db|db.sync|db.locking", "nothing: positions are in the journal"),
    (
        "input",
        "tail",
        "parser",
        "`codec: json`, `text`, `logfmt`, `syslog` or `csv`; `multiline: {preset: docker}` or `cri` for containers",
    ),
    (
        "input",
        "tail",
        "multiline.parser",
        "`multiline: {preset: docker}` or `cri` for containers, else `start` or `continues`",
    ),
    ("input", "tail", "docker_mode", "`multiline: {preset: docker}`"),
    ("input", "tail", "read_from_head", "`read_from: beginning`"),
    ("input", "tail", "refresh_interval", "`poll: 250ms`"),
    ("input", "tail", "rotate_wait", "nothing: a rotated file is read to its end"),
    ("input", "tail", "skip_long_lines|buffer_max_size", "`max_line: 1 MiB`"),
    ("input", "tail", "buffer_chunk_size|path_key", "nothing"),
    ("input", "tail", "key", "nothing: with `codec: text` the line is `message`"),
    ("input", "", "listen|port", "`address: host:port`"),
    ("input", "", "format", "`codec: json`"),
    ("input", "", "mode", "`mode: tcp`, `udp`, `unix` or `unix_datagram`"),
    ("input", "kafka", "brokers", "`brokers: [host:9092]`"),
    ("input", "kafka", "group_id", "`group: …`"),
    ("filter", "grep", "regex", "`where: 'field:~\"pattern\"'`"),
    ("filter", "grep", "exclude", "`where: '-field:~\"pattern\"'`"),
    ("filter", "modify|record_modifier", "add|set|record", "`set: {name: value}` of `enrich`"),
    ("output", "es|opensearch", "host|port", "`endpoints: [http://host:9200]`"),
    ("output", "es|opensearch", "index", "`index: logs-%Y.%m.%d`"),
    ("output", "es|opensearch", "logstash_format", "`index: logstash-%Y.%m.%d`"),
    ("output", "es|opensearch", "logstash_prefix", "`index: PREFIX-%Y.%m.%d`"),
    ("output", "es|opensearch", "http_user|http_passwd", "`auth: {type: basic, user: …, password: …}`"),
    ("output", "es|opensearch", "suppress_type_name|replace_dots|type", "nothing"),
    ("output", "http", "host|port", "`uri: http://host:port/path`"),
    ("output", "http", "uri", "`uri: http://host:port/path`, whole"),
    ("output", "http", "format", "`encoding: ndjson` or `json`"),
    ("output", "http", "header", "`headers: {name: value}`"),
    ("output", "splunk", "host|port", "`endpoint: https://host:8088`"),
    ("output", "splunk", "splunk_token", "`token: …`"),
    ("output", "kafka", "brokers", "`brokers: [host:9092]`"),
    ("output", "kafka", "topics", "`topic: …`"),
    ("output", "pgsql", "host|port|user|password|database", "`url: postgres://user:password@host:5432/database`"),
    ("output", "file", "path|file", "`path: folder/file.ndjson`"),
    ("output", "stdout", "format", "`encoding: json`"),
];

/// Sections of the classic form.
const SECTIONS: [&str; 7] = ["service", "input", "filter", "output", "parser", "multiline_parser", "custom"];

/// The message for the whole file.
const WHOLE: &str = "`inputs`, `filters` and `outputs` become `sources`, `transforms` and `sinks`, maps by name; `weir init` \
                     prints a file to begin with, and the problems below say what each key becomes";

/// A file in the classic form: `[INPUT]` and lines of a key and a value.
pub fn classic(text: &str, file: u32, problems: &mut Problems) -> bool {
    let section_of = |line: &str| {
        let name = line.strip_prefix('[')?.strip_suffix(']')?.to_ascii_lowercase();
        SECTIONS.into_iter().find(|section| *section == name)
    };
    let Some((at, first)) = lines(text).find(|(_, line)| section_of(line).is_some()) else { return false };
    let is_first = lines(text).find(|(_, line)| !line.is_empty() && !line.starts_with(['#', '@']));
    if is_first.is_none_or(|(first, _)| first != at) {
        return false;
    }
    let message = "this is a Fluent Bit configuration in classic format; Weir reads YAML";
    problems.push(Problem::error("", Span::new(file, at..at + first.len()), message).hint(WHOLE));
    let (mut section, mut plugin) = ("", String::new());
    let all: Vec<(usize, &str)> = lines(text).collect();
    for (nth, (at, line)) in all.iter().enumerate() {
        if let Some(begun) = section_of(line) {
            section = begun;
            let own = all[nth + 1..].iter().take_while(|(_, line)| !line.starts_with('['));
            let name = own.filter_map(|(_, line)| pair(line)).find(|(key, _)| key.eq_ignore_ascii_case("name"));
            plugin = name.map(|(_, value)| value.to_ascii_lowercase()).unwrap_or_default();
            continue;
        }
        if let Some((key, value)) = pair(line).filter(|_| !line.starts_with(['#', '@'])) {
            if is_private(key) {
                problems.hide(Span::new(file, *at + key.len()..*at + line.len()));
            }
            problems.push(answer(section, &plugin, key, value, Span::new(file, *at..*at + key.len())));
        }
    }
    true
}

fn pair(line: &str) -> Option<(&str, &str)> {
    line.split_once(char::is_whitespace).map(|(key, value)| (key, value.trim())).filter(|(key, _)| !key.is_empty())
}

/// A file in YAML: `pipeline` with `inputs`, `filters` and `outputs`.
pub fn yaml(node: &Node, problems: &mut Problems) -> bool {
    let lists = [("inputs", "input"), ("filters", "filter"), ("outputs", "output")];
    let Some(pipeline) = node.get("pipeline") else { return false };
    if !lists.iter().any(|(list, _)| pipeline.value.get(list).is_some()) {
        return false;
    }
    let message = "this is a Fluent Bit configuration";
    problems.push(Problem::error("pipeline", pipeline.key.span, message).hint(WHOLE));
    if let Some(service) = node.get("service") {
        answer_all("service", "", &service.value, problems);
    }
    for (list, section) in lists {
        let list = pipeline.value.get(list).map(|entry| &entry.value.kind);
        let Some(Kind::Sequence(items)) = list else { continue };
        for item in items {
            let plugin = item.get("name").and_then(|entry| entry.value.text()).unwrap_or("").to_ascii_lowercase();
            answer_all(section, &plugin, item, problems);
        }
    }
    for name in ["parsers", "multiline_parsers", "includes", "env", "upstream_servers"] {
        if let Some(entry) = node.get(name) {
            let hint = if name == "env" {
                "write `${NAME:-value}` where it is used"
            } else {
                "leave it out: `codec` of a source says how its lines are read"
            };
            problems.push(
                Problem::error(name, entry.key.span, format!("unknown key `{name}` (a key of Fluent Bit)")).hint(hint),
            );
        }
    }
    true
}

/// What each key of a mapping becomes.
fn answer_all(section: &str, plugin: &str, mapping: &Node, problems: &mut Problems) {
    for entry in mapping.entries().unwrap_or_default() {
        if is_private(entry.name()) {
            problems.hide(entry.value.span);
        }
        problems.push(answer(section, plugin, entry.name(), entry.value.text().unwrap_or(""), entry.key.span));
    }
}

/// What one key becomes.
fn answer(section: &str, plugin: &str, key: &str, value: &str, span: Span) -> Problem {
    let name = key.to_ascii_lowercase();
    let place = if plugin.is_empty() { section.to_owned() } else { format!("{section} {plugin}") };
    if name == "name" && section != "service" {
        let advice = find_type(PLUGINS, section, plugin);
        let hint = advice.map_or_else(|| "no equivalent".to_owned(), |advice| format!("it becomes {advice}"));
        return Problem::error(place, span, format!("`{key}` names the plugin `{value}` of Fluent Bit")).hint(hint);
    }
    let hint = match find(KEYS, section, plugin, &name) {
        Some(advice) => match advice.strip_prefix("nothing") {
            Some(why) => format!("leave it out{why}"),
            None => format!("it becomes {advice}"),
        },
        None => "no equivalent: see docs/reference.md for the keys of the component".to_owned(),
    };
    Problem::error(place, span, format!("`{key}` is a key of Fluent Bit")).hint(hint)
}
