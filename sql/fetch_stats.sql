-- tms.stat_images: counted by the session alone, or by the cluster when tms is preloaded.
SET client_min_messages = warning;
SELECT tms.create_capture_table() WHERE to_regclass('tms.capture') IS NULL \g /dev/null
CREATE SERVER fetch_stats_server FOREIGN DATA WRAPPER tms_fdw OPTIONS (url 'http://127.0.0.1:1/captures', connect_timeout '5s');
SELECT tms.register_device('fetch_stats-1', 'http://127.0.0.1:1', token => repeat('f', 40)) <> '' AS registered;
SELECT accepted_seq FROM tms.ingest('{"device": "fetch_stats-1", "token": "ffffffffffffffffffffffffffffffffffffffff",
	"ledger": "00000004-0000-4000-8000-000000000001", "oldest_seq": 1, "last_seq": 1, "first_seq": 1, "uploaded_seq": 1,
	"uploaded_max": 1, "cleaned_seq": 0, "report_no": 1}', ARRAY[now()], ARRAY['f/1.jpg'], ARRAY[1000], ARRAY[sha256('1')],
	NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);

SELECT tms.breaker_reset();
SELECT tms.stat_images_reset();
SELECT source, requests, images, bytes, errors, digest_failures, failovers, hedges, breaker, latency_mean, latency_p50, latency_p99,
	stats_reset BETWEEN now() - interval '1 minute' AND clock_timestamp() AS just_reset FROM tms.stat_images;
SELECT count(*) FROM generate_series(1, 3) AS g WHERE tms.image((2::bigint << 32) + 1 + g * 0, 'fetch_stats_server') IS NULL;
SELECT source, requests, images, bytes, errors, digest_failures, failovers, hedges, breaker, latency_mean FROM tms.stat_images;
SET tms.image_source = 'front_end';
SELECT tms.image(2::bigint << 32 | 1, 'fetch_stats_server') IS NULL AS unavailable;
RESET tms.image_source;
SELECT source, requests, images, bytes, errors, digest_failures, failovers, hedges, breaker, latency_mean FROM tms.stat_images;
SELECT tms.stat_images_reset();
SELECT sum(requests + images + bytes + errors + failovers + hedges) FROM tms.stat_images;
SELECT * FROM tms.stat_images_of('moon');

-- the histogram: spans a quarter of an octave wide, those without images left out
SELECT * FROM tms.stat_images_histogram;
SELECT source, cardinality(b), (SELECT sum(n) FROM unnest(b) AS n)
	FROM (VALUES ('image_center'), ('front_end')) AS s (source), LATERAL tms.stat_images_buckets(source) AS b;
SELECT tms.stat_images_buckets('moon');

CREATE ROLE fetch_stats_clerk;
SET ROLE fetch_stats_clerk;
SELECT * FROM tms.stat_images;
SELECT * FROM tms.stat_images_of('front_end');
SELECT * FROM tms.stat_images_histogram;
SELECT tms.stat_images_reset();
RESET ROLE;
GRANT pg_monitor TO fetch_stats_clerk;
SET ROLE fetch_stats_clerk;
SELECT count(*) FROM tms.stat_images;
SELECT count(*) FROM tms.stat_images_histogram;
RESET ROLE;

DROP ROLE fetch_stats_clerk;
DROP SERVER fetch_stats_server;
DELETE FROM tms.capture WHERE path = 'f/1.jpg';
DELETE FROM tms.ledger_day WHERE ledger_no = 2;
DELETE FROM tms.ledger WHERE ledger_no = 2;
DELETE FROM tms.device WHERE code = 'fetch_stats-1';
