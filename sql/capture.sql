-- The table of captures is the user's.
\set VERBOSITY terse
SET timezone = 'UTC';
DO $$ BEGIN IF to_regclass('tms.capture') IS NULL THEN PERFORM tms.create_capture_table(); END IF; END $$;
BEGIN;

\set VERBOSITY default
\set SHOW_CONTEXT never
SAVEPOINT s;
SELECT tms.create_capture_table();
ROLLBACK TO s;
\set VERBOSITY terse

-- Columns, types, indexes.
SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull AS required,
	(SELECT collname FROM pg_collation WHERE oid = attcollation AND attcollation <> 0) AS collation, col_description(attrelid, attnum) IS NOT NULL AS comment
FROM pg_attribute WHERE attrelid = 'tms.capture'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'tms.capture'::regclass ORDER BY 1;
SELECT obj_description('tms.capture'::regclass), obj_description('tms.storage_path'::regtype) IS NOT NULL AS domain_comment;

-- A new one: its days, and what lies around them.
DROP TABLE tms.capture;
SELECT tms.create_capture_table(first_day => current_date - 3);
SELECT count(*), min(since) FILTER (WHERE isfinite(since)) = current_date - 3 AS first, max(until) FILTER (WHERE isfinite(until) AND since < '2100-01-01') = current_date + 15 AS last
FROM tms.capture_partitions();
SELECT partition, since = '-infinity' AS lowest, until = 'infinity' AS highest FROM tms.capture_partitions()
WHERE NOT isfinite(since) OR NOT isfinite(until);
INSERT INTO tms.capture (captured_at, capture_id, device_id, path) VALUES (now(), 1, 1, 'a/b.jpg'), ('2001-02-03', 2, 1, 'c'), ('2222-02-03', 3, 1, NULL);
SELECT tableoid::regclass, capture_id FROM tms.capture WHERE capture_id > 1 ORDER BY capture_id;
SAVEPOINT s;
INSERT INTO tms.capture (captured_at, capture_id, device_id, path) VALUES (now(), 4, 1, '../x');
ROLLBACK TO s;
SELECT tms.create_capture_table('1999-12-31');
ROLLBACK TO s;
DROP TABLE tms.capture;
SAVEPOINT s;
SELECT tms.create_capture_table('1999-12-31');
ROLLBACK TO s;
SELECT tms.create_capture_table(NULL);
ROLLBACK TO s;
SELECT tms.create_capture_table('infinity');
ROLLBACK TO s;

-- Dropping the extension takes neither table nor column nor row away.
SELECT tms.create_capture_table();
INSERT INTO tms.capture (captured_at, capture_id, device_id, path) VALUES (now(), 1, 1, 'a/b.jpg');
SELECT count(*) AS depends_on_extension FROM pg_depend
WHERE classid IN ('pg_class'::regclass, 'pg_type'::regclass) AND objid IN ('tms.capture'::regclass, 'tms.storage_path'::regtype)
	AND refclassid IN ('pg_extension'::regclass, 'pg_proc'::regclass);
SET client_min_messages = warning;
SAVEPOINT s;
DROP EXTENSION tms;
ROLLBACK TO s;
DROP EXTENSION tms CASCADE;
RESET client_min_messages;
SELECT captured_at = now() AS same, capture_id, path, pg_typeof(path) FROM tms.capture;
SELECT count(*) FROM pg_attribute WHERE attrelid = 'tms.capture'::regclass AND attnum > 0 AND NOT attisdropped;
CREATE EXTENSION tms;
SELECT tms.partition_ensure(current_date + 20) AS goes_on;
ROLLBACK;

-- Not everybody makes it.
CREATE ROLE regress_capture;
SET ROLE regress_capture;
SELECT tms.create_capture_table();
RESET ROLE;
DROP ROLE regress_capture;
