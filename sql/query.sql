-- tms.captures and tms.track are inlined: conditions reach the indexes, and only the days asked for are read.
\set VERBOSITY terse
SET timezone = 'UTC';
BEGIN;
DROP TABLE IF EXISTS tms.capture;
SELECT tms.create_capture_table() \g /dev/null
-- Three days of captures, one a minute; times are told from the first day on.
SELECT current_date - 5 AS day, current_date - 4 AS day2, current_date - 3 AS day3, current_date - 2 AS day4 \gset
SELECT tms.register_device('query-1', NULL, site => 'North') IS NOT NULL, tms.register_device('query-2', NULL) IS NOT NULL \g /dev/null
INSERT INTO tms.capture (captured_at, capture_id, device_id, plate, lane, path, sha256)
SELECT :'day'::timestamptz + n * interval '1 minute', n, n % 40 + (SELECT device_id FROM tms.device WHERE code = 'query-1'),
	'P' || n % 1000, n % 3, 'q/' || n, sha256(n::text::bytea)
FROM generate_series(0, 4319) AS n;
ANALYZE tms.capture;

SELECT count(*), min(captured_at) - :'day' AS first, max(captured_at) - :'day' AS last, count(DISTINCT device_id) AS devices
FROM tms.captures('query-1', :'day', :'day'::timestamptz + interval '2 hours');
SELECT capture_id, path, sha256 = sha256(capture_id::text::bytea) AS digest, pg_typeof(path) FROM tms.captures('query-2', :'day2', :'day3') ORDER BY captured_at LIMIT 1;
SELECT captured_at - :'day' AS at, device, site, lane, capture_id FROM tms.track('P40', :'day', :'day4') ORDER BY captured_at;
SELECT count(*) FROM tms.captures('query-none', :'day', :'day4');
SELECT count(*) FROM tms.captures(NULL, :'day', :'day4');
SELECT count(*) FROM tms.captures('query-1', :'day4', :'day');
SELECT count(*) FROM tms.track('P''; --', :'day', :'day4');

SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
-- The indexes a plan uses, with the day after the first one; "removed" when scans are left out at the start.
CREATE FUNCTION pg_temp.scans(first_day date, query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	scan text[];
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF, ANALYZE, TIMING OFF, SUMMARY OFF) ' || query LOOP
		scan := regexp_match(line, '(\w+ Scan.* using capture)_(\d+)(_\w+)');
		IF scan IS NOT NULL THEN
			RETURN NEXT format('%s_%s%s', scan[1], scan[2]::date - first_day, scan[3]);
		ELSIF line ~ 'Scan' AND line !~ ' on device' OR line ~ 'removed' THEN
			RETURN NEXT line;
		ELSIF line ~ 'Subplans Removed' THEN
			RETURN NEXT 'removed';
		END IF;
	END LOOP;
END;
$$;
SELECT pg_temp.scans(:'day', format($$SELECT capture_id FROM tms.captures('query-1', %L, %L) WHERE lane = 1 ORDER BY captured_at DESC LIMIT 5$$, :'day2', :'day3'));
SELECT pg_temp.scans(:'day', format($$SELECT captured_at FROM tms.track('P77', %L, %L)$$, :'day2', :'day4'));

-- The same with parameters, also when the plan is made before they are known: the other days are removed at the start.
SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE generic(text, timestamptz, timestamptz) AS SELECT capture_id FROM tms.captures($1, $2, $3);
SELECT pg_temp.scans(:'day', format($$EXECUTE generic('query-1', %L, %L)$$, :'day2', :'day3'));
DEALLOCATE generic;

-- Rights are the caller's: who may not read tms.capture gets nothing this way either; row security holds.
CREATE ROLE regress_query;
SAVEPOINT s;
SET LOCAL ROLE regress_query;
SELECT count(*) FROM tms.captures('query-1', :'day', :'day4');
ROLLBACK TO s;
GRANT SELECT ON tms.capture TO regress_query;
ALTER TABLE tms.capture ENABLE ROW LEVEL SECURITY;
CREATE POLICY lane_1 ON tms.capture TO regress_query USING (lane = 1);
SET LOCAL ROLE regress_query;
SELECT DISTINCT lane FROM tms.captures('query-1', :'day', :'day4');
SELECT DISTINCT lane FROM tms.track('P77', :'day', :'day4');
ROLLBACK;
