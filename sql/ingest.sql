-- tms.ingest: who may call it, what of a call is an error, what becomes of a row that breaks a rule. The protocol of
-- ledgers is in ledger_protocol.sql. All of it is rolled back.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
SET client_min_messages = warning;
BEGIN;
SET LOCAL timezone = 'UTC';
SELECT tms.create_capture_table() WHERE to_regclass('tms.capture') IS NULL \g /dev/null
\set token 'ingest-token-0123456789abcdefghijklmnopqrstu'
SELECT tms.register_device('ingest-1', 'http://127.0.0.1:9', '3 days', :'token') = :'token' AS token_kept;
SELECT length(tms.register_device('ingest-2', NULL)) AS token_length;

CREATE SCHEMA ingest_test;

-- A header of a first call with one row, with some fields changed; a field that is set to "absent" is left out.
CREATE FUNCTION ingest_test.header(changes jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_object_agg(key, value) FROM jsonb_each(
		'{"device": "ingest-1", "token": "ingest-token-0123456789abcdefghijklmnopqrstu",
		  "ledger": "12345678-0000-4000-8000-000000000001", "oldest_seq": 1, "last_seq": 1, "first_seq": 1,
		  "uploaded_seq": 0, "uploaded_max": 0, "cleaned_seq": 0, "report_no": 1, "request_seen": 0}' || changes)
	WHERE value <> '"absent"'
$$;

-- Calls tms.ingest with arrays given by name (the others: one sane element each) and tells its answer or its error.
CREATE FUNCTION ingest_test.call(header jsonb, captured_at timestamptz[] DEFAULT ARRAY[now()],
	path text[] DEFAULT ARRAY['ingest/a.jpg'], image_bytes int[] DEFAULT ARRAY[1000],
	sha256 bytea[] DEFAULT ARRAY[sha256('a')], plate text[] DEFAULT ARRAY['WA56660'], plate_class text[] DEFAULT ARRAY['02'],
	plate_color text[] DEFAULT ARRAY['blue'], direction text[] DEFAULT ARRAY['north'], lane smallint[] DEFAULT ARRAY[1],
	speed_kmh smallint[] DEFAULT ARRAY[60], violation_code text[] DEFAULT ARRAY[NULL], event_id uuid[] DEFAULT ARRAY[NULL::uuid],
	attributes jsonb[] DEFAULT ARRAY[NULL::jsonb]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answer record;
	code text;
	message text;
	detail text;
BEGIN
	SELECT * INTO answer FROM tms.ingest(header, captured_at, path, image_bytes, sha256, plate, plate_class, plate_color,
		direction, lane, speed_kmh, violation_code, event_id, attributes);
	RETURN 'accepted ' || answer.accepted_seq || coalesce(', fork from ' || answer.fork_from, '');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN code || ': ' || message || coalesce(' | ' || nullif(detail, ''), '');
END;
$$;

-- Who may call: the same words for a wrong token and an unknown device.
SELECT what, ingest_test.call(ingest_test.header(changes)) FROM (VALUES
	('wrong token', '{"token": "ingest-token-0123456789abcdefghijklmnopqrstU"}'::jsonb),
	('empty token', '{"token": ""}'),
	('unknown device', '{"device": "ingest-nobody"}'),
	('device of another token', '{"device": "ingest-2"}'),
	('device that is no code', '{"device": "../ingest-1"}'),
	('device with the case of another', '{"device": "Ingest-1"}')) AS v (what, changes);
UPDATE tms.device SET enabled = false WHERE code = 'ingest-1';
SELECT ingest_test.call(ingest_test.header()) AS disabled;
SELECT ingest_test.call(ingest_test.header('{"token": "wrong"}')) AS disabled_and_wrong;
UPDATE tms.device SET enabled = true WHERE code = 'ingest-1';
DELETE FROM tms.device_secret WHERE device_id = tms.device_id('ingest-2');
SELECT ingest_test.call(ingest_test.header('{"device": "ingest-2"}')) AS no_secret;

-- Header: each field missing, of a wrong type, out of range.
SELECT field, ingest_test.call(ingest_test.header(jsonb_build_object(field, 'absent'))) AS missing
FROM unnest('{device,token,ledger,oldest_seq,last_seq,first_seq,uploaded_seq,uploaded_max,cleaned_seq,report_no}'::text[]) AS field;
SELECT changes, ingest_test.call(ingest_test.header(changes)) FROM (VALUES
	('{"device": 7}'::jsonb), ('{"token": {"a": 1}}'), ('{"token": null}'), ('{"ledger": 12}'), ('{"ledger": "12345678"}'),
	('{"ledger": "12345678-0000-4000-8000-00000000000g"}'), ('{"oldest_seq": "1"}'), ('{"oldest_seq": 0}'), ('{"oldest_seq": 3}'),
	('{"last_seq": -1}'), ('{"last_seq": 4294967296}'), ('{"last_seq": 1.5}'), ('{"last_seq": 0}'), ('{"last_seq": true}'),
	('{"first_seq": 0}'), ('{"first_seq": 4294967296, "last_seq": 4294967295}'), ('{"first_seq": 1e20}'), ('{"first_seq": [1]}'),
	('{"uploaded_seq": -1}'), ('{"uploaded_max": 4294967296}'), ('{"cleaned_seq": 99999999999999999999}'),
	('{"report_no": -1}'), ('{"report_no": 9223372036854775808}'), ('{"request_seen": "none"}'),
	('{"prev_sha256": 1}'), ('{"prev_sha256": "abc"}'), ('{"prev_sha256": "zz00000000000000000000000000000000000000000000000000000000000000"}'),
	('{"status": "well"}'), ('{"status": [1, 2]}')) AS v (changes);
SELECT ingest_test.call(ingest_test.header(jsonb_build_object('status', jsonb_build_object('filler', repeat('x', 70000))))) AS large;
SELECT ingest_test.call('[1, 2]') AS array_header, ingest_test.call('"text"') AS text_header, ingest_test.call(NULL) AS null_header;
SELECT count(*) AS ledgers_made FROM tms.ledger WHERE device_id = tms.device_id('ingest-1');

-- Arrays: lengths, dimensions, too many rows.
SELECT ingest_test.call(ingest_test.header(), captured_at => '{}') AS captured_at,
	ingest_test.call(ingest_test.header(), image_bytes => '{1,2}') AS image_bytes \gx
SELECT ingest_test.call(ingest_test.header(), sha256 => '{}') AS sha256, ingest_test.call(ingest_test.header(), plate => '{a,b}') AS plate,
	ingest_test.call(ingest_test.header(), plate_class => '{a,b}') AS plate_class,
	ingest_test.call(ingest_test.header(), plate_color => '{a,b}') AS plate_color,
	ingest_test.call(ingest_test.header(), direction => '{a,b}') AS direction,
	ingest_test.call(ingest_test.header(), lane => '{1,2}') AS lane, ingest_test.call(ingest_test.header(), speed_kmh => '{}') AS speed_kmh,
	ingest_test.call(ingest_test.header(), violation_code => '{}') AS violation_code,
	ingest_test.call(ingest_test.header(), event_id => '{}') AS event_id, ingest_test.call(ingest_test.header(), attributes => '{}') AS attributes \gx
SELECT ingest_test.call(ingest_test.header(), path => '{{a,b},{c,d}}') AS path_2d,
	ingest_test.call(ingest_test.header(), plate => '{{a},{b}}') AS plate_2d,
	ingest_test.call(ingest_test.header(), path => NULL) AS no_path \gx
SELECT ingest_test.call(ingest_test.header('{"last_seq": 10001}'), path => array_fill('p'::text, ARRAY[10001]),
	captured_at => NULL, image_bytes => NULL, sha256 => NULL, plate => NULL, plate_class => NULL, plate_color => NULL,
	direction => NULL, lane => NULL, speed_kmh => NULL, violation_code => NULL, event_id => NULL, attributes => NULL) AS too_many;
SELECT count(*) AS ledgers_made FROM tms.ledger WHERE device_id = tms.device_id('ingest-1');

-- A sane row goes in as it is; any lower bound will do; NULL arrays are as good as NULL elements.
SELECT ingest_test.call(ingest_test.header(), path => '[7:7]={ingest/1.jpg}', lane => '[-1:-1]={3}', violation_code => NULL, event_id => NULL,
	attributes => NULL);
SELECT ingest_test.call(ingest_test.header('{"first_seq": 2, "last_seq": 2}'), path => '{ingest/2.jpg}', violation_code => '{1039}',
	event_id => '{12345678-0000-4000-8000-00000000000e}', attributes => ARRAY['{"b": [1, null], "a": "x"}'::jsonb]);
CREATE VIEW ingest_test.stored AS
	SELECT tms.capture_seq(capture_id) AS seq, c.captured_at, c.path, c.image_bytes, sha256 = sha256('a') AS digest, c.plate,
		plate_class AS class, plate_color AS color, c.direction, c.lane, c.speed_kmh AS speed, c.violation_code AS violation, c.event_id,
		c.attributes
	FROM tms.capture c WHERE tms.capture_ledger_no(capture_id) = tms.ledger_number('12345678-0000-4000-8000-000000000001')
	ORDER BY capture_id;
SELECT captured_at = now() AS at, seq, path, image_bytes, digest, plate, class, color, direction, lane, speed FROM ingest_test.stored;
SELECT seq, violation, event_id, attributes FROM ingest_test.stored;
SELECT DISTINCT tms.capture_ledger_no(capture_id) = x'12345678'::int >> 1 AS number_of_ledger, device_id = tms.device_id('ingest-1') AS device
FROM tms.capture WHERE path LIKE 'ingest/%';
TRUNCATE tms.capture;

-- Rows that break a rule are stored nevertheless. Each field in turn, then all at once.
CREATE FUNCTION ingest_test.next() RETURNS jsonb LANGUAGE sql AS $$
	SELECT ingest_test.header(jsonb_build_object('first_seq', accepted_seq + 1, 'last_seq', accepted_seq + 1))
	FROM tms.ledger WHERE ledger = '12345678-0000-4000-8000-000000000001'
$$;
SELECT ingest_test.call(ingest_test.next(), path => ARRAY[p]), p AS path FROM unnest(ARRAY['../etc/passwd', 'a/../b.jpg', '/etc/passwd',
	'a//b.jpg', 'a/', '', '.', 'a%2Fb.jpg', 'a b.jpg', E'a\\b.jpg', E'a\nb.jpg', 'é.jpg', repeat('x', 256)]) AS p;
SELECT seq, path, digest, length(attributes #>> '{rejected,path}') AS length, attributes FROM ingest_test.stored WHERE length(attributes::text) < 100;
SELECT seq, path, digest, length(attributes #>> '{rejected,path}') AS length FROM ingest_test.stored WHERE length(attributes::text) >= 100;
TRUNCATE tms.capture;
SELECT ingest_test.call(ingest_test.next(), image_bytes => ARRAY[b]) FROM unnest(ARRAY[NULL, 0, -5, 2147483647]) AS b;
SELECT ingest_test.call(ingest_test.next(), sha256 => ARRAY[b]) FROM unnest(ARRAY[NULL, '', '\x00ff', sha256('a') || '\x00', decode(repeat('ab', 1000), 'hex')]) AS b;
SELECT seq, image_bytes, digest, attributes FROM ingest_test.stored;
TRUNCATE tms.capture;
SELECT ingest_test.call(ingest_test.next(), plate => ARRAY[t], plate_class => ARRAY[t], plate_color => ARRAY[t], direction => ARRAY[t],
	violation_code => ARRAY[t]) FROM unnest(ARRAY[repeat('P', 10000), E'a\tb', repeat('é', 101)]) AS t;
SELECT seq, plate, class, color, direction, violation, key, length(value) AS characters, octet_length(value) AS bytes, left(value, 4) AS begin
FROM ingest_test.stored, jsonb_each_text(attributes -> 'rejected');
TRUNCATE tms.capture;
SELECT ingest_test.call(ingest_test.next(), lane => ARRAY[n], speed_kmh => ARRAY[n]) FROM unnest(ARRAY[-1, 999, 1000, 32767, -32768]::smallint[]) AS n;
SELECT seq, lane, speed, attributes FROM ingest_test.stored;
TRUNCATE tms.capture;
SELECT ingest_test.call(ingest_test.next(), attributes => ARRAY[a]) FROM unnest(ARRAY['null', '7', '"text"', '[1, {"a": "b"}]', '{}',
	'{"rejected": "mine"}', jsonb_build_object('large', repeat('y', 40000))]::jsonb[]) AS a;
SELECT seq, left(attributes::text, 60) AS attributes FROM ingest_test.stored;
SELECT ingest_test.call(ingest_test.next(), plate => '{AB1}', lane => '{-2}', attributes => '{"{\"site\": 1, \"rejected\": 2}"}');
SELECT plate, attributes FROM ingest_test.stored WHERE lane IS NULL;
TRUNCATE tms.capture;
SELECT ingest_test.call(ingest_test.next(), captured_at => '{NULL}', path => '{..}', image_bytes => '{NULL}', sha256 => '{NULL}', plate => ARRAY[E'\x01'],
	plate_class => '{12345678901234567}', plate_color => '{12345678901234567}', direction => ARRAY[repeat('d', 33)], lane => '{-1}',
	speed_kmh => '{1000}', violation_code => ARRAY[repeat('v', 33)], attributes => '{"[]"}');
SELECT captured_at BETWEEN now() AND clock_timestamp() AS received, path, image_bytes, digest, plate, class, color, direction, lane, speed, violation, event_id,
	jsonb_pretty(attributes) AS attributes FROM ingest_test.stored \gx
TRUNCATE tms.capture;

-- One bad row among good ones, and a call of bad rows again: same rows, no fork.
SELECT ingest_test.next() || '{"last_seq": 4294967295}' AS header \gset
SELECT ingest_test.call(:'header', captured_at => ARRAY[now(), now(), now()], path => '{ingest/x.jpg,/bad,ingest/z.jpg}', image_bytes => '{1,2,3}',
	sha256 => ARRAY[sha256('x'), sha256('y'), '\x01'], plate => '{X,Y,Z}', plate_class => NULL, plate_color => NULL, direction => NULL,
	lane => NULL, speed_kmh => NULL, violation_code => NULL, event_id => NULL, attributes => NULL) = format('accepted %s', (:'header'::jsonb ->> 'first_seq')::int + 2) AS taken
FROM generate_series(1, 2);
SELECT path, image_bytes, digest IS NOT NULL AS has_digest, plate, attributes FROM ingest_test.stored;
TRUNCATE tms.capture;

-- An absurd clock: the time of receipt, and what was claimed. With tms.retention, what is older than it counts as absurd.
SELECT ingest_test.call(ingest_test.next(), captured_at => ARRAY[t]) FROM unnest(ARRAY['infinity', '-infinity', '1970-01-01', '2000-01-01 23:59:59+00',
	'2000-01-02', '9999-12-31 23:59:59.5+00', '0044-03-15 BC', '294276-12-31', now() + '25 hours', now() + '23 hours', now() - interval '300 days']::timestamptz[]) AS t;
SELECT captured_at BETWEEN now() AND clock_timestamp() AS received, captured_at < now() - interval '299 days' AS old, captured_at > now() + interval '22 hours' AS ahead,
	CASE WHEN (attributes ->> 'claimed_at') < '2026' OR (attributes ->> 'claimed_at') > '2100' THEN attributes ->> 'claimed_at' END AS claimed_at,
	(attributes ->> 'claimed_at') IS NOT NULL AS claimed
FROM ingest_test.stored;
TRUNCATE tms.capture;
SET LOCAL tms.retention = '90d';
SELECT ingest_test.call(ingest_test.next(), captured_at => ARRAY[t]) IS NOT NULL AS called FROM unnest(ARRAY[now() - '91 days'::interval, now() - '89 days'::interval]) AS t;
SELECT captured_at BETWEEN now() AND clock_timestamp() AS received, (attributes ->> 'claimed_at')::timestamptz - now() AS claimed FROM ingest_test.stored;
SET LOCAL tms.retention = 0;
TRUNCATE tms.capture;

-- A day without a partition is made.
DO $$
BEGIN
	EXECUTE format('DROP TABLE %s', to_regclass('tms.capture_' || to_char(now(), 'YYYYMMDD')));
END $$;
SELECT count(*) AS partitions_today FROM pg_class WHERE relname = 'capture_' || to_char(now(), 'YYYYMMDD');
SELECT ingest_test.call(ingest_test.next()) LIKE 'accepted %' AS taken;
SELECT count(*) AS rows_today FROM ingest_test.stored;
SELECT tableoid::regclass = ('tms.capture_' || to_char(now(), 'YYYYMMDD'))::regclass AS in_new_day FROM tms.capture WHERE path = 'ingest/a.jpg';

-- Heartbeat: no arrays at all. Status, cleaning period and the oldest upload request that was not seen.
SELECT * FROM tms.ingest(ingest_test.header('{"ledger": "12345678-0000-4000-8000-000000000002", "last_seq": 0,
	"status": {"cached": 7}}'), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT at = now() AS now, status FROM tms.device_status WHERE device_id = tms.device_id('ingest-1');

-- A device without a cleaning period, which only somebody who takes the constraint away can make: NULL is answered.
SAVEPOINT no_period;
ALTER TABLE tms.device ALTER cleaning_period DROP NOT NULL;
UPDATE tms.device SET cleaning_period = NULL;
SELECT cleaning_period IS NULL AS null_period FROM tms.ingest(ingest_test.header('{"ledger": "12345678-0000-4000-8000-000000000002",
	"last_seq": 0}'), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
ROLLBACK TO no_period;
DELETE FROM tms.upload_request;
INSERT INTO tms.upload_request (id, device_id, since, until) VALUES
	(101, tms.device_id('ingest-2'), '2026-01-01', '2026-01-02'), (102, tms.device_id('ingest-1'), '2026-02-01 08:00+08', '2026-02-02 00:00:00.25+00'),
	(103, NULL, '0044-03-15 BC', '20000-01-01');
SELECT seen, upload_request FROM unnest(ARRAY[0, 101, 102, 103]) AS seen, LATERAL tms.ingest(ingest_test.header('{"last_seq": 0,
	"ledger": "12345678-0000-4000-8000-000000000002"}' || jsonb_build_object('request_seen', seen, 'report_no', seen + 1)),
	NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT request_seen, report_no FROM tms.ledger WHERE ledger = '12345678-0000-4000-8000-000000000002';

-- Rights: revoked from PUBLIC; whoever may execute it needs none else, and gains none else.
CREATE ROLE ingest_agent;
GRANT USAGE ON SCHEMA ingest_test TO ingest_agent;
SET LOCAL ROLE ingest_agent;
SELECT ingest_test.call('{}') AS not_granted;
RESET ROLE;
GRANT EXECUTE ON FUNCTION tms.ingest TO ingest_agent;
SELECT ingest_test.next() AS header \gset
SET LOCAL ROLE ingest_agent;
SELECT ingest_test.call(:'header') LIKE 'accepted %' AS granted;
SELECT current_user, has_table_privilege('tms.capture', 'SELECT') AS reads_captures, has_table_privilege('tms.device_secret', 'SELECT') AS reads_secrets;
RESET ROLE;

-- Functions and operators of the caller's search_path are not called.
CREATE FUNCTION ingest_test.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
CREATE FUNCTION ingest_test.equal(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'called'; END $$;
CREATE OPERATOR ingest_test.= (FUNCTION = ingest_test.equal, LEFTARG = uuid, RIGHTARG = uuid);
SELECT ingest_test.next() AS header \gset
SET LOCAL search_path = ingest_test, pg_catalog;
SELECT ingest_test.call(:'header') LIKE 'accepted %' AS own_path;
SHOW search_path;
RESET search_path;

-- The captures are written as the owner of tms.capture, whoever that is, also after the table was made anew.
CREATE ROLE ingest_owner;
GRANT USAGE, CREATE ON SCHEMA tms TO ingest_owner;
ALTER TABLE tms.capture OWNER TO ingest_owner;
CREATE FUNCTION ingest_test.note_user() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN NEW.attributes := jsonb_build_object('user', current_user); RETURN NEW; END $$;
GRANT USAGE ON SCHEMA ingest_test TO ingest_owner;
CREATE TRIGGER note_user BEFORE INSERT ON tms.capture FOR EACH ROW EXECUTE FUNCTION ingest_test.note_user();
ALTER TABLE tms.capture ENABLE ROW LEVEL SECURITY;
SELECT ingest_test.call(ingest_test.next(), path => '{ingest/owner.jpg}') LIKE 'accepted %' AS taken;
SELECT attributes FROM tms.capture WHERE path = 'ingest/owner.jpg';
DROP TABLE tms.capture CASCADE;
SELECT ingest_test.call(ingest_test.next()) AS no_table;
SELECT tms.create_capture_table() \g /dev/null
SELECT ingest_test.call(ingest_test.next(), path => '{ingest/anew.jpg}') LIKE 'accepted %' AS taken;
SELECT count(*) AS captures, min(attributes::text) AS attributes FROM tms.capture WHERE path LIKE 'ingest/%';

-- Ten times over with plans that know no constants: new rows, the same again, a heartbeat.
SET LOCAL plan_cache_mode = force_generic_plan;
SELECT n, array_agg(ingest_test.call(ingest_test.header(jsonb_build_object('ledger', '12345678-0000-4000-8000-000000000003', 'first_seq', n,
		'last_seq', n)), path => ARRAY[format('ingest/%s.jpg', n)], sha256 => ARRAY[sha256(n::text::bytea)]) ORDER BY again)
	|| ingest_test.call(ingest_test.header(jsonb_build_object('ledger', '12345678-0000-4000-8000-000000000003', 'first_seq', n + 1, 'last_seq', n,
		'prev_sha256', encode(sha256(n::text::bytea), 'hex'))), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) AS answers
FROM generate_series(1, 10) AS n, generate_series(1, 2) AS again GROUP BY n ORDER BY n;
SELECT count(*), count(DISTINCT capture_id) FROM tms.capture WHERE path IN (SELECT format('ingest/%s.jpg', n) FROM generate_series(1, 10) AS n);
ROLLBACK;
