/*
 * One SQLite connection with its prepared statements, and what the ledger's files share. Nobody else includes this.
 */
#ifndef AGENT_LEDGER_DB_H
#define AGENT_LEDGER_DB_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "cache.h"
#include "ledger.h"
#include "worker.h"

typedef struct LedgerDb
{
	sqlite3 *handle;
	sqlite3_stmt **statements; /* by LedgerSql, prepared on first use */
} LedgerDb;

/* Opens data_dir/ledger.db; for writing creates file and schema when they are missing. Logs. TMS_DAMAGED: not a ledger. */
extern TMS_CHECKED TmsStatus ledger_db_open(LedgerDb *db, const char *file, bool for_writing);
extern void ledger_db_close(LedgerDb *db);

/*
 * Readies a statement (a LedgerSql) with its parameters: types has a letter for each, i: int64_t, t: const char * (NULL
 * allowed), b: const void * and int length. Texts and blobs must live until the statement was run. NULL after logging.
 */
extern sqlite3_stmt *ledger_db_bind(LedgerDb *db, int sql, const char *types, ...);

/* Steps once: TMS_OK with a row, TMS_NOT_FOUND at the end, else a failure, logged. */
extern TMS_CHECKED TmsStatus ledger_db_step(LedgerDb *db, sqlite3_stmt *statement);

/* Runs a bound statement (NULL: the bind failed) to its end and resets it. */
extern TMS_CHECKED TmsStatus ledger_db_run(LedgerDb *db, sqlite3_stmt *statement);

/* Runs it and takes the first column of its first row; TMS_NOT_FOUND when there is none. */
extern TMS_CHECKED TmsStatus ledger_db_int(LedgerDb *db, sqlite3_stmt *statement, int64_t *out);

/* A write under way: run is called by the writer thread within the transaction. */
typedef struct LedgerJob LedgerJob;
struct LedgerJob
{
	TmsStatus (*run)(Ledger *ledger, LedgerJob *job);
	void *argument;
	const char *placed; /* set by run: path of the file it placed in the cache */
	TmsStatus status;
	bool done;
	LedgerJob *next;
};

/* The ledger new captures go to; the writer thread's alone. */
typedef struct LedgerActive
{
	int64_t no;
	TmsUuid uuid;
	int64_t last_seq;
} LedgerActive;

/*
 * lock guards the queue of jobs, stopping, and what the jobs' owners wait for (done); read_lock guards the reading
 * connection. write and active belong to the writer thread once it runs.
 */
struct Ledger
{
	Cache *cache;
	int data; /* folder descriptor of data_dir */
	LedgerDb write;
	LedgerActive active;
	int high; /* descriptors of ledger.high and ledger.placing */
	int placing;
	off_t placing_at; /* bytes written to it for the group under way */

	pthread_mutex_t lock;
	pthread_cond_t wake; /* the writer: there are jobs, or stop */
	pthread_cond_t done; /* owners of jobs */
	LedgerJob *first;
	LedgerJob *last;
	bool stopping;
	pthread_t writer;
	bool writer_running;

	pthread_mutex_t read_lock;
	LedgerDb read;

	Worker indexer; /* ledger_recover.c */
	bool indexer_running;
};

/* Hands a job to the writer thread and waits until it is durable or has failed. */
extern TMS_CHECKED TmsStatus ledger_write(Ledger *ledger, TmsStatus (*run)(Ledger *, LedgerJob *), void *argument);

/* Within a job or before the writer runs: */

/* Reads which ledger is the active one. */
extern TMS_CHECKED TmsStatus ledger_load_active(Ledger *ledger);

/* Adds a ledger (a random UUID when uuid is NULL), durably noted beside the cache as well. Its local number in *no. */
extern TMS_CHECKED TmsStatus ledger_add(Ledger *ledger, const TmsUuid *uuid, bool sealed, bool building, int64_t *no);

/* Inserts an entry's row; its id in entry->id. */
extern TMS_CHECKED TmsStatus ledger_insert(Ledger *ledger, int64_t no, LedgerEntry *entry);

/* Reads or sets a number by name. *value stays as it is when there is none. */
extern TMS_CHECKED TmsStatus ledger_meta_get(LedgerDb *db, const char *name, int64_t *value);
extern TMS_CHECKED TmsStatus ledger_meta_put(LedgerDb *db, const char *name, int64_t value);

/* Fills an entry from a row of ENTRY_COLUMNS; false when the row makes no sense. */
extern bool ledger_entry_of(sqlite3_stmt *row, LedgerEntry *entry);

/* --- ledger_recover.c --- */

/* Looks at what a crash, a copied disk or a lost file left, before the writer runs. *index: the cache is to be indexed. */
extern TMS_CHECKED TmsStatus ledger_recover(Ledger *ledger, const char *device, const char *machine_id, bool fresh,
											bool *index);

/* Starts, and ends, indexing the cache in the background (ledger_index.c). */
extern TMS_CHECKED TmsStatus ledger_index_start(Ledger *ledger);
extern void ledger_index_stop(Ledger *ledger);

/* The ledgers that are noted beside the cache: by number; false when none has it. */
extern bool ledger_noted(Ledger *ledger, int32_t number, TmsUuid *out);

/* A group is over, committed or not: writes ledger.high and begins ledger.placing anew. Failures are logged. */
extern void ledger_note_high(Ledger *ledger);

/* Notes that a file is about to be placed. */
extern void ledger_note_placing(Ledger *ledger, const char *path);

/* At the end: this ledger was closed, not cut off. */
extern void ledger_note_closed(Ledger *ledger);

#endif
