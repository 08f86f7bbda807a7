-- Many images by their capture_ids. In a select list it is computed row by row, so that a LIMIT above ends the fetching.
CREATE FUNCTION tms.images(capture_ids bigint[], server text DEFAULT 'image_center')
	RETURNS TABLE (capture_id bigint, image bytea, image_source text, image_error text)
	LANGUAGE C STABLE STRICT PARALLEL RESTRICTED COST 100000 ROWS 100
	AS 'MODULE_PATHNAME', 'tms_images';
COMMENT ON FUNCTION tms.images(bigint[], text) IS
	'The photographs of these captures, fetched concurrently: a row for each element, in the order of the array, with image and image_source NULL and the reason in image_error when there is none. Needs USAGE on the server.';

REVOKE ALL ON FUNCTION tms.images(bigint[], text) FROM PUBLIC;
