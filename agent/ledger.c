/*
 * The ledger: opening, closing, and the writer thread. See ledger.h; the schema's invariants are in ledger_sql.h.
 *
 * What is on the disk, and what holds at every moment, also right after a crash:
 *
 *  - ledger.db: a row for every acknowledged capture. A row is committed (synchronous=FULL) only after its file is durable
 *    under its final name, and acknowledged only after the commit.
 *  - cache/.ledgers: the UUIDs of all ledgers, a line each, so that a lost ledger.db can be made again with the old numbers.
 *  - ledger.placing: the paths of the files that the transaction under way moves into the cache. After a crash those without
 *    a row were not acknowledged: they are removed. Not synced: a power cut leaves such a file behind, to be indexed.
 *  - ledger.high: the active ledger and its last seq after the last commit. Not synced, so it can only be too low, and a
 *    ledger.db that is behind it went back in time: all ledgers are sealed then, a new one takes what comes, and the cache
 *    is indexed again.
 *
 * The writer thread takes all jobs that wait, runs each in a savepoint of one transaction, syncs the folders that files were
 * placed in, commits, and tells every owner. A job that fails takes nothing with it; a commit that fails takes all of them,
 * and the files they placed are removed again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

#define GROUP_MAX 256 /* jobs of one transaction */

/* --- the writer --- */

static void run_job(Ledger *ledger, LedgerJob *job)
{
	LedgerDb *db = &ledger->write;

	job->status = ledger_db_run(db, ledger_db_bind(db, SQL_SAVE, ""));
	if (job->status != TMS_OK)
		return;
	job->status = job->run(ledger, job);
	if (job->status != TMS_OK && ledger_db_run(db, ledger_db_bind(db, SQL_SAVE_BACK, "")) != TMS_OK)
		job->status = TMS_IO;
	if (ledger_db_run(db, ledger_db_bind(db, SQL_SAVE_DONE, "")) != TMS_OK)
		job->status = TMS_IO;
	if (job->status != TMS_OK)
	{
		if (job->placed && cache_remove(ledger->cache, job->placed) != TMS_OK)
			log_event(LOG_LEVEL_WARNING, "ledger", "path=%s error=\"not acknowledged, but left in the cache\"",
					  job->placed);
		job->placed = NULL;
	}
}

static bool same_folder(const char *a, const char *b)
{
	size_t len = (size_t) (strrchr(a, '/') - a);

	return strncmp(a, b, len + 1) == 0 && strchr(b + len + 1, '/') == NULL;
}

/* Syncs each folder once that the group placed files in. */
static TmsStatus sync_folders(Ledger *ledger, const LedgerJob *group)
{
	TmsStatus status = TMS_OK;

	for (const LedgerJob *job = group; job && status == TMS_OK; job = job->next)
	{
		const LedgerJob *before = group;

		if (!job->placed)
			continue;
		while (before != job && !(before->placed && same_folder(job->placed, before->placed)))
			before = before->next;
		if (before == job)
			status = cache_sync(ledger->cache, job->placed);
	}
	return status;
}

/* Nothing of the group holds: what it placed is removed, and no one is told otherwise. */
static void undo_group(Ledger *ledger, LedgerJob *group, TmsStatus status)
{
	if (ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_ROLLBACK, "")) != TMS_OK)
		log_event(LOG_LEVEL_ERROR, "ledger", "error=\"a transaction could not be rolled back\"");
	for (LedgerJob *job = group; job; job = job->next)
	{
		if (job->placed && cache_remove(ledger->cache, job->placed) != TMS_OK)
			log_event(LOG_LEVEL_WARNING, "ledger", "path=%s error=\"not acknowledged, but left in the cache\"",
					  job->placed);
		job->status = status;
	}
	ledger->placing_at = 0;
	if (ledger_load_active(ledger) != TMS_OK)
		log_event(LOG_LEVEL_ERROR, "ledger", "error=\"the active ledger cannot be read\"");
}

static void run_group(Ledger *ledger, LedgerJob *group)
{
	LedgerDb *db = &ledger->write;
	TmsStatus status = ledger_db_run(db, ledger_db_bind(db, SQL_BEGIN, ""));

	for (LedgerJob *job = group; job && status == TMS_OK; job = job->next)
		run_job(ledger, job);
	if (status == TMS_OK)
		status = sync_folders(ledger, group);
	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_COMMIT, ""));
	if (status == TMS_OK)
		ledger_note_high(ledger);
	else
		undo_group(ledger, group, status);
}

/* Takes up to GROUP_MAX waiting jobs off the queue; the lock is held. */
static LedgerJob *take_group(Ledger *ledger)
{
	LedgerJob *group = ledger->first, *last = group;

	for (int i = 1; i < GROUP_MAX && last->next; i++)
		last = last->next;
	ledger->first = last->next;
	if (!ledger->first)
		ledger->last = NULL;
	last->next = NULL;
	return group;
}

static void *writer_main(void *argument)
{
	Ledger *ledger = argument;

	pthread_mutex_lock(&ledger->lock);
	for (;;)
	{
		LedgerJob *group, *next;

		while (!ledger->first && !ledger->stopping)
			pthread_cond_wait(&ledger->wake, &ledger->lock);
		if (!ledger->first)
			break;
		group = take_group(ledger);
		pthread_mutex_unlock(&ledger->lock);
		run_group(ledger, group);
		pthread_mutex_lock(&ledger->lock);
		for (; group; group = next)
		{
			next = group->next; /* the job is its owner's again once it is done */
			group->done = true;
		}
		pthread_cond_broadcast(&ledger->done);
	}
	pthread_mutex_unlock(&ledger->lock);
	return NULL;
}

TmsStatus ledger_write(Ledger *ledger, TmsStatus (*run)(Ledger *, LedgerJob *), void *argument)
{
	LedgerJob job = {.run = run, .argument = argument};

	pthread_mutex_lock(&ledger->lock);
	if (ledger->stopping)
	{
		pthread_mutex_unlock(&ledger->lock);
		return TMS_STOPPED;
	}
	if (ledger->last)
		ledger->last->next = &job;
	else
		ledger->first = &job;
	ledger->last = &job;
	pthread_cond_signal(&ledger->wake);
	while (!job.done)
		pthread_cond_wait(&ledger->done, &ledger->lock);
	pthread_mutex_unlock(&ledger->lock);
	return job.status;
}

/* --- opening and closing --- */

TmsStatus ledger_load_active(Ledger *ledger)
{
	sqlite3_stmt *statement = ledger_db_bind(&ledger->write, SQL_LEDGER_ACTIVE, "");
	TmsStatus status = ledger_db_step(&ledger->write, statement);

	if (status == TMS_OK)
	{
		ledger->active.no = sqlite3_column_int64(statement, 0);
		memcpy(ledger->active.uuid.bytes, sqlite3_column_blob(statement, 1), TMS_UUID_SIZE);
		ledger->active.last_seq = sqlite3_column_int64(statement, 2);
	}
	if (statement)
		sqlite3_reset(statement);
	return status;
}

/* Moves a ledger.db that SQLite cannot make sense of out of the way, with what belongs to it. */
static void move_damaged(const char *file)
{
	static const char *const endings[] = {"", "-wal", "-shm"};

	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
	{
		char from[4200], to[4300];

		snprintf(from, sizeof from, "%s%s", file, endings[i]);
		snprintf(to, sizeof to, "%s.damaged-%lld%s", file, (long long) time(NULL), endings[i]);
		if (rename(from, to) != 0 && errno != ENOENT)
			log_event(LOG_LEVEL_ERROR, "ledger", "file=%s error=\"cannot be moved aside: %s\"", from, strerror(errno));
	}
	log_event(LOG_LEVEL_ERROR, "ledger_damaged", "file=%s action=\"moved aside; the cache is indexed again\"", file);
}

/* Opens the writing connection; *fresh: there was no usable ledger before. */
static TmsStatus open_database(Ledger *ledger, const char *file, bool *fresh)
{
	TmsStatus status;
	int64_t count;

	*fresh = access(file, F_OK) != 0;
	status = ledger_db_open(&ledger->write, file, true);
	if (status == TMS_OK && !*fresh)
	{
		/* Touches each table, the end of the captures and the queue: what is broken there stops every write. */
		status = ledger_db_int(&ledger->write, ledger_db_bind(&ledger->write, SQL_CAPTURE_MAX_ID, ""), &count);
		if (status == TMS_OK)
			status = ledger_db_int(&ledger->write, ledger_db_bind(&ledger->write, SQL_REGISTER_BACKLOG, ""), &count);
		if (status == TMS_OK)
			status = ledger_db_int(&ledger->write, ledger_db_bind(&ledger->write, SQL_COUNTERS, ""), &count);
		if (status == TMS_OK)
			status = ledger_load_active(ledger);
		if (status == TMS_NOT_FOUND)
			status = TMS_OK; /* a crash between schema and first ledger: ledger_recover makes one */
		if (status != TMS_OK)
			ledger_db_close(&ledger->write);
	}
	if (status != TMS_DAMAGED)
		return status;
	move_damaged(file);
	*fresh = true;
	return ledger_db_open(&ledger->write, file, true);
}

static TmsStatus start_writer(Ledger *ledger)
{
	int error = pthread_create(&ledger->writer, NULL, writer_main, ledger);

	ledger->writer_running = error == 0;
	if (error == 0)
		return TMS_OK;
	log_event(LOG_LEVEL_ERROR, "ledger", "error=\"no writer thread: %s\"", strerror(error));
	return TMS_MEMORY;
}

TmsStatus ledger_open(Cache *cache, const char *data_dir, const char *device, const char *machine_id, Ledger **out)
{
	Ledger *ledger = calloc(1, sizeof *ledger);
	char file[4100];
	bool fresh, index = false;
	TmsStatus status;

	if (!ledger)
		return TMS_MEMORY;
	ledger->cache = cache;
	ledger->high = ledger->placing = -1;
	pthread_mutex_init(&ledger->lock, NULL);
	pthread_mutex_init(&ledger->read_lock, NULL);
	pthread_cond_init(&ledger->wake, NULL);
	pthread_cond_init(&ledger->done, NULL);
	snprintf(file, sizeof file, "%s/ledger.db", data_dir);
	ledger->data = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	status = ledger->data >= 0 ? open_database(ledger, file, &fresh) : TMS_IO;
	if (status == TMS_OK)
		status = ledger_recover(ledger, device, machine_id, fresh, &index);
	if (status == TMS_OK)
		status = ledger_db_open(&ledger->read, file, false);
	if (status == TMS_OK)
		status = start_writer(ledger);
	if (status == TMS_OK && index)
		status = ledger_index_start(ledger);
	if (status != TMS_OK)
	{
		log_event(LOG_LEVEL_ERROR, "ledger", "file=%s status=%s error=\"cannot be opened\"", file,
				  tms_status_name(status));
		ledger_close(ledger);
		return status;
	}
	*out = ledger;
	return TMS_OK;
}

void ledger_close(Ledger *ledger)
{
	if (!ledger)
		return;
	ledger_index_stop(ledger);
	if (ledger->writer_running)
	{
		pthread_mutex_lock(&ledger->lock);
		ledger->stopping = true;
		pthread_cond_signal(&ledger->wake);
		pthread_mutex_unlock(&ledger->lock);
		pthread_join(ledger->writer, NULL);
		ledger_note_closed(ledger);
	}
	ledger_db_close(&ledger->read);
	ledger_db_close(&ledger->write);
	if (ledger->high >= 0)
		close(ledger->high);
	if (ledger->placing >= 0)
		close(ledger->placing);
	if (ledger->data >= 0)
		close(ledger->data);
	pthread_cond_destroy(&ledger->wake);
	pthread_cond_destroy(&ledger->done);
	pthread_mutex_destroy(&ledger->lock);
	pthread_mutex_destroy(&ledger->read_lock);
	free(ledger);
}
