-- tms.images without any request: order, what is not there, rights, limits, plans. (tests/t/055 fetches.)
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
SELECT tms.create_capture_table() WHERE to_regclass('tms.capture') IS NULL \g /dev/null
CREATE SERVER images_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures', connect_timeout '5s');
SELECT tms.register_device('images-1', 'http://127.0.0.1:1', token => repeat('i', 40)) <> '' AS registered;
SELECT accepted_seq FROM tms.ingest('{"device": "images-1", "token": "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii",
	"ledger": "00000002-0000-4000-8000-000000000001", "oldest_seq": 1, "last_seq": 3, "first_seq": 1, "uploaded_seq": 3,
	"uploaded_max": 3, "cleaned_seq": 0, "report_no": 1}', ARRAY[now(), now(), now()], ARRAY['is/1.jpg', 'is/2.jpg', 'is/3.jpg'],
	ARRAY[1000, 2000, 3000], ARRAY[sha256('1'), sha256('2'), sha256('3')], NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
-- No source may be asked, so that nothing is.
UPDATE tms.device SET enabled = false WHERE code = 'images-1';
SET tms.image_source = 'front_end';
CREATE FUNCTION images_id(seq int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 1::bigint << 32 | seq';

-- A row for every element, in order.
SELECT * FROM tms.images(ARRAY[images_id(3), images_id(1), NULL, 4711, images_id(1), -1], 'images_server');
SELECT * FROM tms.images(ARRAY[[images_id(1), images_id(2)], [images_id(3), NULL]], 'images_server');
SELECT count(*) FROM tms.images('{}', 'images_server');
SELECT count(*) FROM tms.images(NULL, 'images_server');
SELECT count(*) FROM tms.images(ARRAY[images_id(1)], NULL);
SELECT tms.images(ARRAY[images_id(2), images_id(1)], 'images_server');
SELECT (tms.images(ARRAY[images_id(2), images_id(1)], 'images_server')).capture_id - images_id(0) AS seq LIMIT 1;
SELECT seq, (i).capture_id - images_id(0) AS same, (i).image_error
FROM (SELECT seq, tms.images(ARRAY[images_id(seq)], 'images_server') AS i FROM generate_series(1, 3) AS seq) x;
SELECT s, i.capture_id - images_id(0) AS seq FROM generate_series(1, 3) AS s, LATERAL tms.images(ARRAY[images_id(s), images_id(1)], 'images_server') AS i;

-- As an error; a capture that does not exist is none.
SET tms.on_unavailable = 'error';
SELECT * FROM tms.images(ARRAY[4711], 'images_server');
SELECT * FROM tms.images(ARRAY[4711, images_id(1)], 'images_server');
RESET tms.on_unavailable;

-- A statement's images are counted together.
SET tms.max_images = 3;
SELECT count(*) FROM tms.images(ARRAY[images_id(1), 4711, images_id(2), images_id(3)], 'images_server');
SELECT count(*) FROM tms.images(ARRAY[images_id(1), images_id(1), images_id(2), images_id(3)], 'images_server');
RESET tms.max_images;

-- Prepared.
SET plan_cache_mode = force_generic_plan;
PREPARE images_of(bigint[]) AS SELECT count(*), count(image_error) FROM tms.images($1, 'images_server');
EXECUTE images_of(ARRAY[images_id(1), images_id(2)]);
EXECUTE images_of(ARRAY[images_id(3)]);
EXECUTE images_of('{}');
EXECUTE images_of(NULL);
EXECUTE images_of(ARRAY[images_id(1), NULL]);
EXECUTE images_of(ARRAY[images_id(1), images_id(2)]);
EXECUTE images_of(ARRAY[images_id(1), images_id(2)]);
EXECUTE images_of(ARRAY[images_id(1), images_id(2)]);
EXECUTE images_of(ARRAY[images_id(1), images_id(2)]);
EXECUTE images_of(ARRAY[images_id(1), images_id(2)]);
DEALLOCATE images_of;
RESET plan_cache_mode;

-- Not where a set has no place.
SELECT * FROM tms.images(ARRAY[4711], 'no_such_server');
UPDATE tms.capture SET plate = 'x' WHERE (tms.images(ARRAY[4711], 'images_server')).image IS NULL;

-- Rights.
CREATE ROLE images_clerk;
SET ROLE images_clerk;
SELECT count(*) FROM tms.images(ARRAY[images_id(1)], 'images_server');
RESET ROLE;
GRANT EXECUTE ON FUNCTION tms.images(bigint[], text) TO images_clerk;
SET ROLE images_clerk;
SELECT count(*) FROM tms.images(ARRAY[images_id(1)], 'images_server');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER images_server TO images_clerk;
SET ROLE images_clerk;
SELECT count(*) FROM tms.images(ARRAY[images_id(1)], 'images_server');
RESET ROLE;
GRANT SELECT ON tms.capture TO images_clerk;
ALTER TABLE tms.capture ENABLE ROW LEVEL SECURITY;
CREATE POLICY images_policy ON tms.capture USING (path <> 'is/2.jpg');
SET ROLE images_clerk;
SELECT capture_id - images_id(0) AS seq, image_error FROM tms.images(ARRAY[images_id(1), images_id(2)], 'images_server');
RESET ROLE;

RESET tms.image_source;
ALTER TABLE tms.capture DISABLE ROW LEVEL SECURITY;
DROP POLICY images_policy ON tms.capture;
REVOKE ALL ON FUNCTION tms.images(bigint[], text) FROM images_clerk;
REVOKE ALL ON tms.capture FROM images_clerk;
DROP SERVER images_server;
DROP ROLE images_clerk;
DROP FUNCTION images_id;
DELETE FROM tms.capture WHERE path LIKE 'is/_.jpg';
DELETE FROM tms.ledger_day WHERE ledger_no = 1;
DELETE FROM tms.ledger WHERE ledger_no = 1;
DELETE FROM tms.device WHERE code = 'images-1';
