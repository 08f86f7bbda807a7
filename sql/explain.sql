-- What EXPLAIN shows, and what plans cost.
SET client_min_messages = warning;
CREATE SCHEMA explain;
CREATE TABLE explain.captures (capture_id bigint PRIMARY KEY, device_id int, path text, image_bytes int, sha256 bytea,
	plate text COLLATE "C");
INSERT INTO explain.captures
	SELECT n, -1, 'p/' || n, 1000 + n, sha256(n::text::bytea), 'P' || n % 10 FROM generate_series(1, 2000) n;
CREATE INDEX ON explain.captures (plate);
VACUUM ANALYZE explain.captures;
CREATE SERVER explain_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://secret-store.example:9000/captures');
CREATE USER MAPPING FOR PUBLIC SERVER explain_server OPTIONS (username 'reader', password 'swordfish');
CREATE FOREIGN TABLE explain.c (capture_id bigint, plate text COLLATE "C", device text COLLATE "C", image bytea,
	image_source text, expected_source text) SERVER explain_server OPTIONS (relation 'explain.captures');

-- what EXPLAIN says, without what versions of the server say differently of any scan
CREATE FUNCTION explain.show(options text, query text) RETURNS TABLE (line text) LANGUAGE plpgsql AS $$
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (%s, COSTS OFF) %s', options, query) LOOP
		line := regexp_replace(line, E'\n *"?(Disabled|Async Capable)"?: false,?(?=\n)', '', 'g');
		line := regexp_replace(line, '(rows=|"Actual Rows": )(\d+)\.00', '\1\2', 'g');
		RETURN NEXT;
	END LOOP;
END $$;

-- without and with images, planned and run
EXPLAIN (COSTS OFF) SELECT plate FROM explain.c WHERE capture_id = 7 AND expected_source = 'both';
EXPLAIN (COSTS OFF) SELECT image FROM explain.c WHERE capture_id = 7 AND expected_source = 'both' AND image_source IS NULL;
EXPLAIN (COSTS OFF, VERBOSE) SELECT image FROM explain.c x WHERE device = 'a' AND expected_source = 'both' AND image_source IS NULL;
SELECT * FROM explain.show('ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF', $$SELECT plate FROM explain.c WHERE capture_id < 8$$);
SELECT * FROM explain.show('ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF', $$SELECT image FROM explain.c WHERE capture_id < 8 AND expected_source = 'both'$$);
SELECT * FROM explain.show('ANALYZE, TIMING OFF, SUMMARY OFF, FORMAT JSON, BUFFERS OFF', $$SELECT image FROM explain.c WHERE capture_id < 8$$);
SELECT * FROM explain.show('FORMAT YAML', $$SELECT image FROM explain.c WHERE capture_id < 8$$);
SELECT * FROM explain.show('ANALYZE, TIMING OFF, SUMMARY OFF, BUFFERS OFF', $$SELECT image, upper(plate) FROM explain.c ORDER BY plate COLLATE "POSIX" DESC NULLS LAST, capture_id OFFSET 2 LIMIT 3$$);
SELECT * FROM explain.show('VERBOSE, FORMAT JSON', $$SELECT upper(plate) FROM explain.c ORDER BY plate LIMIT 3$$);

-- the time waited, where times are shown; nothing of the server or its credentials anywhere
CREATE FUNCTION explain.lines(options text) RETURNS TABLE (line text) LANGUAGE plpgsql AS $$
BEGIN
	FOR line IN EXECUTE format('EXPLAIN (%s) SELECT image, image_source FROM explain.c WHERE capture_id < 8', options) LOOP
		RETURN NEXT;
	END LOOP;
END $$;
SELECT options, count(*) FILTER (WHERE line LIKE '%Image Wait Time%') AS wait_time,
	count(*) FILTER (WHERE line ~* 'secret|swordfish|reader|9000|http:[^ ]*/captures') AS secrets
	FROM unnest(ARRAY['ANALYZE, VERBOSE', 'ANALYZE, TIMING OFF', 'VERBOSE', 'ANALYZE, FORMAT JSON', 'ANALYZE, TIMING OFF, FORMAT XML']) options,
	explain.lines(options) GROUP BY options ORDER BY options COLLATE "C";

-- estimates are those of the relation
CREATE FUNCTION explain.estimate(query text, OUT rows int, OUT cost float8, OUT width int) LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	rows := plan->0->'Plan'->>'Plan Rows';
	cost := plan->0->'Plan'->>'Total Cost';
	width := plan->0->'Plan'->>'Plan Width';
END $$;
SELECT condition, f.rows = r.rows AS rows, f.cost BETWEEN r.cost AND 2 * r.cost + 10 AS cost, i.cost > f.cost + 100 AS image_cost,
	i.width - f.width > 100000 AS image_width
	FROM unnest(ARRAY['true', 'capture_id = 9', $$plate = 'P1'$$, 'capture_id < 500', $$plate IN ('P1', 'P2') AND capture_id > 1000$$]) condition,
	explain.estimate('SELECT capture_id FROM explain.captures WHERE ' || condition) r,
	explain.estimate('SELECT capture_id FROM explain.c WHERE ' || condition) f,
	explain.estimate('SELECT capture_id, image FROM explain.c WHERE ' || condition) i;

CREATE FUNCTION explain.plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO plan;
	RETURN plan;
END $$;
-- an inner table of few rows does not make the images be fetched over and over
SELECT plan LIKE '%$1%' AS once_a_row FROM explain.plan('SELECT e.capture_id, c.image FROM explain.captures e JOIN explain.c ON c.plate = e.plate
	WHERE e.capture_id < 20') plan;

DROP SCHEMA explain CASCADE;
DROP SERVER explain_server CASCADE;
