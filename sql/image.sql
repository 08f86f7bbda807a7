-- tms.image without any server that answers: rights, errors, plans. (tests/t/040 to 042 fetch.)
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
SELECT tms.create_capture_table() WHERE to_regclass('tms.capture') IS NULL \g /dev/null
CREATE SERVER image_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures', connect_timeout '5s');
SELECT tms.register_device('image-1', 'http://127.0.0.1:1', token => repeat('i', 40)) <> '' AS registered;

SELECT accepted_seq FROM tms.ingest('{"device": "image-1", "token": "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii",
	"ledger": "00000002-0000-4000-8000-000000000001", "oldest_seq": 1, "last_seq": 2, "first_seq": 1, "uploaded_seq": 2,
	"uploaded_max": 2, "cleaned_seq": 0, "report_no": 1}', ARRAY[now(), now()], ARRAY['i/1.jpg', 'i/2.jpg'],
	ARRAY[1000, 2000], ARRAY[sha256('1'), sha256('2')], NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- No source answers.
\set first '(1::bigint << 32 | 1)'
SELECT tms.image(:first, 'image_server') IS NULL AS unavailable;
SET tms.on_unavailable = 'error';
SELECT tms.image(:first, 'image_server');
SET tms.image_source = 'front_end';
SELECT tms.image(:first, 'image_server');
SET tms.image_source = 'auto';
SET tms.image_source = 'moon';
RESET tms.image_source;
RESET tms.on_unavailable;

-- What asks nobody.
SELECT tms.image(4711, 'image_server') IS NULL AS unknown_capture, tms.image(0, 'image_server') IS NULL AS no_capture,
	tms.image(-1, 'image_server') IS NULL AS negative, tms.image(NULL, 'image_server') IS NULL AS null_capture;
SELECT tms.image(:first, 'no_such_server');
CREATE FOREIGN DATA WRAPPER image_other_wrapper;
CREATE SERVER image_other FOREIGN DATA WRAPPER image_other_wrapper;
SELECT tms.image(:first, 'image_other');

-- Computed after sort and limit, and not at all when nobody looks.
EXPLAIN (COSTS OFF, VERBOSE) SELECT tms.image(g, 'image_server') FROM generate_series(1, 100) AS g ORDER BY g DESC LIMIT 2;
EXPLAIN (COSTS OFF, VERBOSE) SELECT count(*) FROM (SELECT tms.image(g, 'image_server') FROM generate_series(1, 100) AS g) x;

-- A statement's images are counted together.
SET tms.max_images = 3;
SELECT count(*) FROM generate_series(1, 3) AS g WHERE tms.image(:first + g * 0, 'image_server') IS NULL;
SELECT count(*) FROM generate_series(1, 4) AS g WHERE tms.image(:first + g * 0, 'image_server') IS NULL;
RESET tms.max_images;

-- Rights.
CREATE ROLE image_clerk;
SET ROLE image_clerk;
SELECT tms.image(:first, 'image_server');
RESET ROLE;
GRANT EXECUTE ON FUNCTION tms.image(bigint, text) TO image_clerk;
SET ROLE image_clerk;
SELECT tms.image(:first, 'image_server');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER image_server TO image_clerk;
SET ROLE image_clerk;
SELECT tms.image(:first, 'image_server');
RESET ROLE;
GRANT SELECT ON tms.capture TO image_clerk;
SET ROLE image_clerk;
SELECT tms.image(:first, 'image_server') IS NULL AS may_ask;
RESET ROLE;

REVOKE ALL ON FUNCTION tms.image(bigint, text) FROM image_clerk;
REVOKE ALL ON tms.capture FROM image_clerk;
DROP SERVER image_server, image_other;
DROP FOREIGN DATA WRAPPER image_other_wrapper;
DROP ROLE image_clerk;
DELETE FROM tms.capture WHERE path LIKE 'i/_.jpg';
DELETE FROM tms.ledger_day WHERE ledger_no = 1;
DELETE FROM tms.ledger WHERE ledger_no = 1;
DELETE FROM tms.device WHERE code = 'image-1';
