-- Where a browser can load an image itself. VOLATILE: every call signs anew, by the clock.
CREATE FUNCTION tms.image_url(capture_id bigint, expires interval DEFAULT '5 minutes', server text DEFAULT 'image_center')
	RETURNS text
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 1000
	AS 'MODULE_PATHNAME', 'tms_image_url';
COMMENT ON FUNCTION tms.image_url(bigint, interval, text) IS
	'A URL of the photograph of a capture, in the image center or, when that has it not or is down, signed for the front end that took it and good until it expires. Asks nobody. NULL when there is no such capture or no such URL. Needs USAGE on the server.';

REVOKE ALL ON FUNCTION tms.image_url(bigint, interval, text) FROM PUBLIC;
