//! Names of fields: the canonical ones have fixed numbers, all others are numbered per batch.

/// The number of a field's name: below [`KNOWN`]'s length it means the same in every batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NameId(pub u32);

macro_rules! known {
    ($($constant:ident $text:literal)*) => {
        /// Every canonical name, in the order of its number.
        pub const KNOWN: &[&str] = &[$($text),*];
        known!(@number 0u32; $($constant)*);
    };
    (@number $n:expr; $constant:ident $($rest:ident)*) => {
        pub const $constant: NameId = NameId($n);
        known!(@number $n + 1; $($rest)*);
    };
    (@number $n:expr;) => {};
}

known! {
    ID "id"
    TIMESTAMP "timestamp"
    RECEIVED_AT "received_at"
    EVENT_TYPE "event_type"
    STATUS "status"
    USER_ID "user_id"
    USER_EMAIL "user_email"
    USER_DISPLAY_NAME "user_display_name"
    SESSION_ID "session_id"
    OPERATION_ID "operation_id"
    DESCRIPTION "description"
    DURATION_MS "duration_ms"
    CODE "code"
    CELL_NUMBER "cell_number"
    LANGUAGE "language"
    NOTEBOOK "notebook"
    KERNEL_ID "kernel_id"
    ERROR_TYPE "error_type"
    ERROR_MESSAGE "error_message"
    ERROR_TRACE "error_trace"
    ENTITY_TYPE "entity_type"
    ENTITY_ID "entity_id"
    TARGET_USER_ID "target_user_id"
    ENDPOINT "endpoint"
    HTTP_METHOD "http_method"
    STATUS_CODE "status_code"
    DB_QUERY_COUNT "db_query_count"
    IP_ADDRESS "ip_address"
    PEER_IP "peer_ip"
    USER_AGENT "user_agent"
    IS_ADMIN "is_admin"
    HOST "host"
    AGENT "agent"
    SOURCE "source"
    REPORTED_BY "reported_by"
    METADATA "metadata"
    CAPTURE "capture"
    TRUNCATED "truncated"
    REDACTIONS "redactions"
    SEQ "seq"
    ACTION "action"
    ACTION_TYPE "action_type"
    TYPE "type"
    USERNAME "username"
    USER "user"
    USER_ID_CAMEL "userId"
    EXECUTION_TIME_MS "execution_time_ms"
    DURATION "duration"
    DURATION_SECONDS "duration_seconds"
    DURATION_S "duration_s"
    MESSAGE "message"
    MSG "msg"
    DETAILS "details"
    SUCCESS "success"
    RESOURCE_TYPE "resource_type"
    TARGET_RESOURCE_ID "target_resource_id"
    RESOURCE_ID "resource_id"
    ERROR "error"
    TIME "time"
    TS "ts"
    AT_TIMESTAMP "@timestamp"
}

/// The fixed number of a canonical name or alias.
pub fn known(text: &[u8]) -> Option<NameId> {
    KNOWN.iter().position(|name| name.as_bytes() == text).map(|at| NameId(at as u32))
}
