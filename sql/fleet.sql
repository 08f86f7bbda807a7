-- What the administrator sees of the fleet, and that nothing a device says of itself can break it.
\set VERBOSITY terse
SET timezone = 'UTC';
BEGIN;
DELETE FROM tms.declared_gap;  -- of other tests, if any; all of this is rolled back
SELECT tms.register_device('fleet-' || name, 'http://10.9.9.9') IS NOT NULL
FROM unnest(ARRAY['fine', 'away', 'new', 'gap', 'full', 'stuck', 'soon', 'sooner', 'early', 'fails', 'slow', 'probe', 'clock', 'hostile', 'off']) AS name \g /dev/null
UPDATE tms.device SET enabled = false WHERE code = 'fleet-off';

CREATE FUNCTION pg_temp.rfc3339(moment timestamptz) RETURNS text LANGUAGE sql AS $$
	SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.USZ')
$$;
-- A heartbeat as the agent sends it, with changes.
CREATE FUNCTION pg_temp.beat(name text, changes jsonb DEFAULT '{}', age interval DEFAULT '10 s') RETURNS void LANGUAGE sql AS $$
	INSERT INTO tms.device_status SELECT device_id, now() - age, jsonb_build_object(
		'version', '0.1', 'at', pg_temp.rfc3339(now() - age), 'clock', pg_temp.rfc3339(now() - age),
		'upload', jsonb_build_object('backlog', 3, 'oldest_at', pg_temp.rfc3339(now() - interval '5 min'), 'error', NULL, 'requested', 2),
		'register', jsonb_build_object('backlog', 0), 'cached', 1000, 'cached_bytes', 250000000, 'free_bytes', 50e9,
		'total_bytes', 100e9, 'safe_until', '2036-12-01T00:00:00Z', 'error', NULL, 'cleaning', jsonb_build_object('state', 'normal', 'cleaned', 7), 'set_aside', 0, 'intake_per_hour', 120) || changes
	FROM tms.device WHERE code = 'fleet-' || name
$$;
SELECT pg_temp.beat('fine') IS NOT NULL \g /dev/null
SELECT pg_temp.beat('away', '{}', '6 minutes'), pg_temp.beat('gap'), pg_temp.beat('full', '{"free_bytes": 4e9}'),
	pg_temp.beat('stuck', '{"cleaning": {"state": "disk_low_stuck"}}'), pg_temp.beat('early', '{"cleaning": {"state": "disk_low_early"}}'),
	pg_temp.beat('soon', jsonb_build_object('safe_until', pg_temp.rfc3339(now() + interval '23 h'))),
	pg_temp.beat('sooner', jsonb_build_object('safe_until', pg_temp.rfc3339(now() + interval '22 h'))), pg_temp.beat('fails', '{"error": "intake: the disk is full"}'),
	pg_temp.beat('slow', jsonb_build_object('upload', jsonb_build_object('backlog', 99, 'oldest_at', pg_temp.rfc3339(now() - interval '2 h'), 'error', 'no route'))),
	pg_temp.beat('probe'), pg_temp.beat('clock', jsonb_build_object('clock', pg_temp.rfc3339(now() - interval '2 min'))), pg_temp.beat('off') \g /dev/null
INSERT INTO tms.device_probe SELECT device_id, now(), code <> 'fleet-probe', CASE code WHEN 'fleet-probe' THEN 'connection refused' END, 12, 0
FROM tms.device WHERE code IN ('fleet-fine', 'fleet-probe');

-- Gaps: declared; derived once a ledger has been silent for an hour.
INSERT INTO tms.ledger (ledger_no, device_id, ledger, accepted_seq, last_seq, uploaded_seq, last_seen_at)
SELECT no, device_id, gen_random_uuid(), 100, 120, 80, now() - age
FROM tms.device, (VALUES ('fleet-gap', 1000001, interval '61 min'), ('fleet-gap', 1000002, interval '59 min'), ('fleet-fine', 1000003, interval '0')) AS l (name, no, age)
WHERE code = name;
INSERT INTO tms.declared_gap VALUES (1000002, 7, 9, 'ledger starts at 10');
SELECT device, ledger_no, kind, from_seq, to_seq, captures, reason FROM tms.device_gap WHERE device LIKE 'fleet-%' ORDER BY ledger_no, from_seq;

SELECT device, problems, online, reachable, probe_error, gaps, upload_backlog, upload_error, agent_error FROM tms.fleet WHERE device LIKE 'fleet-%';
SELECT device, clock_offset BETWEEN '-130 s' AND '-100 s' AS two_minutes_late FROM tms.fleet WHERE device = 'fleet-clock';
SELECT last_heartbeat = now() - interval '10 s' AS last_heartbeat, upload_oldest = interval '5 min' AS upload_oldest, upload_requested, register_backlog, register_oldest,
	cached, cached_bytes, free_bytes, total_bytes, safe_until, set_aside, intake_per_hour, cleaning_state, version, clock_offset, last_probe = now() AS last_probe
FROM tms.fleet WHERE device = 'fleet-fine';

-- Whatever is sent as a heartbeat, every row is shown.
CREATE TEMP TABLE hostile (status jsonb);
INSERT INTO hostile VALUES ('{}'), ('[]'), ('null'), ('"x"'), ('7'), ('[{"upload": 1}]'), ('{"upload": "x", "register": [1], "cached": {}}'),
	('{"cached": "12", "cached_bytes": true, "free_bytes": 1e300, "total_bytes": -1, "set_aside": 1.5, "intake_per_hour": [1]}'),
	('{"error": {"a": [1]}, "upload": {"requested": "9"}}'), ('{"error": 7, "upload": {"requested": -1}, "cleaning": "x"}'), ('{"cleaning": {"state": ["disk_low_stuck"]}}'),
	('{"free_bytes": 9223372036854775807, "total_bytes": 9223372036854775808, "set_aside": 0.4, "version": {"a": 1}}'),
	('{"clock": "yesterday", "safe_until": "2026-02-30T00:00:00Z", "upload": {"oldest_at": "infinity", "backlog": "1; DROP"}}'),
	('{"clock": "9999-12-31T23:59:59Z", "safe_until": "0001-01-01T00:00:00Z", "upload": {"oldest_at": "0001-01-01T00:00:00+23:59"}}'),
	('{"clock": 1e18, "safe_until": -1e18, "upload": {"oldest_at": 99999999999999999999}, "register": {"oldest_at": null}}'),
	(jsonb_build_object('version', repeat('x', 100000), 'upload', jsonb_build_object('error', repeat('y', 100000))));
CREATE FUNCTION pg_temp.shown(status jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	shown text;
BEGIN
	UPDATE tms.device_status s SET status = shown.status WHERE device_id = (SELECT device_id FROM tms.device WHERE code = 'fleet-fine');
	SELECT concat_ws(' ', f.problems, f.cached, f.cached_bytes, f.free_bytes, f.total_bytes, f.set_aside, f.intake_per_hour, f.safe_until,
			isfinite(f.clock_offset), isfinite(f.upload_oldest), f.upload_backlog, length(f.version), length(f.upload_error), f.register_oldest, f.upload_requested, f.cleaning_state, f.agent_error)
		INTO shown FROM tms.fleet f WHERE f.device = 'fleet-fine';
	RETURN shown;
END;
$$;
SELECT left(status::text, 60) AS status, pg_temp.shown(status) FROM hostile;

SELECT tms.time_or_null(t) FROM unnest(ARRAY['2026-11-22T14:03:05+08:00', '1700000000', '1700000000.5', '', 'x', '2026-11-22', NULL]) AS t;
SELECT tms.count_or_null(v) FROM unnest(ARRAY['1', '1.9', '-1', '1e30', '"1"', 'null', '[1]', NULL]::jsonb[]) AS v;

-- For whom it is granted to.
CREATE ROLE regress_fleet;
GRANT SELECT ON tms.fleet TO regress_fleet;
SET LOCAL ROLE regress_fleet;
SELECT count(*) FROM tms.fleet WHERE device LIKE 'fleet-%';
SAVEPOINT s;
SELECT count(*) FROM tms.device_gap;
ROLLBACK TO s;
SELECT count(*) FROM tms.device_status;
ROLLBACK;
