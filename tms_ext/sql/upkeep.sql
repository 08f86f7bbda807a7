-- What has to be done now and then, by the background worker or by cron. Each step answers what it did, NULL for nothing.

CREATE FUNCTION tms.upkeep_days() RETURNS text
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	today CONSTANT date := (now() AT TIME ZONE 'UTC')::date;
	made integer := 0;
	failed integer := 0;
BEGIN
	FOR day IN -1 .. 14 LOOP
		BEGIN
			made := made + tms.partition_ensure(today + day)::integer;
		EXCEPTION WHEN OTHERS THEN
			-- One day in trouble does not keep the others from being made.
			failed := failed + 1;
			RAISE WARNING 'tms.upkeep: no partition for %: %', today + day, sqlerrm;
		END;
	END LOOP;
	RETURN CASE WHEN failed > 0 THEN format('%s made, %s failed', made, failed) WHEN made > 0 THEN format('%s made', made) END;
END;
$$;
COMMENT ON FUNCTION tms.upkeep_days() IS 'Step of tms.upkeep: makes the partitions from yesterday to two weeks ahead';

CREATE FUNCTION tms.upkeep_probe() RETURNS text
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	-- 64 are asked at once, five seconds each at most: 20 seconds when all of them are away.
	sample CONSTANT integer := 256;
	probed integer;
	away integer;
BEGIN
	SELECT count(*), count(*) FILTER (WHERE NOT p.reachable) INTO probed, away
	FROM tms.probe(ARRAY(
		SELECT d.code
		FROM tms.device AS d LEFT JOIN tms.device_probe AS last ON last.device_id = d.device_id
		WHERE d.enabled AND d.base_url IS NOT NULL
		ORDER BY last.at NULLS FIRST, d.device_id
		LIMIT sample)) AS p;
	RETURN CASE WHEN probed > 0 THEN format('%s probed, %s unreachable', probed, away) END;
END;
$$;
COMMENT ON FUNCTION tms.upkeep_probe() IS 'Step of tms.upkeep: probes those front ends that have waited longest';

CREATE FUNCTION tms.upkeep_analyze() RETURNS text
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	rows_then CONSTANT double precision := (SELECT reltuples FROM pg_class WHERE oid = to_regclass('tms.capture'));
	rows_now CONSTANT double precision := (
		SELECT sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid)))
		FROM tms.capture_partitions() AS p JOIN pg_class AS c ON c.oid = p.partition);
BEGIN
	-- Autovacuum never analyzes the parent. Its statistics serve joins and groupings and age slowly, and making them reads a
	-- sample of every day: so only when the number of rows has changed by a third.
	IF rows_now >= 1000 AND (rows_then <= 0 OR abs(rows_now - rows_then) > rows_then / 3) THEN
		EXECUTE CASE WHEN current_setting('server_version_num')::integer >= 180000
			THEN 'ANALYZE ONLY tms.capture' ELSE 'ANALYZE tms.capture' END;
		-- 13 counts rows of days only.
		IF current_setting('server_version_num')::integer < 140000 THEN
			UPDATE pg_class SET reltuples = rows_now WHERE oid = 'tms.capture'::regclass;
		END IF;
		RETURN 'tms.capture analyzed';
	END IF;
	RETURN NULL;
END;
$$;
COMMENT ON FUNCTION tms.upkeep_analyze() IS 'Step of tms.upkeep: analyzes tms.capture when it has changed much';

CREATE FUNCTION tms.upkeep_retention() RETURNS text
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	dropped integer := 0;
BEGIN
	IF tms.retention() IS NOT NULL THEN
		SELECT count(*) INTO dropped FROM tms.drop_captures(now() - tms.retention());
	END IF;
	RETURN CASE WHEN dropped > 0 THEN format('%s dropped', dropped) END;
END;
$$;
COMMENT ON FUNCTION tms.upkeep_retention() IS 'Step of tms.upkeep: drops the days that are older than tms.retention';

CREATE FUNCTION tms.upkeep(OUT step text, OUT outcome text) RETURNS SETOF record
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF to_regclass('tms.capture') IS NULL THEN
		RETURN;
	END IF;
	-- Retention is last: its locks keep everybody from the table until the end of the transaction.
	FOREACH step IN ARRAY ARRAY['days', 'probe', 'analyze', 'retention'] LOOP
		BEGIN
			EXECUTE format('SELECT tms.upkeep_%s()', step) INTO outcome;
		EXCEPTION WHEN OTHERS THEN
			outcome := 'failed: ' || sqlerrm;
			RAISE WARNING 'tms.upkeep: % failed: %', step, sqlerrm;
		END;
		IF outcome IS NOT NULL THEN
			RETURN NEXT;
		END IF;
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tms.upkeep() IS
	'Days ahead, a sample of probes, ANALYZE when due, retention; answers what it did. Run by the background worker or from cron';

REVOKE ALL ON FUNCTION tms.upkeep_days(), tms.upkeep_probe(), tms.upkeep_analyze(), tms.upkeep_retention(), tms.upkeep() FROM PUBLIC;
