-- Identity of captures: every golden vector of tests/vectors/ (which the unit tests of common/ read too) through SQL.

CREATE TEMP TABLE vector (file text, f text[]);
\set lines `cd "${PG_ABS_SRCDIR:-.}/tests/vectors" && grep -v '^#' *.tsv`
INSERT INTO vector
	SELECT split_part(line, '.tsv:', 1), string_to_array(regexp_replace(line, '^[a-z0-9_]+\.tsv:', ''), E'\t')
	FROM unnest(string_to_array(:'lines', E'\n')) AS line;

-- The text of an escaped field; NULL for bytes that no text of PostgreSQL holds (a NUL, invalid UTF-8).
CREATE FUNCTION pg_temp.plain(escaped text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN convert_from(decode(escaped, 'escape'), 'UTF8');
EXCEPTION WHEN character_not_in_repertoire THEN
	RETURN NULL;
END $$;

CREATE FUNCTION pg_temp.moment(micros bigint) RETURNS timestamptz LANGUAGE sql AS $$
	SELECT timestamptz 'epoch' + (micros / 1000000) * interval '1 second' + (micros % 1000000) * interval '1 microsecond'
$$;

-- The value of an expression over the fields f.
CREATE FUNCTION pg_temp.evaluate(expression text, f text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	value text;
BEGIN
	EXECUTE format('SELECT (%s)::text FROM (SELECT $1 AS f) AS vector', expression) INTO value USING f;
	RETURN value;
END $$;

-- The same, or the SQLSTATE of its failure.
CREATE FUNCTION pg_temp.attempt(expression text, f text[]) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN pg_temp.evaluate(expression, f);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

-- What to ask for a vector, and what the vector says to expect. Records' rules and forks have no function in SQL; their
-- times and paths are compared with what PostgreSQL itself makes of them.
CREATE TEMP TABLE question (file text COLLATE "C", asked text COLLATE "C", expected text, of_vectors text);
INSERT INTO question VALUES
	('storage_path', $$tms.is_storage_path(pg_temp.plain(f[1]))$$, $$f[2] = 'ok'$$, $$pg_temp.plain(f[1]) IS NOT NULL$$),
	('device_code', $$tms.is_device_code(pg_temp.plain(f[1]))$$, $$f[2] = 'ok'$$, $$pg_temp.plain(f[1]) IS NOT NULL$$),
	('object_key', $$tms.object_key(f[1], f[2])$$, $$CASE f[3] WHEN 'bad' THEN '22023' ELSE f[3] END$$, $$true$$),
	('capture_id', $$tms.capture_id(f[1]::int, f[2]::bigint)$$, $$CASE f[3] WHEN 'bad' THEN '22003' ELSE f[3] END$$, $$true$$),
	('capture_id', $$(tms.capture_ledger_no(f[3]::bigint), tms.capture_seq(f[3]::bigint))$$,
		$$(f[1]::int, f[2]::bigint)$$, $$f[3] <> 'bad'$$),
	('ledger_number', $$tms.ledger_number(f[1]::uuid)$$, $$f[2]$$, $$true$$),
	('uuid', $$pg_temp.plain(f[1])::uuid$$, $$f[2]$$, $$f[2] <> 'bad'$$),
	('storage_path_made', $$to_char(f[1]::timestamptz AT TIME ZONE 'UTC', 'YYYY/MM/DD/HH24/') || f[2] || '-' ||
		lpad(to_hex(f[3]::int), 8, '0') || '-' || left(f[4], 8) || '.jpg'$$, $$f[5]$$, $$true$$),
	('storage_path_made', $$tms.is_storage_path(f[5])$$, $$true$$, $$true$$),
	('sha256', $$encode(sha256(decode(f[1], 'hex')), 'hex')$$, $$f[2]$$, $$true$$),
	('url_sign', $$encode(tms.url_key(pg_temp.plain(f[1])), 'hex')$$, $$f[4]$$, $$true$$),
	('url_sign', $$tms.url_signature(decode(f[4], 'hex'), f[2], f[3]::bigint)$$, $$f[5]$$, $$true$$),
	('time', $$f[1]::timestamptz$$, $$pg_temp.moment(f[2]::bigint)$$,
		$$f[2] <> 'bad' AND f[1] ~ '^\d{4}-' AND f[1] !~ '\.\d{7}'$$),
	('time_text', $$to_char(pg_temp.moment(f[1]::bigint) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')$$, $$f[2]$$,
		$$f[2] <> 'bad'$$);

CREATE TEMP TABLE answer AS
	SELECT q.file, q.asked, v.f, pg_temp.attempt(q.asked, v.f) AS got, pg_temp.evaluate(q.expected, v.f) AS expected
	FROM question q JOIN vector v USING (file)
	WHERE pg_temp.evaluate(q.of_vectors, v.f) = 'true';

SELECT q.file, left(q.asked, 40) AS asked, count(a.f) AS vectors
FROM question q LEFT JOIN answer a USING (file, asked) GROUP BY 1, 2 ORDER BY 1, 2;

-- No row: every answer is as expected.
SELECT file, left(asked, 60) AS asked, left(f[1], 60) AS vector, got, expected
FROM answer WHERE got IS DISTINCT FROM expected ORDER BY 1, 2, 3;

-- What is refused, and how.
SELECT tms.capture_id(1, 0);
SELECT tms.capture_id(-1, 4294967296);
SELECT tms.object_key('gate', '../ledger.db');
SELECT tms.url_signature('\x00', '/v1/images/a', 1);
SELECT tms.url_signature(tms.url_key('token'), '/v1/images/' || repeat('a', 1000), 1);

-- Nothing in, nothing out; what signs is not for everybody; everything is explained.
SELECT proname, provolatile, proparallel, proisstrict AS strict, proleakproof AS leakproof,
	has_function_privilege('public', p.oid, 'EXECUTE') AS for_public, obj_description(p.oid, 'pg_proc') <> '' AS explained
FROM pg_proc p WHERE pronamespace = 'tms'::regnamespace AND prosrc LIKE 'tms\_identity\_%' ORDER BY proname COLLATE "C";
