//! Every route of the API as a constant table: method, path, roles, parameters, handler.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::{Method, Request, Uri};
use percent_encoding::percent_decode_str;

use super::access::Credentials;
use super::answer::Answer;
use super::params::{Kind, Parameter, Params};
use super::reading::MAX_GROUPS;
use super::{
    Api, activity, admin, dlq, export, fields, health, live, login, logs, openapi, operate, page, report, stats,
};
use crate::net::Principal;
use crate::net::http::{Peer, Problem};

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody.
    Open,
    /// Whoever may read something: users their own events, viewers previews, administrators everything.
    Reader,
    /// Readers but viewers.
    Exporter,
    Admin,
    /// Whoever may send events.
    Sender,
    /// A reader or administrator of a stream, whose token may be in the query string.
    StreamReader,
    StreamAdmin,
}

type Answering<'a> = Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send + 'a>>;

pub struct Route {
    pub method: &'static str,
    /// With `{name}` for a part that differs.
    pub path: &'static str,
    pub who: Who,
    pub parameters: &'static [&'static [Parameter]],
    pub about: &'static str,
    /// The name of what it answers in the description of the API.
    pub answers: &'static str,
    pub handler: for<'a> fn(&'a Api, Call) -> Answering<'a>,
}

impl Route {
    /// The query of the page's address is the page's own state.
    pub fn query<'a>(&self, uri: &'a Uri) -> Option<&'a str> {
        uri.query().filter(|_| self.answers != PAGE_ANSWER)
    }
}

/// A request on its way to a handler.
pub struct Call {
    pub request: Request<Incoming>,
    pub peer: Peer,
    /// Absent on routes without authentication.
    pub who: Option<Principal>,
    /// What they showed.
    pub credentials: Option<Credentials>,
    /// The parts of the path that differ, decoded.
    pub path: Vec<String>,
    pub params: Params,
    pub started: Instant,
}

impl Call {
    /// The caller; only on routes with authentication.
    pub fn reader(&self) -> &Principal {
        self.who.as_ref().expect("the route lets nobody in without a name")
    }
}

/// What the routes of the page answer.
pub const PAGE_ANSWER: &str = "Page";

const fn parameter(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, kind, about }
}

const TZ: Parameter = parameter("tz", Kind::Zone, "Time zone of dates and local times, such as `Asia/Tehran`");
const ORDERS: &[&str] = &["asc", "desc"];
const TIMES: &[Parameter] = &[
    parameter("start_date", Kind::Time, "Start of the time range (inclusive)"),
    parameter("end_date", Kind::Time, "End of the time range (a day: its end)"),
    TZ,
];
/// The filters of the `/api/logs` family.
const FILTERS: &[Parameter] = &[
    parameter("event_type", Kind::Text, "Events of this type"),
    parameter("entity_type", Kind::Text, "Events about entities of this type"),
    parameter("entity_id", Kind::Text, "Events about this entity"),
    parameter("user_id", Kind::Text, "Events of this user"),
    parameter("status", Kind::Text, "Events with this status"),
    parameter("session_id", Kind::Text, "Events of this session"),
    parameter("search", Kind::Text, "Events whose description contains this text, in any case"),
    parameter("q", Kind::Query, "Events that this query matches"),
];
const PAGE: &[Parameter] = &[
    parameter("limit", Kind::Number(1, 1000), "Maximum number of rows (100)"),
    parameter("offset", Kind::Number(0, 100_000), "Number of rows to skip"),
    parameter("cursor", Kind::Text, "`next` of an earlier page"),
    parameter("count", Kind::Choice(&["exact"]), COUNT),
];
const COUNT: &str = "`exact` counts everything, within the deadline. Otherwise a total is exact to 100,000, but the \
    store counts a text in no more than some 10,000 events, in some 2,000 where it has more than a million";
/// Members by which `/api/logs` can be sorted.
pub const SORTED_BY: &[&str] =
    &["timestamp", "duration_ms", "event_type", "status", "status_code", "user_id", "endpoint"];
const SORT: &[Parameter] = &[
    parameter(
        "sort_by",
        Kind::Choice(SORTED_BY),
        "Field to sort by (texts by their first 256 characters); rows without it come last",
    ),
    parameter("sort_order", Kind::Choice(ORDERS), "Ascending or descending (desc)"),
];
const LIMIT_100: &[Parameter] = &[parameter("limit", Kind::Number(1, 100), "Maximum number of rows")];
const OFFSET: &[Parameter] = &[parameter("offset", Kind::Number(0, 100_000), "Number of rows to skip")];
const SEARCH: &[Parameter] = &[
    parameter("query", Kind::Text, "Text that the code contains, in any case"),
    parameter("status", Kind::Text, "Only executions with this status"),
];
const STREAM: &[Parameter] = &[
    parameter("q", Kind::Query, "Events that this query matches"),
    parameter("token", Kind::Text, "A token, where no header can be sent"),
    parameter("ticket", Kind::Text, "A ticket of `/api/stream-ticket`"),
    parameter(
        "last_event_id",
        Kind::Text,
        "Resume after the event with this seq, from the journal and for what is older from the store",
    ),
];
const COMPONENT: &[Parameter] = &[parameter(
    "component",
    Kind::Text,
    "Events that leave this component or enter this sink, instead of those the API reads; administrators only",
)];
const GROUPING: &[Parameter] = &[
    parameter(
        "group_by",
        Kind::Text,
        "One or two of endpoint, user_id, event_type, entity_type, session_id, status, host, ip_address, hour, day. The `p95_ms` of a group is exact for 1,024 durations that the store has to look at, for 128 where there are more than 1,000 groups, without groups for a million, and within one percent beyond",
    ),
    parameter("min_count", Kind::Number(0, u64::MAX), "Only groups with at least this many events"),
    parameter(
        "limit",
        Kind::Number(1, MAX_GROUPS),
        "Most groups (100,000, or what memory has room for): those with the most events; `is_partial: true` says that there are more",
    ),
];
const ADMIN_LIST: &[Parameter] = &[
    parameter("page", Kind::Number(1, 100_001), "Page, from 1"),
    parameter("limit", Kind::Number(1, 100), "Rows per page (20)"),
    parameter("action_filter", Kind::Text, "Exactly this action"),
    parameter("is_admin", Kind::Choice(&["true", "false"]), "Only actions by administrators, or by others"),
    parameter("q", Kind::Query, "Events that this query matches"),
    parameter(
        "success_filter",
        Kind::Choice(&["true", "false", "success", "failed"]),
        "Only successes, or only failures",
    ),
    parameter("user_search", Kind::Text, "Text in the id, e-mail or name of the user"),
    parameter("date_from", Kind::Time, "Start of the time range (inclusive)"),
    parameter("date_to", Kind::Time, "End of the time range (a day: its end)"),
    parameter("sort_by", Kind::Choice(&["timestamp", "action_type", "duration_ms", "status_code"]), "Field to sort by"),
    parameter("sort_order", Kind::Choice(ORDERS), "Ascending or descending"),
    TZ,
];
const USERS: &[Parameter] = &[
    parameter(
        "sort",
        Kind::Choice(&["username", "executions", "errors", "success_rate", "avg_execution_time_ms", "last_active"]),
        "Field to sort by",
    ),
    parameter("order", Kind::Choice(ORDERS), "Ascending or descending"),
    parameter("limit", Kind::Number(1, 10_000), "Most users"),
];

macro_rules! answers {
    ($handler:path) => {
        |api, call| Box::pin($handler(api, call))
    };
}

const fn get(
    path: &'static str,
    who: Who,
    parameters: &'static [&'static [Parameter]],
    answers: &'static str,
    about: &'static str,
    handler: for<'a> fn(&'a Api, Call) -> Answering<'a>,
) -> Route {
    Route { method: "GET", path, who, parameters, about, answers, handler }
}

const fn other(
    method: &'static str,
    path: &'static str,
    who: Who,
    parameters: &'static [&'static [Parameter]],
    answers: &'static str,
    about: &'static str,
    handler: for<'a> fn(&'a Api, Call) -> Answering<'a>,
) -> Route {
    Route { method, path, who, parameters, about, answers, handler }
}

/// Every route. A path with fixed parts stands before one with parts that differ.
pub const ROUTES: &[Route] = &[
    get(
        "/health",
        Who::Open,
        &[&[parameter("sinks", Kind::Text, "503 if a sink is held")]],
        "Health",
        "Whether the process works",
        answers!(health::health),
    ),
    get("/ready", Who::Open, &[], "Ready", "Whether events are accepted", answers!(health::ready)),
    get("/metrics", Who::Open, &[], "Metrics", "Metrics for Prometheus", answers!(operate::metrics)),
    get("/version", Who::Open, &[], "Version", "Name and version", answers!(operate::version)),
    get("/openapi.json", Who::Open, &[], "OpenApi", "This description of the API", answers!(openapi::document)),
    other(
        "POST",
        "/api/login",
        Who::Open,
        &[],
        "Me",
        "Exchanges a token or a password for the page's session cookie",
        answers!(login::login),
    ),
    other("POST", "/api/logout", Who::Open, &[], "Done", "Ends the page's session", answers!(login::logout)),
    get("/api/me", Who::Reader, &[], "Me", "Who asks", answers!(login::me)),
    other(
        "POST",
        "/api/stream-ticket",
        Who::Reader,
        &[],
        "Ticket",
        "A ticket that opens one stream within 30 seconds",
        answers!(login::ticket),
    ),
    get(
        "/api/activity/recent",
        Who::Reader,
        &[LIMIT_100],
        "Activities",
        "Own newest executions",
        answers!(activity::recent),
    ),
    get(
        "/api/activity/summary",
        Who::Reader,
        &[&[TZ]],
        "ActivitySummary",
        "Statistics of own executions",
        answers!(activity::summary),
    ),
    get(
        "/api/activity/stats",
        Who::Reader,
        &[&[parameter("days", Kind::Number(1, 366), "Days, today included (7)"), TZ]],
        "ActivityDays",
        "Own executions by day",
        answers!(activity::days),
    ),
    get(
        "/api/activity/search",
        Who::Reader,
        &[SEARCH, LIMIT_100, OFFSET, TIMES],
        "Activities",
        "Own executions whose code contains a text",
        answers!(activity::search),
    ),
    get(
        "/api/recent-activity",
        Who::Reader,
        &[],
        "Cells",
        "Own 10 newest executions, short form",
        answers!(activity::cells),
    ),
    get(
        "/api/search-code",
        Who::Reader,
        &[SEARCH],
        "Cells",
        "Own executions whose code contains a text, short form",
        answers!(activity::search_cells),
    ),
    get(
        "/api/admin/all-users-activity",
        Who::Admin,
        &[USERS],
        "AllUsers",
        "Executions of every user",
        answers!(admin::all_users),
    ),
    get(
        "/api/admin/all-activity",
        Who::Admin,
        &[],
        "UserActivity",
        "Every user, newest activity first",
        answers!(admin::all_activity),
    ),
    get(
        "/api/admin/system-stats",
        Who::Admin,
        &[&[TZ]],
        "SystemStats",
        "Statistics of the whole system",
        answers!(admin::system_stats),
    ),
    get(
        "/api/admin/activity/stream",
        Who::StreamAdmin,
        &[STREAM],
        "AdminStream",
        "Activity as it happens",
        answers!(live::admin_stream),
    ),
    get(
        "/api/admin/activity",
        Who::Admin,
        &[ADMIN_LIST],
        "AdminActivity",
        "Activity of all users, by page",
        answers!(admin::activity),
    ),
    get(
        "/api/logs",
        Who::Reader,
        &[FILTERS, TIMES, SORT, PAGE],
        "Logs",
        "Events, newest first by default",
        answers!(logs::list),
    ),
    other(
        "POST",
        "/api/logs",
        Who::Sender,
        &[&[parameter("wait", Kind::Choice(&["stored"]), "`stored` answers once reads see the events")]],
        "Accepted",
        "Takes events",
        answers!(logs::receive),
    ),
    get(
        "/api/logs/export",
        Who::Exporter,
        &[
            FILTERS,
            TIMES,
            &[
                parameter("format", Kind::Choice(&["csv", "json", "ndjson"]), "Format (json)"),
                parameter("limit", Kind::Number(1, u64::MAX), "Most events"),
                parameter("columns", Kind::Text, "Columns of csv, separated by commas"),
                parameter(
                    "guard",
                    Kind::Choice(&["on", "off"]),
                    "Whether texts are guarded against being read as spreadsheet formulas (on)",
                ),
            ],
        ],
        "Export",
        "All events that match a filter, streamed",
        answers!(export::export),
    ),
    get(
        "/api/logs/stats",
        Who::Reader,
        &[FILTERS, TIMES, GROUPING],
        "LogStats",
        "Statistics of events, or of groups",
        answers!(stats::stats),
    ),
    get(
        "/api/logs/histogram",
        Who::Reader,
        &[FILTERS, TIMES, &[parameter("interval", Kind::Text, "Width of a bucket, such as `1h`")]],
        "Histogram",
        "Events over time by status",
        answers!(stats::histogram),
    ),
    get(
        "/api/logs/{id}/context",
        Who::Reader,
        &[&[parameter("limit", Kind::Number(1, 100), "Neighbours on each side (10)")]],
        "Context",
        "An event and its neighbours in the session",
        answers!(logs::context),
    ),
    get("/api/logs/{id}", Who::Reader, &[], "Log", "One event", answers!(logs::one)),
    get(
        "/api/fields/{field}/values",
        Who::Reader,
        &[&[parameter("prefix", Kind::Text, "Prefix of the values")]],
        "FieldValues",
        "Frequent values of a field; where nearly each event has another, those of the `of_newest` newest events",
        answers!(fields::values),
    ),
    get(
        "/api/fields",
        Who::Reader,
        &[&[parameter("prefix", Kind::Text, "Prefix of the names")]],
        "Fields",
        "Names of fields",
        answers!(fields::names),
    ),
    get(
        "/api/sessions",
        Who::Reader,
        &[&[
            parameter("user_id", Kind::Text, "Sessions of this user"),
            parameter("limit", Kind::Number(1, 1000), "Maximum number of sessions (100)"),
        ]],
        "Sessions",
        "Sessions, the latest first",
        answers!(fields::sessions),
    ),
    get(
        "/api/stream",
        Who::StreamReader,
        &[STREAM, COMPONENT],
        "Stream",
        "Events as they happen",
        answers!(live::stream),
    ),
    get(
        "/ws/logs",
        Who::StreamReader,
        &[STREAM],
        "WebSocket",
        "Events as they happen, over a WebSocket; the handshake needs the `Origin` of this host or one of `api.cors.origins`",
        answers!(live::websocket),
    ),
    get(
        "/get_logs",
        Who::Exporter,
        &[&[
            parameter("format", Kind::Choice(&["html", "json", "summary"]), "Format (html)"),
            parameter("session_id", Kind::Text, "Which session (the newest)"),
        ]],
        "SessionReport",
        "Report of a session",
        answers!(report::report),
    ),
    get(
        "/api/pipeline",
        Who::Admin,
        &[],
        "Pipeline",
        "Components with rates, lag and state",
        answers!(operate::pipeline),
    ),
    get("/api/config", Who::Admin, &[], "Config", "The configuration, with secrets hidden", answers!(operate::config)),
    other("POST", "/api/reload", Who::Admin, &[], "Reloaded", "Reloads the configuration", answers!(operate::reload)),
    get(
        "/api/dlq",
        Who::Admin,
        &[&[
            parameter("limit", Kind::Number(1, 1000), "Maximum number of dead letters (100)"),
            parameter("after", Kind::Text, "After this one"),
        ]],
        "DeadLetters",
        "Dead letters, oldest first",
        answers!(dlq::list),
    ),
    get("/api/dlq/{id}", Who::Admin, &[], "DeadLetter", "One dead letter", answers!(dlq::show)),
    other("DELETE", "/api/dlq/{id}", Who::Admin, &[], "Done", "Drops a dead letter", answers!(dlq::drop)),
    other("POST", "/api/dlq/{id}/replay", Who::Admin, &[], "Done", "Replays a dead letter", answers!(dlq::replay)),
    get("/", Who::Open, &[], PAGE_ANSWER, "The page", answers!(page::document)),
    get("/logs", Who::Open, &[], PAGE_ANSWER, "The page", answers!(page::document)),
    get("/ui/{version}/{file}", Who::Open, &[], PAGE_ANSWER, "A file of the page", answers!(page::asset)),
    get("/ui/{version}/{folder}/{file}", Who::Open, &[], PAGE_ANSWER, "A file of the page", answers!(page::asset)),
];

/// What a path leads to.
pub enum Found {
    Route(&'static Route, Vec<String>),
    /// The path is known, with these methods.
    OtherMethods(Vec<&'static str>),
    Nothing,
}

/// The route of a request. `HEAD` is a `GET` without its body.
pub fn find(method: &Method, path: &str) -> Found {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut others = Vec::new();
    for route in ROUTES {
        let Some(parts) = matches(route.path, path) else { continue };
        if route.method == method {
            return Found::Route(route, parts);
        }
        if others.is_empty() || route.path.contains('{') == path_differs(&others) {
            others.push((route.method, route.path));
        }
    }
    if others.is_empty() {
        Found::Nothing
    } else {
        // Where there is a `GET` there is a `HEAD`.
        let methods = others.iter().flat_map(|(method, _)| match *method {
            "GET" => ["GET", "HEAD"].iter(),
            _ => std::slice::from_ref(method).iter(),
        });
        Found::OtherMethods(methods.copied().collect())
    }
}

fn path_differs(others: &[(&'static str, &'static str)]) -> bool {
    others.iter().all(|(_, path)| path.contains('{'))
}

/// The parts that differ, if the path is one of these.
fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (mut wanted, mut given, mut parts) = (pattern.split('/'), path.split('/'), Vec::new());
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parts),
            (Some(wanted), Some(given)) if wanted.starts_with('{') => {
                if given.is_empty() {
                    return None;
                }
                parts.push(percent_decode_str(given).decode_utf8_lossy().into_owned());
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, path: &str) -> String {
        match find(&method.parse().unwrap(), path) {
            Found::Route(route, parts) => format!("{} {} {parts:?}", route.method, route.path),
            Found::OtherMethods(methods) => methods.join(", "),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn a_path_leads_to_its_route() {
        assert_eq!(found("GET", "/api/logs/export"), "GET /api/logs/export []");
        assert_eq!(found("HEAD", "/api/logs/42"), "GET /api/logs/{id} [\"42\"]");
        assert_eq!(found("GET", "/api/logs/a%20b+c/context"), "GET /api/logs/{id}/context [\"a b+c\"]");
        assert_eq!(found("GET", "/api/logs/a=b&c%3D%26"), "GET /api/logs/{id} [\"a=b&c=&\"]");
        assert_eq!(found("PUT", "/api/logs"), "GET, HEAD, POST");
        assert_eq!(found("POST", "/api/dlq/1"), "GET, HEAD, DELETE");
        assert_eq!(found("POST", "/api/logs/export"), "GET, HEAD");
        assert_eq!(found("GET", "/api/reload"), "POST");
        for nothing in ["/api", "/api/logs/", "/api/dlq/1/2", "/weirhealth", "//health", "/api/log"] {
            assert_eq!(found("GET", nothing), "nothing", "{nothing}");
        }
    }

    #[test]
    fn every_route_is_there_once_and_names_what_it_understands_once() {
        for (nth, route) in ROUTES.iter().enumerate() {
            let twin = ROUTES[nth + 1..].iter().find(|other| (other.method, other.path) == (route.method, route.path));
            assert!(twin.is_none(), "{} {} is there twice", route.method, route.path);
            let names: Vec<&str> =
                route.parameters.iter().flat_map(|some| some.iter()).map(|known| known.name).collect();
            let different: std::collections::BTreeSet<&str> = names.iter().copied().collect();
            assert_eq!(different.len(), names.len(), "{}", route.path);
        }
    }
}
