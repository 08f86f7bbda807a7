-- Scans: rows in order, rescans, cursors, loops, joins; without a network: no device is registered, so images are unavailable.
SET client_min_messages = warning;
CREATE SCHEMA scan;
CREATE TABLE scan.captures (capture_id bigint PRIMARY KEY, device_id int, path text, image_bytes int, sha256 bytea,
	plate text COLLATE "C");
INSERT INTO scan.captures
	SELECT n, -1, 'p/' || n, 1000 + n, sha256(n::text::bytea), 'P' || n % 10 FROM generate_series(1, 1000) n;
ANALYZE scan.captures;
CREATE SERVER scan_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures');
CREATE FOREIGN TABLE scan.c (capture_id bigint, device_id int, path text, image_bytes int, sha256 bytea,
	plate text COLLATE "C", image bytea, image_source text, image_error text, expected_source text)
	SERVER scan_server OPTIONS (relation 'scan.captures');

-- the relation's rows in the path query's order, in batches that grow
SELECT count(*), count(DISTINCT capture_id), min(capture_id), max(capture_id) FROM scan.c;
SELECT bool_and(n = capture_id) FROM (SELECT capture_id, row_number() OVER () AS n FROM scan.c) s;
SELECT capture_id, image, image_source, image_error, expected_source FROM scan.c WHERE capture_id <= 2;
SELECT c, c.plate FROM scan.c WHERE capture_id = 3;
SELECT count(image_error) FROM scan.c;
SELECT count(*) FROM scan.c WHERE image_error IS NULL;
SELECT capture_id FROM scan.c WHERE plate = 'P0' AND image_source IS NULL AND expected_source = 'both' LIMIT 3;

-- rows that cannot have an image
INSERT INTO scan.captures VALUES (2001, NULL, 'a', 1, '\x00', NULL), (2002, -1, NULL, NULL, sha256(''), NULL),
	(2003, -1, '../etc/passwd', NULL, NULL, NULL), (2004, -1, 'a', 999999999, sha256(''), NULL);
SELECT capture_id, image IS NULL AS no_image, image_source, image_error FROM scan.c WHERE capture_id > 2000 ORDER BY 1;
SET tms.on_unavailable = error;
SELECT image FROM scan.c WHERE capture_id = 2003;
SELECT image_source FROM scan.c WHERE capture_id = 2003;
SELECT plate FROM scan.c WHERE capture_id = 2003;
RESET tms.on_unavailable;
DELETE FROM scan.captures WHERE capture_id > 2000;

-- tms.max_images: of those wanted, not of those seen
SET tms.max_images = 10;
SELECT count(image) FROM scan.c WHERE capture_id <= 10;
SELECT count(image) FROM scan.c WHERE capture_id <= 11;
SELECT count(image) FROM scan.c WHERE plate <> 'P1' AND capture_id <= 12 AND random() >= 0;
SELECT image IS NULL AS no_image FROM scan.c LIMIT 1;
RESET tms.max_images;

-- rescans: of a join without and with a parameter, of subqueries
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
EXPLAIN (COSTS OFF) SELECT count(*), count(image_error) FROM generate_series(1, 5) g JOIN scan.c ON capture_id BETWEEN 1 AND 2 + g;
SELECT count(*), count(image_error) FROM generate_series(1, 5) g JOIN scan.c ON capture_id BETWEEN 1 AND 2 + g;
SELECT g, (SELECT string_agg(capture_id::text, ',' ORDER BY capture_id) FROM scan.c WHERE capture_id < g) FROM generate_series(1, 4) g;
SELECT g, (SELECT count(image_error) FROM scan.c WHERE capture_id < 5 AND capture_id <> g) FROM generate_series(4, 6) g;
SELECT g, s.* FROM generate_series(1, 3) g, LATERAL (SELECT capture_id, plate FROM scan.c WHERE capture_id > g * 100 LIMIT 2) s;
SELECT g FROM generate_series(998, 1002) g WHERE EXISTS (SELECT FROM scan.c WHERE capture_id = g AND image IS NULL);
SELECT g FROM generate_series(998, 1002) g WHERE g NOT IN (SELECT capture_id FROM scan.c);
-- the same rows again from memory, and again from the path query when they are too many to keep
SET work_mem = '64kB';
SELECT g, count(*), sum(capture_id) FROM generate_series(1, 3) g, scan.c GROUP BY 1 ORDER BY 1;
SELECT g, count(*), count(image_error) FROM generate_series(1, 3) g, scan.c WHERE capture_id < 4 GROUP BY 1 ORDER BY 1;
RESET work_mem;
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_material;

-- joins, unions, set operations, grouping
SELECT count(*) FROM scan.c a JOIN scan.c b USING (capture_id) JOIN scan.captures USING (capture_id) WHERE a.plate = 'P7';
SELECT count(*), count(image_error) FROM (SELECT capture_id, image_error FROM scan.c WHERE capture_id < 3
	UNION ALL SELECT capture_id, NULL FROM scan.captures WHERE capture_id < 3
	UNION ALL SELECT capture_id, image_error FROM scan.c WHERE capture_id > 998) u;
SELECT plate, count(*) FROM scan.c GROUP BY plate HAVING count(*) > 0 ORDER BY plate LIMIT 2;
SELECT l.capture_id, r.capture_id FROM scan.c l LEFT JOIN scan.c r ON r.capture_id = l.capture_id + 999 WHERE l.capture_id < 3 ORDER BY 1;
WITH RECURSIVE walk AS (SELECT capture_id FROM scan.c WHERE capture_id = 1
	UNION ALL SELECT c.capture_id FROM walk w JOIN scan.c ON c.capture_id = w.capture_id * 3) SELECT array_agg(capture_id) FROM walk;

-- cursors: read in parts, held, closed early, over savepoints
BEGIN;
DECLARE plain CURSOR FOR SELECT capture_id, image_error IS NOT NULL AS told FROM scan.c;
FETCH 2 FROM plain;
SAVEPOINT s;
FETCH 6 FROM plain;
DECLARE inner_cursor CURSOR FOR SELECT capture_id FROM scan.c;
FETCH 1 FROM inner_cursor;
ROLLBACK TO s;
FETCH 1 FROM plain;
MOVE 980 FROM plain;
FETCH ALL FROM plain;
DECLARE first_in_savepoint CURSOR FOR SELECT capture_id FROM scan.c;
SAVEPOINT s2;
FETCH 1 FROM first_in_savepoint;
ROLLBACK TO s2;
FETCH 1 FROM first_in_savepoint;
DECLARE back SCROLL CURSOR FOR SELECT capture_id FROM scan.c WHERE image_error IS NOT NULL AND capture_id < 5;
FETCH LAST FROM back;
FETCH BACKWARD 2 FROM back;
DECLARE held CURSOR WITH HOLD FOR SELECT capture_id FROM scan.c WHERE image_error IS NOT NULL AND capture_id < 4;
FETCH 1 FROM held;
COMMIT;
FETCH ALL FROM held;
CLOSE ALL;

-- loops and functions; errors in the midst of a scan
DO $$
DECLARE
	row record;
	seen int := 0;
BEGIN
	FOR row IN SELECT c.capture_id, c.image_error FROM scan.c LOOP
		BEGIN
			IF row.capture_id % 100 = 0 THEN
				PERFORM 1 / 0;
			END IF;
			seen := seen + (SELECT count(*) FROM scan.c i WHERE i.capture_id = row.capture_id);
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
		EXIT WHEN row.capture_id = 250;
	END LOOP;
	IF seen <> 248 THEN
		RAISE 'saw % rows', seen;
	END IF;
	BEGIN
		FOR row IN SELECT c.image_error, 1 / (c.capture_id - 20) FROM scan.c LOOP
			seen := 0;
		END LOOP;
	EXCEPTION WHEN division_by_zero THEN
		seen := -1;
	END;
	IF seen <> -1 THEN
		RAISE 'no error';
	END IF;
END $$;
CREATE FUNCTION scan.plate_of(bigint) RETURNS text LANGUAGE sql STABLE AS 'SELECT plate FROM scan.c WHERE capture_id = $1';
SELECT count(*), min(scan.plate_of(capture_id)) FROM scan.captures WHERE capture_id < 20;
CREATE FUNCTION scan.plate_in_plpgsql(nr bigint) RETURNS text LANGUAGE plpgsql STABLE AS
	$$BEGIN RETURN (SELECT plate FROM scan.c WHERE capture_id = nr); END$$;
SELECT count(*), min(scan.plate_in_plpgsql(capture_id)) FROM scan.captures WHERE capture_id < 20;

-- a cursor has the rights and sees the rows of who opened it, whoever fetches from it
CREATE ROLE scan_clerk;
CREATE POLICY few ON scan.captures FOR SELECT TO scan_clerk USING (capture_id <= 2);
ALTER TABLE scan.captures ENABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA scan TO scan_clerk;
CREATE FUNCTION scan.open_plates(refcursor) RETURNS refcursor LANGUAGE plpgsql SECURITY DEFINER AS
	$$BEGIN OPEN $1 FOR SELECT c.capture_id, c.plate, c.image_source FROM scan.c ORDER BY capture_id; RETURN $1; END$$;
BEGIN;
SET LOCAL ROLE scan_clerk;
SELECT scan.open_plates('plates');
FETCH 1 FROM plates;
MOVE 10 FROM plates;
FETCH 1 FROM plates;
SELECT capture_id FROM scan.c;
ROLLBACK;
GRANT SELECT ON scan.captures, scan.c TO scan_clerk;
BEGIN;
SET LOCAL ROLE scan_clerk;
DECLARE plates CURSOR FOR SELECT capture_id FROM scan.c;
RESET ROLE;
FETCH ALL FROM plates;
ROLLBACK;
ALTER TABLE scan.captures DISABLE ROW LEVEL SECURITY;
DROP OWNED BY scan_clerk;
DROP ROLE scan_clerk;

-- the outer query's snapshot: changes made by a function under way are not seen by the scan, those made before are
CREATE FUNCTION scan.add(nr bigint) RETURNS bigint LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO scan.captures (capture_id, plate) VALUES (nr + 5000, 'added'); RETURN nr; END$$;
SELECT count(scan.add(capture_id)) FROM scan.c WHERE capture_id <= 300;
SELECT count(*) FROM scan.c;
DELETE FROM scan.captures WHERE plate = 'added';
BEGIN;
INSERT INTO scan.captures (capture_id, plate) VALUES (9999, 'mine');
SELECT capture_id FROM scan.c WHERE plate = 'mine';
ROLLBACK;

-- changes of other tables from this one
CREATE TABLE scan.note (capture_id bigint, plate text);
INSERT INTO scan.note SELECT capture_id FROM scan.c WHERE capture_id <= 5;
EXPLAIN (COSTS OFF) UPDATE scan.note n SET plate = c.plate FROM scan.c WHERE c.capture_id = n.capture_id;
UPDATE scan.note n SET plate = c.plate FROM scan.c WHERE c.capture_id = n.capture_id;
DELETE FROM scan.note n USING scan.c WHERE c.capture_id = n.capture_id AND c.plate = 'P3' RETURNING n.*, c.plate, c.image_error;
UPDATE scan.note n SET plate = 'whole' FROM scan.c WHERE c.capture_id = n.capture_id AND c.capture_id = 1 RETURNING c;
-- whole rows that only LATERAL items use: with all columns
UPDATE scan.note n SET plate = 'lateral' FROM scan.c, LATERAL row_to_json(c) j WHERE c.capture_id = n.capture_id AND c.capture_id = 2 RETURNING j;
SELECT s.* FROM scan.note n JOIN scan.c USING (capture_id), LATERAL (SELECT c::text OFFSET 0) s WHERE capture_id = 2 FOR UPDATE OF n;
SELECT s.* FROM scan.note n JOIN scan.c USING (capture_id), LATERAL (SELECT v FROM (VALUES (1)) t (x), LATERAL (SELECT c::text OFFSET 0) v OFFSET 0) s WHERE capture_id = 2 FOR UPDATE OF n;
EXPLAIN (COSTS OFF) SELECT s.* FROM scan.note n JOIN scan.c USING (capture_id), LATERAL (SELECT c.plate OFFSET 0) s WHERE capture_id = 2 FOR UPDATE OF n;
SELECT n.capture_id, c.plate FROM scan.note n JOIN scan.c USING (capture_id) ORDER BY 1 FOR UPDATE OF n;
SELECT c.capture_id FROM scan.c WHERE capture_id < 3 FOR UPDATE;
SELECT * FROM scan.note ORDER BY 1;

DROP SCHEMA scan CASCADE;
DROP SERVER scan_server;
