-- Where the images of a span of time are, by asking for each of them: the image center, and for what that lacks the front ends.

CREATE FUNCTION tms.verify_images(since timestamptz, until timestamptz, sample real DEFAULT 1.0,
								  server text DEFAULT 'image_center', method text DEFAULT 'GET')
	RETURNS TABLE (device text, hour timestamptz, captures bigint, in_image_center bigint, only_front_end bigint,
				   nowhere bigint, wrong_bytes bigint, unknown bigint)
	LANGUAGE C VOLATILE STRICT COST 1000000
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'tms_verify_images';
COMMENT ON FUNCTION tms.verify_images(timestamptz, timestamptz, real, text, text) IS
	'Asks for every image of [since, until), or for a sample of them that is the same each time, and counts by device and hour where they are: in the image center with the right bytes (GET; HEAD: of the right size), only in the front end, nowhere, something else in the image center, or unknown because who may have it could not be asked. Tells its progress every five seconds; writes nothing. Needs USAGE on the server and SELECT on tms.capture';

CREATE FUNCTION tms.missing_images(since timestamptz, until timestamptz, device text DEFAULT NULL,
								   server text DEFAULT 'image_center', method text DEFAULT 'HEAD')
	RETURNS TABLE (capture_id bigint, device text, captured_at timestamptz, path text, found text, reason text)
	LANGUAGE C VOLATILE COST 1000000
	SET search_path = pg_catalog, pg_temp
	AS 'MODULE_PATHNAME', 'tms_missing_images';
COMMENT ON FUNCTION tms.missing_images(timestamptz, timestamptz, text, text, text) IS
	'Asks as tms.verify_images does, and lists the captures that the image center does not have: found is front_end, nowhere, wrong_bytes or unknown, reason what each source said';

CREATE FUNCTION tms.missing_of_request(request_id bigint, server text DEFAULT 'image_center')
	RETURNS TABLE (capture_id bigint, device text, captured_at timestamptz, path text, found text, reason text)
	LANGUAGE sql VOLATILE STRICT
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT m.* FROM tms.upload_request AS r
		LEFT JOIN tms.device AS d ON d.device_id = r.device_id
		CROSS JOIN LATERAL tms.missing_images(r.since, r.until, d.code, server) AS m
		WHERE r.id = request_id
$$;
COMMENT ON FUNCTION tms.missing_of_request(bigint, text) IS
	'What the image center still lacks of an upload request: front_end is on its way or waits, nowhere is held by no cache any more';

REVOKE ALL ON FUNCTION tms.verify_images(timestamptz, timestamptz, real, text, text),
	tms.missing_images(timestamptz, timestamptz, text, text, text), tms.missing_of_request(bigint, text) FROM PUBLIC;
