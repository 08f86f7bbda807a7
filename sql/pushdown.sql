-- Which conditions the path query takes, what they look like there, and that they mean the same.
SET client_min_messages = warning;
CREATE SCHEMA pushdown;
CREATE TABLE pushdown.captures (capture_id bigint PRIMARY KEY, device_id int, path text COLLATE "C", image_bytes int,
	sha256 bytea, plate text COLLATE "C", word text, at timestamptz, speed smallint, note jsonb);
INSERT INTO pushdown.captures
	SELECT n, n % 3, 'p/' || n, 1000 + n, sha256(n::text::bytea), 'P' || n % 10, CASE n % 4 WHEN 0 THEN 'a' WHEN 1 THEN 'B'
		WHEN 2 THEN 'b' END, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 hour', n % 7, jsonb_build_object('n', n)
	FROM generate_series(1, 60) n;
CREATE INDEX ON pushdown.captures (plate);
ANALYZE pushdown.captures;
CREATE SERVER pushdown_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures');
CREATE FOREIGN TABLE pushdown.c (capture_id bigint, device_id int, path text COLLATE "C", image_bytes int, sha256 bytea,
	plate text COLLATE "C", word text, at timestamptz, speed smallint, note jsonb, device text COLLATE "C", site text,
	image bytea, image_source text, image_error text, expected_source text)
	SERVER pushdown_server OPTIONS (relation 'pushdown.captures');

-- the path query of a condition, or what else the plan does; and whether the answer is that of the relation itself
CREATE FUNCTION pushdown.ask(condition text) RETURNS TABLE (plan text, same boolean) LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	plan := '';
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) SELECT capture_id FROM pushdown.c WHERE ' || condition LOOP
		CONTINUE WHEN line ~ 'Foreign Scan';
		plan := plan || E'\n' || CASE WHEN line ~ 'Path SQL' THEN coalesce(substring(line FROM 'WHERE .*'), 'all') ELSE regexp_replace(ltrim(line), ' \(returns \$\d+\)', '') END;
	END LOOP;
	IF condition !~ 'image_|image |expected_|device |site |ctid|c\.\*|tableoid' THEN
		EXECUTE format('SELECT NOT EXISTS ((SELECT capture_id FROM pushdown.c WHERE %1$s EXCEPT SELECT capture_id FROM
			pushdown.captures c WHERE %1$s) UNION ALL (SELECT capture_id FROM pushdown.captures c WHERE %1$s EXCEPT
			SELECT capture_id FROM pushdown.c WHERE %1$s))', condition) INTO same;
	END IF;
	RETURN NEXT;
END $$;
CREATE FUNCTION pushdown.shy(text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN $1 = ''P3''; END';
CREATE FUNCTION pushdown.steady(text) RETURNS boolean LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1 = ''P3''; END';
CREATE FUNCTION pushdown.inlined(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = ''P3''';
CREATE OPERATOR pushdown.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq);

\pset format unaligned
\pset tuples_only on
-- goes
SELECT condition, a.* FROM unnest(ARRAY[
	$$plate = 'P3'$$,
	$$plate IN ('P3', 'P4') AND speed BETWEEN 2 AND 5$$,
	$$plate LIKE 'P%' AND NOT plate ~ '[5-9]'$$,
	$$word IS NULL OR word IS DISTINCT FROM 'a'$$,
	$$capture_id = ANY ('{1,2,3}') AND capture_id <> ALL ('{2}')$$,
	$$at > now() - interval '100 years' AND at < '2026-01-02 03:00:00+00'$$,
	$$speed::text = '3' AND (speed + 1) * 2 > capture_id % 5$$,
	$$note @> '{"n": 7}' OR note->>'n' = '8'$$,
	$$CASE WHEN speed > 3 THEN plate = 'P1' ELSE word = 'a' END$$,
	$$coalesce(word, 'none') = 'none' AND nullif(speed, 0) IS NULL$$,
	$$(plate, speed) > ('P5', 2) AND (plate, speed) IN (('P6', 1), ('P7', 2))$$,
	$$ARRAY[plate, word] && ARRAY['P2']$$,
	$$pushdown.steady(plate)$$,
	$$pushdown.inlined(plate)$$,
	$$plate OPERATOR(pushdown.===) 'P3'$$,
	$$plate <> current_user AND plate = 'P3'$$,
	$$sha256 = sha256('7')$$
	]) condition, pushdown.ask(condition) a;
-- collations mean what they mean here: equality takes the index's, order does not
SELECT condition, a.* FROM unnest(ARRAY[
	$$plate < 'P3' COLLATE "POSIX"$$,
	$$word < 'B' COLLATE "C"$$,
	$$word COLLATE "C" < 'a'$$,
	$$lower(word COLLATE "C") = 'b'$$
	]) condition, pushdown.ask(condition) a;
-- devices are joined when they are asked for
SELECT condition, a.* FROM unnest(ARRAY[
	$$device = 'gate' $$,
	$$site IS NULL AND device IN ('a', 'b')$$
	]) condition, pushdown.ask(condition) a;
-- stays
SELECT condition, a.* FROM unnest(ARRAY[
	$$pushdown.shy(plate)$$,
	$$random() < 2 AND plate = 'P3'$$,
	$$image_source = 'front_end'$$,
	$$image IS NULL AND pushdown.shy(plate) AND plate = 'P3'$$,
	$$expected_source = 'both' AND speed = 3$$,
	$$image_error IS NULL AND expected_source = 'both'$$,
	$$image_error IS NULL OR plate = 'P3'$$,
	$$plate = (SELECT min(x.plate) FROM pushdown.captures x WHERE x.capture_id > c.capture_id)$$,
	$$EXISTS (SELECT FROM pushdown.captures x WHERE x.capture_id = c.capture_id OR x.speed = 1)$$,
	$$c.* IS NOT NULL$$,
	$$tableoid <> 0$$
	]) condition, pushdown.ask(condition) a;
-- a value that another query gives first
SELECT pushdown.ask($$plate = (SELECT min(plate) FROM pushdown.captures)$$);
SELECT pushdown.ask($$capture_id = ANY (ARRAY(SELECT capture_id FROM pushdown.captures ORDER BY at DESC LIMIT 3))$$);
\pset tuples_only off
\pset format aligned

-- a foreign table that declares other collations than its relation
CREATE FOREIGN TABLE pushdown.other (capture_id bigint, plate text, word text COLLATE "C") SERVER pushdown_server
	OPTIONS (relation 'pushdown.captures');
EXPLAIN (COSTS OFF) SELECT plate FROM pushdown.other WHERE plate = 'P3' AND plate IN ('P3', 'P4') AND 'P3' = plate;
EXPLAIN (COSTS OFF) SELECT plate FROM pushdown.other WHERE plate < 'P3' AND word > 'a' AND plate = word;
SELECT count(*) FROM pushdown.other WHERE plate = 'P3';

-- search paths and operators of one's own change nothing
CREATE OPERATOR pushdown.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.textne);
SET search_path = pushdown, pg_catalog;
EXPLAIN (COSTS OFF) SELECT plate FROM c WHERE plate = 'P3' AND plate OPERATOR(pg_catalog.=) 'P4' AND device IS NULL;
SELECT count(*) FROM c WHERE plate = 'P3' AND plate OPERATOR(pg_catalog.=) 'P4' AND device IS NULL;
RESET search_path;
DROP OPERATOR pushdown.= (text, text);

-- prepared statements: custom and generic plans, ten times
PREPARE pushdown_p (text, bigint[], timestamptz) AS
	SELECT count(*) FROM pushdown.c WHERE plate = $1 AND (capture_id = ANY ($2) OR at > $3);
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE pushdown_p ('P3', '{3,13}', NULL);
DO $$
DECLARE
	n int;
	answer bigint;
	expected bigint;
BEGIN
	FOR n IN 1..10 LOOP
		EXECUTE format('EXECUTE pushdown_p (%L, %L, %L)', 'P' || n % 4, ARRAY[n, n + 10],
			timestamptz '2026-01-03 00:00:00+00' + n * interval '1 hour') INTO answer;
		SELECT count(*) INTO expected FROM pushdown.captures WHERE plate = 'P' || n % 4 AND (capture_id = ANY (ARRAY[n, n + 10])
			OR at > timestamptz '2026-01-03 00:00:00+00' + n * interval '1 hour');
		IF answer <> expected THEN
			RAISE 'execution %: % instead of %', n, answer, expected;
		END IF;
	END LOOP;
END $$;
EXECUTE pushdown_p (NULL, NULL, NULL);
SET plan_cache_mode = force_custom_plan;
EXPLAIN (COSTS OFF) EXECUTE pushdown_p ('P3', '{3,13}', NULL);
RESET plan_cache_mode;

-- what changes behind a prepared statement
ALTER TABLE pushdown.captures DROP COLUMN word;
EXECUTE pushdown_p ('P3', '{3,13}', NULL);
ALTER TABLE pushdown.captures RENAME TO renamed;
EXECUTE pushdown_p ('P3', '{3,13}', NULL);
CREATE VIEW pushdown.captures AS SELECT capture_id + 1 AS capture_id, device_id, path, image_bytes, sha256, plate, at
	FROM pushdown.renamed;
EXECUTE pushdown_p ('P3', '{3,14}', NULL);
CREATE OR REPLACE VIEW pushdown.captures AS SELECT capture_id + 2 AS capture_id, device_id, path, image_bytes, sha256, plate, at
	FROM pushdown.renamed;
EXECUTE pushdown_p ('P3', '{3,15}', NULL);
ALTER FOREIGN TABLE pushdown.c OPTIONS (SET relation 'pushdown.renamed');
EXECUTE pushdown_p ('P3', '{3,13}', NULL);
ALTER TABLE pushdown.renamed DROP COLUMN at CASCADE;
EXECUTE pushdown_p ('P3', '{3,13}', NULL);
SELECT speed FROM pushdown.c WHERE capture_id = 1;
SELECT word FROM pushdown.c;

-- security barriers: nothing that leaks sees rows before the barrier has
CREATE FUNCTION pushdown.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 STABLE AS
	$$BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END$$;
SET client_min_messages = notice;
CREATE VIEW pushdown.barrier WITH (security_barrier) AS SELECT * FROM pushdown.c WHERE plate = 'P3' AND capture_id < 20;
EXPLAIN (COSTS OFF) SELECT plate FROM pushdown.barrier WHERE pushdown.leak(plate) AND capture_id > 2;
SELECT plate FROM pushdown.barrier WHERE pushdown.leak(plate) AND capture_id > 2;
CREATE VIEW pushdown.image_barrier WITH (security_barrier) AS
	SELECT * FROM pushdown.c WHERE image_source = 'front_end' AND capture_id < 4;
EXPLAIN (COSTS OFF) SELECT plate FROM pushdown.image_barrier WHERE pushdown.leak(plate) AND expected_source = 'both';
SELECT plate FROM pushdown.image_barrier WHERE pushdown.leak(plate) AND expected_source = 'both';
-- ... also where a policy stands above the foreign table
CREATE TABLE pushdown.parent (capture_id bigint, plate text COLLATE "C", image_source text) PARTITION BY RANGE (capture_id);
CREATE FOREIGN TABLE pushdown.part PARTITION OF pushdown.parent FOR VALUES FROM (0) TO (100) SERVER pushdown_server
	OPTIONS (relation 'pushdown.renamed');
CREATE ROLE pushdown_reader;
ALTER TABLE pushdown.parent ENABLE ROW LEVEL SECURITY;
CREATE POLICY unseen ON pushdown.parent USING (image_source = 'front_end' AND capture_id < 4);
GRANT USAGE ON SCHEMA pushdown TO pushdown_reader;
GRANT SELECT ON pushdown.parent, pushdown.renamed TO pushdown_reader;
SET ROLE pushdown_reader;
EXPLAIN (COSTS OFF) SELECT plate FROM pushdown.parent WHERE pushdown.leak(plate) AND capture_id > 1;
SELECT plate FROM pushdown.parent WHERE pushdown.leak(plate) AND capture_id > 1;
RESET ROLE;
SET client_min_messages = warning;

-- row security of the relation: for whom the query is, also by way of a view
CREATE ROLE pushdown_owner;
CREATE ROLE pushdown_clerk;
ALTER TABLE pushdown.renamed ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON pushdown.renamed TO pushdown_owner USING (plate = 'P1');
CREATE POLICY theirs ON pushdown.renamed TO pushdown_clerk USING (plate = 'P2');
GRANT USAGE ON SCHEMA pushdown TO pushdown_owner, pushdown_clerk;
GRANT SELECT ON pushdown.c TO pushdown_owner, pushdown_clerk;
CREATE VIEW pushdown.owned AS SELECT capture_id, plate FROM pushdown.c;
ALTER VIEW pushdown.owned OWNER TO pushdown_owner;
GRANT SELECT ON pushdown.owned TO pushdown_clerk;
SET ROLE pushdown_clerk;
SELECT count(*) FROM pushdown.c;
SELECT count(*) FROM pushdown.owned;
RESET ROLE;
GRANT SELECT (capture_id, plate) ON pushdown.renamed TO pushdown_owner, pushdown_clerk;
PREPARE pushdown_rows AS SELECT DISTINCT plate FROM pushdown.c ORDER BY 1;
EXECUTE pushdown_rows;
SET ROLE pushdown_clerk;
EXECUTE pushdown_rows;
SELECT DISTINCT plate FROM pushdown.owned;
SELECT DISTINCT speed FROM pushdown.c;
SELECT count(*) FROM pushdown.c WHERE speed > 1;
SET ROLE pushdown_owner;
EXECUTE pushdown_rows;
RESET ROLE;
REVOKE USAGE ON SCHEMA pushdown FROM pushdown_clerk;
SET ROLE pushdown_clerk;
EXECUTE pushdown_rows;
RESET ROLE;

DEALLOCATE pushdown_p;
DEALLOCATE pushdown_rows;
DROP SCHEMA pushdown CASCADE;
DROP SERVER pushdown_server;
DROP ROLE pushdown_owner;
DROP ROLE pushdown_clerk;
DROP ROLE pushdown_reader;
