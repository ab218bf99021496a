-- Beside schema.sql, run with psql -v writer=shop_writer -v archiver=shop_archiver: who may do what. The column lets
-- Weir store each event once although the key counts up by itself; it could not add it by itself with these rights.
ALTER TABLE activity_logs ADD COLUMN event_id uuid UNIQUE;
ALTER TABLE activity_logs_archive ADD COLUMN event_id uuid UNIQUE;
GRANT INSERT, SELECT (event_id) ON activity_logs TO :"writer";
GRANT USAGE ON SEQUENCE activity_logs_id_seq TO :"writer";
GRANT SELECT, UPDATE, DELETE ON activity_logs TO :"archiver";
GRANT INSERT ON activity_logs_archive TO :"archiver";
