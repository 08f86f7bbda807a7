/*
 * Circuit breakers.
 *
 * State: a table of the endpoints that are in trouble. Whoever is not in it is closed and has not failed since its last
 * success, so that in good times nobody takes the lock. The table is a fixed number of rows of places; an endpoint may stand
 * in any place of the row that its hash gives. When all of a row are taken, the closed one that failed longest ago goes, else
 * the open one that failed longest ago: it costs its users the failures that open it again. What has not failed for ten
 * minutes is forgotten, so that addresses of before do not stay for ever; in an outage every probe is such a failure.
 * Owner of the lock: the state's own (shared_state.h), held for one call and never while anything waits. n_used alone is
 * read without it.
 *
 * Invariants: n_used is the number of used places. A closed entry has at least one failure. Half-open entries have the number
 * of their probe, which is given only once; what an older probe reports no longer matters unless it succeeded. No probe holds
 * a breaker half-open for longer than probe_limit: not a canceled one, which is reported, nor one of a session that pauses.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "tms_ext/breaker.h"
#include "tms_ext/compat.h"
#include "tms_ext/shared_state.h"

#define ROWS          128
#define PLACES_IN_ROW 8
#define MEMORY        (INT64CONST(600) * 1000 * 1000) /* microseconds; or two cooldowns */

typedef enum State
{
	CLOSED,
	HALF_OPEN,
	OPEN,
} State;

static const char *const state_names[] = {[CLOSED] = "closed", [HALF_OPEN] = "half-open", [OPEN] = "open"};

typedef struct Entry
{
	bool used;
	uint64 hash;
	Oid database;
	Oid serverid;
	TmsOrigin origin;
	State state;
	int failures; /* in a row */
	int64 failed_at; /* the last one that counted */
	int64 opened_at; /* from closed */
	int64 known_until; /* from then on this says nothing any more */
	uint64 probe; /* number of the last one */
	int64 probe_until;
	char endpoint[TMS_ENDPOINT_SIZE];
	char reason[TMS_BREAKER_REASON_SIZE];
} Entry;

typedef struct Table
{
	pg_atomic_uint32 n_used;
	uint64 last_probe;
	Entry entries[ROWS][PLACES_IN_ROW];
} Table;

static void init_table(void *fresh)
{
	pg_atomic_init_u32(&((Table *) fresh)->n_used, 0);
}

static TmsSharedState table_state = {"TmsBreaker", sizeof(Table), init_table};

PG_FUNCTION_INFO_V1(tms_breaker_read);
PG_FUNCTION_INFO_V1(tms_breaker_reset);

void tms_breaker_init(void)
{
	tms_shared_state_announce(&table_state);
}

/* --- the table; all with its lock held --- */

static uint64 hash_of(const TmsBreaker *breaker)
{
	uint64 hash =
		hash_bytes_extended((const unsigned char *) breaker->endpoint, strlen(breaker->endpoint), MyDatabaseId);

	return hash_combine64(hash, hash_combine64(breaker->serverid, breaker->origin));
}

static void forget(Table *table, Entry *entry)
{
	entry->used = false;
	pg_atomic_fetch_sub_u32(&table->n_used, 1);
}

/* The breaker's entry, or NULL when it is closed and has not failed lately. */
static Entry *find(Table *table, const TmsBreaker *breaker)
{
	uint64 hash = hash_of(breaker);
	Entry *row = table->entries[hash % ROWS];
	int i;

	for (i = 0; i < PLACES_IN_ROW; i++)
	{
		if (row[i].used && row[i].hash == hash && row[i].database == MyDatabaseId &&
			row[i].serverid == breaker->serverid && row[i].origin == breaker->origin &&
			strcmp(row[i].endpoint, breaker->endpoint) == 0)
			return &row[i];
	}
	return NULL;
}

/* Is the first one more easily spared than the second? */
static bool is_spared_before(const Entry *one, const Entry *other)
{
	if ((one->state == CLOSED) != (other->state == CLOSED))
		return one->state == CLOSED;
	return one->failed_at < other->failed_at;
}

/* A new entry, closed and without failures, which the caller adds. */
static Entry *make(Table *table, const TmsBreaker *breaker)
{
	uint64 hash = hash_of(breaker);
	Entry *row = table->entries[hash % ROWS];
	Entry *place = row;
	int i;

	for (i = 1; i < PLACES_IN_ROW && place->used; i++)
	{
		if (!row[i].used || is_spared_before(&row[i], place))
			place = &row[i];
	}
	if (place->used)
		forget(table, place);
	memset(place, 0, sizeof(*place));
	place->used = true;
	place->hash = hash;
	place->database = MyDatabaseId;
	place->serverid = breaker->serverid;
	place->origin = breaker->origin;
	strlcpy(place->endpoint, breaker->endpoint, sizeof(place->endpoint));
	pg_atomic_fetch_add_u32(&table->n_used, 1);
	return place;
}

/* The only one that changes an entry's state, by the arrows of breaker.h; closed again means forgotten. */
static void change_state(Entry *entry, State state, int64 now)
{
	if (entry->state == CLOSED)
		entry->opened_at = now;
	entry->state = state;
}

/* Is there an entry that still says something? */
static bool is_known(const Entry *entry, int64 now)
{
	return entry->used && now < entry->known_until;
}

static bool in_trouble(Table *table)
{
	return pg_atomic_read_u32(&table->n_used) > 0;
}

/* The breaker's entry; one that says nothing any more is forgotten first. */
static Entry *find_known(Table *table, const TmsBreaker *breaker)
{
	Entry *entry = find(table, breaker);

	if (entry == NULL || is_known(entry, tms_shared_clock()))
		return entry;
	forget(table, entry);
	return NULL;
}

/* --- asking and reporting --- */

/* May the one who asks try whether the endpoint is back? */
static bool probe_is_due(const Entry *entry, const TmsBreaker *breaker, int64 now)
{
	if (entry->state == HALF_OPEN)
		return now >= entry->probe_until;
	return entry->state == OPEN && now >= entry->failed_at + breaker->cooldown * INT64CONST(1000);
}

static TmsBreakerAnswer answer(Table *table, Entry *entry, const TmsBreaker *breaker, uint64 *probe)
{
	int64 now = tms_shared_clock();

	if (entry == NULL)
		return TMS_BREAKER_CLOSED;
	if (entry->state == CLOSED)
		return TMS_BREAKER_SUSPECT;
	if (!probe_is_due(entry, breaker, now))
		return TMS_BREAKER_OPEN;
	change_state(entry, HALF_OPEN, now);
	*probe = entry->probe = ++table->last_probe;
	entry->probe_until = now + breaker->probe_limit * INT64CONST(1000);
	return TMS_BREAKER_PROBE;
}

TmsBreakerAnswer tms_breaker_ask(const TmsBreaker *breaker, uint64 *probe, char reason[TMS_BREAKER_REASON_SIZE])
{
	Table *table = tms_shared_state_get(&table_state);
	TmsBreakerAnswer result;
	Entry *entry;

	*probe = 0;
	if (breaker->failures == 0 || !in_trouble(table))
		return TMS_BREAKER_CLOSED;
	tms_shared_state_lock(&table_state, LW_EXCLUSIVE);
	entry = find_known(table, breaker);
	result = answer(table, entry, breaker, probe);
	if (result == TMS_BREAKER_OPEN)
		strlcpy(reason, entry->reason, TMS_BREAKER_REASON_SIZE);
	tms_shared_state_unlock(&table_state);
	return result;
}

bool tms_breaker_is_open(const TmsBreaker *breaker)
{
	Table *table = tms_shared_state_get(&table_state);
	int64 now = tms_shared_clock();
	bool is_open;
	Entry *entry;

	if (breaker->failures == 0 || !in_trouble(table))
		return false;
	tms_shared_state_lock(&table_state, LW_SHARED);
	entry = find(table, breaker);
	is_open = entry != NULL && is_known(entry, now) && entry->state != CLOSED && !probe_is_due(entry, breaker, now);
	tms_shared_state_unlock(&table_state);
	return is_open;
}

/* A failure that counts; true when it opened what was closed. */
static bool count_failure(Entry *entry, const TmsBreaker *breaker, const char *reason)
{
	bool was_closed = entry->state == CLOSED;
	int64 now = tms_shared_clock();

	entry->failures++;
	entry->failed_at = now;
	entry->known_until = now + Max(MEMORY, 2 * breaker->cooldown * INT64CONST(1000));
	strlcpy(entry->reason, reason, sizeof(entry->reason));
	if (!was_closed || entry->failures >= breaker->failures)
		change_state(entry, OPEN, now);
	return was_closed && entry->state == OPEN;
}

/* A probe that found out nothing: the next one may try at once or, if this one waited in vain, after another cooldown. */
static void end_probe(Entry *entry, TmsBreakerSign sign)
{
	int64 now = tms_shared_clock();

	if (sign == TMS_SIGN_SILENT)
		entry->failed_at = now;
	change_state(entry, OPEN, now);
}

void tms_breaker_report(const TmsBreaker *breaker, uint64 probe, TmsBreakerSign sign, const char *reason)
{
	Table *table = tms_shared_state_get(&table_state);
	bool opened = false;
	bool closed = false;
	bool is_probe;
	Entry *entry;

	if (breaker->failures == 0 || (sign != TMS_SIGN_DOWN && !in_trouble(table)))
		return;
	tms_shared_state_lock(&table_state, LW_EXCLUSIVE);
	entry = find_known(table, breaker);
	if (entry == NULL && sign == TMS_SIGN_DOWN)
		entry = make(table, breaker);
	is_probe = entry != NULL && entry->state == HALF_OPEN && entry->probe == probe;
	if (entry != NULL && sign == TMS_SIGN_ALIVE)
	{
		closed = entry->state != CLOSED;
		forget(table, entry);
	}
	/* What was sent before it opened says nothing new. */
	else if (sign == TMS_SIGN_DOWN && (is_probe || entry->state == CLOSED))
		opened = count_failure(entry, breaker, reason);
	else if (is_probe)
		end_probe(entry, sign);
	tms_shared_state_unlock(&table_state);

	if (opened)
		ereport(LOG_SERVER_ONLY, (errmsg("circuit breaker of %s %s opened after %d failures in a row",
										 tms_origin_name(breaker->origin), breaker->endpoint, breaker->failures),
								  errdetail("The last one: %s.", reason), errhidestmt(true)));
	else if (closed)
		ereport(LOG_SERVER_ONLY,
				(errmsg("circuit breaker of %s %s closed again", tms_origin_name(breaker->origin), breaker->endpoint),
				 errhidestmt(true)));
}

/* --- for people --- */

const char *tms_breaker_worst(TmsOrigin origin)
{
	Table *table = tms_shared_state_lock(&table_state, LW_SHARED);
	Entry *entries = &table->entries[0][0];
	int64 now = tms_shared_clock();
	State worst = CLOSED;
	int i;

	for (i = 0; in_trouble(table) && i < ROWS * PLACES_IN_ROW; i++)
	{
		if (is_known(&entries[i], now) && entries[i].origin == origin)
			worst = Max(worst, entries[i].state);
	}
	tms_shared_state_unlock(&table_state);
	return state_names[worst];
}

/* The moment at which tms_shared_clock() was `then`. */
static Datum moment(int64 then)
{
	return TimestampTzGetDatum(GetCurrentTimestamp() - (tms_shared_clock() - then));
}

static void put_entry(Tuplestorestate *store, TupleDesc desc, const Entry *entry)
{
	Datum values[9];
	bool nulls[lengthof(values)] = {false};
	int n = 0;

	values[n++] = ObjectIdGetDatum(entry->database);
	values[n++] = ObjectIdGetDatum(entry->serverid);
	values[n++] = CStringGetTextDatum(tms_origin_name(entry->origin));
	values[n++] = CStringGetTextDatum(entry->endpoint);
	values[n++] = CStringGetTextDatum(state_names[entry->state]);
	values[n++] = Int32GetDatum(entry->failures);
	values[n++] = CStringGetTextDatum(entry->reason);
	values[n++] = moment(entry->failed_at);
	nulls[n] = entry->state == CLOSED;
	values[n++] = moment(entry->opened_at);
	tuplestore_putvalues(store, desc, values, nulls);
}

/* tms.breaker_read(): a row for every endpoint in trouble, of all databases. */
Datum tms_breaker_read(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Table *copy = palloc(sizeof(Table));
	Entry *entries = &copy->entries[0][0];
	int64 now = tms_shared_clock();
	MemoryContext previous;
	Tuplestorestate *store;
	TupleDesc desc;
	int i;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 9)
		elog(ERROR, "tms.breaker_read does not return the row of this library");
	if (result == NULL || !IsA(result, ReturnSetInfo) || !(result->allowedModes & SFRM_Materialize))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("set-valued function called where no set fits")));
	memcpy(copy, tms_shared_state_lock(&table_state, LW_SHARED), sizeof(Table));
	tms_shared_state_unlock(&table_state);

	previous = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
	desc = CreateTupleDescCopy(desc);
	store = tuplestore_begin_heap((result->allowedModes & SFRM_Materialize_Random) != 0, false, work_mem);
	result->returnMode = SFRM_Materialize;
	result->setResult = store;
	result->setDesc = desc;
	MemoryContextSwitchTo(previous);
	for (i = 0; i < ROWS * PLACES_IN_ROW; i++)
	{
		if (is_known(&entries[i], now))
			put_entry(store, desc, &entries[i]);
	}
	pfree(copy);
	return (Datum) 0;
}

/* tms.breaker_reset(): closes all breakers. */
Datum tms_breaker_reset(PG_FUNCTION_ARGS)
{
	Table *table = tms_shared_state_lock(&table_state, LW_EXCLUSIVE);

	memset(table->entries, 0, sizeof(table->entries));
	pg_atomic_write_u32(&table->n_used, 0);
	tms_shared_state_unlock(&table_state);
	PG_RETURN_VOID();
}
