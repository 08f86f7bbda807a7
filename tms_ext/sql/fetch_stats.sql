-- What fetching images has come to: a row per source.

CREATE FUNCTION tms.stat_images_of(source text, OUT requests bigint, OUT images bigint, OUT bytes bigint,
								   OUT errors bigint, OUT digest_failures bigint, OUT failovers bigint,
								   OUT latency_mean interval, OUT latency_p50 interval, OUT latency_p99 interval,
								   OUT stats_reset timestamptz)
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'tms_fetch_stats_read';
COMMENT ON FUNCTION tms.stat_images_of(text) IS
	'Counters of one source of images, image_center or front_end; use the view tms.stat_images';

CREATE VIEW tms.stat_images AS
	SELECT s.source, c.*
	FROM (VALUES ('image_center'), ('front_end')) AS s (source), LATERAL tms.stat_images_of(s.source) AS c;
COMMENT ON VIEW tms.stat_images IS
	'What fetching images has come to since stats_reset, a row per source. Cluster-wide when tms is in shared_preload_libraries, else of this session alone.';
COMMENT ON COLUMN tms.stat_images.source IS 'image_center or front_end';
COMMENT ON COLUMN tms.stat_images.requests IS 'requests sent; a canceled one counts here and nowhere else';
COMMENT ON COLUMN tms.stat_images.images IS 'images delivered with the right digest';
COMMENT ON COLUMN tms.stat_images.bytes IS 'bytes of those images';
COMMENT ON COLUMN tms.stat_images.errors IS 'requests that ended without an image, whatever the reason';
COMMENT ON COLUMN tms.stat_images.digest_failures IS 'errors in which the bytes had another SHA-256 than the path center holds';
COMMENT ON COLUMN tms.stat_images.failovers IS 'images that were asked of the other source after this one had failed';
COMMENT ON COLUMN tms.stat_images.latency_mean IS 'mean time from sending a request to the last byte of its image';
COMMENT ON COLUMN tms.stat_images.latency_p50 IS 'median of that time, within 19 percent';
COMMENT ON COLUMN tms.stat_images.latency_p99 IS '99th percentile of that time, within 19 percent';
COMMENT ON COLUMN tms.stat_images.stats_reset IS 'since when this is counted';

CREATE FUNCTION tms.stat_images_reset() RETURNS void
	LANGUAGE C VOLATILE
	AS 'MODULE_PATHNAME', 'tms_fetch_stats_reset';
COMMENT ON FUNCTION tms.stat_images_reset() IS 'Sets all counters of tms.stat_images to zero';

REVOKE ALL ON FUNCTION tms.stat_images_reset() FROM PUBLIC;
GRANT SELECT ON tms.stat_images TO pg_monitor;
