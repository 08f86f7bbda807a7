-- tms.probe of front ends that are not there. (tests/t/043_probe.pl probes some that are.)
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SELECT count(tms.register_device(code, url, token => repeat('p', 40)))
	FROM (VALUES ('probe-away', 'http://127.0.0.1:1'), ('probe-unset', NULL), ('probe-metadata', 'http://169.254.169.254'),
				 ('probe-any', 'http://0.0.0.0:1'), ('probe-many', 'http://224.0.0.1')) AS d (code, url);

SELECT * FROM tms.probe('probe-away');
SELECT * FROM tms.probe('probe-nobody');
SELECT * FROM tms.probe(NULL::text);
SELECT * FROM tms.probe(ARRAY['probe-metadata', 'probe-any', 'probe-many', 'probe-nobody', NULL, 'probe-unset', 'probe-unset'])
	ORDER BY device;
SELECT * FROM tms.probe('{}'::text[]);
SELECT * FROM tms.probe_devices(ARRAY[-1, NULL]);
SELECT * FROM tms.probe_devices(ARRAY[-1]);

SELECT d.code, p.ok, p.error, p.latency_ms, p.clock_offset_ms, p.at > now() - interval '1 hour' AS just_now
	FROM tms.device_probe AS p JOIN tms.device AS d USING (device_id) WHERE d.code LIKE 'probe-%' ORDER BY 1;

CREATE ROLE probe_clerk;
SET ROLE probe_clerk;
SELECT * FROM tms.probe('probe-away');
SELECT * FROM tms.probe(ARRAY['probe-away']);
SELECT * FROM tms.probe_devices(ARRAY[1]);
RESET ROLE;
DROP ROLE probe_clerk;
DELETE FROM tms.device WHERE code LIKE 'probe-%';
