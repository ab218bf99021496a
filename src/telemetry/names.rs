//! Every metric of the agent, declared once with kind and help text.

/// The description of a metric for Prometheus.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    /// In Prometheus' words.
    pub kind: &'static str,
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "counter", help }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "gauge", help }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "histogram", help }
}

pub const RECEIVED: Metric = counter("weir_events_received_total", "Items received by a source.");
pub const REFUSED: Metric = counter("weir_events_refused_total", "Items that a source refused.");
pub const ENTERED: Metric = counter("weir_events_entered_total", "Events that entered a component.");
pub const MADE: Metric = counter("weir_events_made_total", "Events a transform made beyond its input.");
pub const LEFT: Metric = counter("weir_events_left_total", "Events that left a transform.");
pub const FILTERED: Metric = counter("weir_events_filtered_total", "Events filtered, by reason.");
pub const ADDRESSED: Metric = counter("weir_events_addressed_total", "Events addressed to a sink.");
pub const DELIVERED: Metric = counter("weir_events_delivered_total", "Events delivered by a sink.");
pub const DEAD_LETTERED: Metric = counter("weir_events_dead_lettered_total", "Events in the dead-letter queue.");
pub const DROPPED: Metric = counter("weir_events_dropped_total", "Events dropped by policy, by cause.");
pub const WAITING: Metric = gauge("weir_events_waiting", "Events not yet delivered.");
pub const DUPLICATES: Metric = counter("weir_duplicates_ignored_total", "Repeated events that were ignored.");
pub const ALTERED: Metric = counter("weir_values_altered_total", "Values a sink changed to make them fit its target.");
pub const BYTES_RECEIVED: Metric = counter("weir_bytes_received_total", "Bytes received by a source.");
pub const BYTES_LOST: Metric =
    counter("weir_bytes_lost_total", "Bytes of files that were removed or damaged before they could be read.");
pub const TRUNCATIONS: Metric = counter("weir_file_truncations_total", "Files that were truncated while being read.");
pub const FILES_SKIPPED: Metric =
    counter("weir_files_skipped_total", "Files skipped because of their content, by reason.");
pub const BYTES_DELIVERED: Metric = counter("weir_bytes_delivered_total", "Bytes a sink has written.");
pub const ERRORS: Metric = counter("weir_errors_total", "Failures, by class.");
pub const RETRIES: Metric = counter("weir_retries_total", "Writes that were retried.");
pub const REDACTIONS: Metric = counter("weir_redactions_total", "Secrets redacted, by rule.");
pub const REQUESTS_REFUSED: Metric = counter("weir_requests_refused_total", "Requests answered with 413, 429 or 503.");
pub const AUTH_FAILURES: Metric = counter("weir_auth_failures_total", "Requests without valid credentials.");
pub const STATE_ENTRIES: Metric = gauge("weir_state_entries", "Entries in the state of a stateful transform.");
pub const STATE_BYTES: Metric = gauge("weir_state_bytes", "Bytes of the state of a stateful transform.");
pub const STATE_EVICTED: Metric = counter("weir_state_evicted_total", "State entries evicted at the limit.");
pub const LAG_EVENTS: Metric = gauge("weir_cursor_lag_events", "Events between a cursor and the newest.");
pub const LAG_SECONDS: Metric = gauge("weir_cursor_lag_seconds", "Age of the oldest event a cursor has not finished.");
pub const LAST_EVENT: Metric = gauge("weir_last_event_timestamp_seconds", "When a component last saw an event.");
pub const COMPONENT_STATE: Metric = gauge("weir_component_state", "1 for the state a component is in.");
pub const DELIVERY_SECONDS: Metric = histogram("weir_delivery_seconds", "Duration of a sink's writes.");
pub const JOURNAL_BYTES: Metric = gauge("weir_journal_bytes", "Bytes the journal holds for its cursors.");
pub const JOURNAL_LIMIT: Metric = gauge("weir_journal_limit_bytes", "Maximum size of the journal.");
pub const JOURNAL_SYNC_SECONDS: Metric = histogram("weir_journal_sync_seconds", "Duration of journal syncs.");
pub const JOURNAL_FULL: Metric = gauge("weir_journal_full", "1 while the journal takes no more events.");
pub const CERTIFICATE_EXPIRY: Metric =
    gauge("weir_certificate_expiry_timestamp_seconds", "When a component's first certificate expires, Unix time.");
pub const DEAD_LETTERS: Metric = gauge("weir_dead_letters", "Dead letters in the queue.");
pub const DEAD_LETTER_BYTES: Metric = gauge("weir_dead_letter_bytes", "Bytes of the dead-letter queue.");
pub const DEAD_LETTER_LIMIT: Metric = gauge("weir_dead_letter_limit_bytes", "Maximum size of the dead-letter queue.");
pub const STORE_BYTES: Metric = gauge("weir_store_bytes", "Bytes of the searchable store.");
pub const STREAM_CLIENTS: Metric = gauge("weir_stream_clients", "Live clients connected.");
pub const MEMORY_BYTES: Metric = gauge("weir_memory_bytes", "Resident memory of the process.");
pub const CONFIG_RELOADS: Metric = counter("weir_config_reloads_total", "Reloads, by result.");
pub const BUILD_INFO: Metric = gauge("weir_build_info", "1, with the version as a label.");
pub const PROCESS_CPU: Metric = counter("process_cpu_seconds_total", "User and system CPU time of the process.");
pub const PROCESS_RSS: Metric = gauge("process_resident_memory_bytes", "Resident memory of the process.");
pub const PROCESS_VIRTUAL: Metric = gauge("process_virtual_memory_bytes", "Virtual memory of the process.");
pub const PROCESS_START: Metric = gauge("process_start_time_seconds", "When the process started, Unix time.");
pub const PROCESS_OPEN_FDS: Metric = gauge("process_open_fds", "Open file descriptors.");
pub const PROCESS_MAX_FDS: Metric = gauge("process_max_fds", "Maximum number of open file descriptors.");
