//! The Prometheus page of all components.

use std::collections::{BTreeMap, BTreeSet};

use super::accounting::{Accounting, ComponentKind, ComponentMetrics, ComponentState, Counts};
use super::histogram::Histogram;
use super::names::*;
use super::page::Page;
use super::text_format::Label;
use crate::units::Timestamp;

/// What the page shows beside the components.
#[derive(Clone, Debug, Default)]
pub struct ProcessContext {
    pub started: Timestamp,
    pub journal_bytes: u64,
    pub journal_limit_bytes: u64,
    pub journal_syncs: Histogram,
    pub journal_is_full: bool,
    /// Dead letters of each component that has some.
    pub dead_letters: BTreeMap<String, u64>,
    /// When the first certificate of each component ends that has some.
    pub certificates: BTreeMap<String, Timestamp>,
    pub dead_letter_bytes: u64,
    pub dead_letter_limit_bytes: u64,
    pub store_bytes: Option<u64>,
    pub stream_clients: u64,
    pub reloads_applied: u64,
    pub reloads_failed: u64,
}

/// The whole page of `/metrics` in Prometheus' text format. Each component is looked at once, so that its sums are
/// right at every scrape.
pub fn render(accounting: &Accounting, around: &ProcessContext) -> String {
    let mut page = Page::default();
    for metrics in accounting.all() {
        add_component(&mut page, &metrics);
    }
    add_dead_letters(&mut page, accounting, &around.dead_letters);
    add_context(&mut page, around);
    add_process(&mut page, around.started);
    page.text()
}

fn add_component(page: &mut Page, metrics: &ComponentMetrics) {
    let counts = metrics.snapshot();
    let labels = [
        Label::new("component", metrics.name.to_string()),
        Label::new("type", metrics.type_name),
        Label::new("kind", metrics.kind.as_str()),
    ];
    match metrics.kind {
        ComponentKind::Source => {
            page.add(RECEIVED, &labels, counts.received);
            page.add(REFUSED, &labels, counts.refused);
            page.add(ENTERED, &labels, counts.entered);
            page.add(BYTES_RECEIVED, &labels, counts.bytes_received);
            page.add(BYTES_LOST, &labels, counts.bytes_lost);
            page.add(TRUNCATIONS, &labels, counts.truncations);
            page.add(AUTH_FAILURES, &labels, counts.auth_failures);
            if metrics.type_name == "file" {
                for (reason, value) in with_zeros(&SKIPPED, &counts.files_skipped) {
                    page.add_with(FILES_SKIPPED, &labels, Label::new("reason", reason), value);
                }
            }
            for (reason, value) in with_zeros(&REFUSALS, &counts.requests_refused) {
                page.add_with(REQUESTS_REFUSED, &labels, Label::new("reason", reason), value);
            }
        }
        ComponentKind::Transform => {
            page.add(ENTERED, &labels, counts.entered);
            page.add(MADE, &labels, counts.made);
            page.add(LEFT, &labels, counts.left);
            if let Some((entries, bytes)) = counts.state {
                page.add(STATE_ENTRIES, &labels, entries);
                page.add(STATE_BYTES, &labels, bytes);
                page.add(STATE_EVICTED, &labels, counts.evicted);
                page.add(LAG_EVENTS, &labels, counts.lag_events);
                page.add(LAG_SECONDS, &labels, counts.lag_seconds);
            }
        }
        ComponentKind::Sink => {
            page.add(ADDRESSED, &labels, counts.addressed());
            page.add(DELIVERED, &labels, counts.delivered);
            page.add(BYTES_DELIVERED, &labels, counts.bytes_delivered);
            page.add(RETRIES, &labels, counts.retries);
            page.add(ALTERED, &labels, counts.altered);
            add_sink(page, metrics, &labels, &counts);
        }
    }
    page.add(DEAD_LETTERED, &labels, counts.dead_lettered);
    page.add(DUPLICATES, &labels, counts.duplicates);
    let classes: &[&'static str] = match metrics.kind {
        ComponentKind::Source => &["damaged", "journal", "proxy", "tls"],
        ComponentKind::Transform => &[],
        ComponentKind::Sink => &["transient", "configuration", "poison"],
    };
    for (class, value) in with_zeros(classes, &counts.errors) {
        page.add_with(ERRORS, &labels, Label::new("class", class), value);
    }
    let is_sink = metrics.kind == ComponentKind::Sink;
    let reasons: &[&'static str] = if is_sink || metrics.type_name == "filter" { &["where"] } else { &[] };
    for (reason, value) in with_zeros(reasons, &counts.filtered) {
        page.add_with(FILTERED, &labels, Label::new("reason", reason), value);
    }
    for (cause, value) in with_zeros(if is_sink { &DROPS } else { &[] }, &counts.dropped) {
        page.add_with(DROPPED, &labels, Label::new("cause", cause), value);
    }
    for (rule, value) in &counts.redactions {
        page.add_with(REDACTIONS, &labels, Label::new("rule", rule.clone()), *value);
    }
    for family in counts.measured.0.values() {
        page.add_family(family, &metrics.name);
    }
    if let Some(last) = counts.last_event {
        page.add(LAST_EVENT, &labels, unix_seconds(last));
    }
    let now = metrics.health().state;
    for state in ComponentState::ALL {
        let label = Label::new("state", state.as_str());
        page.add_with(COMPONENT_STATE, &labels, label, u8::from(state == now));
    }
}

/// Reasons for which a source refuses a request.
const REFUSALS: [&str; 3] = ["full", "too_large", "unavailable"];

/// Causes for which a sink's events are dropped.
const DROPS: [&str; 3] = ["buffer", "damage", "journal"];

/// Reasons for which a file is not read.
const SKIPPED: [&str; 3] = ["binary", "damaged", "format"];

/// The counts, with a zero for each of these that was never counted: a series that begins with its first fault hides it
/// from whoever looks at increases.
fn with_zeros(names: &[&'static str], counts: &BTreeMap<&'static str, u64>) -> BTreeMap<&'static str, u64> {
    names.iter().map(|name| (*name, 0)).chain(counts.iter().map(|(name, count)| (*name, *count))).collect()
}

fn add_sink(page: &mut Page, metrics: &ComponentMetrics, labels: &[Label], counts: &Counts) {
    page.add(WAITING, labels, counts.waiting);
    page.add(LAG_EVENTS, labels, counts.lag_events);
    page.add(LAG_SECONDS, labels, counts.lag_seconds);
    page.add_histogram(DELIVERY_SECONDS, labels, &metrics.delivery_times());
}

/// How many dead letters wait for a decision: a number for each component, also for one that is gone.
fn add_dead_letters(page: &mut Page, accounting: &Accounting, dead_letters: &BTreeMap<String, u64>) {
    let components = accounting.all();
    let names: BTreeSet<&str> =
        components.iter().map(|one| &*one.name).chain(dead_letters.keys().map(String::as_str)).collect();
    for name in names {
        let label = [Label::new("component", name.to_owned())];
        page.add(DEAD_LETTERS, &label, dead_letters.get(name).copied().unwrap_or(0));
    }
}

fn add_context(page: &mut Page, around: &ProcessContext) {
    for (component, end) in &around.certificates {
        page.add(CERTIFICATE_EXPIRY, &[Label::new("component", component.clone())], unix_seconds(*end));
    }
    page.add(JOURNAL_BYTES, &[], around.journal_bytes);
    page.add(JOURNAL_LIMIT, &[], around.journal_limit_bytes);
    page.add(JOURNAL_FULL, &[], u8::from(around.journal_is_full));
    page.add(DEAD_LETTER_BYTES, &[], around.dead_letter_bytes);
    page.add(DEAD_LETTER_LIMIT, &[], around.dead_letter_limit_bytes);
    page.add_histogram(JOURNAL_SYNC_SECONDS, &[], &around.journal_syncs);
    if let Some(bytes) = around.store_bytes {
        page.add(STORE_BYTES, &[], bytes);
    }
    page.add(STREAM_CLIENTS, &[], around.stream_clients);
    page.add_with(CONFIG_RELOADS, &[], Label::new("result", "applied"), around.reloads_applied);
    page.add_with(CONFIG_RELOADS, &[], Label::new("result", "failed"), around.reloads_failed);
    page.add(BUILD_INFO, &[Label::new("version", env!("CARGO_PKG_VERSION"))], 1);
}

fn add_process(page: &mut Page, started: Timestamp) {
    let process = Process::look();
    page.add(MEMORY_BYTES, &[], process.resident_bytes);
    page.add(PROCESS_RSS, &[], process.resident_bytes);
    page.add(PROCESS_VIRTUAL, &[], process.virtual_bytes);
    page.add(PROCESS_CPU, &[], process.cpu_seconds);
    page.add(PROCESS_START, &[], unix_seconds(started));
    page.add(PROCESS_OPEN_FDS, &[], process.open_files);
    page.add(PROCESS_MAX_FDS, &[], process.max_files);
}

fn unix_seconds(time: Timestamp) -> f64 {
    time.0 as f64 / 1e6
}

/// What the kernel says about this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub cpu_seconds: f64,
    pub open_files: u64,
    pub max_files: u64,
}

impl Process {
    /// Zeros where the kernel does not tell.
    pub fn look() -> Process {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let bytes = |nth: usize| {
            let pages: u64 = statm.split(' ').nth(nth).and_then(|n| n.parse().ok()).unwrap_or(0);
            pages * rustix::param::page_size() as u64
        };
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name in parentheses may hold spaces, so fields are counted behind it.
        let fields: Vec<u64> =
            stat.rsplit(") ").next().unwrap_or("").split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        let ticks = fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Process {
            resident_bytes: bytes(1),
            virtual_bytes: bytes(0),
            cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
            open_files: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            max_files: limit.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_of_a_sink_balance_on_the_page() {
        let accounting = Accounting::default();
        let sink = accounting.open(&"out".into(), ComponentKind::Sink, "file");
        sink.update(|c| {
            c.delivered = 5;
            c.dead_lettered = 1;
            c.waiting = 2;
            *c.filtered.entry("where").or_default() += 3;
        });
        sink.enter(ComponentState::Running);
        let text = render(&accounting, &ProcessContext::default());
        let labels = r#"{component="out",type="file",kind="sink""#;
        for line in [
            format!("weir_events_addressed_total{labels}}} 11"),
            format!("weir_events_delivered_total{labels}}} 5"),
            format!(r#"weir_events_filtered_total{labels},reason="where"}} 3"#),
            format!("weir_events_waiting{labels}}} 2"),
            format!(r#"weir_component_state{labels},state="running"}} 1"#),
            format!(r#"weir_component_state{labels},state="held"}} 0"#),
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("# HELP weir_events_addressed_total Events addressed to a sink."));
    }

    #[test]
    fn the_process_knows_its_own_size() {
        let process = Process::look();
        assert!(process.resident_bytes > 0 && process.virtual_bytes > process.resident_bytes);
        assert!(process.open_files > 0 && process.max_files > 0);
    }
}
