-- Photographs in SQL: looked at, made smaller, cut, put together. The results depend on nothing but the arguments, and cost so much that the planner computes
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

CREATE FUNCTION tms.crop(image bytea, x integer, y integer, w integer, h integer, exact boolean DEFAULT false) RETURNS bytea
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'tms_crop';
COMMENT ON FUNCTION tms.crop(bytea, integer, integer, integer, integer, boolean) IS
	'A part of a photograph, in pixels as it is stored: widened to the grid of its blocks and copied without loss, or exact and encoded again';

CREATE FUNCTION tms.plate(image bytea, attributes jsonb) RETURNS bytea
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 1000000
AS $$
	SELECT CASE WHEN (attributes -> 'plate_box')::text ~ '^\[(\d{1,5}, ){2}[1-9]\d{0,4}, [1-9]\d{0,4}\]$' THEN
		tms.crop(image, (attributes -> 'plate_box' ->> 0)::integer, (attributes -> 'plate_box' ->> 1)::integer,
				 (attributes -> 'plate_box' ->> 2)::integer, (attributes -> 'plate_box' ->> 3)::integer)
	END
$$;
COMMENT ON FUNCTION tms.plate(bytea, jsonb) IS
	'The part of a photograph that the attribute plate_box, [x, y, w, h], names, without loss; NULL without such an attribute';

CREATE FUNCTION tms.compose(images bytea[], columns integer DEFAULT 2, max_side integer DEFAULT 1600, quality integer DEFAULT 85)
	RETURNS bytea
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'tms_compose';
COMMENT ON FUNCTION tms.compose(bytea[], integer, integer, integer) IS
	'One sheet of several photographs, row by row in equal places; the place of a NULL stays gray. NULL when there is none.';

CREATE FUNCTION tms.evidence(event_id uuid, server text DEFAULT 'image_center', since timestamptz DEFAULT '-infinity',
							 until timestamptz DEFAULT 'infinity')
	RETURNS bytea
	LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED COST 1000000
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shot record;
	shots bytea[] := '{}';
BEGIN
	FOR shot IN
		SELECT i.capture_id, i.image, i.image_error
		FROM tms.images(ARRAY(SELECT c.capture_id FROM tms.capture AS c
							  WHERE c.event_id = evidence.event_id AND c.captured_at >= since AND c.captured_at < until
							  ORDER BY c.captured_at, c.capture_id), server) WITH ORDINALITY AS i
		ORDER BY i.ordinality
	LOOP
		IF shot.image IS NULL THEN
			RAISE WARNING USING MESSAGE = format('no image of capture %s: its place on the sheet is gray', shot.capture_id),
				DETAIL = coalesce(shot.image_error, '');
		END IF;
		shots := shots || ARRAY[shot.image];
	END LOOP;
	RETURN tms.compose(shots);
END;
$$;
COMMENT ON FUNCTION tms.evidence(uuid, text, timestamptz, timestamptz) IS
	'The evidence sheet of an event: its photographs, fetched concurrently, in order of captured_at; one that is unavailable is a gray place and a WARNING. NULL when there is none. Needs USAGE on the server and the right to read tms.capture.';

REVOKE ALL ON FUNCTION tms.jpeg_info(bytea), tms.thumbnail(bytea, integer, integer),
	tms.crop(bytea, integer, integer, integer, integer, boolean), tms.plate(bytea, jsonb),
	tms.compose(bytea[], integer, integer, integer), tms.evidence(uuid, text, timestamptz, timestamptz) FROM PUBLIC;
