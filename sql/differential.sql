-- Many queries made of parts, each asked of the foreign table and of the relation behind it: same rows in the same order.
SET client_min_messages = warning;
SET tms.max_images = 10000000;
-- disabled kinds of plans look dear enough to be compiled
SET jit = off;
CREATE SCHEMA diff;
CREATE TABLE diff.captures (capture_id bigint NOT NULL, device_id int, path text COLLATE "C", image_bytes int, sha256 bytea,
	plate text COLLATE "C", word text COLLATE "und-x-icu", at timestamptz NOT NULL, speed smallint) PARTITION BY RANGE (at);
CREATE TABLE diff.day_1 PARTITION OF diff.captures FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-01-02 00:00+00');
CREATE TABLE diff.day_2 PARTITION OF diff.captures FOR VALUES FROM ('2026-01-02 00:00+00') TO ('2026-01-03 00:00+00');
CREATE TABLE diff.day_3 PARTITION OF diff.captures FOR VALUES FROM ('2026-01-03 00:00+00') TO ('2026-01-04 00:00+00');
CREATE INDEX ON diff.captures (capture_id);
CREATE INDEX ON diff.captures (at);
CREATE INDEX ON diff.captures (plate, at DESC);
CREATE INDEX ON diff.captures (word DESC NULLS LAST);
SELECT tms.register_device('diff-' || n, 'http://127.0.0.1:9', site => nullif('Site ' || n % 2, 'Site 0')) IS NOT NULL AS registered
	FROM generate_series(1, 3) n;
-- no image can be asked for: the rows have no digest
INSERT INTO diff.captures
	SELECT n, CASE WHEN n % 4 > 0 THEN tms.device_id('diff-' || n % 4) END, 'p/' || n, 1000 + n, NULL, 'P' || n % 10,
		(ARRAY['a', 'B', 'b', NULL, 'Ab', 'ä'])[1 + n % 6], timestamptz '2026-01-01 00:00+00' + n * interval '25 minutes', n * 7 % 5
	FROM generate_series(1, 160) n;
ANALYZE diff.captures;
CREATE TABLE diff.other AS SELECT n * 3 AS capture_id, 'P' || n % 4 AS plate, n FROM generate_series(1, 30) n;
ANALYZE diff.other;
CREATE SERVER diff_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures');
CREATE FOREIGN TABLE diff.c (capture_id bigint, device_id int, image_bytes int, plate text COLLATE "C", word text COLLATE "und-x-icu",
	at timestamptz, speed smallint, device text COLLATE "C", site text, image bytea, image_source text, expected_source text)
	SERVER diff_server OPTIONS (relation 'diff.captures');
-- the same declared by hand, with other collations
CREATE FOREIGN TABLE diff.by_hand (capture_id bigint, device_id int, image_bytes int, plate text COLLATE "und-x-icu", word text COLLATE "C",
	at timestamptz, speed smallint, device text COLLATE "C", site text, image bytea, image_source text, expected_source text)
	SERVER diff_server OPTIONS (relation 'diff.captures');
CREATE VIEW diff.c_local AS SELECT r.capture_id, r.device_id, r.image_bytes, r.plate, r.word, r.at, r.speed, d.code AS device, d.site,
	NULL::bytea AS image, NULL::text AS image_source, 'both'::text AS expected_source
	FROM diff.captures r LEFT JOIN tms.device d USING (device_id);
CREATE VIEW diff.by_hand_local AS SELECT capture_id, device_id, image_bytes, plate COLLATE "und-x-icu" AS plate, word COLLATE "C" AS word,
	at, speed, device, site, image, image_source, expected_source FROM diff.c_local;
-- a partition among others
CREATE TABLE diff.mixed (LIKE diff.c) PARTITION BY RANGE (capture_id);
CREATE FOREIGN TABLE diff.mixed_foreign PARTITION OF diff.mixed FOR VALUES FROM (0) TO (1000) SERVER diff_server OPTIONS (relation 'diff.captures');
CREATE TABLE diff.mixed_rows PARTITION OF diff.mixed FOR VALUES FROM (1000) TO (2000);
INSERT INTO diff.mixed_rows SELECT 1000 + n, n % 4, n, 'P' || n % 7, chr(97 + n % 4), timestamptz '2026-01-01 00:01+00' + n * interval '3 hours', n % 5,
	NULL, 'Site 1', NULL, NULL, 'both' FROM generate_series(1, 30) n;
ANALYZE diff.mixed_rows;
CREATE VIEW diff.mixed_local AS SELECT * FROM diff.c_local UNION ALL SELECT * FROM diff.mixed_rows;
SELECT DISTINCT expected_source FROM diff.c;
UPDATE diff.captures SET plate = NULL WHERE capture_id % 17 = 0;
CREATE FUNCTION diff.shy(anyelement) RETURNS boolean LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN true; END';

-- part n of these, from the number of a query and of a place in it: at random, but every time the same
CREATE FUNCTION diff.pick(query int, place int, parts text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT parts[1 + ('x' || left(md5(query || '/' || place), 7))::bit(28)::int % cardinality(parts)] $$;
-- a condition
CREATE FUNCTION diff.condition(query int, place int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT diff.pick(query, place, ARRAY['true', 'true', 'speed > $3', $q$plate = 'P3'$q$, $q$word IS NULL OR word < 'b'$q$, 'capture_id % 3 = 1',
		'c.capture_id = ANY (ARRAY(SELECT o.capture_id FROM diff.other o ORDER BY n DESC LIMIT 9))', 'capture_id BETWEEN 5 AND 40', 'image IS NULL',
		'diff.shy(plate)', $q$expected_source = 'both'$q$, 'EXISTS (SELECT FROM diff.other o WHERE o.capture_id = c.capture_id)',
		'NOT EXISTS (SELECT FROM diff.other o WHERE o.capture_id = c.capture_id)', 'device IS NULL', $q$site = 'Site 1'$q$, 'speed > 100',
		'image_source IS NOT NULL', $q$at < '2026-01-02 12:00+00'$q$, $q$at >= timestamptz '2026-01-01 00:00+00' + $3 * interval '10 hours'$q$,
		'plate IN (SELECT o.plate FROM diff.other o)', 'speed = (SELECT max(i.speed) FROM {T} i WHERE i.plate = c.plate)', 'capture_id <> ALL ($4)']) $$;
-- one key of an order
CREATE FUNCTION diff.order_key(query int, place int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT diff.pick(query, place, ARRAY['speed', 'speed DESC', 'plate', 'plate DESC', 'plate NULLS FIRST', 'word', 'word DESC NULLS LAST',
		'word NULLS FIRST', 'word COLLATE "C" DESC', 'lower(word)', 'at', 'at DESC', 'device', 'site NULLS FIRST', 'capture_id % 7',
		'word USING ~<~', 'expected_source', 'coalesce(plate, word COLLATE "C")', '-speed', 'capture_id DESC', 'image_source', 'upper(word COLLATE "C")',
		'plate COLLATE "C" DESC', 'speed + $3 DESC']) $$;
-- a limit; none of them may be under an order that has ties
CREATE FUNCTION diff.limits(query int, place int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT diff.pick(query, place, ARRAY['', 'LIMIT 5', 'LIMIT 0', 'LIMIT 1', 'OFFSET 3', 'OFFSET 5 LIMIT 7', 'LIMIT NULL OFFSET 2', 'LIMIT $1',
		'OFFSET $2 LIMIT $1', 'LIMIT (SELECT 4)', 'OFFSET 1000', 'LIMIT 1 + $2', 'FETCH FIRST 3 ROWS WITH TIES', 'LIMIT ALL', 'LIMIT 10000']) $$;
-- a query whose result has an order without ties
CREATE FUNCTION diff.query(query int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT replace(replace(diff.pick(query, 1, ARRAY[
		'SELECT {S} FROM {T} c WHERE {W} ORDER BY {O} {L}',
		'SELECT {S} FROM {T} c WHERE {W} ORDER BY {O} {L}',
		'SELECT {S} FROM {T} c WHERE {W} AND {V} ORDER BY {O} {L}',
		'SELECT capture_id FROM {T} c WHERE {W} ORDER BY capture_id DESC {L}',
		'SELECT speed FROM {T} c WHERE {W} ORDER BY speed {L}',
		'SELECT plate, word FROM {T} c WHERE {W} ORDER BY plate DESC, word {L}',
		'SELECT at, capture_id FROM {T} c WHERE {W} ORDER BY at DESC, capture_id {L}',
		'SELECT * FROM (SELECT {S} FROM {T} c WHERE {W} ORDER BY {O} {L}) s ORDER BY capture_id DESC LIMIT 6',
		'SELECT count(*) FROM (SELECT {S} FROM {T} c WHERE {W} ORDER BY at {L}) s',
		'SELECT count(*), min(at), max(at), max(capture_id), min(word) FROM {T} c WHERE {W}',
		'SELECT count(*) FROM (SELECT FROM {T} c WHERE {W} AND {V} LIMIT 7 OFFSET $2) s',
		'SELECT plate, count(*), sum(speed) FROM {T} c WHERE {W} GROUP BY plate ORDER BY plate {L}',
		'SELECT DISTINCT plate, word FROM {T} c WHERE {W} ORDER BY word DESC, plate {L}',
		'SELECT DISTINCT ON (plate) plate, capture_id FROM {T} c WHERE {W} ORDER BY plate, at DESC {L}',
		'SELECT capture_id, row_number() OVER (ORDER BY {O}) FROM {T} c WHERE {W} ORDER BY 2 DESC {L}',
		'SELECT capture_id, generate_series(1, 2) AS g FROM {T} c WHERE {W} ORDER BY capture_id, g {L}',
		'SELECT capture_id, generate_series(1, 2) AS g FROM {T} c WHERE {W} ORDER BY capture_id {L}',
		'SELECT c.capture_id, n FROM {T} c JOIN diff.other o USING (capture_id) WHERE {K} ORDER BY n DESC {L}',
		'SELECT c.capture_id, n FROM {T} c JOIN diff.other o ON o.plate = c.plate AND o.n = c.speed WHERE {K} ORDER BY c.capture_id, n {L}',
		'SELECT n, c.plate, c.word FROM diff.other o LEFT JOIN {T} c ON c.capture_id = o.capture_id AND {K} ORDER BY n {L}',
		'SELECT c.capture_id, n FROM {T} c LEFT JOIN diff.other o ON o.capture_id = c.capture_id AND {K} ORDER BY c.capture_id {L}',
		'SELECT n, c.capture_id FROM diff.other o FULL JOIN {T} c ON c.capture_id = o.capture_id ORDER BY n, c.capture_id {L}',
		'SELECT o.n, s.capture_id FROM diff.other o, LATERAL (SELECT capture_id FROM {T} c WHERE c.speed = o.n % 5 AND {K} ORDER BY {O} {L}) s ORDER BY 1, 2',
		'SELECT o.n, s.* FROM diff.other o, LATERAL (SELECT capture_id, o.n + speed FROM {T} c WHERE c.capture_id > o.n ORDER BY capture_id LIMIT 2) s ORDER BY 1, 2',
		'SELECT a.capture_id, b.capture_id FROM {T} a JOIN {T} b ON b.capture_id = a.capture_id + $2 WHERE a.speed > 1 ORDER BY 1 {L}',
		'SELECT a.capture_id, b.speed FROM {T} a JOIN {T} b USING (at) ORDER BY at DESC {L}',
		'SELECT * FROM (SELECT capture_id, plate FROM {T} c WHERE {K} UNION ALL SELECT n, NULL FROM diff.other) u ORDER BY 1, 2 {L}',
		'SELECT * FROM ((SELECT capture_id FROM {T} c WHERE {K} ORDER BY {O} {L}) UNION ALL (SELECT capture_id FROM {T} c WHERE {V} ORDER BY {O} LIMIT 4)) u ORDER BY 1',
		'SELECT capture_id FROM {T} c WHERE {K} EXCEPT SELECT capture_id FROM {T} c WHERE {V} ORDER BY 1 {L}',
		'WITH w AS MATERIALIZED (SELECT {S} FROM {T} c WHERE {W} ORDER BY {O} {L}) SELECT a.capture_id, a FROM w a JOIN w b USING (capture_id) ORDER BY 1',
		'SELECT capture_id FROM {T} c WHERE capture_id IN (SELECT i.capture_id FROM {T} i ORDER BY at DESC LIMIT $1) AND {K} ORDER BY {O}',
		'SELECT n, (SELECT plate FROM {T} c WHERE c.capture_id = o.capture_id AND {K}) FROM diff.other o ORDER BY n {L}',
		'SELECT n, ARRAY(SELECT capture_id FROM {T} c WHERE c.speed = o.n % 5 ORDER BY {O} {L}) FROM diff.other o ORDER BY n LIMIT 4',
		'SELECT n, ARRAY(SELECT capture_id FROM {T} c WHERE {K} ORDER BY {O} OFFSET o.n % 3 LIMIT o.n % 5) FROM diff.other o ORDER BY n LIMIT 6',
		'SELECT n FROM diff.other o WHERE NOT EXISTS (SELECT FROM {T} c WHERE c.capture_id = o.capture_id AND {K}) ORDER BY n'
		]), '{S}', diff.pick(query, 2, ARRAY['capture_id, plate', 'capture_id, upper(word), speed + 1', 'device, site, capture_id', 'capture_id',
			'lower(word) AS l, capture_id, image IS NULL', 'c.*', 'c AS whole, c.capture_id'])),
		'{O}', diff.order_key(query, 3) || ', ' || diff.order_key(query, 4) || ', c.capture_id') $$;
CREATE FUNCTION diff.complete(query int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT replace(replace(replace(replace(diff.query(query), '{L}', diff.limits(query, 5)), '{W}', '(' || diff.condition(query, 6) || ')'),
		'{V}', '(' || diff.condition(query, 7) || ')'), '{K}', '(' || diff.pick(query, 8, ARRAY['true', 'c.speed > 1', $q$c.word < 'b'$q$,
		'diff.shy(c.plate)', 'c.image IS NULL', $q$c.expected_source = 'both'$q$, 'c.speed < $3', 'c.device IS NOT NULL']) || ')') $$;

-- all rows that EXECUTE of it gives, as text
CREATE FUNCTION diff.rows(name text, args text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	row record;
	rows text := '';
BEGIN
	FOR row IN EXECUTE format('EXECUTE %I (%s)', name, args) LOOP
		rows := rows || row || E'\n';
	END LOOP;
	RETURN rows;
END $$;
-- asks queries first to last of both, with two sets of parameters; tells how many were shipped with an order and with a limit
CREATE FUNCTION diff.compare(first int, last int, OUT queries int, OUT ordered int, OUT limited int) LANGUAGE plpgsql AS $$
DECLARE
	query int;
	template text;
	relation text;
	args text;
	plan json;
	ours text;
	theirs text;
BEGIN
	queries := 0; ordered := 0; limited := 0;
	FOR query IN first..last LOOP
		template := diff.complete(query);
		relation := CASE query % 5 WHEN 0 THEN 'diff.by_hand' WHEN 1 THEN 'diff.mixed' ELSE 'diff.c' END;
		EXECUTE 'PREPARE ours (bigint, bigint, int, bigint[]) AS ' || replace(template, '{T}', relation);
		EXECUTE 'PREPARE theirs (bigint, bigint, int, bigint[]) AS ' || replace(template, '{T}', relation || '_local');
		FOREACH args IN ARRAY ARRAY['7, 3, 2, ''{1,2,30}''', 'NULL, 0, 0, ''{}'''] LOOP
			ours := diff.rows('ours', args);
			theirs := diff.rows('theirs', args);
			IF ours IS DISTINCT FROM theirs THEN
				RAISE 'query %: % (%)', query, replace(template, '{T}', relation), args USING DETAIL = E'foreign table:\n' || ours || E'relation:\n' || theirs;
			END IF;
		END LOOP;
		EXECUTE format('EXPLAIN (FORMAT JSON, VERBOSE) EXECUTE ours (%s)', args) INTO plan;
		queries := queries + 1;
		ordered := ordered + (plan::text ~ '"Path SQL": "[^"]* ORDER BY ')::int;
		limited := limited + (plan::text ~ '"Path SQL": "[^"]* (LIMIT|OFFSET) ')::int;
		DEALLOCATE ours;
		DEALLOCATE theirs;
	END LOOP;
END $$;

SET plan_cache_mode = force_generic_plan;
SELECT queries, ordered > 200 AS ordered, limited > 80 AS limited FROM diff.compare(1, 700);
-- custom plans, and every kind of join
SET plan_cache_mode = force_custom_plan;
SELECT queries, ordered > 50 AS ordered, limited > 20 AS limited FROM diff.compare(701, 900);
SET enable_partitionwise_join = on;
SET enable_partitionwise_aggregate = on;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT queries FROM diff.compare(901, 1100);
RESET enable_mergejoin;
SET enable_nestloop = off;
SET enable_sort = off;
SELECT queries FROM diff.compare(1101, 1300);
RESET enable_hashjoin;
RESET enable_nestloop;
RESET enable_sort;
-- parallel plans around it
SET max_parallel_workers_per_gather = 1;
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SELECT queries FROM diff.compare(1301, 1315);
RESET enable_partitionwise_join;
RESET enable_partitionwise_aggregate;
RESET plan_cache_mode;

DROP SCHEMA diff CASCADE;
DROP SERVER diff_server;
DELETE FROM tms.device WHERE code LIKE 'diff-%';
