//! Exports: every event that matches a filter, page by page in constant memory, with the count as a trailer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER};
use hyper::{Response, StatusCode};
use tokio::runtime::Handle;

use super::Api;
use super::acts::record_read;
use super::answer::Answer;
use super::params::{Params, bad};
use super::reading::{check_fields, deadline, filter, newest, problem, reader, visibility};
use super::routes::Call;
use super::shape::{Event, log_row};
use crate::component::Reader;
use crate::net::http::{Body, Problem, on};
use crate::net::{Principal, Role};
use crate::query::request::{PageRequest, ReadError, Row};
use crate::units::Timestamp;
use crate::visibility::Visibility;

/// The most rows that are read at a time, and so many at first.
const PAGE: usize = 1000;
const FIRST_PAGE: usize = 50;
/// Bytes of the rows that are read at a time; an export that its client does not read holds two of these at most.
const PAGE_BYTES: usize = 256 * 1024;
/// Exports of one user that may be open, and of all users who are no administrators.
const MAX_OF_USER: usize = 16;
const MAX_OPEN: usize = 64;
/// The trailer with the number of events.
const COUNT: &str = "weir-count";
const COLUMNS: [&str; 22] = [
    "id",
    "timestamp",
    "event_type",
    "entity_type",
    "entity_id",
    "user_id",
    "description",
    "metadata",
    "ip_address",
    "user_agent",
    "status",
    "session_id",
    "cell_number",
    "code",
    "duration_ms",
    "error_type",
    "error_message",
    "endpoint",
    "http_method",
    "status_code",
    "target_user_id",
    "is_admin",
];
const MAX_COLUMNS: usize = 200;

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Csv,
    Json,
    Ndjson,
}

/// An export on its way.
struct Export {
    place: Arc<dyn Reader>,
    request: PageRequest,
    sees: Visibility,
    format: Format,
    columns: Vec<String>,
    is_guarded: bool,
    left: u64,
    count: u64,
    state: State,
    /// Rows that take about [`PAGE_BYTES`].
    rows: usize,
    _slot: Slot,
}

/// The exports that are open, by the name of who reads them.
#[derive(Default)]
pub struct Exports(Mutex<HashMap<String, usize>>);

/// An open export; free again when it is dropped.
struct Slot {
    exports: Arc<Exports>,
    name: String,
}

impl Exports {
    fn open(self: &Arc<Exports>, who: &Principal) -> Result<Slot, Problem> {
        let refused = |most: usize, of: &str| {
            let detail = format!("at most {most} exports {of} are open at a time: read one to its end or close it");
            Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(Duration::from_secs(5)))
        };
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&who.name).is_some_and(|open| *open >= MAX_OF_USER) {
            return refused(MAX_OF_USER, "of one user");
        }
        // Users who do not read theirs keep no administrator from exporting.
        if who.role != Role::Admin && open.values().sum::<usize>() >= MAX_OPEN {
            return refused(MAX_OPEN, "of all users");
        }
        *open.entry(who.name.clone()).or_default() += 1;
        Ok(Slot { exports: self.clone(), name: who.name.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.exports.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = open.get_mut(&self.name) {
            *left -= 1;
            if *left == 0 {
                open.remove(&self.name);
            }
        }
    }
}

#[derive(PartialEq)]
enum State {
    Begin,
    Rows,
    Trailer,
    End,
}

pub async fn export(api: &Api, call: Call) -> Result<Answer, Problem> {
    check_fields(api, &call.params).await?;
    let params = &call.params;
    let format = match params.text("format") {
        Some("csv") => Format::Csv,
        Some("ndjson") => Format::Ndjson,
        _ => Format::Json,
    };
    if let Some(name) = ["columns", "guard"].into_iter().find(|name| params.text(name).is_some())
        && !matches!(format, Format::Csv)
    {
        return Err(bad(name, "applies to `format=csv` only"));
    }
    // Administrators export everything whole.
    let sees = match visibility(api, call.reader()) {
        Visibility::All { own, .. } => Visibility::All { own, preview: usize::MAX },
        other => other,
    };
    // A page that reaches its deadline is followed by the next, however much is looked through in vain.
    let request = PageRequest { may_be_partial: true, ..newest(filter(params)?, PAGE, 0) };
    let mut export = Export {
        place: reader(api)?,
        request,
        sees,
        format,
        columns: columns(params)?,
        is_guarded: params.text("guard") != Some("off"),
        left: params.number("limit", u64::MAX),
        count: 0,
        state: State::Begin,
        rows: FIRST_PAGE,
        _slot: api.exports.open(call.reader())?,
    };
    // What cannot be read at all is a problem document, not half an export.
    let first = export.page().await.map_err(problem)?;
    record_read(api, &call, "activity_export", export.count);
    // Rows are read and written out on this runtime: the one that sends them has live clients to write to.
    let runtime = Handle::current();
    let body = stream::unfold((export, Some(first)), move |step| {
        let runtime = runtime.clone();
        async move {
            match on(&runtime, next(step)).await {
                Some(made) => made,
                // The agent has ended, and the connection with it: an export that stops here is not whole.
                None => std::future::pending().await,
            }
        }
    });
    let mut response = Response::new(Body::stream(StreamBody::new(body).boxed_unsync()));
    let headers = response.headers_mut();
    let (content_type, ending) = match format {
        Format::Csv => ("text/csv; charset=utf-8", "csv"),
        Format::Json => ("application/json", "json"),
        Format::Ndjson => ("application/x-ndjson", "ndjson"),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(TRAILER, HeaderValue::from_static("Weir-Count"));
    let now: String = Timestamp::now().to_string()[..19].replace([':', '-'], "");
    let name = format!("attachment; filename=\"logs-{now}Z.{ending}\"");
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_str(&name).expect("plain text"));
    Ok(Answer::Response(response))
}

fn columns(params: &Params) -> Result<Vec<String>, Problem> {
    let Some(text) = params.text("columns") else { return Ok(COLUMNS.map(str::to_owned).to_vec()) };
    let columns: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if columns.len() > MAX_COLUMNS || columns.iter().any(String::is_empty) {
        return Err(bad("columns", "expected names separated by commas"));
    }
    Ok(columns)
}

type Step = (Export, Option<Vec<Row>>);
type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn next((mut export, ready): Step) -> Option<(Result<Frame<Bytes>, BoxError>, Step)> {
    match export.state {
        State::End => None,
        State::Trailer => {
            export.state = State::End;
            let mut trailers = HeaderMap::new();
            trailers.insert(HeaderName::from_static(COUNT), HeaderValue::from(export.count));
            Some((Ok(Frame::trailers(trailers)), (export, None)))
        }
        State::Begin | State::Rows => {
            let rows = match ready {
                Some(rows) => rows,
                None => match export.page().await {
                    Ok(rows) => rows,
                    Err(error) => {
                        // The connection breaks, so that no client takes what has come for everything.
                        tracing::warn!(%error, "an export was aborted");
                        export.state = State::End;
                        return Some((Err(error.into()), (export, None)));
                    }
                },
            };
            let bytes = export.render(&rows);
            Some((Ok(Frame::data(bytes)), (export, None)))
        }
    }
}

impl Export {
    async fn page(&mut self) -> Result<Vec<Row>, ReadError> {
        self.request.deadline = deadline();
        self.request.limit = self.rows.min(self.left.min(usize::MAX as u64) as usize);
        let mut page = loop {
            match self.place.page(self.request.clone(), self.sees.clone()).await {
                // Fewer of these large events at a time.
                Err(ReadError::TooLarge(_)) if self.request.limit > 1 => self.request.limit /= 2,
                page => break page?,
            }
        };
        let (mut bytes, mut fitting) = (0, 0);
        while bytes < PAGE_BYTES && fitting < page.rows.len() {
            bytes += page.rows[fitting].line.len();
            fitting += 1;
        }
        if fitting < page.rows.len() {
            // The others come with the next page.
            page.rows.truncate(fitting);
            (page.has_more, page.resume) = (true, None);
        }
        if let Some(of_row) = bytes.checked_div(page.rows.len()) {
            self.rows = (PAGE_BYTES / of_row.max(1)).clamp(1, PAGE);
        }
        self.count += page.rows.len() as u64;
        self.left -= page.rows.len() as u64;
        self.request.after = page.next().filter(|_| self.left > 0).cloned();
        Ok(page.rows)
    }

    /// The bytes of some rows, with the beginning or the end of the export where they are its first or last.
    fn render(&mut self, rows: &[Row]) -> Bytes {
        let is_first = self.state == State::Begin;
        let is_last = self.request.after.is_none();
        self.state = if is_last { State::Trailer } else { State::Rows };
        let lines: usize = rows.iter().map(|row| row.line.len() + 64).sum();
        let mut out = Vec::with_capacity(lines + lines / 8);
        match self.format {
            Format::Ndjson => rows.iter().for_each(|row| {
                out.extend_from_slice(&log_row(row));
                out.push(b'\n');
            }),
            Format::Json => {
                if is_first {
                    out.push(b'[');
                }
                for (nth, row) in rows.iter().enumerate() {
                    out.extend_from_slice(if is_first && nth == 0 { b"\n" } else { b",\n" });
                    out.extend_from_slice(&log_row(row));
                }
                if is_last {
                    out.extend_from_slice(b"\n]\n");
                }
            }
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(&mut out);
                let records = is_first.then(|| self.columns.clone()).into_iter();
                for record in records.chain(rows.iter().map(|row| self.record(row))) {
                    writer.write_record(record).expect("memory takes every record");
                }
                drop(writer);
            }
        }
        out.into()
    }

    fn record(&self, row: &Row) -> Vec<String> {
        let event = Event::new(row);
        let value = |name: &String| match name.as_str() {
            "id" => event.id(),
            "timestamp" => event.time(),
            "seq" => row.seq.to_string(),
            name => {
                let path: Vec<&str> = name.split('.').collect();
                let value = event.line.path(&path).filter(|value| !value.is_null());
                match value {
                    None => String::new(),
                    Some(value) if self.is_guarded && value.as_str().is_some() => guarded(&value.display()),
                    Some(value) => value.display().into_owned(),
                }
            }
        };
        self.columns.iter().map(value).collect()
    }
}

/// A text that no spreadsheet takes for a formula.
fn guarded(text: &str) -> String {
    // What spreadsheets pass over before a formula, or where they begin another cell.
    let is_passed_over = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '"' | ';' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    };
    let begins_with_control = text.trim_start_matches([' ', '\u{feff}']).starts_with(['\t', '\r', '\n']);
    match text.trim_start_matches(is_passed_over).chars().next() {
        Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠') => format!("'{text}"),
        _ if begins_with_control => format!("'{text}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;
    use crate::component::reader::{Key, Reading};
    use crate::query::request::{AggregateRequest, CountLimit, Filter, Group, Keyset, Page, SortKey, Total};

    #[test]
    fn texts_that_a_spreadsheet_would_run_are_guarded() {
        for text in [
            "=1+1",
            "+7",
            "-cmd",
            "@sum",
            "\t=1",
            " =1",
            "＝1",
            ";=1",
            "\"=1",
            "\u{b}=1",
            "\u{a0}=1",
            "\u{3000}@a",
            "\u{200b}=1",
            "\tplain",
        ] {
            assert_eq!(guarded(text), format!("'{text}"));
        }
        for text in ["plain = text", " plain", "\"quoted\"", "; a", "سلام"] {
            assert_eq!(guarded(text), text);
        }
    }

    /// One page, and then a place that cannot be read.
    struct OnePage(AtomicBool);

    impl Reader for OnePage {
        fn page(&self, _: PageRequest, _: Visibility) -> Reading<'_, Page> {
            let is_first = !self.0.swap(true, Ordering::Relaxed);
            let row = Row {
                seq: 1,
                time: Timestamp(0),
                received_at: None,
                id: String::new(),
                line: b"{}".to_vec(),
                keyset: Keyset { key: SortKey::None, time: 0, seq: 1, row: None },
            };
            let page = if is_first {
                Ok(Page { rows: vec![row], has_more: true, resume: None })
            } else {
                Err(ReadError::Deadline)
            };
            Box::pin(async { page })
        }

        fn get(&self, _: Key, _: Visibility) -> Reading<'_, Option<Row>> {
            unreachable!("an export reads pages")
        }

        fn count(&self, _: Filter, _: Visibility, _: CountLimit, _: Instant) -> Reading<'_, Total> {
            unreachable!("an export reads pages")
        }

        fn aggregate(&self, _: AggregateRequest, _: Visibility) -> Reading<'_, Vec<Group>> {
            unreachable!("an export reads pages")
        }

        fn names(&self) -> Reading<'_, Vec<String>> {
            unreachable!("an export reads pages")
        }

        fn bytes(&self) -> Option<u64> {
            None
        }
    }

    #[tokio::test]
    async fn an_export_that_cannot_go_on_breaks_off_and_has_no_count() {
        let who = Principal::new("ali", Role::User).expect("a name");
        let mut export = Export {
            place: Arc::new(OnePage(AtomicBool::new(false))),
            request: newest(Filter::default(), PAGE, 0),
            sees: Visibility::All { own: String::new(), preview: 100 },
            format: Format::Csv,
            columns: vec!["id".to_owned()],
            is_guarded: true,
            left: u64::MAX,
            count: 0,
            state: State::Begin,
            rows: FIRST_PAGE,
            _slot: Arc::<Exports>::default().open(&who).expect("it is the first"),
        };
        let first = export.page().await.expect("the first page");
        let (frame, step) = next((export, Some(first))).await.expect("the first rows");
        assert!(frame.expect("rows").is_data());
        let (frame, step) = next(step).await.expect("the end");
        assert_eq!(frame.expect_err("it breaks off").to_string(), ReadError::Deadline.to_string());
        assert!(next(step).await.is_none());
    }
}
