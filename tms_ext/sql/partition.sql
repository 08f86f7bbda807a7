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
