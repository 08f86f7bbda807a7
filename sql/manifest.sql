-- Manifests into tms.capture: what a line may be, gaps that stay open for the agent, and names of manifests. Listing and getting
-- them from stores is in tests/t/089_store_lists.pl. All of it is rolled back.
\set VERBOSITY terse
SET client_min_messages = warning;
BEGIN;
SET LOCAL timezone = 'UTC';
SELECT tms.create_capture_table() WHERE to_regclass('tms.capture') IS NULL \g /dev/null
SELECT tms.register_device('manifest-1', NULL, token => 'manifest-token-0123456789abcdefghijklmno') IS NOT NULL AS registered;
CREATE SCHEMA manifest_test;

-- The line of a capture that is made up from its seq, with some members changed; one that is set to "absent" is left out.
CREATE FUNCTION manifest_test.line(seq bigint, changes jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT jsonb_object_agg(key, value)::text || E'\n' FROM jsonb_each(jsonb_build_object(
		'ledger', '12345678-0000-4000-8000-0000000000aa', 'seq', seq, 'path', 'm/' || seq || '.jpg',
		'sha256', encode(sha256(seq::text::bytea), 'hex'), 'bytes', 1000 + seq,
		'captured_at', to_char(now() - interval '1 hour' + seq * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) || changes)
	WHERE value <> '"absent"'
$$;
CREATE FUNCTION manifest_test.lines(seqs bigint[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(manifest_test.line(seq), '' ORDER BY number) FROM unnest(seqs) WITH ORDINALITY AS u (seq, number)
$$;
CREATE FUNCTION manifest_test.load(content text, OUT added bigint, OUT known bigint, OUT problems text[]) LANGUAGE sql AS $$
	SELECT * FROM tms.manifest_load(tms.device_id('manifest-1'), '12345678-0000-4000-8000-0000000000aa', convert_to(content, 'UTF8'))
$$;
-- A call of the agent with captures first .. last, of which it no longer holds some.
CREATE FUNCTION manifest_test.call(first bigint, last bigint, lost bigint[] DEFAULT '{}', oldest bigint DEFAULT 1,
		prev text DEFAULT NULL)
	RETURNS text LANGUAGE sql AS $$
	SELECT 'accepted ' || accepted_seq || coalesce(', fork from ' || fork_from, '')
	FROM (SELECT array_agg(now() - interval '1 hour' + s * interval '1 second' ORDER BY s) AS captured_at,
			array_agg(CASE WHEN s <> ALL (lost) THEN 'm/' || s || '.jpg' END ORDER BY s) AS path,
			array_agg(1000 + s::int ORDER BY s) AS bytes, array_agg(sha256(s::text::bytea) ORDER BY s) AS digest
		FROM generate_series(first, last) AS s) AS r,
		tms.ingest(jsonb_build_object('device', 'manifest-1', 'token', 'manifest-token-0123456789abcdefghijklmno',
			'ledger', '12345678-0000-4000-8000-0000000000aa', 'oldest_seq', oldest, 'last_seq', 1000, 'first_seq', first,
			'uploaded_seq', 1000, 'uploaded_max', 1000, 'cleaned_seq', 0, 'report_no', 1, 'request_seen', 0)
			|| CASE WHEN prev IS NULL THEN '{}' ELSE jsonb_build_object('prev_sha256', encode(sha256(prev::bytea), 'hex')) END,
			captured_at, coalesce(path, '{}'), bytes, digest, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
$$;
CREATE VIEW manifest_test.state AS
	SELECT accepted_seq, settled_seq, last_seq, uploaded_seq,
		(SELECT string_agg(from_seq || '-' || to_seq, ', ' ORDER BY from_seq)
		 FROM tms.declared_gap AS g WHERE g.ledger_no = l.ledger_no) AS gaps,
		(SELECT count(*) FROM tms.capture WHERE capture_id >> 32 = l.ledger_no) AS rows
	FROM tms.ledger AS l WHERE ledger = '12345678-0000-4000-8000-0000000000aa';

-- What comes back is what there was, under the ids there were.
SELECT * FROM manifest_test.load(manifest_test.line(1, '{"plate": "粤B12345", "plate_class": "02", "plate_color": "blue",
	"direction": "north", "lane": 2, "speed_kmh": 61, "violation_code": "1345", "event_id": "00000000-0000-4000-8000-000000000001",
	"attributes": {"camera": "a", "n": 1.50}, "unknown": [1]}') || manifest_test.lines('{3,2}'));
SELECT capture_id = ((x'12345678'::bigint >> 1) << 32 | 1) AS id_as_it_was, captured_at = now() - interval '1 hour' + interval '1 second' AS time,
	device_id = tms.device_id('manifest-1') AS device, image_bytes, lane, speed_kmh, event_id, plate, plate_class, plate_color, direction,
	violation_code, path, sha256 = sha256('1') AS digest, attributes
FROM tms.capture WHERE path = 'm/1.jpg';
SELECT * FROM manifest_test.state;
SELECT * FROM manifest_test.load(manifest_test.lines('{1,2,3}'));

-- Seqs that are missing stay open: the agent is led back to the first of them, and over all of them.
SELECT * FROM manifest_test.load(manifest_test.lines('{5,6,9,10,13}'));
SELECT * FROM manifest_test.state;
SELECT manifest_test.call(1001, 1000) AS heartbeat;
SELECT * FROM manifest_test.state;
SELECT manifest_test.call(11, 12) AS behind_a_gap;
SELECT manifest_test.call(11, 12, prev => 'of a twin') AS behind_another_history;
SELECT manifest_test.call(4, 4) AS the_first;
SELECT manifest_test.call(7, 8, '{8}') AS one_is_lost_for_good;
SELECT * FROM manifest_test.state;
SELECT manifest_test.call(13, 16) AS all_settled;
SELECT * FROM manifest_test.state;

-- A manifest fills what the agent has lost, and changes nothing that the agent has said since.
SELECT * FROM manifest_test.load(manifest_test.lines('{8}'));
SELECT * FROM manifest_test.state;

-- Behind what the agent has told: open again, until it has gone over it, or has no longer what is missing.
SELECT * FROM manifest_test.load(manifest_test.lines('{20,21,30}'));
SELECT manifest_test.call(17, 18) AS up_to_a_gap;
SELECT manifest_test.call(19, 19, oldest => 19) AS the_next;
SELECT manifest_test.call(29, 29, oldest => 29) AS older_ones_are_gone;
SELECT * FROM manifest_test.state;

-- Another capture than the one that is there: told, and the lines around it are taken.
SELECT * FROM manifest_test.load(manifest_test.lines('{30}') || manifest_test.line(31, '{"path": "m/x.jpg"}') || manifest_test.lines('{32}'));
SELECT * FROM manifest_test.load(manifest_test.lines('{31,32,33}'));
SELECT * FROM manifest_test.load(manifest_test.lines('{34,34}') || manifest_test.line(34, '{"path": "m/y.jpg"}'));
SELECT manifest_test.call(30, 32) AS fork_of_the_agent;

-- A twin's manifest, which contradicts all that is there, is no more work than another, and ends where the twins parted.
SELECT added, known FROM manifest_test.load(manifest_test.lines(ARRAY(SELECT generate_series(1001, 3000))));
SELECT added, known, problems[1], problems[21] FROM manifest_test.load(
	(SELECT string_agg(manifest_test.line(seq, CASE WHEN seq % 1000 > 0 THEN '{"path": "m/twin.jpg"}'::jsonb ELSE '{}' END), '' ORDER BY seq)
	 FROM generate_series(1001, 3001) AS seq));

-- Whatever a line may be, it takes no other with it.
SELECT added, known, unnest(problems) FROM (SELECT string_agg(line, '' ORDER BY number) AS content FROM (VALUES
	(1, manifest_test.line(40)), (2, E'\n'), (3, E'not JSON\n'), (4, E'[1]\n'), (5, E'"x"\n'), (6, E'{"seq": 41\n'), (7, E'{"a":"\\u0000"}\n'),
	(8, repeat('[', 60000) || E'\n'), (9, '{"a":"' || repeat('x', 65536) || E'"}\n'), (10, '{"a":1' || repeat('0', 60000) || E'}\n'),
	(11, manifest_test.line(41))) AS v (number, line)) AS c, manifest_test.load(content);
SELECT unnest(problems) FROM (SELECT string_agg(manifest_test.line(42, changes), '' ORDER BY number) AS content FROM (VALUES
	(1, '{"ledger": "absent"}'::jsonb), (2, '{"ledger": "12345678-0000-4000-8000-0000000000ab"}'), (3, '{"ledger": 1}'), (4, '{"seq": "42"}'),
	(5, '{"seq": 0}'), (6, '{"seq": 4294967296}'), (7, '{"seq": 1.5}'), (8, '{"seq": 1e400}'), (9, '{"path": "../x.jpg"}'),
	(10, '{"path": null}'), (11, '{"sha256": "00"}'), (12, '{"bytes": 0}'), (13, '{"bytes": 2147483648}'), (14, '{"captured_at": "yesterday"}'),
	(15, '{"captured_at": "absent"}'), (16, '{"plate": 1}'), (17, '{"lane": 40000}'), (18, '{"event_id": "x"}')) AS v (number, changes)) AS c, manifest_test.load(content);
SELECT problems[19:] FROM manifest_test.load(repeat(manifest_test.line(42, '{"attributes": []}'), 30) || 'x');
SELECT * FROM manifest_test.load('');
-- Lines without end.
SELECT added, known, problems[20:] FROM manifest_test.load(repeat(E'\n', 300000) || manifest_test.line(43));
-- A value that breaks a rule of records is kept as tms.ingest keeps it.
SELECT * FROM manifest_test.load(manifest_test.line(42, '{"plate": "a\tb", "captured_at": "1980-01-01T00:00:00Z"}'));
SELECT plate, captured_at >= now() AS time_of_receipt, attributes FROM tms.capture WHERE path = 'm/42.jpg';
SELECT added, known, problems FROM tms.manifest_load(tms.device_id('manifest-1'), '12345678-0000-4000-8000-0000000000aa',
	'\xff0a'::bytea || convert_to(manifest_test.line(43), 'UTF8') || '\x7b2261223a22ff227d0a00'::bytea);

-- Names.
SELECT regexp_replace(name, left(encode(sha256(convert_to(manifest_test.line(44), 'UTF8')), 'hex'), 8), 'DIGEST') AS name, i.* FROM (VALUES
	('manifest-1/manifest/2026/01/02/03/12345678-0000-4000-8000-0000000000aa-0000000044-' || left(encode(sha256(convert_to(manifest_test.line(44), 'UTF8')), 'hex'), 8) || '.jsonl'),
	('manifest-1/manifest/2026/01/02/03/12345678-0000-4000-8000-0000000000aa-0000000044-00000000.jsonl'),
	('manifest-1/manifest/2026/01/02/03/12345678-0000-4000-8000-0000000000aa-other.jsonl'),
	('manifest-2/manifest/2026/01/02/03/12345678-0000-4000-8000-0000000000aa-1.jsonl'),
	('manifest-1/manifest/2026/01/02/12345678-0000-4000-8000-0000000000aa-1.jsonl'),
	('manifest-1/manifest/2026/01/02/03/12345678-0000-4000-8000-0000000000aa-1.jpg')) AS v (name),
	tms.manifest_import(name, 100, convert_to(manifest_test.line(44), 'UTF8'), NULL) AS i;
SELECT count(*), count(*) FILTER (WHERE problems IS NULL) AS good FROM tms.imported_manifest;

-- Ten times under generic plans.
SET LOCAL plan_cache_mode = force_generic_plan;
SELECT sum(l.added) AS added, sum(l.known) AS known, count(l.problems) AS problems
FROM generate_series(0, 9) AS n, manifest_test.load(manifest_test.lines(ARRAY[50 + n, 51 + n, 52 + n])) AS l;
SELECT proname FROM pg_proc WHERE pronamespace = 'tms'::regnamespace AND proacl::text LIKE '%{=X%'
	AND proname ~ 'manifest|objects|import_image' ORDER BY 1;
ROLLBACK;
