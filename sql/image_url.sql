-- tms.image_url, which asks nobody: the source that has the image, signatures, limits, rights. (tests/t/055 loads the URLs.)
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET timezone = 'UTC';
SELECT tms.create_capture_table() WHERE to_regclass('tms.capture') IS NULL \g /dev/null
CREATE SERVER url_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://center.example/captures/');
SELECT tms.register_device('url-1', 'http://10.1.4.17:8440', token => repeat('u', 40)) <> '' AS registered;
SELECT accepted_seq FROM tms.ingest('{"device": "url-1", "token": "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu",
	"ledger": "00000002-0000-4000-8000-000000000001", "oldest_seq": 1, "last_seq": 5, "first_seq": 1, "uploaded_seq": 2,
	"uploaded_max": 4, "cleaned_seq": 1, "report_no": 1}', array_fill(now(), ARRAY[5]), ARRAY['u/1.jpg', 'u/2.jpg', 'u/3.jpg', 'u/4.jpg', 'u/5.jpg'],
	ARRAY[1, 2, 3, 4, 5], array_fill(sha256('1'), ARRAY[5]), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

-- The URL without what changes from call to call, and how many seconds it is still good for.
CREATE FUNCTION url_of(seq int, expires interval DEFAULT '5 min') RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(url, 'sig=[A-Za-z0-9_-]{43}$', 'sig=...'), '(?<=expires=)\d+', 'now + ' || coalesce(
		ceil((substring(url FROM 'expires=(\d+)')::numeric - extract(epoch FROM clock_timestamp())) / 10) * 10, 0))
	FROM tms.image_url(1::bigint << 32 | seq, expires, 'url_server') AS url
$$;

-- By the watermarks: 1 is cleaned, 2 is in both, 3 and 4 may not be uploaded yet, 5 is not.
SELECT seq, url_of(seq) FROM generate_series(1, 6) AS seq;
SET tms.image_source = 'image_center';
SELECT seq, url_of(seq) FROM generate_series(1, 6) AS seq;
SET tms.image_source = 'front_end';
SELECT seq, url_of(seq) FROM generate_series(1, 6) AS seq;
RESET tms.image_source;
ALTER SERVER url_server OPTIONS (ADD prefer 'front_end');
SELECT seq, url_of(seq) FROM generate_series(1, 2) AS seq;
ALTER SERVER url_server OPTIONS (DROP prefer, ADD front_end 'off');
SELECT seq, url_of(seq) FROM generate_series(4, 5) AS seq;
ALTER SERVER url_server OPTIONS (DROP front_end);

-- Credentials of the image center are in no URL.
CREATE USER MAPPING FOR PUBLIC SERVER url_server OPTIONS (username 'reader', password 'secret');
SELECT seq, url_of(seq) FROM generate_series(1, 3) AS seq;
ALTER USER MAPPING FOR PUBLIC SERVER url_server OPTIONS (DROP username, DROP password, ADD bearer_token 'secret');
SELECT seq, url_of(seq) FROM generate_series(1, 3) AS seq;
UPDATE tms.device SET enabled = false WHERE code = 'url-1';
SELECT url_of(2);
SET tms.on_unavailable = 'error';
SELECT url_of(2);
RESET tms.on_unavailable;
DROP USER MAPPING FOR PUBLIC SERVER url_server;

-- A front end that cannot be asked: the image center, whatever the watermarks say.
SELECT url_of(5);
UPDATE tms.device SET enabled = true, base_url = NULL WHERE code = 'url-1';
SELECT url_of(5);
UPDATE tms.device SET base_url = 'http://10.1.4.17:8440' WHERE code = 'url-1';

-- How long.
SELECT url_of(5, '1 s') <> '' AS shortest, url_of(5, '7 days'), url_of(5, '1 day 30 min'), url_of(5, '95.5 s');
SELECT url_of(5, '0');
SELECT url_of(5, '-1 s');
SELECT url_of(5, '7 days 1 s');
SELECT url_of(5, '1 mon');
SELECT url_of(5, NULL) IS NULL AS null_expires;

-- Rights; other tests tell what a row needs.
CREATE ROLE url_clerk;
SET ROLE url_clerk;
SELECT tms.image_url(1, server => 'url_server');
RESET ROLE;
GRANT EXECUTE ON FUNCTION tms.image_url(bigint, interval, text) TO url_clerk;
SET ROLE url_clerk;
SELECT tms.image_url(1::bigint << 32 | 2, server => 'url_server');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER url_server TO url_clerk;
SET ROLE url_clerk;
SELECT tms.image_url(1::bigint << 32 | 2, server => 'url_server');
RESET ROLE;
GRANT SELECT ON tms.capture TO url_clerk;
SET ROLE url_clerk;
SELECT tms.image_url(1::bigint << 32 | 2, server => 'url_server');
RESET ROLE;
SELECT tms.image_url(1, server => 'no_such_server');

-- Computed after sort and LIMIT.
EXPLAIN (COSTS OFF, VERBOSE) SELECT tms.image_url(g, server => 'url_server') FROM generate_series(1, 100) AS g ORDER BY g DESC LIMIT 2;

REVOKE ALL ON FUNCTION tms.image_url(bigint, interval, text) FROM url_clerk;
REVOKE ALL ON tms.capture FROM url_clerk;
DROP SERVER url_server;
DROP ROLE url_clerk;
DROP FUNCTION url_of;
DELETE FROM tms.capture WHERE path LIKE 'u/_.jpg';
DELETE FROM tms.ledger_day WHERE ledger_no = 1;
DELETE FROM tms.ledger WHERE ledger_no = 1;
DELETE FROM tms.device WHERE code = 'url-1';
