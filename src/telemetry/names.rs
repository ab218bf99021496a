//! Every metric the agent has, declared once with its help text.

pub const RECEIVED: (&str, &str) = ("weir_events_received_total", "Items that arrived at a source.");
pub const REFUSED: (&str, &str) = ("weir_events_refused_total", "Items a source refused; the sender was told.");
pub const ENTERED: (&str, &str) = ("weir_events_entered_total", "Events that entered a component.");
pub const MADE: (&str, &str) = ("weir_events_made_total", "Events a transform made beyond its input.");
pub const LEFT: (&str, &str) = ("weir_events_left_total", "Events that left a transform.");
pub const FILTERED: (&str, &str) = ("weir_events_filtered_total", "Events that ended on purpose, by reason.");
pub const ADDRESSED: (&str, &str) = ("weir_events_addressed_total", "Events meant for a sink.");
pub const DELIVERED: (&str, &str) = ("weir_events_delivered_total", "Events a sink has stored for good.");
pub const DEAD_LETTERED: (&str, &str) = ("weir_events_dead_lettered_total", "Events in the dead-letter queue.");
pub const DROPPED: (&str, &str) = ("weir_events_dropped_total", "Events given up by policy, by cause.");
pub const WAITING: (&str, &str) = ("weir_events_waiting", "Events a sink has still to end.");
pub const DUPLICATES: (&str, &str) = ("weir_duplicates_ignored_total", "Repeats that did no harm.");
pub const ALTERED: (&str, &str) = ("weir_values_altered_total", "Values a sink changed to make them fit its target.");
pub const BYTES_RECEIVED: (&str, &str) = ("weir_bytes_received_total", "Bytes that arrived at a source.");
pub const BYTES_LOST: (&str, &str) = ("weir_bytes_lost_total", "Bytes of files that went away before they were read.");
pub const TRUNCATIONS: (&str, &str) = ("weir_file_truncations_total", "Files that were cut back and began anew.");
pub const BYTES_DELIVERED: (&str, &str) = ("weir_bytes_delivered_total", "Bytes a sink has written.");
pub const ERRORS: (&str, &str) = ("weir_errors_total", "Failures, by class.");
pub const RETRIES: (&str, &str) = ("weir_retries_total", "Writes that were tried again.");
pub const REDACTIONS: (&str, &str) = ("weir_redactions_total", "Secrets replaced, by rule.");
pub const AUTH_FAILURES: (&str, &str) = ("weir_auth_failures_total", "Requests without valid credentials.");
pub const LAG_EVENTS: (&str, &str) = ("weir_cursor_lag_events", "Events between a sink's cursor and the newest.");
pub const LAG_SECONDS: (&str, &str) = ("weir_cursor_lag_seconds", "Age of the oldest event a sink has to end.");
pub const LAST_EVENT: (&str, &str) = ("weir_last_event_timestamp_seconds", "When a component last saw an event.");
pub const COMPONENT_STATE: (&str, &str) = ("weir_component_state", "1 for the state a component is in.");
pub const DELIVERY_SECONDS: (&str, &str) = ("weir_delivery_seconds", "How long a sink's writes took.");
pub const JOURNAL_BYTES: (&str, &str) = ("weir_journal_bytes", "Bytes the journal holds for its cursors.");
pub const JOURNAL_LIMIT: (&str, &str) = ("weir_journal_limit_bytes", "Bytes the journal may hold.");
pub const JOURNAL_SYNC_SECONDS: (&str, &str) = ("weir_journal_sync_seconds", "How long syncs of the journal took.");
pub const STORE_BYTES: (&str, &str) = ("weir_store_bytes", "Bytes of the searchable store.");
pub const STREAM_CLIENTS: (&str, &str) = ("weir_stream_clients", "Live clients connected.");
pub const MEMORY_BYTES: (&str, &str) = ("weir_memory_bytes", "Resident memory of the process.");
pub const CONFIG_RELOADS: (&str, &str) = ("weir_config_reloads_total", "Reloads, by result.");
pub const BUILD_INFO: (&str, &str) = ("weir_build_info", "1, with the version as a label.");
pub const PROCESS_CPU: (&str, &str) = ("process_cpu_seconds_total", "User and system CPU time of the process.");
pub const PROCESS_RSS: (&str, &str) = ("process_resident_memory_bytes", "Resident memory of the process.");
pub const PROCESS_START: (&str, &str) = ("process_start_time_seconds", "When the process started, Unix time.");
pub const PROCESS_OPEN_FDS: (&str, &str) = ("process_open_fds", "Open file descriptors.");
pub const PROCESS_MAX_FDS: (&str, &str) = ("process_max_fds", "Most file descriptors that may be open.");

/// Upper bounds of the buckets for durations, in seconds.
pub const SECONDS_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
