-- Photographs in SQL: looked at, made smaller. The results depend on nothing but the arguments, and cost so much that the planner computes
-- them after sorting and LIMIT.

CREATE FUNCTION tms.jpeg_info(image bytea, OUT width integer, OUT height integer, OUT components integer, OUT subsampling text,
							  OUT bits integer, OUT progressive boolean, OUT quality_estimate integer, OUT complete boolean,
							  OUT exif_taken_at timestamp, OUT orientation integer, OUT make text, OUT model text)
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'tms_jpeg_info';
COMMENT ON FUNCTION tms.jpeg_info(bytea) IS
	'What a JPEG tells of itself, from its header and markers, without decoding; NULL where it does not say. An error when it is no JPEG.';

CREATE FUNCTION tms.thumbnail(image bytea, max_side integer DEFAULT 320, quality integer DEFAULT 75) RETURNS bytea
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'tms_thumbnail';
COMMENT ON FUNCTION tms.thumbnail(bytea, integer, integer) IS
	'A small JPEG of a photograph: its longer side has max_side pixels, or its own if that is less; upright, without metadata';

REVOKE ALL ON FUNCTION tms.jpeg_info(bytea), tms.thumbnail(bytea, integer, integer) FROM PUBLIC;
