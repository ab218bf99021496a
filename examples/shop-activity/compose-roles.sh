#!/bin/sh
# Run once by the image of Postgres: the two roles, and what they may do.
set -eu
psql -v ON_ERROR_STOP=1 -U postgres -d shop -v w="$WRITER_PASSWORD" -v a="$ARCHIVER_PASSWORD" <<'SQL'
CREATE ROLE shop_writer LOGIN PASSWORD :'w';
CREATE ROLE shop_archiver LOGIN PASSWORD :'a';
SQL
psql -v ON_ERROR_STOP=1 -U postgres -d shop -v writer=shop_writer -v archiver=shop_archiver -f /roles.sql
