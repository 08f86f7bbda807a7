-- Devices, their tokens, upload requests.
\set VERBOSITY terse
\pset format unaligned
SET timezone = 'UTC';

-- A token is 32 random bytes, kept as digest and URL key alone.
SELECT tms.register_device('registry-1', 'http://10.1.4.17:8440/', site => 'North bridge', attributes => '{"model": "x"}') AS token \gset
SELECT length(:'token'), :'token' ~ '^[A-Za-z0-9_-]{43}$' AS base64url;
SELECT d.code, d.base_url, d.cleaning_period, d.enabled, d.site, d.attributes,
	s.token_hash = sha256(:'token'::bytea) AS hash, s.url_key = tms.url_key(:'token') AS key
FROM tms.device d JOIN tms.device_secret s USING (device_id) WHERE d.code = 'registry-1';
SELECT count(DISTINCT tms.new_token()) FROM generate_series(1, 1000);

-- One that exists already, and one token for all to see, as after a rebuild.
SELECT tms.register_device('registry-1', 'http://10.1.4.18:8440');
SELECT tms.register_device('registry-2', NULL, '12 hours', token => 'given-token-of-more-than-32-characters');
SELECT tms.register_device('registry-3', 'https://[fd00::17]:8440', token => 'short');
SELECT tms.register_device('registry-3', 'https://[fd00::17]:8440', token => repeat('x', 257));
SELECT tms.register_device('registry-3', 'https://[fd00::17]:8440', token => repeat('x ', 20));
SELECT count(*) AS nothing_left_behind FROM tms.device WHERE code = 'registry-3';

-- Each wrong field is named.
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT tms.register_device('', 'http://10.1.4.17');
SELECT tms.register_device(NULL, 'http://10.1.4.17');
SELECT tms.register_device('a/b', 'http://10.1.4.17');
SELECT tms.register_device('registry-3', 'ftp://10.1.4.17');
SELECT tms.register_device('registry-3', 'http://10.1.4.17', '-1 day');
SELECT tms.register_device('registry-3', 'http://10.1.4.17', '1 month -30 days');
SELECT tms.register_device('registry-3', 'http://10.1.4.17', NULL);
SELECT tms.register_device('registry-3', 'http://10.1.4.17', site => repeat('x', 201));
SELECT tms.register_device('registry-3', 'http://10.1.4.17', attributes => '[]');
\set VERBOSITY terse

-- What a base_url may be; the rule is the table's own, so an UPDATE cannot get around it.
CREATE TEMP TABLE url (base_url text, good boolean);
INSERT INTO url VALUES ('http://gate', true), ('https://gate-1.example.org:1', true), ('http://10.0.0.1:65535', true),
	('http://[::1]:80', true), ('http://user@gate', false), ('http://user:pw@gate', false), ('http://gate/path', false),
	('http://gate?x', false), ('http://gate#x', false), ('http://gate:0', false), ('http://gate:65536', false),
	('http://gate:', false), ('http://', false), ('http:///x', false), ('http://-gate', false), ('http://gate ', false),
	(E'http://gate\nx', false), ('HTTP://gate', false), ('http://' || repeat('a', 300), false), ('http://gäte', false);
CREATE FUNCTION pg_temp.accepts(url text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	UPDATE tms.device SET base_url = url WHERE code = 'registry-2';
	RETURN true;
EXCEPTION WHEN check_violation THEN
	RETURN false;
END;
$$;
SELECT base_url, good FROM url WHERE pg_temp.accepts(base_url) <> good;

SELECT tms.rotate_token('registry-1') AS rotated \gset
SELECT :'rotated' <> :'token' AS another, token_hash = sha256(:'rotated'::bytea) AS hash, url_key = tms.url_key(:'rotated') AS key
FROM tms.device_secret JOIN tms.device USING (device_id) WHERE code = 'registry-1';
SELECT tms.rotate_token('registry-none');

-- Upload requests: for one device, for all of them.
SELECT tms.request_upload('registry-1', '2026-11-01Z', '2026-11-02Z') AS one, tms.request_upload(NULL, '2026-11-01Z', '2026-11-02Z') AS every \gset
SELECT :every > :one AS increasing;
SELECT (SELECT code FROM tms.device d WHERE d.device_id = r.device_id) AS device, since, until
FROM tms.upload_request r WHERE id IN (:one, :every) ORDER BY id;
SELECT tms.request_upload('registry-none', '2026-11-01Z', '2026-11-02Z');
SELECT tms.request_upload('registry-1', '2026-11-02Z', '2026-11-02Z');
SELECT tms.request_upload('registry-1', '-infinity', '2026-11-02Z');
SELECT tms.request_upload('registry-1', NULL, '2026-11-02Z');

-- What everybody may see, and what not.
CREATE ROLE regress_registry;
SET ROLE regress_registry;
SELECT code, site, enabled FROM tms.device WHERE code = 'registry-1';
SELECT base_url FROM tms.device;
SELECT * FROM tms.device_secret;
SELECT * FROM tms.device_status;
SELECT tms.register_device('registry-4', NULL);
SELECT tms.rotate_token('registry-1');
SELECT tms.new_token();
SELECT tms.set_token(1, 'given-token-of-more-than-32-characters');
SELECT tms.request_upload(NULL, '2026-11-01Z', '2026-11-02Z');
RESET ROLE;

-- Somebody who is granted the function needs no right on the tables.
GRANT EXECUTE ON FUNCTION tms.register_device(text, text, interval, text, text, jsonb) TO regress_registry;
SET ROLE regress_registry;
SELECT length(tms.register_device('registry-4', 'http://10.1.4.19'));
RESET ROLE;

DROP OWNED BY regress_registry;
DROP ROLE regress_registry;
DELETE FROM tms.upload_request WHERE id IN (:one, :every);
DELETE FROM tms.device WHERE code LIKE 'registry-%';
