-- The path center's side of the ledger protocol, branch by branch: what is new, what is repeated, gaps, forks, histories that
-- parted, restores, reports out of order. All of it is rolled back.
\set VERBOSITY terse
SET client_min_messages = warning;
BEGIN;
SET LOCAL timezone = 'UTC';
SELECT tms.create_capture_table() WHERE to_regclass('tms.capture') IS NULL \g /dev/null
SELECT count(tms.register_device('ledger_protocol-' || n, NULL, token => 'ledger_protocol-token-0123456789abcdefghijk-' || n)) FROM generate_series(1, 2) AS n;
CREATE SCHEMA ledger_protocol_test;
SET LOCAL search_path = ledger_protocol_test, pg_catalog;

-- A ledger's UUID by its number; the ten numbers from 0x70000000 on are this test's.
CREATE FUNCTION uuid_of(number int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
	SELECT format('e00000%s-0000-4000-8000-000000000001', lpad(to_hex(2 * number), 2, '0'))::uuid
$$;

-- The number it got; some are taken below, so it may be another than it asks for.
CREATE FUNCTION no_of(number int) RETURNS int LANGUAGE sql STABLE AS $$ SELECT ledger_no FROM tms.ledger WHERE ledger = uuid_of(number) $$;
-- A call: row i is seq first + i, captured at noon, day days ago, and the text in names says which photograph it is (NULL: no
-- longer held). changes: fields of the header.
CREATE FUNCTION call(number int, first int, names text[], changes jsonb DEFAULT '{}', day int DEFAULT 0) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(', ', 'accepted ' || accepted_seq, 'fork from ' || fork_from)
	FROM (SELECT array_agg(date_trunc('day', now()) + interval '12 hours' - day * interval '1 day' ORDER BY i) AS at,
			array_agg('ledger_protocol/' || name || '.jpg' ORDER BY i) AS path, array_agg(1000 + i::int ORDER BY i) AS bytes,
			array_agg(sha256(name::bytea) ORDER BY i) AS digest
		FROM unnest(names) WITH ORDINALITY AS n (name, i)) AS rows,
	LATERAL tms.ingest(jsonb_build_object('device', 'ledger_protocol-1', 'token', 'ledger_protocol-token-0123456789abcdefghijk-1',
		'ledger', uuid_of(number), 'oldest_seq', 1, 'first_seq', first, 'last_seq', first + coalesce(cardinality(names), 0) - 1,
		'uploaded_seq', 0, 'uploaded_max', 0, 'cleaned_seq', 0, 'report_no', 1) || changes,
		at, path, bytes, digest, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
$$;
CREATE FUNCTION prev(name text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('prev_sha256', encode(sha256(name::bytea), 'hex'))
$$;

-- What the path center holds of a ledger.
CREATE FUNCTION state(number int) RETURNS TABLE (accepted bigint, last bigint, captures text, gaps text) LANGUAGE sql AS $$
	SELECT accepted_seq, last_seq,
		(SELECT string_agg(tms.capture_seq(capture_id) || ':' || substring(path FROM '/(.*)\.'), ' ' ORDER BY capture_id)
			FROM tms.capture WHERE tms.capture_ledger_no(capture_id) = ledger_no),
		(SELECT string_agg(from_seq || '-' || to_seq, ' ' ORDER BY from_seq) FROM tms.declared_gap g WHERE g.ledger_no = l.ledger_no)
	FROM tms.ledger l WHERE ledger = uuid_of(number)
$$;

-- New rows; the same call again; a call that repeats some and brings more; one that leaves some out.
SELECT call(0, 1, '{a,b,c}');
SELECT call(0, 1, '{a,b,c}');
SELECT call(0, 2, '{b,c,d,e}', prev('a'));
SELECT call(0, 7, '{g}', '{"last_seq": 7}' || prev('f')) AS begins_too_late;
SELECT call(0, 6, NULL, '{"last_seq": 9}' || prev('e')) AS heartbeat;
SELECT * FROM state(0);
SELECT day = current_date AS today, first_seq, last_seq FROM tms.ledger_day WHERE ledger_no = no_of(0);

-- A number that is taken: the next free one.
SELECT tms.ledger_number(uuid_of(0)) AS asked_for;
SELECT tms.ingest(jsonb_build_object('device', 'ledger_protocol-1', 'token', 'ledger_protocol-token-0123456789abcdefghijk-1', 'ledger', u,
	'oldest_seq', 1, 'first_seq', 1, 'last_seq', 0, 'uploaded_seq', 0, 'uploaded_max', 0, 'cleaned_seq', 0, 'report_no', 1),
	NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
FROM unnest('{e0000000-0000-4000-8000-000000000002,e0000001-0000-4000-8000-000000000003,ffffffff-0000-4000-8000-000000000004,
	ffffffff-0000-4000-8000-000000000005}'::uuid[]) AS u;
SELECT ledger, to_hex(ledger_no) AS ledger_no FROM tms.ledger WHERE device_id = tms.device_id('ledger_protocol-1') ORDER BY ledger;

-- The ledger begins later than the path center knows: a gap, also with a heartbeat; then it comes after all, piece by piece.
SELECT call(2, 5, NULL, '{"oldest_seq": 5, "last_seq": 4}') AS heartbeat;
SELECT * FROM state(2);
SELECT call(2, 11, '{k,l}', '{"oldest_seq": 11}') AS rows;
SELECT * FROM state(2);
SELECT reason, from_seq, to_seq FROM tms.declared_gap WHERE ledger_no = no_of(2) ORDER BY 2;
SELECT call(2, 7, '{g,h}') AS middle;
SELECT * FROM state(2);
SELECT call(2, 7, '{g,h}') AS again, call(2, 5, '{e}') AS first, call(2, 9, '{i,NULL}') AS before_last, call(2, 1, '{a,b,c,d,e,f}') AS whole_gap_and_end;
SELECT * FROM state(2);
SELECT call(2, 1, '{a,b,c,d,e,f,g,h,i,j,k,l,m}') AS everything;
SELECT * FROM state(2);

-- Rows that are no longer held: new ones are a gap, known ones are passed over.
SELECT call(3, 1, '{a,NULL,NULL,d,NULL,f}');
SELECT call(3, 1, '{NULL,NULL,c,NULL,NULL,NULL,g,NULL}');
SELECT * FROM state(3);
SELECT DISTINCT reason FROM tms.declared_gap WHERE ledger_no = no_of(3);
SELECT call(3, 9, '{i}', prev('anything')) AS after_a_gap;

-- Forks: other bytes; other path for the same bytes; only from the first different row on, and nothing of it is taken.
SELECT call(4, 1, '{a,b,c,d}');
SELECT call(4, 3, '{c,x,y,z}', '{"report_no": 9, "uploaded_seq": 6, "status": {"a": 1}}' || prev('b')) AS other_bytes;
SELECT call(4, 4, '{x,y,z}', prev('c')) AS from_first_row;
UPDATE tms.capture SET path = 'ledger_protocol/elsewhere.jpg' WHERE capture_id = tms.capture_id(no_of(4), 2);
SELECT call(4, 1, '{a,b,c,d}') AS other_path;
SELECT * FROM state(4);
SELECT report_no, uploaded_seq FROM tms.ledger WHERE ledger = uuid_of(4);
-- A row inside a gap before the fork is taken.
SELECT call(5, 3, '{c,d}', '{"oldest_seq": 3}');
SELECT call(5, 2, '{b,c,x}') AS fork_after_gap;
SELECT * FROM state(5);

-- Histories that parted before the first row: nothing is changed, the answer leads back one by one.
SELECT call(6, 1, '{a,b,c}');
SELECT call(6, 4, '{z4,z5}', '{"oldest_seq": 4, "report_no": 5, "uploaded_seq": 5, "status": {"a": 1}}' || prev('z3')) AS parted,
	call(6, 3, '{z3,z4,z5}', prev('z2')) AS parted_before, call(6, 2, '{z2,z3,z4,z5}', prev('a')) AS found;
SELECT call(6, 4, NULL, prev('z3')) AS heartbeat;
SELECT * FROM state(6);
SELECT report_no, uploaded_seq FROM tms.ledger WHERE ledger = uuid_of(6);
-- The capture before is compared only where it has a row.
DELETE FROM tms.capture WHERE capture_id = tms.capture_id(no_of(6), 2);
SELECT call(6, 3, '{c}', prev('other')) AS no_row;
SELECT call(6, 5, '{e}', prev('other')) AS not_accepted;

-- Reports out of order: the newest watermarks stay, last_seq only grows.
SELECT call(7, 1, '{a}', '{"report_no": 5, "uploaded_seq": 1, "uploaded_max": 1, "cleaned_seq": 1, "last_seq": 8, "request_seen": 3, "status": {"report": 5}}');
SELECT call(7, 2, '{b}', '{"report_no": 4, "uploaded_seq": 0, "uploaded_max": 0, "cleaned_seq": 0, "last_seq": 2, "status": {"report": 4}}') AS late;
SELECT accepted_seq, last_seq, report_no, uploaded_seq, uploaded_max, cleaned_seq, request_seen FROM tms.ledger WHERE ledger = uuid_of(7);
SELECT call(7, 3, NULL, '{"report_no": 5, "uploaded_seq": 2, "uploaded_max": 3, "cleaned_seq": 0, "status": {"report": "5 again"}}') AS again;
SELECT accepted_seq, last_seq, report_no, uploaded_seq, uploaded_max, cleaned_seq, request_seen FROM tms.ledger WHERE ledger = uuid_of(7);
SELECT status FROM tms.device_status WHERE device_id = tms.device_id('ledger_protocol-1');

-- Days: rows of several, a straggler that extends one, and all of them are found again; a dropped day stays dropped.
SELECT call(8, 1, '{a,b}', day => 2), call(8, 3, '{c,d}', day => 1), call(8, 5, '{e}', day => 5), call(8, 6, '{f}', day => 1);
SELECT current_date - day AS days_ago, first_seq, last_seq FROM tms.ledger_day WHERE ledger_no = no_of(8) ORDER BY day;
SELECT call(8, 1, '{a,b,c,d,e,f}') AS all_found, call(8, 5, '{x}') AS fork_on_its_day, call(8, 6, '{f}', prev('e')) AS prev_found, call(8, 6, '{f}', prev('x')) AS prev_differs;
DELETE FROM tms.capture WHERE captured_at >= current_date - 2 AND captured_at < current_date - 1;
SELECT call(8, 1, '{a,b,c,d,e,f}') AS day_gone, call(8, 1, '{x,y,c}') AS nobody_can_tell;
SELECT * FROM state(8);

-- The path center restored to an older state: the agent goes back to where the answer says, nothing comes twice.
SELECT call(9, 1, '{a,b,c,d}');
DELETE FROM tms.capture WHERE capture_id > tms.capture_id(no_of(9), 2) AND tms.capture_ledger_no(capture_id) = no_of(9);
UPDATE tms.ledger SET accepted_seq = 2, accepted_sha256 = sha256('b') WHERE ledger = uuid_of(9);
SELECT call(9, 5, '{e}', prev('d')) AS too_late, call(9, 3, '{c,d,e}', prev('b')) AS again;
SELECT * FROM state(9);

-- A copied disk under another device's name goes on with the ledger; its captures are that device's.
SELECT call(9, 6, '{f}', '{"device": "ledger_protocol-2", "token": "ledger_protocol-token-0123456789abcdefghijk-2"}' || prev('e')) AS other_device;
SELECT call(9, 6, '{g}', prev('e')) AS twin;
SELECT tms.capture_seq(capture_id) AS seq, code FROM tms.capture JOIN tms.device USING (device_id)
WHERE tms.capture_ledger_no(capture_id) = no_of(9) AND tms.capture_seq(capture_id) > 4 ORDER BY 1;

-- The last seq of all.
SELECT call(1, 1, NULL, '{"first_seq": 4294967294, "oldest_seq": 4294967294, "last_seq": 4294967295}') AS gap;
SELECT tms.ingest(jsonb_build_object('device', 'ledger_protocol-1', 'token', 'ledger_protocol-token-0123456789abcdefghijk-1', 'ledger', uuid_of(1),
	'oldest_seq', 4294967294, 'first_seq', 4294967294, 'last_seq', 4294967295, 'uploaded_seq', 0, 'uploaded_max', 0, 'cleaned_seq', 0, 'report_no', 1),
	ARRAY[now(), now()], '{ledger_protocol/y.jpg,ledger_protocol/z.jpg}', '{1,2}', ARRAY[sha256('y'), sha256('z')],
	NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT call(1, 1, NULL, '{"first_seq": 4294967296, "oldest_seq": 4294967296, "last_seq": 4294967295}' || prev('z')) AS full;
SELECT accepted_seq, (SELECT array_agg(to_hex(capture_id) ORDER BY capture_id) FROM tms.capture WHERE tms.capture_ledger_no(capture_id) = ledger_no) AS ids
FROM tms.ledger WHERE ledger = uuid_of(1);

-- Every branch ten times over with plans that know no constants.
SET LOCAL plan_cache_mode = force_generic_plan;
DELETE FROM tms.capture;
DELETE FROM tms.ledger_day;
DELETE FROM tms.declared_gap;
DELETE FROM tms.ledger;
SELECT number, call(number, 1, '{a,b}', day => 1) AS new, call(number, 2, '{b,c}', prev('a')) AS repeated, call(number, 4, '{NULL,e}', prev('c')) AS gap,
	call(number, 4, '{d}') AS filled, call(number, 8, '{h}', '{"oldest_seq": 8}' || prev('g')) AS dropped, call(number, 5, '{e,x}') AS in_gap,
	call(number, 5, '{y}') AS fork, call(number, 3, '{c}', prev('z')) AS parted, call(number, 9, NULL, prev('h')) AS heartbeat
FROM generate_series(0, 9) AS number ORDER BY number;
SELECT state, count(*) FROM generate_series(0, 9) AS number, state(number) GROUP BY state;
ROLLBACK;
