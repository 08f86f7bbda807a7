-- Photographs in SQL. The files are those of tests/vectors/jpeg.tsv, which the unit tests read too.
CREATE TABLE jpeg_file (n serial, name text, state text, image bytea);
\set lines `cd "${PG_ABS_SRCDIR:-.}/tests/vectors" && grep -v '^#' jpeg.tsv`
INSERT INTO jpeg_file (name, state, image)
	SELECT split_part(line, E'\t', 1), split_part(line, E'\t', 2), decode(split_part(line, E'\t', 8), 'hex')
	FROM unnest(string_to_array(:'lines', E'\n')) AS line;
CREATE FUNCTION jpeg_file(wanted text) RETURNS bytea LANGUAGE sql STABLE AS 'SELECT image FROM jpeg_file WHERE name = wanted';

-- The size of what an expression makes of $1, or why it makes nothing of it.
CREATE FUNCTION jpeg_try(expression text, image bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	made bytea;
	state text;
	detail text;
BEGIN
	EXECUTE 'SELECT ' || expression INTO made USING image;
	RETURN (SELECT format('%s x %s, %s', width, height, CASE WHEN complete THEN 'complete' END) FROM tms.jpeg_info(made));
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL;
	RETURN state || ': ' || SQLERRM || ': ' || detail;
END $$;

-- What files tell of themselves.
SELECT f.name, i.* FROM jpeg_file AS f, tms.jpeg_info(f.image) AS i WHERE f.state <> 'not a JPEG' ORDER BY f.n;
SELECT count(*), count(*) FILTER (WHERE jpeg_try('tms.thumbnail($1)', image) LIKE '22P03: %') AS no_thumbnail,
	count(*) FILTER (WHERE jpeg_try('(SELECT $1 FROM tms.jpeg_info($1))', image) LIKE '22P03: not a JPEG: The % bytes lack %') AS not_described
FROM jpeg_file WHERE state = 'not a JPEG';

SELECT tms.jpeg_info('GIF89a');
-- One that is compressed in its table.
CREATE TEMP TABLE jpeg_compressed AS SELECT jpeg_file('progressive, ten scans') || decode(repeat('00', 100000), 'hex') AS image;
SELECT pg_column_size(image) < 10000 AS compressed, i.width, i.complete, jpeg_try('tms.thumbnail($1, 12)', image) FROM jpeg_compressed, tms.jpeg_info(image) AS i;
DROP TABLE jpeg_compressed;

-- Thumbnails of whole ones, and of damaged ones with a warning.
SELECT name, jpeg_try('tms.thumbnail($1, 12)', image) FROM jpeg_file WHERE state = 'complete' ORDER BY n;
SELECT name, jpeg_try('tms.thumbnail($1, 12)', image) FROM jpeg_file WHERE state = 'truncated' ORDER BY n;

-- Sizes: never enlarged, at least a pixel; EXIF turned; metadata gone.
SELECT s.side, jpeg_try(format('tms.thumbnail($1, %s)', s.side), jpeg_file('color, baseline, 4:2:0'))
FROM unnest(ARRAY[1, 2, 7, 16, 32, 33, 34, 2147483647]) AS s (side);
SELECT tms.thumbnail(jpeg_file('gray, baseline'), 0);
SELECT tms.thumbnail(jpeg_file('gray, baseline'), -1);
SELECT tms.thumbnail(jpeg_file('gray, baseline'), 16, 0);
SELECT tms.thumbnail(jpeg_file('gray, baseline'), 16, 101);
SELECT tms.thumbnail(NULL) IS NULL AS image_null, tms.thumbnail(jpeg_file('gray, baseline'), NULL) IS NULL AS side_null;
SELECT quality, i.quality_estimate FROM unnest(ARRAY[1, 10, 49, 50, 75, 90, 100]) AS quality, tms.jpeg_info(tms.thumbnail(jpeg_file('color, baseline, 4:2:0'), 33, quality)) AS i;

-- EXIF: an upright thumbnail, the camera, its time.
CREATE FUNCTION jpeg_with_exif(tiff text) RETURNS bytea LANGUAGE sql STABLE AS $$
	SELECT '\xffd8ffe1' || decode(lpad(to_hex(8 + length(tiff) / 2), 4, '0') || '457869660000' || tiff, 'hex') || substr(jpeg_file('color, baseline, 4:2:0'), 3)
$$;
SELECT o, i.orientation, jpeg_try('tms.thumbnail($1, 12)', image), position('\xffe1'::bytea IN tms.thumbnail(image, 12)) = 0 AS without_metadata
FROM generate_series(0, 9) AS o, jpeg_with_exif('4d4d002a00000008000101120003000000010' || lpad(to_hex(o), 3, '0') || '000000000000') AS image, tms.jpeg_info(image) AS i;
-- Little endian: make at 62, model inside the entry, orientation, second directory at 74 with DateTimeOriginal at 92.
SELECT exif_taken_at, orientation, make, model FROM tms.jpeg_info(jpeg_with_exif(
	'49492a00' || '08000000' || '0400' || '0f01' || '0200' || '0c000000' || '3e000000' || '1001' || '0200' || '04000000' || '58310000'
	|| '1201' || '0300' || '01000000' || '06000000' || '6987' || '0400' || '01000000' || '4a000000' || '00000000'
	|| encode('Hik' || '\x01'::bytea || 'vision ', 'hex') || '00'
	|| '0100' || '0390' || '0200' || '14000000' || '5c000000' || '00000000' || encode('2026:11:26 15:48:12', 'hex') || '00'));
-- Absurd ones: offsets outside, a circle, a time that is none, a directory of 65535 entries.
SELECT exif_taken_at, orientation, make, model FROM unnest(ARRAY[
	'49492a00ffffffff', '49492a0008000000ffff', '4d4d002a00000008', '4d4d002a000000080001876900040000000100000008',
	'4d4d002a00000008' || '0001' || '01320002' || '00000014' || '0000001a' || '00000000' || encode('2026:02:29 00:00:00', 'hex') || '00',
	'4d4d002a00000008' || '0001' || '010f0002' || 'fffffff0' || '00000008' || '00000000']) AS tiff, tms.jpeg_info(jpeg_with_exif(tiff));

-- Cutting: lossless on the grid of blocks, exact; clipped to what there is.
SELECT b.*, c.* FROM (VALUES (0, 0, 1, 1), (15, 15, 2, 2), (16, 0, 16, 16), (17, 3, 5, 5), (30, 10, 100, 100), (-5, -5, 6, 6), (0, 0, 2147483647, 2147483647), (32, 16, 1, 1)) AS b (x, y, w, h),
	jpeg_try(format('tms.crop($1, %s, %s, %s, %s)', x, y, w, h), jpeg_file('color, baseline, 4:2:0')) AS lossless,
	jpeg_try(format('tms.crop($1, %s, %s, %s, %s, true)', x, y, w, h), jpeg_file('color, baseline, 4:2:0')) AS exact,
	jpeg_try(format('tms.crop($1, %s, %s, %s, %s)', x, y, w, h), jpeg_file('progressive, ten scans')) AS progressive,
	jpeg_try(format('tms.crop($1, %s, %s, %s, %s)', x, y, w, h), jpeg_file('arithmetic coding')) AS gray
	CROSS JOIN LATERAL (SELECT lossless, exact, progressive, gray) AS c \gx
SELECT tms.crop(jpeg_file('gray, baseline'), 0, 0, 0, 1);
SELECT tms.crop(jpeg_file('gray, baseline'), 0, 0, 1, -1);
SELECT i.orientation, i.width, i.quality_estimate, exact FROM unnest(ARRAY[true, false]) AS exact,
	tms.jpeg_info(tms.crop(jpeg_with_exif('4d4d002a00000008000101120003000000010006000000000000'), 0, 0, 16, 16, exact)) AS i;
SELECT exact, jpeg_try(format('tms.crop($1, 0, 0, 8, 8, %L)', exact), jpeg_file(name))
FROM unnest(ARRAY['twelve bits', 'GIF']) AS name, unnest(ARRAY[false, true]) AS exact;
SELECT width, height FROM tms.jpeg_info(tms.plate(jpeg_file('color, baseline, 4:2:0'), '{"plate_box": [17, 3, 5, 5]}'));
SELECT tms.plate(jpeg_file('gray, baseline'), '{}') IS NULL AS no_box, tms.plate(jpeg_file('gray, baseline'), '{"plate_box": "no"}') IS NULL AS no_array,
	tms.plate(jpeg_file('gray, baseline'), '{"plate_box": [1, 2]}') IS NULL AS too_few, tms.plate(jpeg_file('gray, baseline'), '{"plate_box": [0, 0, 1.5, "a"]}') IS NULL AS no_numbers, tms.plate(jpeg_file('gray, baseline'), NULL) IS NULL AS no_attributes;

-- Composing: equal places with gaps of four pixels, as many as there are images; a NULL's stays gray.
CREATE FUNCTION jpeg_sheet(names text[], columns int, max_side int) RETURNS text LANGUAGE sql AS $$
	SELECT jpeg_try(format('tms.compose((SELECT array_agg(jpeg_file(n) ORDER BY o) FROM unnest(%L::text[]) WITH ORDINALITY AS u (n, o)), %s, %s)', names, columns, max_side), NULL)
$$;
SELECT n.*, c.columns, c.max_side, jpeg_sheet(n.names, c.columns, c.max_side)
FROM (VALUES ('{"color, baseline, 4:2:0"}'::text[]), ('{"color, baseline, 4:2:0","gray, baseline",NULL}'), ('{"restart markers","no such","progressive, ten scans","arithmetic coding","gray, baseline"}')) AS n (names),
	(VALUES (1, 1600), (2, 1600), (2, 40), (9, 1)) AS c (columns, max_side);
SELECT tms.compose('{}') IS NULL AS empty, tms.compose(ARRAY[NULL, NULL]::bytea[]) IS NULL AS all_null;
SELECT tms.compose(ARRAY[jpeg_file('gray, baseline'), 'GIF89a']);
SELECT tms.compose(ARRAY[jpeg_file('gray, baseline'), jpeg_file('twelve bits')]);
SELECT tms.compose(ARRAY[jpeg_file('gray, baseline')], 0);
SELECT tms.compose(array_fill(jpeg_file('gray, baseline'), ARRAY[70000]), 70000, 100);

-- Limits.
SET tms.max_pixels = 100;
SELECT jpeg_try('tms.thumbnail($1, 12)', jpeg_file('gray, baseline'));
SET tms.max_pixels = 128;
SELECT jpeg_try('tms.thumbnail($1, 12)', jpeg_file('gray, baseline'));
RESET tms.max_pixels;

-- After sorting and LIMIT; in parallel workers; also in generic plans.
SELECT p.proname, p.provolatile, p.proisstrict, p.proparallel, p.procost >= 1000 AS costly FROM pg_proc AS p
WHERE p.pronamespace = 'tms'::regnamespace AND p.proname IN ('jpeg_info', 'thumbnail', 'crop', 'plate', 'compose', 'evidence') ORDER BY 1;
EXPLAIN (VERBOSE, COSTS OFF) SELECT tms.thumbnail(image, 12) FROM jpeg_file ORDER BY name LIMIT 2;
SET plan_cache_mode = force_generic_plan;
PREPARE jpeg_generic(text, int) AS SELECT length(tms.thumbnail(jpeg_file($1), $2)) > 100 FROM generate_series(1, 10);
EXECUTE jpeg_generic('gray, baseline', 12);
RESET plan_cache_mode;

-- Rights.
CREATE ROLE jpeg_clerk;
GRANT SELECT ON jpeg_file TO jpeg_clerk;
SET ROLE jpeg_clerk;
SELECT tms.thumbnail(image) FROM jpeg_file;
SELECT tms.jpeg_info(image) FROM jpeg_file;
SELECT tms.crop(image, 0, 0, 8, 8) FROM jpeg_file;
SELECT tms.plate(image, '{"plate_box": [0, 0, 8, 8]}') FROM jpeg_file;
SELECT tms.compose(ARRAY[image]) FROM jpeg_file;
SELECT tms.evidence('00000000-0000-4000-8000-000000000000');
SET tms.max_pixels = 1000000000;
RESET ROLE;
DROP FUNCTION jpeg_sheet, jpeg_try, jpeg_with_exif, jpeg_file;
DROP TABLE jpeg_file;
DROP ROLE jpeg_clerk;
