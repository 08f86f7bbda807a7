-- Circuit breakers: which failures count, what an open one means for images, who may look. All of it holds for one session as
-- well as for the cluster.
SET client_min_messages = warning;
SELECT tms.create_capture_table() WHERE to_regclass('tms.capture') IS NULL \g /dev/null
CREATE SERVER breaker_server FOREIGN DATA WRAPPER tms_fdw
	OPTIONS (url 'http://LOCALHOST:1/captures', connect_timeout '5s', breaker_failures '3', breaker_cooldown '1h');
SELECT tms.register_device('breaker-1', 'http://127.0.0.1:1', token => repeat('b', 40)) <> '' AS registered;
SELECT accepted_seq FROM tms.ingest('{"device": "breaker-1", "token": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
	"ledger": "00000005-0000-4000-8000-000000000001", "oldest_seq": 1, "last_seq": 1, "first_seq": 1, "uploaded_seq": 1,
	"uploaded_max": 1, "cleaned_seq": 0, "report_no": 1}', ARRAY[now()], ARRAY['b/1.jpg'], ARRAY[1000], ARRAY[sha256('1')],
	NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
IMPORT FOREIGN SCHEMA tms FROM SERVER breaker_server INTO public;

SELECT * FROM tms.stat_breaker;
SELECT image_source, image_error FROM capture_image WHERE path = 'b/1.jpg';
SELECT server, source, endpoint, state, failures, last_error, last_failure <= now() AS failed, open_since FROM tms.stat_breaker ORDER BY source;
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';

-- three in a row: open, and the sources are not asked
SELECT server, source, endpoint, state, failures, last_error, open_since BETWEEN now() - interval '1 minute' AND clock_timestamp() AS opened
	FROM tms.stat_breaker ORDER BY source;
SELECT source, breaker FROM tms.stat_images;
SELECT tms.stat_images_reset();
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';
SELECT tms.image(tms.capture_id(2, 1), 'breaker_server') IS NULL AS unavailable;
SET tms.image_source = 'image_center';
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';
SET tms.image_source = 'front_end';
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';
RESET tms.image_source;
SET tms.on_unavailable = 'error';
SELECT tms.image(tms.capture_id(2, 1), 'breaker_server');
RESET tms.on_unavailable;
SELECT source, requests, errors FROM tms.stat_images;

-- a server that is altered to another address starts afresh; the old address keeps its own
ALTER SERVER breaker_server OPTIONS (SET url 'http://127.0.0.1:2/captures');
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';
SELECT source, endpoint, state, failures FROM tms.stat_breaker ORDER BY source, endpoint;

-- a shorter cooldown holds at once: the next one tries, and failing again opens it again
ALTER SERVER breaker_server OPTIONS (SET url 'http://localhost:1/captures', SET breaker_cooldown '1ms');
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';
ALTER SERVER breaker_server OPTIONS (SET breaker_cooldown '1h');
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';
SELECT source, endpoint, state, failures FROM tms.stat_breaker ORDER BY source, endpoint;

-- none at all; another server's are its own
ALTER SERVER breaker_server OPTIONS (SET breaker_failures '0');
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';
ALTER SERVER breaker_server OPTIONS (SET breaker_failures '3');
CREATE SERVER breaker_other FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://localhost:1/captures', front_end 'off');
SELECT tms.image(tms.capture_id(2, 1), 'breaker_other') IS NULL AS unavailable;
SELECT server, source, state, failures FROM tms.stat_breaker WHERE server = 'breaker_other';

-- reset
SELECT tms.breaker_reset();
SELECT count(*) FROM tms.stat_breaker;
SELECT source, breaker FROM tms.stat_images;
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';

-- what says nothing about a source opens nothing: an address that must not be asked
ALTER SERVER breaker_server OPTIONS (SET url 'http://169.254.169.254/captures', ADD front_end 'off');
ALTER SERVER breaker_server OPTIONS (SET breaker_failures '1');
SELECT image_error FROM capture_image WHERE path = 'b/1.jpg';
SELECT count(*) FROM tms.stat_breaker WHERE endpoint = 'http://169.254.169.254';

-- more endpoints in trouble than there is room for: those that failed longest ago make way, and no query minds
CREATE TEMP TABLE many AS SELECT n, tms.register_device('breaker-many-' || n, format('http://127.1.%s.%s:1', n / 200, n % 200 + 1)) AS token
	FROM generate_series(1, 1500) AS n;
INSERT INTO tms.capture (captured_at, capture_id, device_id, image_bytes, path, sha256)
	SELECT now(), (2::bigint << 32) + n + 1, device_id, 10, 'b/many.jpg', sha256('1')
	FROM many JOIN tms.device ON code = 'breaker-many-' || n;
ALTER SERVER breaker_server OPTIONS (DROP front_end);
SET tms.image_source = 'front_end';
SELECT image_error, count(*) FROM capture_image WHERE path = 'b/many.jpg' GROUP BY image_error;
SELECT count(*) BETWEEN 800 AND 1024 AS as_many_as_fit FROM tms.stat_breaker WHERE state = 'open';
SELECT count(*) AS images, count(*) FILTER (WHERE image_error = 'front_end: circuit breaker open (connection refused)') > 50 AS some_skipped
	FROM capture_image WHERE path = 'b/many.jpg';
RESET tms.image_source;
DELETE FROM tms.capture WHERE path = 'b/many.jpg';
DELETE FROM tms.device WHERE code LIKE 'breaker-many-%';

-- who may look
CREATE ROLE breaker_clerk;
SET ROLE breaker_clerk;
SELECT * FROM tms.stat_breaker;
SELECT * FROM tms.breaker_read();
SELECT tms.breaker_reset();
RESET ROLE;
GRANT pg_monitor TO breaker_clerk;
SET ROLE breaker_clerk;
SELECT count(*) > 0 AS seen FROM tms.stat_breaker;
SELECT tms.breaker_reset();
RESET ROLE;

SELECT tms.breaker_reset();
DROP ROLE breaker_clerk;
DROP SERVER breaker_server, breaker_other CASCADE;
DELETE FROM tms.capture WHERE path = 'b/1.jpg';
DELETE FROM tms.ledger_day WHERE ledger_no = 2;
DELETE FROM tms.ledger WHERE ledger_no = 2;
DELETE FROM tms.device WHERE code = 'breaker-1';
