//! The index template that is installed on request: field types of an event.

use serde_json::{Value, json};

use super::encode::Shape;

/// Longest text that is one term; Lucene refuses terms of more than 32,766 bytes.
const LONGEST_TERM: usize = 8191;
/// Before the templates that clusters bring along (100 and 200).
const PRIORITY: u32 = 250;
/// Grows with each change of the template; whoever has an older one installed may compare.
const VERSION: u32 = 1;

/// What the cluster is able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    pub is_opensearch: bool,
    /// Whether it can cut text by a pattern; minimal builds lack it.
    pub has_patterns: bool,
}

/// Splits code where a name ends, so that `read_csv` and `read` are found in `pd.read_csv(x)`.
pub fn code_analyzer() -> (Value, Value) {
    let tokenizer = json!({"type": "pattern", "pattern": "[^\\p{L}\\p{N}_]+"});
    let filter = json!({"type": "word_delimiter_graph", "preserve_original": true});
    (tokenizer, filter)
}

/// The template for indices whose names match `pattern`.
pub fn template(pattern: &str, shape: Shape, is_data_stream: bool, abilities: Abilities) -> Value {
    let Abilities { is_opensearch, has_patterns } = abilities;
    let code = json!({"type": "text", "analyzer": if has_patterns { "weir_code" } else { "simple" }});
    let flat = match is_opensearch {
        true => json!({"type": "flat_object"}),
        false => json!({"type": "flattened", "ignore_above": LONGEST_TERM}),
    };
    let mut mappings = json!({
        // What is not named below is a word, or what it looks like.
        "dynamic_templates": [{
            "words": {"match_mapping_type": "string", "mapping": {"type": "keyword", "ignore_above": LONGEST_TERM}}
        }],
        "date_detection": false,
        "properties": match shape { Shape::Line => line(&code, &flat), Shape::Ecs => ecs(&code, &flat) },
    });
    mappings["_meta"] = json!({"made_by": "weir", "version": VERSION});
    let mut settings = json!({});
    if has_patterns {
        let (tokenizer, filter) = code_analyzer();
        settings = json!({"analysis": {
            "tokenizer": {"weir_code": tokenizer},
            "filter": {"weir_code": filter},
            "analyzer": {"weir_code": {
                "type": "custom", "tokenizer": "weir_code", "filter": ["weir_code", "lowercase"]
            }},
        }});
    }
    let mut template = json!({
        "index_patterns": [pattern],
        "priority": PRIORITY,
        "version": VERSION,
        "template": {"settings": settings, "mappings": mappings},
    });
    if is_data_stream {
        template["data_stream"] = json!({});
    }
    template
}

fn word() -> Value {
    json!({"type": "keyword", "ignore_above": LONGEST_TERM})
}

fn text() -> Value {
    json!({"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}})
}

/// A number, an address or a time that some producer may get wrong; the rest of the event is kept then.
fn lenient(kind: &str) -> Value {
    json!({"type": kind, "ignore_malformed": true})
}

fn line(code: &Value, flat: &Value) -> Value {
    let mut properties = json!({
        "@timestamp": {"type": "date"},
        "timestamp": lenient("date"),
        "received_at": lenient("date"),
        "description": text(),
        "code": code,
        "error_message": text(),
        "error_trace": code,
        "duration_ms": lenient("double"),
        "cell_number": lenient("long"),
        "status_code": lenient("long"),
        "db_query_count": lenient("long"),
        "ip_address": lenient("ip"),
        "peer_ip": lenient("ip"),
        "is_admin": {"type": "boolean"},
        "metadata": flat,
        "truncated": flat,
        "redactions": {"properties": {"rule": word(), "count": lenient("long")}},
    });
    for name in [
        "id",
        "event_type",
        "status",
        "user_id",
        "user_email",
        "user_display_name",
        "session_id",
        "operation_id",
        "trace_id",
        "language",
        "notebook",
        "kernel_id",
        "error_type",
        "entity_type",
        "entity_id",
        "target_user_id",
        "endpoint",
        "http_method",
        "user_agent",
        "host",
        "agent",
        "source",
        "reported_by",
        "capture",
    ] {
        properties[name] = word();
    }
    properties
}

fn ecs(code: &Value, flat: &Value) -> Value {
    let id = || json!({"properties": {"id": word()}});
    let name = || json!({"properties": {"name": word()}});
    json!({
        "@timestamp": {"type": "date"},
        "message": text(),
        "ecs": {"properties": {"version": word()}},
        "event": {"properties": {
            "id": word(), "action": word(), "outcome": word(), "kind": word(), "provider": word(),
            "duration": {"type": "long"}, "created": {"type": "date"},
        }},
        "user": {"properties": {"id": word(), "email": word(), "full_name": word(), "target": id()}},
        "session": id(),
        "transaction": id(),
        "error": {"properties": {"type": word(), "message": text(), "stack_trace": code}},
        "url": {"properties": {"path": word()}},
        "http": {"properties": {
            "request": {"properties": {"method": word()}},
            "response": {"properties": {"status_code": {"type": "long"}}},
        }},
        "source": {"properties": {"ip": {"type": "ip"}}},
        "user_agent": {"properties": {"original": word()}},
        "host": name(),
        "agent": name(),
        "service": name(),
        "weir": {"properties": {
            "code": code,
            "metadata": flat,
            "truncated": flat,
            "redactions": {"properties": {"rule": word(), "count": lenient("long")}},
            "status": word(),
            "peer_ip": lenient("ip"),
            "cell_number": lenient("long"),
        }},
    })
}
