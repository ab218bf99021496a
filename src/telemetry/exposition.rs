//! What Prometheus reads: the ledgers copied into a recorder of our own at each scrape, one look per component.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use super::books::{Books, Counts, Kind, Ledger, State};
use super::names::*;

/// Renders `/metrics`. There is no global recorder; this one belongs to whoever serves the page.
pub struct Exposition {
    recorder: PrometheusRecorder,
    /// Held while values are copied and rendered, so that a scrape sees one look of each component.
    scrape: Mutex<()>,
    started: f64,
}

/// What the exposition shows beside the ledgers.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub journal_bytes: u64,
    pub journal_limit_bytes: u64,
    /// Seconds of each sync since the last scrape.
    pub sync_seconds: Vec<f64>,
    pub store_bytes: Option<u64>,
    pub stream_clients: u64,
    pub reloads_applied: u64,
    pub reloads_failed: u64,
}

/// The page without components that a reload has removed, which the recorder remembers for ever.
fn without_the_departed(page: &str, ledgers: &[Arc<Ledger>]) -> String {
    let present: HashSet<(&str, &str, &str)> =
        ledgers.iter().map(|ledger| (&*ledger.name, ledger.type_name, ledger.kind.as_str())).collect();
    let value = |line: &'_ str, label: &str| -> Option<(usize, usize)> {
        let start = line.find(label)? + label.len();
        Some((start, start + line[start..].find('"')?))
    };
    let stays = |line: &&str| {
        let Some(name) = value(line, "{component=\"") else { return true };
        let (Some(type_name), Some(kind)) = (value(line, ",type=\""), value(line, ",kind=\"")) else { return true };
        let text = |(start, end): (usize, usize)| &line[start..end];
        present.contains(&(text(name), text(type_name), text(kind)))
    };
    page.split_inclusive('\n').filter(|line| line.starts_with('#') || stays(line)).collect()
}

const METADATA: Metadata<'static> = Metadata::new("weir", Level::INFO, None);

impl Default for Exposition {
    fn default() -> Exposition {
        Exposition::new()
    }
}

impl Exposition {
    pub fn new() -> Exposition {
        let recorder = PrometheusBuilder::new()
            .set_buckets(SECONDS_BUCKETS)
            .expect("there is at least one bucket")
            .build_recorder();
        let exposition = Exposition { recorder, scrape: Mutex::default(), started: unix_seconds() };
        exposition.describe();
        exposition
    }

    /// The whole page in Prometheus' text format.
    pub fn render(&self, books: &Books, around: &Surroundings) -> String {
        let _one_at_a_time = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        let ledgers = books.all();
        for ledger in &ledgers {
            self.copy_ledger(ledger);
        }
        self.copy_surroundings(around);
        self.copy_process();
        let handle = self.recorder.handle();
        handle.run_upkeep();
        without_the_departed(&handle.render(), &ledgers)
    }

    fn describe(&self) {
        for (name, help) in [
            RECEIVED,
            REFUSED,
            ENTERED,
            MADE,
            LEFT,
            FILTERED,
            ADDRESSED,
            DELIVERED,
            DEAD_LETTERED,
            DROPPED,
            DUPLICATES,
            ALTERED,
            BYTES_RECEIVED,
            BYTES_LOST,
            TRUNCATIONS,
            BYTES_DELIVERED,
            ERRORS,
            RETRIES,
            REDACTIONS,
            AUTH_FAILURES,
            CONFIG_RELOADS,
        ] {
            self.recorder.describe_counter(KeyName::from_const_str(name), None, help.into());
        }
        for (name, help) in [
            WAITING,
            LAG_EVENTS,
            LAG_SECONDS,
            LAST_EVENT,
            COMPONENT_STATE,
            JOURNAL_BYTES,
            JOURNAL_LIMIT,
            STORE_BYTES,
            STREAM_CLIENTS,
            MEMORY_BYTES,
            BUILD_INFO,
            PROCESS_CPU,
            PROCESS_RSS,
            PROCESS_START,
            PROCESS_OPEN_FDS,
            PROCESS_MAX_FDS,
        ] {
            self.recorder.describe_gauge(KeyName::from_const_str(name), None, help.into());
        }
        for (name, help) in [DELIVERY_SECONDS, JOURNAL_SYNC_SECONDS] {
            self.recorder.describe_histogram(KeyName::from_const_str(name), None, help.into());
        }
    }

    fn copy_ledger(&self, ledger: &Ledger) {
        let counts = ledger.snapshot();
        let labels = [
            Label::new("component", ledger.name.to_string()),
            Label::new("type", ledger.type_name),
            Label::new("kind", ledger.kind.as_str()),
        ];
        let counter =
            |name: (&'static str, _), more: Option<Label>, value: u64| self.counter(name, &labels, more, value);
        match ledger.kind {
            Kind::Source => {
                counter(RECEIVED, None, counts.received);
                counter(REFUSED, None, counts.refused);
                counter(ENTERED, None, counts.entered);
                counter(BYTES_RECEIVED, None, counts.bytes_received);
                counter(BYTES_LOST, None, counts.bytes_lost);
                counter(TRUNCATIONS, None, counts.truncations);
                counter(AUTH_FAILURES, None, counts.auth_failures);
            }
            Kind::Transform => {
                counter(ENTERED, None, counts.entered);
                counter(MADE, None, counts.made);
                counter(LEFT, None, counts.left);
            }
            Kind::Sink => {
                counter(ADDRESSED, None, counts.addressed());
                counter(DELIVERED, None, counts.delivered);
                counter(BYTES_DELIVERED, None, counts.bytes_delivered);
                counter(RETRIES, None, counts.retries);
                counter(ALTERED, None, counts.altered);
                self.copy_sink_gauges(ledger, &labels, &counts);
            }
        }
        counter(DEAD_LETTERED, None, counts.dead_lettered);
        counter(DUPLICATES, None, counts.duplicates);
        for (metric, label, values) in [
            (FILTERED, "reason", &counts.filtered),
            (DROPPED, "cause", &counts.dropped),
            (ERRORS, "class", &counts.errors),
        ] {
            for (word, value) in values {
                counter(metric, Some(Label::new(label, *word)), *value);
            }
        }
        for (rule, value) in &counts.redactions {
            counter(REDACTIONS, Some(Label::new("rule", rule.clone())), *value);
        }
        if let Some(last) = counts.last_event {
            self.gauge(LAST_EVENT, &labels, None, last.0 as f64 / 1e6);
        }
        let now = ledger.health().state;
        for state in State::ALL {
            let label = Label::new("state", state.as_str());
            self.gauge(COMPONENT_STATE, &labels, Some(label), f64::from(u8::from(state == now)));
        }
    }

    fn copy_sink_gauges(&self, ledger: &Ledger, labels: &[Label], counts: &Counts) {
        self.gauge(WAITING, labels, None, counts.waiting as f64);
        self.gauge(LAG_EVENTS, labels, None, counts.lag_events as f64);
        self.gauge(LAG_SECONDS, labels, None, counts.lag_seconds);
        let histogram = self.recorder.register_histogram(&key(DELIVERY_SECONDS, labels, None), &METADATA);
        ledger.take_delivery_times().into_iter().for_each(|seconds| histogram.record(seconds));
    }

    fn copy_surroundings(&self, around: &Surroundings) {
        self.gauge(JOURNAL_BYTES, &[], None, around.journal_bytes as f64);
        self.gauge(JOURNAL_LIMIT, &[], None, around.journal_limit_bytes as f64);
        let syncs = self.recorder.register_histogram(&key(JOURNAL_SYNC_SECONDS, &[], None), &METADATA);
        around.sync_seconds.iter().for_each(|seconds| syncs.record(*seconds));
        if let Some(bytes) = around.store_bytes {
            self.gauge(STORE_BYTES, &[], None, bytes as f64);
        }
        self.gauge(STREAM_CLIENTS, &[], None, around.stream_clients as f64);
        self.counter(CONFIG_RELOADS, &[], Some(Label::new("result", "applied")), around.reloads_applied);
        self.counter(CONFIG_RELOADS, &[], Some(Label::new("result", "failed")), around.reloads_failed);
        self.gauge(BUILD_INFO, &[Label::new("version", env!("CARGO_PKG_VERSION"))], None, 1.0);
    }

    fn copy_process(&self) {
        let process = Process::look();
        self.gauge(MEMORY_BYTES, &[], None, process.resident_bytes as f64);
        self.gauge(PROCESS_RSS, &[], None, process.resident_bytes as f64);
        self.gauge(PROCESS_CPU, &[], None, process.cpu_seconds);
        self.gauge(PROCESS_START, &[], None, self.started);
        self.gauge(PROCESS_OPEN_FDS, &[], None, process.open_files as f64);
        self.gauge(PROCESS_MAX_FDS, &[], None, process.max_files as f64);
    }

    fn counter(&self, name: (&'static str, &str), labels: &[Label], more: Option<Label>, value: u64) {
        self.recorder.register_counter(&key(name, labels, more), &METADATA).absolute(value);
    }

    fn gauge(&self, name: (&'static str, &str), labels: &[Label], more: Option<Label>, value: f64) {
        self.recorder.register_gauge(&key(name, labels, more), &METADATA).set(value);
    }
}

fn key(name: (&'static str, &str), labels: &[Label], more: Option<Label>) -> Key {
    Key::from_parts(name.0, labels.iter().cloned().chain(more).collect::<Vec<_>>())
}

fn unix_seconds() -> f64 {
    crate::units::Timestamp::now().0 as f64 / 1e6
}

/// What the kernel says about this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    pub resident_bytes: u64,
    pub cpu_seconds: f64,
    pub open_files: u64,
    pub max_files: u64,
}

impl Process {
    /// Zeros where the kernel does not tell.
    pub fn look() -> Process {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name in parentheses may hold spaces, so fields are counted behind it.
        let fields: Vec<u64> =
            stat.rsplit(") ").next().unwrap_or("").split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        let ticks = fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Process {
            resident_bytes: pages * rustix::param::page_size() as u64,
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
        let (books, page) = (Books::default(), Exposition::new());
        let sink = books.open(&"out".into(), Kind::Sink, "file");
        sink.update(|c| {
            c.delivered = 5;
            c.dead_lettered = 1;
            c.waiting = 2;
            *c.filtered.entry("where").or_default() += 3;
        });
        sink.enter(State::Running);
        let text = page.render(&books, &Surroundings::default());
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
        assert!(text.contains("# HELP weir_events_addressed_total Events meant for a sink."));
    }

    #[test]
    fn the_process_knows_its_own_size() {
        let process = Process::look();
        assert!(process.resident_bytes > 0 && process.open_files > 0 && process.max_files > 0);
    }
}
