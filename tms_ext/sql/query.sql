-- Questions asked every day, as functions that the planner inlines: conditions and limits from outside reach the indexes.
-- tms.capture is made later by the user, so the bodies cannot be checked yet; nor can they be made to depend on it.
SET LOCAL check_function_bodies = off;

CREATE FUNCTION tms.captures(device text, since timestamptz, until timestamptz)
	RETURNS TABLE (captured_at timestamptz, capture_id bigint, device_id integer, image_bytes integer, lane smallint,
				   speed_kmh smallint, event_id uuid, plate text, plate_class text, plate_color text, direction text,
				   violation_code text, path text, sha256 bytea, attributes jsonb)
	LANGUAGE sql STABLE PARALLEL SAFE ROWS 10000
AS $$
	SELECT c.captured_at, c.capture_id, c.device_id, c.image_bytes, c.lane, c.speed_kmh, c.event_id, c.plate, c.plate_class,
		c.plate_color, c.direction, c.violation_code, c.path::text, c.sha256, c.attributes
	FROM tms.capture AS c
	WHERE c.device_id = (SELECT d.device_id FROM tms.device AS d WHERE d.code = captures.device)
		AND c.captured_at >= captures.since AND c.captured_at < captures.until
$$;
COMMENT ON FUNCTION tms.captures(text, timestamptz, timestamptz) IS
	'Captures of one device in [since, until); inlined, so add ORDER BY and LIMIT outside';

CREATE FUNCTION tms.track(plate text, since timestamptz, until timestamptz)
	RETURNS TABLE (captured_at timestamptz, device text, site text, lane smallint, direction text, speed_kmh smallint,
				   plate_class text, plate_color text, violation_code text, event_id uuid, capture_id bigint)
	LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
AS $$
	SELECT c.captured_at, d.code, d.site, c.lane, c.direction, c.speed_kmh, c.plate_class, c.plate_color, c.violation_code,
		c.event_id, c.capture_id
	FROM tms.capture AS c LEFT JOIN tms.device AS d ON d.device_id = c.device_id
	WHERE c.plate = track.plate AND c.captured_at >= track.since AND c.captured_at < track.until
$$;
COMMENT ON FUNCTION tms.track(text, timestamptz, timestamptz) IS
	'Where and when a plate was seen in [since, until); inlined, so add ORDER BY captured_at outside';

SET LOCAL check_function_bodies = on;
