-- Daily partitions of tms.capture; what they run on it, they run as its owner.

CREATE FUNCTION tms.partition_ensure(day date) RETURNS boolean
	LANGUAGE C VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'tms_partition_ensure';
COMMENT ON FUNCTION tms.partition_ensure(date) IS
	'Makes the partition of tms.capture for this UTC day if there is none; tells whether it did. Stops no reader or writer.';

CREATE FUNCTION tms.partition_drop(partition regclass) RETURNS void
	LANGUAGE C VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'tms_partition_drop';
COMMENT ON FUNCTION tms.partition_drop(regclass) IS
	'Drops one partition of tms.capture; for tms.drop_captures, which also looks after tms.ledger_day';

CREATE FUNCTION tms.partition_empty(partition regclass) RETURNS void
	LANGUAGE C VOLATILE STRICT
	AS 'MODULE_PATHNAME', 'tms_partition_empty';
COMMENT ON FUNCTION tms.partition_empty(regclass) IS
	'Empties one partition of tms.capture; for tms.drop_captures, which also looks after tms.ledger_day';

CREATE FUNCTION tms.retention() RETURNS interval
	LANGUAGE C STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'tms_partition_retention';
COMMENT ON FUNCTION tms.retention() IS 'The setting tms.retention; NULL: captures are kept for ever';

REVOKE ALL ON FUNCTION tms.partition_ensure(date), tms.partition_drop(regclass), tms.partition_empty(regclass) FROM PUBLIC;

CREATE FUNCTION tms.capture_partitions(OUT partition regclass, OUT since timestamptz, OUT until timestamptz)
	RETURNS SETOF record
	LANGUAGE C STABLE ROWS 400
	AS 'MODULE_PATHNAME', 'tms_partition_list';
COMMENT ON FUNCTION tms.capture_partitions() IS
	'The partitions of tms.capture in the order of time, with the span [since, until) of each; none when there is no table';

CREATE FUNCTION tms.drop_captures(before timestamptz) RETURNS SETOF text
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	SET lock_timeout = '500ms'
AS $$
DECLARE
	attempts CONSTANT integer := 5;
	first_kept CONSTANT date := (before AT TIME ZONE 'UTC')::date;
	days regclass[];
	names text[];
BEGIN
	IF isfinite(before) IS NOT TRUE THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'before must be a moment';
	END IF;
	-- Dropping a partition locks out readers and writers. While we wait for them all others wait behind us: so we wait a
	-- moment only, let them through, and try again.
	FOR attempt IN 1 .. attempts LOOP
		BEGIN
			SELECT array_agg(p.partition ORDER BY p.since), array_agg(p.partition::text ORDER BY p.since) INTO days, names
			FROM tms.capture_partitions() AS p
			WHERE p.until <= first_kept::timestamp AT TIME ZONE 'UTC' AND isfinite(p.since);
			PERFORM tms.partition_drop(day) FROM unnest(days) AS day;
			-- The one below the first day is needed for what comes late, so it is emptied instead.
			PERFORM tms.partition_empty(p.partition)
			FROM tms.capture_partitions() AS p
			WHERE p.since = '-infinity' AND p.until <= first_kept::timestamp AT TIME ZONE 'UTC'
				AND pg_relation_size(p.partition) > 0;
			DELETE FROM tms.ledger_day WHERE day < first_kept;
			RETURN QUERY SELECT unnest(names);
			RETURN;
		EXCEPTION WHEN lock_not_available OR deadlock_detected OR undefined_table THEN
			IF attempt = attempts THEN
				RAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE = 'tms.capture is in use, nothing was dropped',
					DETAIL = format('A lock on it was not to be had in %s attempts of half a second.', attempts),
					HINT = 'Call again when long queries and transactions on it have ended; see pg_stat_activity.';
			END IF;
		END;
		PERFORM pg_sleep(0.2 * attempt);
	END LOOP;
END;
$$;
COMMENT ON FUNCTION tms.drop_captures(timestamptz) IS
	'Drops the UTC days that lie wholly before that moment and returns their names; error 55P03 when queries keep it from it';

REVOKE ALL ON FUNCTION tms.capture_partitions(), tms.drop_captures(timestamptz) FROM PUBLIC;
