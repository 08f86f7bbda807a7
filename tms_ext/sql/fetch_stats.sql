-- What fetching images has come to: a row per source.

CREATE FUNCTION tms.stat_images_of(source text, OUT requests bigint, OUT images bigint, OUT bytes bigint,
								   OUT errors bigint, OUT digest_failures bigint, OUT failovers bigint,
								   OUT hedges bigint, OUT breaker text, OUT latency_mean interval, OUT latency_p50 interval, OUT latency_p99 interval,
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
COMMENT ON COLUMN tms.stat_images.hedges IS 'images that were asked of the other source as well because this one took longer than hedge_after';
COMMENT ON COLUMN tms.stat_images.breaker IS 'the worst state of its circuit breakers: closed, half-open or open; tms.stat_breaker has each';
COMMENT ON COLUMN tms.stat_images.latency_mean IS 'mean time from sending a request to the last byte of its image';
COMMENT ON COLUMN tms.stat_images.latency_p50 IS 'median of that time, within 19 percent';
COMMENT ON COLUMN tms.stat_images.latency_p99 IS '99th percentile of that time, within 19 percent';
COMMENT ON COLUMN tms.stat_images.stats_reset IS 'since when this is counted';

CREATE FUNCTION tms.stat_images_buckets(source text) RETURNS bigint[]
	LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'tms_fetch_stats_buckets';
COMMENT ON FUNCTION tms.stat_images_buckets(text) IS
	'Histogram of one source: images by latency, bucket i for less than 2^(i/4) microseconds; use the view tms.stat_images_histogram';

CREATE VIEW tms.stat_images_histogram AS
	SELECT s.source, power(2, (b.bucket - 1) / 4.0)::float8 * interval '1 microsecond' AS latency_from,
		power(2, b.bucket / 4.0)::float8 * interval '1 microsecond' AS latency_below, b.images
	FROM (VALUES ('image_center'), ('front_end')) AS s (source),
		LATERAL unnest(tms.stat_images_buckets(s.source)) WITH ORDINALITY AS b (images, bucket)
	WHERE b.images > 0;
COMMENT ON VIEW tms.stat_images_histogram IS
	'How long images took since stats_reset: a row for each source and span of latencies in which there were any';
COMMENT ON COLUMN tms.stat_images_histogram.source IS 'image_center or front_end';
COMMENT ON COLUMN tms.stat_images_histogram.latency_from IS 'shortest time from sending a request to the last byte of its image';
COMMENT ON COLUMN tms.stat_images_histogram.latency_below IS 'and the one that was not reached; the last span is open';
COMMENT ON COLUMN tms.stat_images_histogram.images IS 'images that took that long';

CREATE FUNCTION tms.stat_images_reset() RETURNS void
	LANGUAGE C VOLATILE
	AS 'MODULE_PATHNAME', 'tms_fetch_stats_reset';
COMMENT ON FUNCTION tms.stat_images_reset() IS 'Sets all counters of tms.stat_images to zero';

REVOKE ALL ON FUNCTION tms.stat_images_of(text), tms.stat_images_buckets(text), tms.stat_images_reset() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tms.stat_images_of(text), tms.stat_images_buckets(text) TO pg_monitor;
GRANT SELECT ON tms.stat_images, tms.stat_images_histogram TO pg_monitor;
