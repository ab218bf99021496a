-- The operations of a document review: uploads, analyses, feedback, exports.
CREATE TABLE operations (
    id            uuid PRIMARY KEY,
    timestamp     timestamptz NOT NULL,
    session_id    text,
    user_id       text,
    action        text NOT NULL,
    status        text,
    description   text,
    error         text,
    duration_ms   double precision,
    details       jsonb
);
CREATE INDEX ON operations (session_id, timestamp);
CREATE INDEX ON operations (timestamp);
CREATE INDEX ON operations (action);
CREATE INDEX ON operations (status);
