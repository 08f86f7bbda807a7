/*
 * One SQLite connection with its prepared statements, and what the ledger's files share. Nobody else includes this.
 */
#ifndef AGENT_LEDGER_DB_H
#define AGENT_LEDGER_DB_H

#include <pthread.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "cache.h"
#include "ledger.h"
#include "worker.h"

typedef struct LedgerDb
{
	sqlite3 *handle; /* NULL: closed; every call fails then */
	sqlite3_stmt **statements; /* by LedgerSql, prepared on first use */
	atomic_bool *damaged; /* set when SQLite finds the file damaged */
	bool unproven; /* just opened: a table that is not there counts as damage as well */
} LedgerDb;

typedef enum LedgerDbMode
{
	LEDGER_DB_WRITE, /* file and schema are made when they are missing */
	LEDGER_DB_READ,
	LEDGER_DB_VIEW, /* beside an agent that has it open, or none: changes nothing; TMS_INVALID when the schema is another */
} LedgerDbMode;

/* Opens ledger.db. Logs. TMS_DAMAGED: not a ledger. */
extern TMS_CHECKED TmsStatus ledger_db_open(LedgerDb *db, const char *file, LedgerDbMode mode, atomic_bool *damaged);
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
	sem_t over; /* its owner waits for it */
	LedgerJob *next;
};

#define LEDGER_META_TEXT 128 /* size of a text in meta */

/* The ledger new captures go to; the writer thread's alone. */
typedef struct LedgerActive
{
	int64_t no;
	TmsUuid uuid;
	int64_t last_seq;
} LedgerActive;

/* ledger_elapsed.c: the count of time that has demonstrably passed. All in microseconds. */
typedef struct LedgerElapsed
{
	int64_t base; /* the count at `boottime` */
	int64_t boottime; /* by clock_boot, of this boot */
	int64_t boot; /* which boot that is; 0: not known */
	int64_t off_since; /* the count when the machine went off for a time that was not added yet; -1: it is complete */
	LedgerWitness seen; /* what the clocks said when the count was last complete; store 0: never */
} LedgerElapsed;

#define LEDGER_GROUP_MAX 256 /* jobs of one transaction */

/*
 * lock guards the queue of jobs and stopping; read_lock guards the reading connection. The rest belongs to the writer thread
 * once it runs, unless it says otherwise.
 */
struct Ledger
{
	Cache *cache; /* set at open, only read afterwards, as the next four */
	int data; /* folder descriptor of data_dir */
	char file[4096]; /* path of ledger.db */
	char device[TMS_DEVICE_CODE_SIZE];
	char machine_id[LEDGER_META_TEXT];

	LedgerDb write;
	LedgerActive active;
	int high; /* descriptors of ledger.high and ledger.placing */
	int placing;
	off_t placing_at; /* bytes written to it for the group under way */
	bool doubt; /* a commit failed: nobody knows what of it is on the disk */
	char *doubtful[LEDGER_GROUP_MAX]; /* paths of the files it placed */
	int doubtful_count;
	int64_t generation; /* of ledger.db: grows when a damaged one is replaced */
	int64_t key_base; /* ledger_key.c: what the steady clock is ahead of by, for intake_key.at */
	atomic_bool damaged; /* any thread: ledger.db has to be replaced before the next transaction */

	pthread_mutex_t lock;
	pthread_cond_t wake; /* the writer: there are jobs, or stop */
	LedgerJob *first;
	LedgerJob *last;
	bool stopping;
	pthread_t writer;
	bool writer_running;

	pthread_mutex_t read_lock;
	LedgerDb read;

	pthread_mutex_t elapsed_lock; /* guards the next two */
	LedgerElapsed elapsed;
	LedgerWitness witness; /* heard last, and not taken in yet; store 0: none */
	int64_t saved_at; /* ledger_mark's caller's alone: when it last wrote, by the steady clock; 0: not yet */

	Worker indexer; /* ledger_index.c */
	bool indexer_running;
	int index_wanted; /* an eventfd: written when the cache is to be indexed */
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

#define LEDGER_ENTRY_COLUMNS 13 /* of ENTRY_COLUMNS */

/* Fills an entry from a row of ENTRY_COLUMNS; false when the row makes no sense. */
extern bool ledger_entry_of(sqlite3_stmt *row, LedgerEntry *entry);

/*
 * Takes the entries of a bound statement of the reading connection, and gives back read_lock, which the caller has taken. A row
 * that makes no sense is left out, and set aside, one at a time.
 */
extern TMS_CHECKED TmsStatus ledger_take_entries(Ledger *ledger, sqlite3_stmt *rows, LedgerEntry *out, int max,
												 int *count);

/* --- ledger_request.c --- */

/* Within a job that may have taken the last capture out of the second queue: then all open requests are done. */
extern TMS_CHECKED TmsStatus ledger_request_look(Ledger *ledger);

/* --- ledger_key.c --- */

/* Takes up the time of keys where the last one left it; called with a ledger.db just opened. */
extern TMS_CHECKED TmsStatus ledger_key_start(Ledger *ledger);

/*
 * What was answered under a key. TMS_NOT_FOUND: nothing, or too long ago; entry is as it was. Else TMS_EXISTS or TMS_CONFLICT
 * as ledger_append says, by entry->sha256.
 */
extern TMS_CHECKED TmsStatus ledger_key_find(Ledger *ledger, const char *key, LedgerEntry *entry);

/* Keeps the answer for an entry that was just inserted, and drops keys that are too old or too many. */
extern TMS_CHECKED TmsStatus ledger_key_put(Ledger *ledger, const char *key, const LedgerEntry *entry);

/* --- ledger_elapsed.c --- */

/* The count as it is now, by what was written down last; base is the count at boottime, which is now. */
extern TMS_CHECKED TmsStatus ledger_elapsed_read(LedgerDb *db, LedgerElapsed *out);

/* Takes up the count where the last start left it; called with a ledger.db just opened. */
extern TMS_CHECKED TmsStatus ledger_elapsed_load(Ledger *ledger);

/* How long the machine was off between two moments, by both clocks; -1: they do not agree, or the first was not seen. */
extern int64_t ledger_time_off(const LedgerWitness *before, const LedgerWitness *after);

/* --- ledger_recover.c --- */

/*
 * Looks at what a crash, a copied disk or a lost file left, in one transaction, before anything else is done with a ledger.db
 * just opened. fresh: there was none. Loads the active ledger; wants the cache indexed when that is needed.
 */
extern TMS_CHECKED TmsStatus ledger_recover(Ledger *ledger, bool fresh);

/* --- ledger_index.c --- */

/* The row of the capture under a storage path, wherever a fork has moved it: its id. TMS_NOT_FOUND: it has none. */
extern TMS_CHECKED TmsStatus ledger_find_path(LedgerDb *db, const char *path, int64_t *id);

/* Starts, and ends, the thread that indexes the cache whenever that is wanted. */
extern TMS_CHECKED TmsStatus ledger_index_start(Ledger *ledger);
extern void ledger_index_stop(Ledger *ledger);

/* --- ledger_notes.c: the files beside ledger.db --- */

/* Opens ledger.high and ledger.placing. */
extern TMS_CHECKED TmsStatus ledger_notes_open(Ledger *ledger);
extern void ledger_notes_close(Ledger *ledger);

/* Notes durably that there is a ledger of that UUID, or that entries of one moved to another: seq >= from to seq - from + 1 + base. */
extern TMS_CHECKED TmsStatus ledger_note_ledger(Ledger *ledger, const TmsUuid *uuid);
extern TMS_CHECKED TmsStatus ledger_note_fork(Ledger *ledger, const TmsUuid *old, int64_t from, const TmsUuid *new,
											  int64_t base);

/* The ledger and seq where a capture is whose path speaks of (number, *seq), as far as noted; false: no ledger has that number. */
extern bool ledger_noted(Ledger *ledger, int32_t number, int64_t *seq, TmsUuid *uuid);

/* What ledger.high says, and when it was written (microseconds since 1970); false: nothing that makes sense. */
extern bool ledger_noted_high(Ledger *ledger, TmsUuid *uuid, int64_t *seq, int64_t *written_at);

/* A group was committed: writes ledger.high, begins ledger.placing anew. Failures are logged. */
extern void ledger_note_high(Ledger *ledger);

/* A file is about to be placed. */
extern void ledger_note_placing(Ledger *ledger, const char *path);

/* Calls `visit` with each path that ledger.placing names. */
extern void ledger_noted_placing(Ledger *ledger, void (*visit)(Ledger *ledger, const char *path));

#endif
