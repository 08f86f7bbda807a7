-- tms.upkeep: what is due, and that one step in trouble does not keep the others from their work. All of it is rolled back.
\set VERBOSITY terse
SET timezone = 'UTC';
BEGIN;
UPDATE tms.device SET enabled = false;  -- of other tests: nobody is to be probed here
DROP TABLE IF EXISTS tms.capture;
SELECT * FROM tms.upkeep();
SELECT tms.create_capture_table(current_date - 30);
SELECT * FROM tms.upkeep();

-- Days: what is missing from yesterday to two weeks ahead.
SELECT tms.partition_drop(partition) FROM tms.capture_partitions() WHERE since >= current_date + 10 AND since < '2100-01-01' \g /dev/null
SELECT * FROM tms.upkeep();
SELECT * FROM tms.upkeep();

-- One day that cannot be made: another table's span is in the way.
SELECT tms.partition_drop(partition) FROM tms.capture_partitions() WHERE since >= current_date + 12 AND since < '2100-01-01' \g /dev/null
DO $$ BEGIN
	EXECUTE format('CREATE TABLE tms.odd PARTITION OF tms.capture FOR VALUES FROM (%L) TO (%L)',
				   current_date + 12 + time '06:00', current_date + 12 + time '07:00');
END $$;
SET client_min_messages = error;
SELECT * FROM tms.upkeep();
RESET client_min_messages;

-- ANALYZE: once there is something to say, and not again until much has changed.
INSERT INTO tms.capture (captured_at, capture_id, device_id) SELECT now() - n * interval '1 minute', n, 1 FROM generate_series(1, 3000) AS n;
SELECT tms.upkeep_analyze() AS nothing_counted_yet;
DO $$
DECLARE
	day regclass;
BEGIN
	FOR day IN SELECT partition FROM tms.capture_partitions() WHERE since BETWEEN current_date - 4 AND current_date LOOP
		EXECUTE format('ANALYZE %s', day);
	END LOOP;
END $$;
SELECT tms.upkeep_analyze();
SELECT tms.upkeep_analyze() AS again;
SELECT count(*) > 0 AS inherited FROM pg_stats WHERE schemaname = 'tms' AND tablename = 'capture' AND attname = 'captured_at' AND inherited;

-- Retention.
SET LOCAL tms.retention = '20d';
SET LOCAL client_min_messages = error;
SELECT * FROM tms.upkeep();
SELECT min(since) FILTER (WHERE isfinite(since)) = current_date - 20 AS first_day FROM tms.capture_partitions();

-- Probe: the answers are in tms.device_probe. Nothing listens on port 9 of this host.
SELECT tms.register_device('upkeep-1', 'http://127.0.0.1:9') IS NOT NULL, tms.register_device('upkeep-2', NULL) IS NOT NULL \g /dev/null
SELECT tms.upkeep_probe();
SELECT ok, error IS NOT NULL AS why, at BETWEEN now() AND clock_timestamp() AS just_now FROM tms.device_probe JOIN tms.device USING (device_id) WHERE code LIKE 'upkeep-%';

-- A step that fails.
ALTER FUNCTION tms.upkeep_probe() RENAME TO upkeep_probe_gone;
SELECT * FROM tms.upkeep();
ALTER FUNCTION tms.upkeep_probe_gone() RENAME TO upkeep_probe;

CREATE ROLE regress_upkeep;
SET LOCAL ROLE regress_upkeep;
SAVEPOINT s;
SELECT * FROM tms.upkeep();
ROLLBACK TO s;
SELECT tms.upkeep_retention();
ROLLBACK TO s;
SELECT tms.drop_captures(now());
ROLLBACK;
