-- One image by its capture_id. STABLE, so that a subquery whose image nobody uses fetches none; costly enough that the
-- planner computes it after sorting and LIMIT, but not so that tms.max_images of them exceed jit_above_cost: compiling takes seconds.
CREATE FUNCTION tms.image(capture_id bigint, server text DEFAULT 'image_center') RETURNS bytea
	LANGUAGE C STABLE STRICT PARALLEL RESTRICTED COST 3000
	AS 'MODULE_PATHNAME', 'tms_image';
COMMENT ON FUNCTION tms.image(bigint, text) IS
	'The photograph of a capture, from the image center or the front end that took it, checked against its SHA-256. NULL when unavailable or when there is no such capture. Needs USAGE on the server.';

REVOKE ALL ON FUNCTION tms.image(bigint, text) FROM PUBLIC;
