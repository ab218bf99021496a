-- The activity table of a chat product: one row for each request and each act of an administrator.
CREATE TABLE activity_logs (
    id                 uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    timestamp          timestamptz NOT NULL DEFAULT now(),
    user_id            text NOT NULL,
    action_type        varchar(50) NOT NULL,
    endpoint           varchar(255) NOT NULL,
    http_method        varchar(10) NOT NULL,
    status_code        integer NOT NULL,
    success            boolean NOT NULL,
    error_message      text,
    error_type         varchar(100),
    target_user_id     text,
    target_resource_id varchar(255),
    resource_type      varchar(50),
    details            jsonb,
    duration_ms        integer,
    db_query_count     integer,
    ip_address         inet,
    user_agent         text,
    is_admin           boolean NOT NULL DEFAULT false,
    created_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON activity_logs (user_id);
CREATE INDEX ON activity_logs (timestamp DESC);
CREATE INDEX ON activity_logs (action_type);
CREATE INDEX ON activity_logs (endpoint);
CREATE INDEX ON activity_logs (status_code);
CREATE INDEX ON activity_logs (target_user_id);
CREATE INDEX ON activity_logs (success);
CREATE INDEX ON activity_logs (user_id, timestamp DESC);
CREATE INDEX ON activity_logs (is_admin, timestamp DESC);

-- Who the users are: the API joins their e-mail address and name (`user_id = users.id::text`).
CREATE TABLE users (
    id           uuid PRIMARY KEY,
    email        text NOT NULL,
    display_name text NOT NULL
);
CREATE TABLE admin_profiles (user_id uuid PRIMARY KEY REFERENCES users (id));
INSERT INTO users VALUES
    ('00000000-0000-4000-8000-000000000001', 'ali@example.org', 'Ali'),
    ('00000000-0000-4000-8000-000000000002', 'sara@example.org', 'سارا'),
    ('00000000-0000-4000-8000-0000000000a1', 'support@example.org', 'Support'),
    ('00000000-0000-4000-8000-0000000000a2', 'chief@example.org', 'Chief');
INSERT INTO admin_profiles VALUES
    ('00000000-0000-4000-8000-0000000000a1'), ('00000000-0000-4000-8000-0000000000a2');
