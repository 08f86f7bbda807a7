/*
 * The background worker that runs tms.upkeep() in the database named by tms.database.
 *
 * The launcher is connected to no database, so that it neither needs one to be there nor keeps one from being dropped. It
 * looks for the database in the shared catalogs and starts a short-lived worker in it for each run; one run at a time. What
 * fails in a run ends that worker and is in the log; the launcher goes on. Where the library is not preloaded there is no
 * launcher; on a standby it is started after promotion.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "tms_ext/compat.h"
#include "tms_ext/worker.h"

/* Exported: the postmaster's children find them by name. */
PGDLLEXPORT void tms_worker_launcher(Datum argument);
PGDLLEXPORT void tms_worker_upkeep(Datum database);

/* How soon to look again for a database that is not there, or for a free place to run a worker in. */
#define LOOK_AGAIN_MS 10000

/* How soon to try again when the launcher itself has failed. */
#define RESTART_S 10

static char *database_name;
static int upkeep_interval; /* seconds */

void tms_worker_init(void)
{
	BackgroundWorker worker;

	DefineCustomStringVariable("tms.database", "Database in which the background worker runs tms.upkeep().",
							   "Empty, the default: none.", &database_name, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("tms.upkeep_interval",
							"Time from one run of tms.upkeep() by the background worker to the next.", NULL,
							&upkeep_interval, 600, 1, 7 * SECS_PER_DAY, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	if (!process_shared_preload_libraries_in_progress)
		return;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_S;
	strlcpy(worker.bgw_library_name, "tms", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "tms_worker_launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "tms launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "tms launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* Does this row of pg_database say that it is the one, and that it lets us in? */
static bool is_wanted(Form_pg_database row)
{
	return strcmp(NameStr(row->datname), database_name) == 0 && row->datallowconn &&
		   row->datconnlimit >= -1; /* below: half dropped */
}

/*
 * The database upkeep is wanted in, if it is there; else InvalidOid. Reads all of pg_database: without a database of our own
 * neither its indexes nor the system caches need be there.
 */
static Oid find_database(void)
{
	Oid database = InvalidOid;
	Relation databases;
	TableScanDesc scan;
	HeapTuple tuple;

	if (database_name[0] == '\0')
		return InvalidOid;
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	databases = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(databases, 0, NULL);
	while (!OidIsValid(database) && HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		if (is_wanted(row))
			database = row->oid;
	}
	table_endscan(scan);
	table_close(databases, AccessShareLock);
	CommitTransactionCommand();
	return database;
}

/* Starts one run; NULL, said in the log once in a row, when there is no place for a worker. */
static BackgroundWorkerHandle *start_upkeep(Oid database)
{
	static bool told = false;
	BackgroundWorkerHandle *handle;
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "tms", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "tms_worker_upkeep", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "tms upkeep", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "tms upkeep", BGW_MAXLEN);
	if (RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		told = false;
		return handle;
	}
	if (!told)
		ereport(WARNING, (errmsg("tms.upkeep() cannot be run: no background worker is free"),
						  errhint("Increase max_worker_processes.")));
	told = true;
	return NULL;
}

/* Has a run ended? NULL is none. */
static bool has_ended(BackgroundWorkerHandle *run)
{
	pid_t pid;

	return run == NULL || GetBackgroundWorkerPid(run, &pid) == BGWH_STOPPED;
}

/* Starts a run when it is time; returns how long to wait, in milliseconds, -1 for an event alone. */
static long launch_when_due(BackgroundWorkerHandle **run, TimestampTz *last_start)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = *last_start + (int64) upkeep_interval * USECS_PER_SEC;
	Oid database;

	if (!has_ended(*run))
		return -1; /* its end sets our latch */
	if (*run != NULL)
		pfree(*run);
	*run = NULL;
	/* A clock that was set back must not stop upkeep until it has caught up. */
	if (*last_start != 0 && now >= *last_start && now < due)
		return (long) ((due - now) / 1000) + 1;
	database = find_database();
	if (OidIsValid(database))
		*run = start_upkeep(database);
	if (*run == NULL)
		return Min(LOOK_AGAIN_MS, upkeep_interval * 1000L);
	*last_start = now;
	return -1;
}

/* The launcher: lives as long as the server. */
void tms_worker_launcher(Datum argument)
{
	BackgroundWorkerHandle *run = NULL;
	TimestampTz last_start = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	while (!ShutdownRequestPending)
	{
		long wait;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		wait = launch_when_due(&run, &last_start);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (wait >= 0 ? WL_TIMEOUT : 0), wait,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	/* Not 0: after pg_terminate_backend() the postmaster shall start it again. */
	proc_exit(1);
}

/* One line for what a run did, none when it did nothing. */
static void report_run(void)
{
	StringInfoData line;
	uint64 i;

	initStringInfo(&line);
	for (i = 0; i < SPI_processed; i++)
		appendStringInfo(&line, "%s%s: %s", i > 0 ? ", " : "",
						 SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1),
						 SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2));
	if (SPI_processed > 0)
		ereport(LOG, (errmsg("tms.upkeep: %s", line.data), errhidestmt(true)));
}

/* One run, in the transaction that is open. */
static void run_upkeep(void)
{
	static const char *const query = "SELECT step, outcome FROM tms.upkeep()";

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	debug_query_string = query;
	pgstat_report_activity(STATE_RUNNING, query);
	if (SPI_execute(query, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run: %s", query);
	report_run();
	debug_query_string = NULL;
	PopActiveSnapshot();
	SPI_finish();
}

/* The short-lived worker: one run in one database, quietly none where the extension is not. */
void tms_worker_upkeep(Datum database)
{
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(database), InvalidOid, 0);

	StartTransactionCommand();
	if (OidIsValid(get_extension_oid("tms", true)))
		run_upkeep();
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
	proc_exit(0);
}
