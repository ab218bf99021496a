-- The table of a notebook platform: one row for each code execution.
CREATE TABLE code_execution_logs (
    id                serial PRIMARY KEY,
    timestamp         timestamp DEFAULT now(),
    username          text,
    session_id        text,
    cell_number       integer,
    code              text,
    execution_time_ms integer,
    status            text,
    error_message     text
);
CREATE INDEX ON code_execution_logs (username);
CREATE INDEX ON code_execution_logs (timestamp);
CREATE INDEX ON code_execution_logs (status);
CREATE INDEX ON code_execution_logs (username, timestamp DESC);
