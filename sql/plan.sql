-- What the path query takes over beside conditions: orders, limits, values of other tables; and what it must not.
SET client_min_messages = warning;
SET max_parallel_workers_per_gather = 0;
CREATE SCHEMA plan;
CREATE TABLE plan.captures (capture_id bigint NOT NULL, device_id int, path text COLLATE "C", image_bytes int, sha256 bytea,
	plate text COLLATE "C", word text COLLATE "und-x-icu", at timestamptz NOT NULL, speed smallint) PARTITION BY RANGE (at);
SET timezone = 'UTC';
SELECT format('CREATE TABLE plan.day_%s PARTITION OF plan.captures FOR VALUES FROM (%L) TO (%L)', n, t, t + interval '1 day')
	FROM generate_series(0, 9) n, LATERAL (SELECT timestamptz '2026-01-01 00:00+00' + n * interval '1 day' AS t) t \gexec
CREATE INDEX ON plan.captures (capture_id);
CREATE INDEX ON plan.captures (at);
CREATE INDEX ON plan.captures (plate);
INSERT INTO plan.captures
	SELECT n, -1, 'p/' || n, 1000 + n, NULL, 'P' || n % 1000, 'w' || n % 50, timestamptz '2026-01-01 00:00+00' + n * interval '43 seconds', n % 100
	FROM generate_series(1, 20000) n;
VACUUM ANALYZE plan.captures;
-- 13 counts rows of partitions only.
UPDATE pg_class SET reltuples = 20000 WHERE oid = 'plan.captures'::regclass AND reltuples <= 0;
CREATE TABLE plan.task AS SELECT n AS task, n * 501 AS capture_id, 'P' || n AS plate, 'done' AS state FROM generate_series(1, 30) n;
CREATE TABLE plan.large_task AS SELECT n AS task, n * 2 AS capture_id FROM generate_series(1, 9000) n;
ANALYZE plan.task, plan.large_task;
CREATE SERVER plan_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures');
CREATE FOREIGN TABLE plan.c (capture_id bigint, device_id int, plate text COLLATE "C", word text COLLATE "und-x-icu", at timestamptz, speed smallint,
	device text COLLATE "C", image bytea, image_source text, expected_source text) SERVER plan_server OPTIONS (relation 'plan.captures');
CREATE FUNCTION plan.shy(anyelement) RETURNS boolean LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN true; END';

-- the nodes of a plan above and beside the scan, and the path query from FROM on
CREATE FUNCTION plan.walk(plan json, OUT nodes text, OUT path_sql text) LANGUAGE plpgsql AS $$
DECLARE
	child json;
	below text;
	sql text;
BEGIN
	nodes := plan->>'Node Type';
	path_sql := substring(plan->>'Path SQL' FROM ' FROM plan.(?:captures|joined) c ?(.*)');
	FOR child IN SELECT json_array_elements(plan->'Plans') LOOP
		SELECT * INTO below, sql FROM plan.walk(child);
		nodes := nodes || '(' || below || ')';
		path_sql := coalesce(path_sql || ' ;' || sql, path_sql, sql);
	END LOOP;
END $$;
CREATE FUNCTION plan.of(query text, OUT nodes text, OUT path_sql text) LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	SELECT * INTO nodes, path_sql FROM plan.walk(plan->0->'Plan');
	-- versions of the server differ in which side of an equality of two tables they write first
	path_sql := regexp_replace(path_sql, '\((\$\d+|\(\$[^()]*\)) = (c\.\w+)\)', '(\2 = \1)', 'g');
END $$;

\pset format unaligned
\pset tuples_only on
-- orders: by an index, a sort, an expression; NULLs and collations where they belong; a first part of an order
SELECT o, p.* FROM unnest(ARRAY['at', 'at DESC', 'at DESC NULLS LAST', 'plate NULLS FIRST, capture_id DESC', 'word', 'word COLLATE "C"',
	'plate COLLATE "und-x-icu" DESC', 'lower(word), at', 'word USING ~<~', 'word USING ~>~', 'device, capture_id', 'speed + 1 DESC', 'at, expected_source',
	'expected_source, at', 'image_source', 'random()', 'at, random()', '1 + 1']) o,
	plan.of('SELECT capture_id, image FROM plan.c WHERE speed > 3 ORDER BY ' || o) p;
-- what cannot be shipped is sorted here
SELECT q, p.* FROM unnest(ARRAY['SELECT capture_id FROM plan.c ORDER BY expected_source', 'SELECT capture_id FROM plan.c ORDER BY plan.shy(plate)',
	'SELECT capture_id, image FROM plan.c ORDER BY image_source LIMIT 3']) q, plan.of(q) p;

-- limits: with nothing left to do here
SELECT q, p.* FROM unnest(ARRAY['LIMIT 5', 'OFFSET 7', 'OFFSET 7 LIMIT 5', 'LIMIT 0', 'LIMIT NULL', 'LIMIT ALL OFFSET 2', 'FETCH FIRST ROW ONLY',
	'LIMIT (SELECT count(*) FROM plan.task)', 'ORDER BY at DESC LIMIT 5', 'ORDER BY at DESC, capture_id OFFSET 2 LIMIT 5',
	'WHERE plate = ''P3'' ORDER BY plate, at LIMIT 5', 'WHERE capture_id = ANY(ARRAY(SELECT capture_id FROM plan.task)) ORDER BY at LIMIT 2',
	'WHERE now() > ''2026-01-01'' LIMIT 1']) q, plan.of('SELECT image, upper(plate) FROM plan.c ' || q) p;
-- limits that count other rows than the scan's
SELECT q, p.* FROM unnest(ARRAY['SELECT image FROM plan.c WHERE expected_source = ''both'' LIMIT 5', 'SELECT image FROM plan.c WHERE plan.shy(plate) ORDER BY at LIMIT 5',
	'SELECT image FROM plan.c WHERE image_source IS NULL ORDER BY at LIMIT 5', 'SELECT image FROM plan.c ORDER BY at, expected_source LIMIT 5',
	'SELECT at FROM plan.c ORDER BY at FETCH FIRST 5 ROWS WITH TIES', 'SELECT generate_series(1, 3), image FROM plan.c LIMIT 5',
	'SELECT count(*) FROM plan.c LIMIT 5', 'SELECT DISTINCT speed FROM plan.c LIMIT 5', 'SELECT speed FROM plan.c GROUP BY speed LIMIT 5',
	'SELECT row_number() OVER (ORDER BY at) FROM plan.c LIMIT 5', 'SELECT c.at FROM plan.c, plan.task LIMIT 5', 'SELECT at FROM plan.c LIMIT (random() * 5)::int',
	'SELECT at FROM plan.c WHERE EXISTS (SELECT FROM plan.task WHERE task = c.speed OR random() < 0) LIMIT 5',
	'SELECT at FROM plan.c UNION ALL SELECT at FROM plan.c LIMIT 5', 'SELECT capture_id FROM plan.c LIMIT 5 FOR UPDATE'
	]) q, plan.of(q) p;
-- limits of subqueries
SELECT q, p.* FROM unnest(ARRAY['SELECT * FROM (SELECT at, image FROM plan.c ORDER BY at LIMIT 5) s ORDER BY at DESC LIMIT 2',
	'SELECT task, s.at FROM plan.task, LATERAL (SELECT at FROM plan.c WHERE c.plate = task.plate ORDER BY at DESC LIMIT 1) s WHERE task < 4',
	'(SELECT at FROM plan.c ORDER BY at LIMIT 2) UNION ALL (SELECT at FROM plan.c ORDER BY at DESC LIMIT 2)',
	'SELECT max(at) FROM plan.c']) q, plan.of(q) p;
-- values of other tables
SELECT q, p.* FROM unnest(ARRAY['SELECT c.image FROM plan.task JOIN plan.c USING (capture_id) WHERE task < 4',
	'SELECT c.image FROM plan.task LEFT JOIN plan.c USING (capture_id) WHERE task < 4',
	'SELECT c.at FROM plan.task JOIN plan.c ON c.plate = task.plate AND c.speed > task.task WHERE task = 4',
	'SELECT c.at FROM plan.task JOIN plan.c ON c.capture_id = task.capture_id + 1 WHERE task < 4',
	'SELECT task FROM plan.task WHERE EXISTS (SELECT FROM plan.c WHERE c.capture_id = task.capture_id) AND task < 4',
	'SELECT task FROM plan.task WHERE NOT EXISTS (SELECT FROM plan.c WHERE c.capture_id = task.capture_id) AND task < 4',
	'SELECT a.at, b.image FROM plan.c a JOIN plan.c b ON b.capture_id = a.capture_id + 1 WHERE a.plate = ''P7'' AND a.capture_id < 2000']) q, plan.of(q) p;
\pset tuples_only off
\pset format aligned
-- a nested loop asks again for every row, which does not pay when there are many, and least of all with images
SELECT q, path_sql LIKE '%$1%' AS nested, path_sql FROM unnest(ARRAY['SELECT c.at FROM plan.large_task JOIN plan.c USING (capture_id)',
	'SELECT c.image FROM plan.large_task JOIN plan.c USING (capture_id)', 'SELECT c.image FROM plan.task JOIN plan.c USING (speed, capture_id, word)',
	'SELECT c.image FROM plan.task JOIN plan.c ON c.speed = task WHERE c.capture_id < 2000']) q, plan.of(replace(q, 'speed, capture_id, word', 'capture_id')) p;
-- rows of joins are estimated from the relation's statistics, not those of a foreign table that nobody analyzes
CREATE FUNCTION plan.estimate(query text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	RETURN plan->0->'Plan'->>'Plan Rows';
END $$;
SELECT condition, abs(plan.estimate('SELECT FROM plan.task JOIN plan.c ' || condition) - plan.estimate('SELECT FROM plan.task JOIN plan.captures c ' || condition)) < 3 AS same
	FROM unnest(ARRAY['USING (capture_id)', 'USING (plate)', 'ON c.speed = task']) condition;
SELECT condition, plan.estimate('SELECT FROM plan.c ' || condition) AS rows FROM unnest(ARRAY['WHERE speed = 3 AND expected_source IS NOT NULL', 'LIMIT 7', 'OFFSET 19990',
	'WHERE capture_id = 77', 'WHERE capture_id = ANY (''{1,77,20000}'')', 'WHERE capture_id = ANY(ARRAY(SELECT capture_id FROM plan.task))']) condition;

-- ANALYZE has nothing to do, and says so only when asked; a relation that is a view has no statistics to lend
ANALYZE plan.c;
SELECT reltuples FROM pg_class WHERE oid = 'plan.c'::regclass;
SELECT count(*) FROM pg_statistic WHERE starelid = 'plan.c'::regclass;
CREATE VIEW plan.joined AS SELECT c.*, t.task FROM plan.captures c JOIN plan.task t USING (capture_id);
CREATE FOREIGN TABLE plan.v (capture_id bigint, task int, speed smallint) SERVER plan_server OPTIONS (relation 'plan.joined');
ANALYZE plan.v;
SELECT plan.estimate('SELECT FROM plan.v'), plan.estimate('SELECT FROM plan.v JOIN plan.task USING (task)') BETWEEN 1 AND 100 AS joined,
	(SELECT count(*) FROM plan.v JOIN plan.task USING (task));
SELECT nodes, path_sql FROM plan.of('SELECT capture_id, speed FROM plan.v ORDER BY task DESC LIMIT 2');

-- orders of a relation that is read to the end, in part, by prepared statements, by cursors that turn round
PREPARE page (timestamptz, int, int) AS SELECT capture_id FROM plan.c WHERE at < $1 ORDER BY at DESC OFFSET $3 LIMIT $2;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE page ('2026-01-03 00:00+00', 3, 1);
EXECUTE page ('2026-01-03 00:00+00', 3, 1);
EXECUTE page ('2026-01-01 00:05+00', NULL, 4);
EXECUTE page ('2026-01-01 00:05+00', -1, 0);
EXECUTE page ('2026-01-01 00:05+00', 2, -1);
DO $$
DECLARE
	n int;
	ours bigint[];
	theirs bigint[];
	id bigint;
BEGIN
	FOR n IN 1..10 LOOP
		ours := '{}';
		FOR id IN EXECUTE format('EXECUTE page (%L, %s, %s)', timestamptz '2026-01-01 00:00+00' + n * interval '7 hours', n, 3 * n) LOOP
			ours := ours || id;
		END LOOP;
		theirs := ARRAY(SELECT capture_id FROM plan.captures WHERE at < timestamptz '2026-01-01 00:00+00' + n * interval '7 hours'
			ORDER BY at DESC OFFSET 3 * n LIMIT n);
		IF ours <> theirs THEN
			RAISE '%: % instead of %', n, ours, theirs;
		END IF;
	END LOOP;
END $$;
RESET plan_cache_mode;
BEGIN;
DECLARE back SCROLL CURSOR FOR SELECT capture_id FROM plan.c ORDER BY at DESC LIMIT 4;
FETCH ALL FROM back;
FETCH BACKWARD 2 FROM back;
FETCH FIRST FROM back;
DECLARE held CURSOR WITH HOLD FOR SELECT capture_id FROM plan.c ORDER BY at DESC OFFSET 1;
FETCH 2 FROM held;
COMMIT;
FETCH 1 FROM held;
FETCH RELATIVE 19995 FROM held;
FETCH ALL FROM held;
CLOSE held;

-- partitions: those that conditions exclude are not read, be it known when planning, when execution starts, or for each row
CREATE VIEW plan.scans AS SELECT relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0) AS scans FROM pg_stat_xact_user_tables
	WHERE schemaname = 'plan' AND relname LIKE 'day\_%';
CREATE FUNCTION plan.scanned(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before json := (SELECT json_object_agg(relname, scans) FROM plan.scans);
BEGIN
	EXECUTE query;
	RETURN (SELECT string_agg(relname, ' ' ORDER BY relname) FROM plan.scans WHERE scans > (before->>relname)::int);
END $$;
SELECT plan.scanned('SELECT FROM plan.c');
SELECT plan.scanned($$SELECT FROM plan.c WHERE at >= '2026-01-03 00:00+00' AND at < '2026-01-04 00:00+00'$$);
SELECT plan.scanned($$SELECT FROM plan.c WHERE at >= (SELECT timestamptz '2026-01-09 12:00+00')$$);
SELECT plan.scanned('SELECT FROM plan.c ORDER BY at DESC LIMIT 5');
SELECT plan.scanned('SELECT FROM plan.c WHERE plan.shy(plate) ORDER BY at DESC LIMIT 5');
SELECT plan.scanned($$SELECT max(at) FROM plan.c$$);
SELECT plan.scanned($$SELECT s.* FROM (VALUES (timestamptz '2026-01-02 03:00+00'), ('2026-01-05 06:00+00')) v (t), LATERAL (SELECT at FROM plan.c WHERE at > t - interval '1 hour' AND at < t LIMIT 3) s$$);
PREPARE since (timestamptz) AS SELECT FROM plan.c WHERE at >= $1;
SET plan_cache_mode = force_generic_plan;
SELECT plan.scanned($$EXECUTE since ('2026-01-09 12:00+00')$$);
RESET plan_cache_mode;

-- security barriers: an order must not let a function see what a condition that stays here would have hidden
CREATE FUNCTION plan.leak(text) RETURNS text LANGUAGE plpgsql COST 0.0000001 STABLE AS $$BEGIN RAISE NOTICE 'saw %', $1; RETURN $1; END$$;
CREATE TABLE plan.parent (capture_id bigint, plate text COLLATE "C", expected_source text) PARTITION BY RANGE (capture_id);
CREATE FOREIGN TABLE plan.part PARTITION OF plan.parent FOR VALUES FROM (0) TO (100000) SERVER plan_server OPTIONS (relation 'plan.captures');
CREATE ROLE plan_clerk;
ALTER TABLE plan.parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY none ON plan.parent USING (expected_source = 'lost' AND capture_id < 5);
GRANT USAGE ON SCHEMA plan TO plan_clerk;
GRANT SELECT ON plan.c, plan.captures, plan.task, plan.parent TO plan_clerk;
SET ROLE plan_clerk;
SET client_min_messages = notice;
SELECT plate FROM plan.parent ORDER BY plan.leak(plate) LIMIT 1;
SET client_min_messages = warning;
SELECT nodes, path_sql FROM plan.of('SELECT plate FROM plan.parent ORDER BY plan.leak(plate) LIMIT 1');
SELECT nodes, path_sql FROM plan.of('SELECT plate FROM plan.parent ORDER BY plate LIMIT 1');
RESET ROLE;
-- ... nor see what a relation that is a view with a barrier hides, although order and limit are shipped
CREATE VIEW plan.seventh WITH (security_barrier) AS SELECT * FROM plan.captures WHERE speed = 7 AND capture_id < 500;
CREATE FOREIGN TABLE plan.s (capture_id bigint, plate text COLLATE "C") SERVER plan_server OPTIONS (relation 'plan.seventh');
GRANT SELECT ON plan.s, plan.seventh TO plan_clerk;
SET ROLE plan_clerk;
SET client_min_messages = notice;
SELECT capture_id FROM plan.s WHERE plan.leak(plate) > 'P2' ORDER BY plan.leak(plate) DESC LIMIT 2;
SET client_min_messages = warning;
RESET ROLE;
-- ... and a limit counts the rows that row security shows
ALTER TABLE plan.captures ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON plan.captures TO plan_clerk USING (speed = 7);
SET ROLE plan_clerk;
SELECT capture_id, speed FROM plan.c ORDER BY at OFFSET 1 LIMIT 2;
SELECT count(*) FROM plan.c JOIN plan.task USING (capture_id);
RESET ROLE;

-- ... and statistics lent to the planner do not show an operator values of rows that the user may not see
CREATE SEQUENCE plan.looks MINVALUE 0 START 0;
CREATE FUNCTION plan.looks_at(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM nextval(''plan.looks''); RETURN $1 = $2; END';
CREATE OPERATOR plan.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = plan.looks_at, RESTRICT = eqsel);
GRANT USAGE ON SEQUENCE plan.looks TO plan_clerk;
SET ROLE plan_clerk;
SELECT path_sql FROM plan.of($$SELECT FROM plan.c WHERE word OPERATOR(plan.===) 'w1'$$);
RESET ROLE;
SELECT nextval('plan.looks') AS looks;
SELECT path_sql FROM plan.of($$SELECT FROM plan.c WHERE word OPERATOR(plan.===) 'w1'$$);
SELECT nextval('plan.looks') > 50 AS looks;

DEALLOCATE page;
DEALLOCATE since;
DROP SCHEMA plan CASCADE;
DROP SERVER plan_server;
DROP ROLE plan_clerk;
