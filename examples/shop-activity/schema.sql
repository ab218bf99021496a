-- The activity table of a shop: what happened to orders, customers, products, shipments and payments.
CREATE TABLE activity_logs (
    id          serial PRIMARY KEY,
    timestamp   timestamp DEFAULT CURRENT_TIMESTAMP,
    event_type  varchar(50) NOT NULL,
    entity_type varchar(50) NOT NULL,
    entity_id   varchar(100),
    user_id     varchar(100),
    description text,
    metadata    jsonb,
    ip_address  inet,
    user_agent  text,
    created_at  timestamp DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX ON activity_logs (timestamp);
CREATE INDEX ON activity_logs (event_type);
CREATE INDEX ON activity_logs (entity_type);
CREATE INDEX ON activity_logs (entity_id);
CREATE INDEX ON activity_logs (user_id);
CREATE INDEX ON activity_logs USING gin (metadata);

-- Rows older than 90 days go here.
CREATE TABLE activity_logs_archive (LIKE activity_logs);

-- Recent activity, as the shop's own pages read it.
CREATE VIEW recent_activity AS
    SELECT * FROM activity_logs WHERE timestamp > CURRENT_TIMESTAMP - interval '24 hours' ORDER BY timestamp DESC;
