/*
 * Daily partitions of tms.capture.
 *
 * A day is made as a free-standing table and then attached: ATTACH PARTITION takes ShareUpdateExclusiveLock on tms.capture,
 * which neither reading nor writing conflicts with. We take that lock first and look again, so it is also what keeps two
 * sessions from making the same day; it is held to the end of the transaction. The new table is empty, so there is nothing
 * to scan under the lock, and a CHECK constraint, which every later row would pay for, would spare nothing.
 *
 * All of it runs as the owner of the table concerned: see owner.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/tablespace.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "tms_ext/compat.h"
#include "tms_ext/owner.h"
#include "tms_ext/partition.h"

int tms_retention;

PG_FUNCTION_INFO_V1(tms_partition_ensure);
PG_FUNCTION_INFO_V1(tms_partition_drop);
PG_FUNCTION_INFO_V1(tms_partition_empty);
PG_FUNCTION_INFO_V1(tms_partition_list);
PG_FUNCTION_INFO_V1(tms_partition_retention);

void tms_partition_init(void)
{
	DefineCustomIntVariable("tms.retention", "How long captures are kept by tms.upkeep().",
							"0, the default, keeps them for ever.", &tms_retention, 0, 0, INT_MAX, PGC_SUSET,
							GUC_UNIT_MIN, NULL, NULL, NULL);
}

DateADT tms_day_of(TimestampTz moment)
{
	int64 day = moment / USECS_PER_DAY;

	return (DateADT) (moment % USECS_PER_DAY < 0 ? day - 1 : day);
}

TimestampTz tms_day_start(DateADT day)
{
	return (TimestampTz) day * USECS_PER_DAY;
}

/* Is it partitioned by time alone? Otherwise it is not ours to add days to. */
static bool is_ours(Relation capture)
{
	PartitionKey key;

	if (capture->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return false;
	key = RelationGetPartitionKey(capture);
	return key->strategy == PARTITION_STRATEGY_RANGE && key->partnatts == 1 && key->parttypid[0] == TIMESTAMPTZOID;
}

/* Is there a partition for that moment? */
static bool covers(Relation capture, TimestampTz moment)
{
	PartitionKey key = RelationGetPartitionKey(capture);
	PartitionDesc partitions = tms_partition_desc(capture);
	Datum value = TimestampTzGetDatum(moment);
	bool is_equal;
	int bound;

	if (partitions->nparts == 0)
		return false;
	/* What lies above bound i belongs to partition indexes[i + 1]; bound -1 is minus infinity. */
	bound = partition_range_datum_bsearch(key->partsupfunc, key->partcollation, partitions->boundinfo, 1, &value,
										  &is_equal);
	return partitions->boundinfo->indexes[bound + 1] >= 0;
}

bool tms_partition_has_day(DateADT day)
{
	Relation capture = table_open(tms_capture_relation(), AccessShareLock);
	bool found = !is_ours(capture) || covers(capture, tms_day_start(day));

	table_close(capture, AccessShareLock);
	return found;
}

/* Runs utility commands one after the other as the owner of a relation. */
static void run_as_owner(Oid relation, const char *const *commands, int count)
{
	TmsIdentity saved;
	int i;

	tms_run_as(tms_relation_owner(relation), &saved);
	SPI_connect();
	for (i = 0; i < count; i++)
	{
		int result = SPI_execute(commands[i], false, 0);

		if (result != SPI_OK_UTILITY)
			elog(ERROR, "SPI_execute returned %s for: %s", SPI_result_code_string(result), commands[i]);
	}
	SPI_finish();
	tms_run_back(&saved);
}

/* capture_YYYYMMDD, or with a number behind it where a table of that name is no partition (any more). */
static char *free_name(DateADT day, Oid schema)
{
	int year, month, mday, i;
	char *name;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
	name = psprintf("capture_%04d%02d%02d", year, month, mday);
	for (i = 2; OidIsValid(get_relname_relid(name, schema)); i++)
		name = psprintf("capture_%04d%02d%02d_%d", year, month, mday, i);
	return name;
}

/* A day's first moment as a literal that does not depend on DateStyle or TimeZone. */
static char *day_literal(DateADT day)
{
	int year, month, mday;

	j2date(day + POSTGRES_EPOCH_JDATE, &year, &month, &mday);
	return psprintf("'%04d-%02d-%02d 00:00:00+00'", year, month, mday);
}

static void make_day(Oid capture, DateADT day)
{
	Oid tablespace = get_rel_tablespace(capture);
	char *name = free_name(day, get_rel_namespace(capture));
	const char *commands[2];

	/* Indexes come with ATTACH, which makes those of tms.capture; comments and statistics are tms.capture's own. */
	commands[0] = psprintf("CREATE TABLE tms.%s (LIKE tms.capture INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY"
						   " EXCLUDING STATISTICS EXCLUDING COMMENTS)%s%s",
						   name, OidIsValid(tablespace) ? " TABLESPACE " : "",
						   OidIsValid(tablespace) ? quote_identifier(get_tablespace_name(tablespace)) : "");
	commands[1] = psprintf("ALTER TABLE tms.capture ATTACH PARTITION tms.%s FOR VALUES FROM (%s) TO (%s)", name,
						   day_literal(day), day_literal(day + 1));
	run_as_owner(capture, commands, lengthof(commands));
}

bool tms_partition_ensure_day(DateADT day)
{
	Oid capture;

	if (tms_partition_has_day(day))
		return false;
	capture = tms_capture_relation();
	LockRelationOid(capture, ShareUpdateExclusiveLock);
	if (tms_partition_has_day(day))
		return false;
	make_day(capture, day);
	return true;
}

/* tms.partition_ensure(day date) returns boolean */
Datum tms_partition_ensure(PG_FUNCTION_ARGS)
{
	DateADT day = PG_GETARG_DATEADT(0);

	if (DATE_NOT_FINITE(day))
		ereport(ERROR, (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("a partition needs a finite day")));
	PG_RETURN_BOOL(tms_partition_ensure_day(day));
}

/*
 * Runs one command, whose %s is the partition's name, on a partition of tms.capture, as its owner: ALTER TABLE tms.capture
 * OWNER TO leaves the days there are to the owner before.
 */
static void run_on_partition(Oid partition, const char *format)
{
	const char *command;

	if (get_rel_name(partition) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", partition)));
	if (!get_rel_relispartition(partition) || tms_partition_parent(partition) != tms_capture_relation())
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("relation with OID %u is not a partition of tms.capture", partition)));
	command = psprintf(
		format, quote_qualified_identifier(get_namespace_name(get_rel_namespace(partition)), get_rel_name(partition)));
	run_as_owner(partition, &command, 1);
}

/* tms.partition_drop(partition regclass) */
Datum tms_partition_drop(PG_FUNCTION_ARGS)
{
	run_on_partition(PG_GETARG_OID(0), "DROP TABLE %s");
	PG_RETURN_VOID();
}

/* tms.partition_empty(partition regclass) */
Datum tms_partition_empty(PG_FUNCTION_ARGS)
{
	run_on_partition(PG_GETARG_OID(0), "TRUNCATE ONLY %s");
	PG_RETURN_VOID();
}

typedef struct PartitionSpan
{
	Oid partition;
	TimestampTz since;
	TimestampTz until;
} PartitionSpan;

/* One end of a span: a bound's moment, or infinity. */
static TimestampTz bound_moment(PartitionBoundInfo bounds, int bound)
{
	if (bounds->kind[bound][0] == PARTITION_RANGE_DATUM_VALUE)
		return DatumGetTimestampTz(bounds->datums[bound][0]);
	return bounds->kind[bound][0] == PARTITION_RANGE_DATUM_MINVALUE ? DT_NOBEGIN : DT_NOEND;
}

/* The spans of tms.capture's partitions in the order of time, in the current memory context; *count tells how many. */
static PartitionSpan *list_spans(Relation capture, int *count)
{
	PartitionDesc partitions = tms_partition_desc(capture);
	PartitionBoundInfo bounds = partitions->boundinfo;
	PartitionSpan *spans = palloc(sizeof(PartitionSpan) * (partitions->nparts + 1));
	int bound;

	*count = 0;
	/* Between bound - 1 and bound is partition indexes[bound]; -1 stands for a hole. */
	for (bound = 1; partitions->nparts > 0 && bound < bounds->ndatums; bound++)
	{
		PartitionSpan *span = &spans[*count];

		if (bounds->indexes[bound] < 0)
			continue;
		span->partition = partitions->oids[bounds->indexes[bound]];
		span->since = bound_moment(bounds, bound - 1);
		span->until = bound_moment(bounds, bound);
		(*count)++;
	}
	return spans;
}

/* What the set-returning function gives out, made at its first call. */
static void start_list(FunctionCallInfo fcinfo, FuncCallContext *context)
{
	MemoryContext old = MemoryContextSwitchTo(context->multi_call_memory_ctx);
	Oid relation = tms_capture_relation_if_any();
	TupleDesc desc;
	int count = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "tms.capture_partitions must return rows");
	context->tuple_desc = BlessTupleDesc(desc);
	if (OidIsValid(relation))
	{
		Relation capture = table_open(relation, AccessShareLock);

		if (is_ours(capture))
			context->user_fctx = list_spans(capture, &count);
		table_close(capture, AccessShareLock);
	}
	context->max_calls = count;
	MemoryContextSwitchTo(old);
}

/* tms.capture_partitions(out partition regclass, out since timestamptz, out until timestamptz) returns setof record */
Datum tms_partition_list(PG_FUNCTION_ARGS)
{
	FuncCallContext *context;
	PartitionSpan *span;
	Datum values[3];
	bool nulls[3] = {false};

	if (SRF_IS_FIRSTCALL())
		start_list(fcinfo, SRF_FIRSTCALL_INIT());
	context = SRF_PERCALL_SETUP();
	if (context->call_cntr >= context->max_calls)
		SRF_RETURN_DONE(context);
	span = (PartitionSpan *) context->user_fctx + context->call_cntr;
	values[0] = ObjectIdGetDatum(span->partition);
	values[1] = TimestampTzGetDatum(span->since);
	values[2] = TimestampTzGetDatum(span->until);
	SRF_RETURN_NEXT(context, HeapTupleGetDatum(heap_form_tuple(context->tuple_desc, values, nulls)));
}

/* tms.retention() returns interval: the setting, NULL when captures are kept for ever */
Datum tms_partition_retention(PG_FUNCTION_ARGS)
{
	Interval *interval;

	if (tms_retention == 0)
		PG_RETURN_NULL();
	interval = palloc0(sizeof(Interval));
	interval->time = (TimeOffset) tms_retention * SECS_PER_MINUTE * USECS_PER_SEC;
	PG_RETURN_INTERVAL_P(interval);
}
