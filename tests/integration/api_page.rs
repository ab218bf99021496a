//! `docs/api.md`: a request and its answer for each route, made by asking a running agent, so that it cannot go stale.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use weir::api::routes::{ROUTES, Route, Who};

use crate::support::{Agent, Folder, eventually, free_port, post, request};

/// Requests that show a route; a route that is not here is described by its parameters alone.
const REQUESTS: &[(&str, &str)] = &[
    ("/ready", "/ready"),
    ("/version", "/version"),
    ("/api/me", "/api/me"),
    ("/api/activity/recent", "/api/activity/recent?limit=1"),
    ("/api/activity/summary", "/api/activity/summary"),
    ("/api/activity/search", "/api/activity/search?query=pandas"),
    ("/api/recent-activity", "/api/recent-activity"),
    ("/api/search-code", "/api/search-code?query=pandas"),
    ("/api/admin/all-users-activity", "/api/admin/all-users-activity?sort=errors"),
    ("/api/admin/all-activity", "/api/admin/all-activity"),
    ("/api/admin/activity", "/api/admin/activity?success_filter=failed&limit=1"),
    ("/api/logs", "/api/logs?q=status:error&limit=1"),
    ("/api/logs/{id}", "/api/logs/0190163d-8694-739b-aea5-966c26f8ad91"),
    ("/api/logs/{id}/context", "/api/logs/0190163d-8694-739b-aea5-966c26f8ad91/context?limit=1"),
    ("/api/logs/stats", "/api/logs/stats?group_by=user_id,status&user_id=ali"),
    ("/api/logs/histogram", "/api/logs/histogram?interval=1d&user_id=ali"),
    ("/api/fields", "/api/fields?prefix=s"),
    ("/api/fields/{field}/values", "/api/fields/status/values"),
    ("/api/sessions", "/api/sessions?user_id=ali"),
    ("/get_logs", "/get_logs?format=summary&session_id=s-1"),
    ("/api/dlq", "/api/dlq"),
];

fn events() -> Vec<Value> {
    vec![
        json!({ "id": "0190163d-8694-739b-aea5-966c26f8ad91", "timestamp": "2026-01-02T03:04:05Z", "event_type": "code_execution",
                "user_id": "ali", "session_id": "s-1", "cell_number": 1, "code": "import pandas as pd", "status": "success", "duration_ms": 12.5 }),
        json!({ "id": "0190163d-8694-739b-aea5-966c26f8ad92", "timestamp": "2026-01-02T03:05:05Z", "event_type": "code_execution",
                "user_id": "ali", "session_id": "s-1", "cell_number": 2, "code": "1 / 0", "status": "error", "duration_ms": 1,
                "error_message": "ZeroDivisionError: division by zero" }),
    ]
}

#[test]
fn the_page_about_the_api_is_fresh() {
    let (folder, port) = (Folder::new(), free_port());
    let agent = Agent::start(
        &folder,
        &format!(
            "sources:\n  web: {{ type: http, address: '127.0.0.1:{port}' }}\n\
             transforms:\n  named: {{ type: normalize, inputs: [web] }}\n\
             sinks:\n  events: {{ type: store, inputs: [named], batch: {{ age: 10ms }} }}\n"
        ),
    );
    let body: String = events().iter().map(|event| format!("{event}\n")).collect();
    assert_eq!(post(port, &body), 2);
    eventually("they are stored", || agent.metric("weir_events_delivered_total", "events") == 2);
    let (user, admin) = (agent.token_of("ali", "user"), agent.token());
    let mut page = String::from(
        "# API\n\nMade by `BLESS=1 cargo test --test integration api_page` from a running agent; don't edit it.\n\n\
         Every request shows a token: `Authorization: Bearer TOKEN` (`weir token` makes one). An error is a problem document\n\
         with a `detail` that names the parameter.\n",
    );
    for route in ROUTES {
        describe(&mut page, route);
        let Some((_, path)) = REQUESTS.iter().find(|(shown, _)| *shown == route.path && route.method == "GET") else {
            continue;
        };
        let is_own = route.path.starts_with("/api/activity")
            || matches!(route.path, "/api/recent-activity" | "/api/search-code");
        let token = format!("Bearer {}", if is_own { &user } else { &admin });
        let answer = request(agent.api, "GET", path, &[("Authorization", &token)], b"").expect("the agent answers");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let mut answer = answer.json();
        steady(&mut answer);
        let _ = write!(page, "\n```\nGET {path}\n\n{answer:#}\n```\n");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/api.md is stale: run `BLESS=1 cargo test --test integration api_page`");
}

fn describe(page: &mut String, route: &Route) {
    let who = match route.who {
        Who::Open => "everybody",
        Who::Reader | Who::StreamReader => "users (their own events), viewers (previews), administrators",
        Who::Exporter => "users (their own events), administrators",
        Who::Admin | Who::StreamAdmin => "administrators",
        Who::Sender => "services, users, administrators",
    };
    let _ = write!(page, "\n## {} {}\n\n{}. For {who}.\n", route.method, route.path, route.about);
    let parameters: Vec<_> = route.parameters.iter().flat_map(|some| some.iter()).collect();
    if !parameters.is_empty() {
        page.push_str("\n| parameter | |\n|---|---|\n");
        for parameter in parameters {
            let _ = writeln!(page, "| `{}` | {} |", parameter.name, parameter.about.replace('|', "\\|"));
        }
    }
}

/// What differs from run to run gets a value that stays.
fn steady(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "seq" | "last_event" | "limit_bytes" => *value = json!(1),
                    "received_at" | "expires" => *value = json!("2026-01-02T03:05:06.000Z"),
                    "version" => *value = json!("0.1.0"),
                    _ => steady(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(steady),
        _ => {}
    }
}
