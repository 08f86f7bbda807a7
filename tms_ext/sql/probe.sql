-- Probes of front ends: asked from here, at once and concurrently, and kept in tms.device_probe.

CREATE FUNCTION tms.probe_devices(device_ids integer[])
	RETURNS TABLE (device_id integer, reachable boolean, latency interval, clock_offset interval, error text)
	LANGUAGE C VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'tms_probe_devices';
COMMENT ON FUNCTION tms.probe_devices(integer[]) IS
	'Asks GET /healthz of these front ends, 64 at a time, five seconds each at most; for tms.probe, which also keeps the answers';

CREATE FUNCTION tms.probe(devices text[])
	RETURNS TABLE (device text, reachable boolean, latency interval, clock_offset interval, error text)
	LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	probe record;
BEGIN
	FOR probe IN
		SELECT d.code, p.* FROM tms.probe_devices(ARRAY(SELECT device_id FROM tms.device WHERE code = ANY (devices))) AS p
			JOIN tms.device AS d USING (device_id)
			ORDER BY d.device_id
	LOOP
		IF current_setting('transaction_read_only') = 'off' THEN
			INSERT INTO tms.device_probe AS last (device_id, at, ok, error, latency_ms, clock_offset_ms)
				VALUES (probe.device_id, clock_timestamp(), probe.reachable, probe.error,
						round(extract(epoch FROM probe.latency) * 1000),
						round(extract(epoch FROM probe.clock_offset) * 1000))
				ON CONFLICT ON CONSTRAINT device_probe_pkey DO UPDATE SET at = excluded.at, ok = excluded.ok,
					error = excluded.error, latency_ms = excluded.latency_ms, clock_offset_ms = excluded.clock_offset_ms;
		END IF;
		RETURN QUERY SELECT probe.code, probe.reachable, probe.latency, probe.clock_offset, probe.error;
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tms.probe(text[]) IS
	'Asks these front ends whether they are there, all at once, and keeps the answers in tms.device_probe (not on a standby). Codes that are not registered have no row.';

CREATE FUNCTION tms.probe(device text, OUT reachable boolean, OUT latency interval, OUT clock_offset interval,
						  OUT error text)
	LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM tms.device_id(device);
	SELECT p.reachable, p.latency, p.clock_offset, p.error INTO reachable, latency, clock_offset, error
		FROM tms.probe(ARRAY[device]) AS p;
END;
$$;
COMMENT ON FUNCTION tms.probe(text) IS
	'Asks one front end whether it is there, how fast it answers and how far off its clock is (in whole seconds); an error when it is not registered';

REVOKE ALL ON FUNCTION tms.probe_devices(integer[]), tms.probe(text[]), tms.probe(text) FROM PUBLIC;
