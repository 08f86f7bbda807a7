-- What administrators look at: what may be missing, and how every front end is doing.

CREATE VIEW tms.device_gap AS
SELECT d.code AS device, l.ledger, l.ledger_no, gap.kind, gap.from_seq, gap.to_seq, gap.to_seq - gap.from_seq + 1 AS captures,
	gap.reason, gap.since
FROM tms.ledger AS l
	JOIN tms.device AS d ON d.device_id = l.device_id
	CROSS JOIN LATERAL (
		SELECT 'declared', g.from_seq, g.to_seq, g.reason, g.declared_at
		FROM tms.declared_gap AS g
		WHERE g.ledger_no = l.ledger_no
		UNION ALL
		SELECT 'not uploaded', l.uploaded_seq + 1, l.accepted_seq,
			'registered, but not known to be in the image center; the ledger has fallen silent', l.last_seen_at
		WHERE l.accepted_seq > l.uploaded_seq AND l.last_seen_at < now() - interval '1 hour'
		UNION ALL
		SELECT 'not registered', l.accepted_seq + 1, l.last_seq,
			'reported to exist, but never registered; the ledger has fallen silent', l.last_seen_at
		WHERE l.last_seq > l.accepted_seq AND l.last_seen_at < now() - interval '1 hour'
	) AS gap (kind, from_seq, to_seq, reason, since);
COMMENT ON VIEW tms.device_gap IS 'captures that are missing or not known to be safe';
COMMENT ON COLUMN tms.device_gap.device IS 'code of the device';
COMMENT ON COLUMN tms.device_gap.ledger IS 'the ledger''s UUID';
COMMENT ON COLUMN tms.device_gap.ledger_no IS 'the ledger''s number';
COMMENT ON COLUMN tms.device_gap.kind IS
	'declared: no row, its agent has no record of it; not uploaded: the front end may hold the only copy; not registered: no row yet';
COMMENT ON COLUMN tms.device_gap.from_seq IS 'first seq';
COMMENT ON COLUMN tms.device_gap.to_seq IS 'last seq';
COMMENT ON COLUMN tms.device_gap.captures IS 'how many';
COMMENT ON COLUMN tms.device_gap.reason IS 'why, in words';
COMMENT ON COLUMN tms.device_gap.since IS 'when the gap was declared, or when the ledger was last heard of';

-- A heartbeat is whatever a device sends: what is not of the expected form is NULL, never an error.
CREATE FUNCTION tms.time_or_null(value text) RETURNS timestamptz
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'tms_registry_time';
COMMENT ON FUNCTION tms.time_or_null(text) IS 'A time in RFC 3339 or in seconds since 1970; NULL for any other text';

CREATE FUNCTION tms.count_or_null(value jsonb) RETURNS bigint
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
	SELECT CASE
		WHEN jsonb_typeof(value) <> 'number' THEN NULL
		WHEN value::numeric BETWEEN 0 AND 9223372036854775807 THEN trunc(value::numeric)::bigint
	END
$$;
COMMENT ON FUNCTION tms.count_or_null(jsonb) IS 'A JSON number as a count; NULL for anything else';

CREATE VIEW tms.fleet AS
SELECT d.code AS device, d.site, problem.names AS problems, said.online, s.at AS last_heartbeat,
	p.ok AS reachable, p.error AS probe_error, p.at AS last_probe,
	said.clock_offset, said.upload_backlog, said.upload_oldest, said.upload_error, said.upload_requested,
	said.upload_request_done, said.upload_not_held,
	said.register_backlog, said.register_oldest, said.register_error,
	said.cached, said.cached_bytes, said.free_bytes, said.total_bytes, said.safe_until, said.set_aside, said.gaps,
	said.intake_per_hour, said.cleaning_state, said.agent_error, said.version
FROM tms.device AS d
	LEFT JOIN tms.device_status AS s ON s.device_id = d.device_id
	LEFT JOIN tms.device_probe AS p ON p.device_id = d.device_id
	CROSS JOIN LATERAL (
		SELECT coalesce(s.at > now() - interval '5 minutes', false) AS online,
			coalesce(p.clock_offset_ms * interval '1 millisecond', tms.time_or_null(s.status ->> 'clock') - s.at) AS clock_offset,
			tms.count_or_null(s.status -> 'upload' -> 'backlog') AS upload_backlog,
			now() - tms.time_or_null(s.status -> 'upload' ->> 'oldest_at') AS upload_oldest,
			left(s.status -> 'upload' ->> 'error', 200) AS upload_error,
			tms.count_or_null(s.status -> 'upload' -> 'requested') AS upload_requested,
			tms.time_or_null(s.status -> 'upload' -> 'requests' -> 0 ->> 'done_at') AS upload_request_done,
			tms.count_or_null(s.status -> 'upload' -> 'requests' -> 0 -> 'not_held') AS upload_not_held,
			tms.count_or_null(s.status -> 'register' -> 'backlog') AS register_backlog,
			now() - tms.time_or_null(s.status -> 'register' ->> 'oldest_at') AS register_oldest,
			left(s.status -> 'register' ->> 'error', 200) AS register_error,
			tms.count_or_null(s.status -> 'cached') AS cached,
			tms.count_or_null(s.status -> 'cached_bytes') AS cached_bytes,
			tms.count_or_null(s.status -> 'free_bytes') AS free_bytes,
			tms.count_or_null(s.status -> 'total_bytes') AS total_bytes,
			tms.time_or_null(s.status ->> 'safe_until') AS safe_until,
			tms.count_or_null(s.status -> 'set_aside') AS set_aside,
			tms.count_or_null(s.status -> 'intake_per_hour') AS intake_per_hour,
			CASE jsonb_typeof(s.status -> 'cleaning' -> 'state') WHEN 'string' THEN left(s.status -> 'cleaning' ->> 'state', 30) END
				AS cleaning_state,
			CASE jsonb_typeof(s.status -> 'error') WHEN 'string' THEN left(s.status ->> 'error', 200) END AS agent_error,
			left(s.status ->> 'version', 50) AS version,
			(SELECT coalesce(sum(g.captures), 0)::bigint FROM tms.device_gap AS g WHERE g.device = d.code) AS gaps
		OFFSET 0  -- each of these is wanted several times: computed once, not merged into its users
	) AS said
	CROSS JOIN LATERAL (
		SELECT array_agg(c.name ORDER BY c.rank) AS names, min(c.rank) AS worst
		FROM (VALUES
			(1, 'never seen', d.enabled AND s.at IS NULL),
			(2, 'offline', d.enabled AND s.at IS NOT NULL AND NOT said.online),
			(3, 'captures missing', said.gaps > 0),
			(4, 'disk full', said.free_bytes < said.total_bytes * 0.05 OR said.cleaning_state = 'disk_low_stuck'),
			(5, 'disk full soon', said.safe_until < now() + interval '1 day'),
			(6, 'cleans early', said.cleaning_state = 'disk_low_early'),
			(7, 'agent fails', said.agent_error IS NOT NULL),
			(8, 'captures set aside', said.set_aside > 0),
			(9, 'uploads wait', said.upload_oldest > interval '1 hour'),
			(10, 'records wait', said.register_oldest > interval '1 hour'),
			(11, 'unreachable', d.enabled AND NOT p.ok),
			(12, 'clock wrong', abs(extract(epoch FROM said.clock_offset)) > 30),
			(13, 'disabled', NOT d.enabled)
		) AS c (rank, name, present)
		WHERE c.present
	) AS problem
ORDER BY problem.worst, said.safe_until, said.upload_oldest DESC NULLS LAST, d.code;
COMMENT ON VIEW tms.fleet IS 'every front end, worst first';
COMMENT ON COLUMN tms.fleet.device IS 'code of the device';
COMMENT ON COLUMN tms.fleet.site IS 'where it stands';
COMMENT ON COLUMN tms.fleet.problems IS 'what is wrong, worst first; NULL: nothing';
COMMENT ON COLUMN tms.fleet.online IS 'whether a heartbeat came in the last five minutes';
COMMENT ON COLUMN tms.fleet.last_heartbeat IS 'when the last heartbeat came; what follows it is as of then';
COMMENT ON COLUMN tms.fleet.reachable IS 'whether its cache server answered the last probe; NULL: never probed';
COMMENT ON COLUMN tms.fleet.probe_error IS 'why it is not reachable';
COMMENT ON COLUMN tms.fleet.last_probe IS 'when it was last probed';
COMMENT ON COLUMN tms.fleet.clock_offset IS 'its clock minus this server''s, by the last probe or else by the last heartbeat';
COMMENT ON COLUMN tms.fleet.upload_backlog IS 'captures it has yet to upload to the image center';
COMMENT ON COLUMN tms.fleet.upload_oldest IS 'age of the oldest of them';
COMMENT ON COLUMN tms.fleet.upload_error IS 'its last error in uploading';
COMMENT ON COLUMN tms.fleet.upload_requested IS 'of its backlog: captures an upload request asked for, counted to 100,000';
COMMENT ON COLUMN tms.fleet.upload_request_done IS 'when it was done with its last upload request; NULL: it is not, or had none';
COMMENT ON COLUMN tms.fleet.upload_not_held IS 'captures of its last upload request that had left its cache before';
COMMENT ON COLUMN tms.fleet.register_backlog IS 'captures it has yet to register here';
COMMENT ON COLUMN tms.fleet.register_oldest IS 'age of the oldest of them';
COMMENT ON COLUMN tms.fleet.register_error IS 'its last error in registering';
COMMENT ON COLUMN tms.fleet.cached IS 'captures in its cache';
COMMENT ON COLUMN tms.fleet.cached_bytes IS 'their size';
COMMENT ON COLUMN tms.fleet.free_bytes IS 'free space on its disk';
COMMENT ON COLUMN tms.fleet.total_bytes IS 'size of its disk';
COMMENT ON COLUMN tms.fleet.safe_until IS 'until when it has room if the image center stays away, by its own estimate';
COMMENT ON COLUMN tms.fleet.set_aside IS 'captures it can never upload';
COMMENT ON COLUMN tms.fleet.gaps IS 'captures in tms.device_gap';
COMMENT ON COLUMN tms.fleet.intake_per_hour IS 'captures it took in the last hour';
COMMENT ON COLUMN tms.fleet.cleaning_state IS
	'normal, disk_low, disk_low_early (safe captures leave before their time) or disk_low_stuck (nothing safe is left)';
COMMENT ON COLUMN tms.fleet.agent_error IS 'present error of its intake, cache server or cleaner';
COMMENT ON COLUMN tms.fleet.version IS 'version of its agent';

CREATE VIEW tms.upload_progress AS
SELECT r.id AS request_id, d.code AS device, r.since, r.until, r.requested_at, state.name AS state, said.held,
	CASE state.name WHEN 'done' THEN 0 WHEN 'under way' THEN fleet.requested END AS remaining, said.not_held, said.done_at
FROM tms.upload_request AS r
	JOIN tms.device AS d ON d.device_id = r.device_id OR (r.device_id IS NULL AND d.enabled)
	LEFT JOIN tms.device_status AS s ON s.device_id = d.device_id
	CROSS JOIN LATERAL (
		SELECT tms.count_or_null(s.status -> 'upload' -> 'requested') AS requested,
			coalesce((SELECT max(l.request_seen) FROM tms.ledger AS l WHERE l.device_id = d.device_id), 0) >= r.id AS taken
		OFFSET 0
	) AS fleet
	LEFT JOIN LATERAL (
		SELECT tms.count_or_null(e -> 'held') AS held, tms.count_or_null(e -> 'not_held') AS not_held,
			tms.time_or_null(e ->> 'done_at') AS done_at
		FROM jsonb_array_elements(CASE jsonb_typeof(s.status -> 'upload' -> 'requests')
								  WHEN 'array' THEN s.status -> 'upload' -> 'requests' END) AS e
		WHERE tms.count_or_null(e -> 'id') = r.id
		LIMIT 1
	) AS said ON true
	CROSS JOIN LATERAL (
		SELECT CASE
			WHEN NOT fleet.taken THEN 'waits'
			WHEN said.done_at IS NOT NULL OR fleet.requested = 0 THEN 'done'
			ELSE 'under way'
		END AS name
	) AS state;
COMMENT ON VIEW tms.upload_progress IS 'every upload request and front end it is meant for: how far it is, as of the last heartbeat';
COMMENT ON COLUMN tms.upload_progress.request_id IS 'the request, as tms.request_upload returned it';
COMMENT ON COLUMN tms.upload_progress.device IS 'code of the front end';
COMMENT ON COLUMN tms.upload_progress.since IS 'first capture time that is meant';
COMMENT ON COLUMN tms.upload_progress.until IS 'first capture time that is no longer meant';
COMMENT ON COLUMN tms.upload_progress.requested_at IS 'when it was asked for';
COMMENT ON COLUMN tms.upload_progress.state IS 'waits: it has not heard of it; under way; done';
COMMENT ON COLUMN tms.upload_progress.held IS 'captures of the span that it had in its cache; NULL: not known, or long ago';
COMMENT ON COLUMN tms.upload_progress.remaining IS
	'captures, of all its requests together, that it has neither found in the image center nor sent again; counted to 100,000';
COMMENT ON COLUMN tms.upload_progress.not_held IS
	'captures of the span that had left its cache before: tms.missing_of_request names those that the image center lacks';
COMMENT ON COLUMN tms.upload_progress.done_at IS 'when nothing remained, by its clock';
