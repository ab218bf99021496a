//! The session report: what was done, what failed and how long it took; as JSON or a printable page.

use std::collections::{BTreeMap, HashSet};

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;

use super::Api;
use super::acts::record_read;
use super::answer::Answer;
use super::reading::{check_subject, newest, page, visibility};
use super::routes::Call;
use super::shape::Event;
use crate::event::Raw;
use crate::net::http::Problem;
use crate::query::request::{Filter, Keyset, Row, SortKey, has, rate};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// Events of a report; of a longer session the newest are shown.
const MOST_EVENTS: usize = 10_000;
const SLOWEST: usize = 5;

/// The content of a report.
#[derive(Serialize)]
pub struct Report {
    session_id: Option<String>,
    activities: Vec<Activity>,
    summary: Summary,
    failed_activities: Vec<Activity>,
    open_operations: Vec<Activity>,
    performance: Performance,
    last_activity: Option<String>,
}

#[derive(Clone, Serialize)]
pub struct Activity {
    pub timestamp: String,
    pub action: String,
    /// success, failed, in_progress, warning
    pub status: &'static str,
    pub details: Option<Box<RawValue>>,
    pub error: Option<String>,
    /// In the list of failures only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_trace: Option<String>,
    pub duration_ms: Option<f64>,
}

#[derive(Default, Serialize)]
pub struct Summary {
    pub total_activities: usize,
    pub success_count: usize,
    pub failed_count: usize,
    pub success_rate: f64,
    /// Minutes.
    pub session_duration: f64,
    pub action_breakdown: BTreeMap<String, usize>,
}

#[derive(Default, Serialize)]
pub struct Performance {
    pub by_action: BTreeMap<String, ActionPerformance>,
    /// The sum of the file sizes in the details.
    pub bytes: u64,
    pub slowest: Vec<Slow>,
}

#[derive(Serialize)]
pub struct ActionPerformance {
    count: usize,
    success_rate: f64,
    avg_ms: Option<f64>,
    p95_ms: Option<f64>,
    max_ms: Option<f64>,
}

#[derive(Serialize)]
pub struct Slow {
    pub action: String,
    pub duration_ms: f64,
    pub timestamp: String,
}

pub async fn report(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_subject(api, &["session_id"]).await?;
    let sees = visibility(api, call.reader());
    let open = open_rows(api, &sees).await;
    let session = match call.params.text("session_id") {
        Some(session) => Some(session.to_owned()),
        None => {
            let mut filter = Filter::default();
            filter.and(has("session_id"));
            let last = page(api, newest(filter, 1, 0), sees.clone()).await?.rows.pop();
            let all = open.iter().chain(&last).filter(|row| Event::new(row).text("session_id").is_some());
            let newest = all.max_by_key(|row| row.time);
            newest.and_then(|row| Event::new(row).text("session_id").map(|id| id.into_owned()))
        }
    };
    let mut rows = Vec::new();
    if let Some(session) = &session {
        let filter = Filter { equals: vec![("session_id".to_owned(), session.clone())], ..Filter::default() };
        rows = page(api, newest(filter, MOST_EVENTS, 0), sees).await?.rows;
        // Rows of a table have no `seq`: those of one time stay in the order of the place.
        rows.reverse();
        rows.extend(open.into_iter().filter(|row| Event::new(row).text("session_id").as_deref() == Some(session)));
        rows.sort_by_key(|row| (row.time, row.seq));
    }
    let report = made_of(session, &rows);
    record_read(api, &call, "activity_read", rows.len() as u64);
    Ok(match call.params.text("format") {
        Some("json") => Answer::value(&report),
        Some("summary") => Answer::value(&report.summary),
        _ => {
            let page = Answer::with_type("text/html; charset=utf-8", super::report_page::render(&report));
            let mut response = page.respond(call.request.headers());
            let policy = HeaderValue::from_static(super::report_page::POLICY);
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            Answer::Response(response)
        }
    })
}

/// Operations that have begun and that a transform still holds, as far as they may be seen.
pub async fn open_rows(api: &Api, sees: &Visibility) -> Vec<Row> {
    let rows = api.agent.open_operations().await.into_iter().filter_map(|line| {
        let line = sees.show(&line)?.into_owned();
        let event = Raw::valid(&line);
        let text = |name: &str| event.get(name).and_then(|value| value.as_str());
        let time = text("timestamp").and_then(|time| Timestamp::parse(&time)).unwrap_or_default();
        let id = text("id").map(|id| id.into_owned()).unwrap_or_default();
        let keyset = Keyset { key: SortKey::None, time: time.0, seq: u64::MAX, row: None };
        Some(Row { seq: u64::MAX, time, received_at: None, id, line, keyset })
    });
    rows.collect()
}

impl Report {
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    pub fn activities(&self) -> &[Activity] {
        &self.activities
    }

    pub fn failed(&self) -> &[Activity] {
        &self.failed_activities
    }

    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    pub fn performance(&self) -> &Performance {
        &self.performance
    }
}

/// The report of these events, which are in the order of their time.
fn made_of(session_id: Option<String>, rows: &[Row]) -> Report {
    let events: Vec<Event<'_>> = rows.iter().map(Event::new).collect();
    let is_open = |event: &Event<'_>| event.text("status").as_deref() == Some("in_progress");
    let ended: HashSet<String> = events
        .iter()
        .filter(|event| !is_open(event))
        .filter_map(|event| Some(event.text("operation_id")?.into_owned()))
        .collect();
    // A start is represented by its end if there is one.
    let told = events
        .iter()
        .filter(|event| !(is_open(event) && event.text("operation_id").is_some_and(|id| ended.contains(&*id))));
    let mut activities: Vec<Activity> = told.map(activity).collect();
    let of_status =
        |status: &str| activities.iter().filter(|activity| activity.status == status).cloned().collect::<Vec<_>>();
    let minutes = match (rows.first(), rows.last()) {
        (Some(first), Some(last)) => (last.time.0 - first.time.0) as f64 / 60e6,
        _ => 0.0,
    };
    let mut action_breakdown = BTreeMap::new();
    for activity in &activities {
        let word = activity.action.split(['_', '.']).next().unwrap_or("").to_owned();
        *action_breakdown.entry(word).or_default() += 1;
    }
    let (successes, failed, open) = (of_status("success").len(), of_status("failed"), of_status("in_progress"));
    // Traces are long, and one place is enough for them.
    activities.iter_mut().for_each(|activity| activity.error_trace = None);
    Report {
        session_id,
        summary: Summary {
            total_activities: activities.len(),
            success_count: successes,
            failed_count: failed.len(),
            success_rate: rate(successes as u64, activities.len() as u64),
            session_duration: (minutes * 10.0).round() / 10.0,
            action_breakdown,
        },
        failed_activities: failed,
        open_operations: open,
        performance: performance(&activities),
        last_activity: activities.last().map(|last| last.timestamp.clone()),
        activities,
    }
}

fn activity(event: &Event<'_>) -> Activity {
    let status = match event.text("status").as_deref() {
        Some("error" | "failed" | "aborted" | "lost") => "failed",
        Some("in_progress") => "in_progress",
        Some("warning") => "warning",
        _ => "success",
    };
    let raw = |bytes: &[u8]| serde_json::from_slice::<Box<RawValue>>(bytes).ok();
    Activity {
        timestamp: event.time(),
        action: event.text("event_type").map_or_else(|| "unknown".to_owned(), |text| text.into_owned()),
        status,
        details: event.get("metadata").or_else(|| event.get("description")).and_then(raw),
        error: event.text("error_message").map(|text| text.into_owned()),
        error_trace: event.text("error_trace").filter(|_| status == "failed").map(|text| text.into_owned()),
        duration_ms: event.line.get("duration_ms").and_then(|value| value.as_f64()),
    }
}

fn performance(activities: &[Activity]) -> Performance {
    let mut by_action: BTreeMap<String, Vec<&Activity>> = BTreeMap::new();
    for activity in activities {
        by_action.entry(activity.action.clone()).or_default().push(activity);
    }
    let mut slowest: Vec<Slow> = activities
        .iter()
        .filter_map(|activity| {
            let duration_ms = activity.duration_ms?;
            Some(Slow { action: activity.action.clone(), duration_ms, timestamp: activity.timestamp.clone() })
        })
        .collect();
    slowest.sort_by(|a, b| b.duration_ms.total_cmp(&a.duration_ms));
    slowest.truncate(SLOWEST);
    let bytes = activities.iter().filter_map(|activity| {
        let details: serde_json::Value = serde_json::from_str(activity.details.as_ref()?.get()).ok()?;
        details.get("file_size_bytes")?.as_u64()
    });
    Performance {
        bytes: bytes.fold(0, u64::saturating_add),
        by_action: by_action.into_iter().map(|(action, of)| (action, measured(&of))).collect(),
        slowest,
    }
}

fn measured(activities: &[&Activity]) -> ActionPerformance {
    let mut times: Vec<f64> = activities.iter().filter_map(|activity| activity.duration_ms).collect();
    times.sort_by(f64::total_cmp);
    let rank = |share: f64| times.get(((share * times.len() as f64).ceil() as usize).max(1) - 1).copied();
    let successes = activities.iter().filter(|activity| activity.status == "success").count();
    let average = (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64);
    ActionPerformance {
        count: activities.len(),
        success_rate: rate(successes as u64, activities.len() as u64),
        avg_ms: average.map(|average| (average * 1000.0).round() / 1000.0),
        p95_ms: rank(0.95),
        max_ms: times.last().copied(),
    }
}

/// When a report was made.
pub fn now() -> String {
    Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(minute: i64, line: &str) -> Row {
        let time = Timestamp(1_767_225_600_000_000 + minute * 60_000_000);
        let keyset = Keyset { key: SortKey::None, time: time.0, seq: minute as u64, row: None };
        Row { seq: minute as u64, time, received_at: None, id: String::new(), line: line.into(), keyset }
    }

    #[test]
    fn a_report_counts_open_lost_and_failed_operations() {
        let rows = [
            row(0, r#"{"event_type":"document_upload","status":"in_progress","operation_id":"a"}"#),
            row(
                1,
                r#"{"event_type":"document_upload","status":"success","operation_id":"a","duration_ms":900,"metadata":{"file_size_bytes":1000}}"#,
            ),
            row(
                2,
                r#"{"event_type":"s3_export","status":"error","error_message":"no route","error_trace":"in s3.py\nTypeError","duration_ms":100}"#,
            ),
            row(3, r#"{"event_type":"ai_analysis","status":"in_progress","operation_id":"b"}"#),
            row(6, r#"{"event_type":"s3_upload","status":"lost"}"#),
        ];
        let report = made_of(Some("s".into()), &rows);
        let summary = serde_json::to_value(&report.summary).unwrap();
        assert_eq!(
            summary,
            serde_json::json!({
                "total_activities": 4, "success_count": 1, "failed_count": 2, "success_rate": 25.0, "session_duration": 6.0,
                "action_breakdown": { "ai": 1, "document": 1, "s3": 2 },
            })
        );
        assert_eq!((report.open_operations.len(), report.performance.bytes), (1, 1000));
        assert_eq!(report.performance.slowest[0].action, "document_upload");
        assert_eq!(report.failed_activities[0].error_trace.as_deref(), Some("in s3.py\nTypeError"));
        let page = crate::api::report_page::render(&report);
        assert!(page.contains("<details><summary>Trace</summary><pre>in s3.py\nTypeError</pre></details>"), "{page}");
    }
}
