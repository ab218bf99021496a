//! `/openapi.json`: the API description, generated from the route table.

use serde_json::{Map, Value, json};

use super::Api;
use super::answer::Answer;
use super::params::{Kind, Parameter};
use super::routes::{Call, ROUTES, Route, Who};
use super::shape::FIRST;
use crate::net::http::Problem;

pub async fn document(api: &Api, _: Call) -> Result<Answer, Problem> {
    Ok(Answer::value(&description(&api.agent.settings.api.base_path)))
}

/// The API as OpenAPI 3.1 has it.
pub fn description(base_path: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let item = paths.entry(route.path).or_insert_with(|| json!({}));
        item[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Weir", "version": env!("CARGO_PKG_VERSION"), "description": "Events of a log-pipeline agent: sent, searched, counted, streamed" },
        "servers": [{ "url": if base_path.is_empty() { "/" } else { base_path } }],
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "basic": { "type": "http", "scheme": "basic" },
                "key": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
                "query": { "type": "apiKey", "in": "query", "name": "token" },
            },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail"],
                    "properties": {
                        "type": { "type": "string" }, "title": { "type": "string" },
                        "status": { "type": "integer" }, "detail": { "type": "string" },
                    },
                },
            },
        },
        "paths": paths,
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    parameters.extend(route.parameters.iter().flat_map(|some| some.iter()).map(parameter));
    let problem = |what: &str| json!({ "description": what, "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } });
    let mut responses = Map::new();
    responses.insert("200".into(), json!({ "description": route.answers, "content": content(route) }));
    for (status, what) in answers_of(route) {
        responses.insert(status.into(), problem(what));
    }
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.about,
        "parameters": parameters,
        "responses": responses,
        "security": security(route.who),
    });
    if let Some(schema) = body(route) {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    operation
}

/// What is sent to a route, where it takes something.
fn body(route: &Route) -> Option<Value> {
    let object = |names: &[&str]| {
        let texts = names.iter().map(|name| ((*name).to_owned(), json!({ "type": "string", "minLength": 1 })));
        let properties: Map<String, Value> = texts.collect();
        json!({ "type": "object", "required": names, "properties": properties, "additionalProperties": false })
    };
    match (route.method, route.path) {
        ("POST", "/api/login") => Some(json!({ "oneOf": [
            object(&["token"]),
            object(&["user", "password"]),
        ] })),
        ("POST", "/api/logs") => Some(json!({ "oneOf": [
            { "type": "object" },
            { "type": "array", "minItems": 1, "items": { "type": "object" } },
        ] })),
        _ => None,
    }
}

fn operation_id(route: &Route) -> String {
    let words = route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(route.method.to_ascii_lowercase()).chain(words.map(str::to_owned)).collect::<Vec<_>>().join("_")
}

/// Statuses other than 200 that a route may answer with.
fn answers_of(route: &Route) -> Vec<(&'static str, &'static str)> {
    let mut answers = vec![("400", "Invalid parameter, by name"), ("503", "Not now")];
    if route.who != Who::Open {
        answers.push(("401", "No valid credentials"));
        answers.push(("403", "Not allowed"));
        answers.push(("429", "Too much at a time"));
    }
    if route.path == "/api/login" {
        answers.push(("401", "No valid credentials"));
        answers.push(("429", "Too many failed attempts"));
    }
    if route.path.contains('{') {
        answers.push(("404", "Not found"));
    } else if route.method == "GET" && route.who != Who::Open {
        answers.push(("404", "The table that is read has no column for this"));
    }
    if route.path.ends_with("/replay") {
        answers.push(("409", "The replay failed"));
    }
    if route.path == "/api/reload" {
        answers.push(("422", "Refused; the running configuration is unchanged"));
    }
    if route.method == "POST" {
        answers.push(("413", "Too large"));
        answers.push(("415", "An unknown Content-Encoding"));
    }
    if route.path == "/ws/logs" {
        answers.push(("426", "Expected a WebSocket handshake"));
    }
    answers
}

fn security(who: Who) -> Value {
    match who {
        Who::Open => json!([]),
        Who::StreamReader | Who::StreamAdmin => {
            json!([{ "bearer": [] }, { "basic": [] }, { "key": [] }, { "query": [] }])
        }
        _ => json!([{ "bearer": [] }, { "basic": [] }, { "key": [] }]),
    }
}

fn content(route: &Route) -> Value {
    let kind = match route.answers {
        "Metrics" => "text/plain",
        super::routes::PAGE_ANSWER => "text/html",
        "Stream" | "AdminStream" => "text/event-stream",
        "SessionReport" => return json!({ "text/html": {}, "application/json": {} }),
        "Export" => return json!({ "application/json": {}, "text/csv": {}, "application/x-ndjson": {} }),
        "WebSocket" => return json!({}),
        _ => return json!({ "application/json": { "schema": schema(route.answers) } }),
    };
    json!({ kind: {} })
}

/// What members an answer always has.
fn schema(answers: &str) -> Value {
    let object = |required: &[&str]| json!({ "type": "object", "required": required });
    match answers {
        "Activities" => object(&["activities", "count"]),
        "ActivitySummary" => object(&[
            "total_executions",
            "today_executions",
            "error_count",
            "total_errors",
            "success_rate",
            "avg_execution_time_ms",
            "last_execution",
        ]),
        "ActivityDays" => object(&["days"]),
        "Cells" | "UserActivity" => json!({ "type": "array", "items": { "type": "object" } }),
        "AllUsers" => object(&["users"]),
        "SystemStats" => object(&[
            "total_users",
            "active_users",
            "total_executions",
            "today_executions",
            "error_rate",
            "top_users",
            "recent_errors",
        ]),
        "AdminActivity" => object(&["logs", "total", "page", "limit", "total_pages", "stats"]),
        "Logs" => object(&["logs", "total", "limit", "offset", "next"]),
        "Log" => object(&FIRST),
        "Context" => object(&["before", "event", "after"]),
        "Histogram" => object(&["interval_ms", "start", "end", "total", "buckets"]),
        "Fields" => object(&["fields"]),
        "FieldValues" => object(&["field", "values"]),
        "Sessions" => object(&["sessions"]),
        "Me" => object(&["user", "role", "expires"]),
        "Pipeline" => object(&["components", "journal"]),
        "Reloaded" => object(&["applied", "changed", "errors"]),
        _ => json!({ "type": "object" }),
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Query => json!({ "type": "string", "format": "weir-query", "maxLength": crate::query::MAX_LEN }),
        // More is taken than a pattern could say: dates, local times, epoch numbers.
        Kind::Time => json!({ "type": "string", "examples": ["2026-01-31T08:00:00Z", "2026-01-31"] }),
        Kind::Zone => json!({ "type": "string", "format": "time-zone", "examples": ["UTC", "Asia/Tehran"] }),
        Kind::Number(min, max) if max > u64::from(u32::MAX) => json!({ "type": "integer", "minimum": min }),
        Kind::Number(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
    };
    json!({ "name": parameter.name, "in": "query", "description": parameter.about, "schema": schema })
}
