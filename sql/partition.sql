-- Days of tms.capture: made when needed, listed, dropped. All of it is rolled back.
\set VERBOSITY terse
SET timezone = 'Asia/Shanghai';  -- days are those of UTC, whatever the session's zone
SET datestyle = 'SQL, DMY';
BEGIN;
DROP TABLE IF EXISTS tms.capture;
-- Days from this one on; and what a partition is called.
CREATE FUNCTION pg_temp.day(n integer) RETURNS date LANGUAGE sql AS $$ SELECT (now() AT TIME ZONE 'UTC')::date + n $$;
CREATE FUNCTION pg_temp.start(n integer) RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_temp.day(n)::timestamp AT TIME ZONE 'UTC' $$;
CREATE FUNCTION pg_temp.name(n integer) RETURNS text LANGUAGE sql AS $$ SELECT format('tms.capture_%s', to_char(pg_temp.day(n), 'YYYYMMDD')) $$;
SELECT tms.create_capture_table(pg_temp.day(-3));
SELECT min(until) = pg_temp.start(-3) AS first_day, bool_and(partition::text = pg_temp.name((since AT TIME ZONE 'UTC')::date - pg_temp.day(0))) FILTER (WHERE isfinite(since) AND isfinite(until)) AS names
FROM tms.capture_partitions();

-- A day far ahead: the table is named by its day, has the indexes, and is made once.
SELECT tms.partition_ensure(pg_temp.day(100)), tms.partition_ensure(pg_temp.day(100));
SELECT partition::text = pg_temp.name(100) AS name, since = pg_temp.start(100) AS since, until - since = '1 day' AS whole,
	(SELECT count(*) FROM pg_index WHERE indrelid = partition) AS indexes,
	(SELECT count(*) FROM pg_constraint WHERE conrelid = partition AND contype = 'c') AS checks
FROM tms.capture_partitions() WHERE since > now() + interval '50 days' AND isfinite(until);

-- Days that are covered already: below the first one, and above 2100.
SELECT tms.partition_ensure(pg_temp.day(-4)), tms.partition_ensure('1970-01-01'), tms.partition_ensure('2100-01-01'), tms.partition_ensure('2525-01-01');
SAVEPOINT s;
SELECT tms.partition_ensure('infinity');
ROLLBACK TO s;

-- A table that has the name of a day but is no partition is in nobody's way.
SELECT pg_temp.name(100) AS day, pg_temp.name(100) || '_2' AS second \gset
ALTER TABLE tms.capture DETACH PARTITION :day;
SELECT tms.partition_ensure(pg_temp.day(100));
SELECT count(*) FROM tms.capture_partitions() WHERE partition = :'second'::regclass;

-- What the owner added to the table is in every new day: columns, row triggers, constraints; tablespaces are in the TAP test.
ALTER TABLE tms.capture ADD COLUMN operator text DEFAULT 'x', ADD CONSTRAINT fast CHECK (speed_kmh < 500);
CREATE FUNCTION pg_temp.noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.lane := 7; RETURN NEW; END $$;
CREATE TRIGGER noted BEFORE INSERT ON tms.capture FOR EACH ROW EXECUTE FUNCTION pg_temp.noted();
SELECT tms.partition_ensure(pg_temp.day(101));
INSERT INTO tms.capture (captured_at, capture_id, device_id) VALUES (pg_temp.start(101), 5, 1)
RETURNING operator, lane;

-- All of it as the owner of tms.capture, whoever calls.
CREATE ROLE regress_partition;
GRANT CREATE ON SCHEMA tms TO regress_partition;
ALTER TABLE tms.capture OWNER TO regress_partition;
SELECT tms.partition_ensure(pg_temp.day(102));
SELECT relowner::regrole, current_user = session_user AS back, current_setting('search_path') AS search_path
FROM pg_class WHERE oid = pg_temp.name(102)::regclass;

-- Dropping: whole days before the moment, what lies below the first day, and their entries in ledger_day.
SELECT tms.register_device('partition-1', NULL) \g /dev/null
INSERT INTO tms.ledger (ledger_no, device_id, ledger) SELECT 4711, device_id, gen_random_uuid() FROM tms.device WHERE code = 'partition-1';
INSERT INTO tms.ledger_day SELECT 4711, pg_temp.day(day), seq, seq FROM (VALUES (-5, 1), (-3, 2), (-2, 3), (-1, 4)) AS d (day, seq);
INSERT INTO tms.capture (captured_at, capture_id, device_id) VALUES (pg_temp.start(-5), 1, 1), (pg_temp.start(-3), 2, 1), (pg_temp.start(-1) - interval '1 us', 3, 1), (pg_temp.start(-1), 4, 1);
SELECT tms.drop_captures(pg_temp.start(-1) - interval '1 s') = pg_temp.name(-3) AS one_day;
SELECT capture_id FROM tms.capture WHERE capture_id < 5 ORDER BY 1;
SELECT tms.drop_captures(pg_temp.start(-1) + interval '1 s') = pg_temp.name(-2) AS the_next;
SELECT capture_id FROM tms.capture WHERE capture_id < 5 ORDER BY 1;
SELECT day - pg_temp.day(0) AS day FROM tms.ledger_day WHERE ledger_no = 4711;
SELECT tms.drop_captures(pg_temp.start(-1)) AS nothing_more;
SELECT count(*) FROM tms.capture_partitions() WHERE since = '-infinity';
-- What comes late for a dropped day gets it again.
SELECT tms.partition_ensure(pg_temp.day(-2));
SELECT partition::text = pg_temp.name(-2) AS made FROM tms.capture_partitions() WHERE until <= pg_temp.start(-1) ORDER BY since OFFSET 1;

SAVEPOINT s;
SELECT tms.drop_captures(NULL);
ROLLBACK TO s;
SELECT tms.drop_captures('-infinity');
ROLLBACK TO s;
\set VERBOSITY sqlstate
SELECT tms.partition_drop('tms.device');
ROLLBACK TO s;
SELECT tms.partition_empty('tms.capture');
ROLLBACK TO s;
\set VERBOSITY terse
SELECT tms.partition_drop(1);
ROLLBACK TO s;

-- The setting.
SELECT tms.retention() AS for_ever;
SET LOCAL tms.retention = '400d';
SELECT extract(epoch FROM tms.retention()) / 86400 = 400 AS days;
\set VERBOSITY sqlstate
SET LOCAL tms.retention = -1;
\set VERBOSITY terse
ROLLBACK TO s;
SET LOCAL ROLE regress_partition;
SET LOCAL tms.retention = '1d';
ROLLBACK TO s;

-- Without the table, or with one that is not divided by time, there is nothing to do.
DROP TABLE tms.capture;
SELECT count(*) FROM tms.capture_partitions();
SAVEPOINT s;
SELECT tms.partition_ensure(pg_temp.day(0));
ROLLBACK TO s;
CREATE TABLE tms.capture (captured_at timestamptz, capture_id bigint);
SELECT tms.partition_ensure(pg_temp.day(0));
SELECT count(*) FROM tms.capture_partitions();
ROLLBACK;
