/*
 * The ledger: opening, closing, and the writer thread. See ledger.h; the schema's invariants are in ledger_sql.h.
 *
 * What is on the disk, and what holds at every moment, also right after a crash:
 *
 *  - ledger.db: a row for every acknowledged capture. A row is committed (synchronous=FULL) only after its file is durable
 *    under its final name, and acknowledged only after the commit.
 *  - cache/.ledgers: the UUIDs of all ledgers and the forks between them, so that a lost ledger.db can be made again with
 *    the old numbers. Synced before a ledger is used.
 *  - ledger.placing: the paths of the files that the transaction under way moves into the cache. After a crash those without
 *    a row were not acknowledged: they go to quarantine/. Not synced: a power cut leaves such a file in the cache, to be
 *    indexed.
 *  - ledger.high: the active ledger and its last seq after the last commit. Not synced, so it can only be too low, and a
 *    ledger.db that is behind it went back in time: all ledgers are sealed then, a new one takes what comes, and the cache
 *    is indexed again.
 *
 * The writer thread takes all jobs that wait, runs each in a savepoint of one transaction, syncs the folders that files were
 * placed in, commits, and tells every owner. A job that fails takes nothing with it: its savepoint is undone, the seq it was
 * given goes to the next, its file is removed. What happens at each step when the machine stops there:
 *
 *    file in tmp/, synced       nothing is left: tmp/ is emptied at start
 *    noted in ledger.placing,
 *    renamed into the cache     set aside at start; after a power cut, if it is still there, indexed as a capture of its own
 *    row inserted, not synced   the same: SQLite forgets the row
 *    folders synced             the same
 *    committed                  the capture is there, though nobody was told; it is uploaded and registered like any other
 *    ledger.high written        the same
 *    acknowledged               the same
 *
 * A commit that fails leaves doubt: its rows may be on the disk all the same. Its owners are told that it failed, but the
 * files stay until the doubt is settled, which is before the next transaction: the write-ahead log, whatever it holds, is
 * checkpointed and cut to nothing. Then the rows are gone for good, and the files are removed. After a crash before that the
 * rows are found with their files, or not at all and the files are set aside.
 *
 * A ledger.db in which SQLite finds damage is moved aside, kept, and replaced by a new one while the agent runs: no job is
 * worth more than intake going on. Its captures come back by indexing the cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

#define WRITER_SLICE_NS 100000 /* the least that Linux gives */

static TmsStatus replace_damaged(Ledger *ledger);

/* --- the writer --- */

/* Nobody was told of this file. */
static void remove_placed(Ledger *ledger, const char *path)
{
	if (cache_remove(ledger->cache, path) != TMS_OK)
		log_event(LOG_LEVEL_WARNING, "ledger", "path=%s error=\"not acknowledged, but left in the cache\"", path);
}

/* Runs a job in a savepoint. False: the transaction is not what it has to be any more, and nothing of the group may hold. */
static bool run_job(Ledger *ledger, LedgerJob *job)
{
	LedgerDb *db = &ledger->write;
	LedgerActive before = ledger->active;
	bool sound;

	job->status = ledger_db_run(db, ledger_db_bind(db, SQL_SAVE, ""));
	if (job->status != TMS_OK)
		return false;
	job->status = job->run(ledger, job);
	/* On some failures SQLite rolls all back by itself: the next savepoint would be a transaction of its own. */
	sound = !sqlite3_get_autocommit(db->handle) &&
			(job->status == TMS_OK || ledger_db_run(db, ledger_db_bind(db, SQL_SAVE_BACK, "")) == TMS_OK) &&
			ledger_db_run(db, ledger_db_bind(db, SQL_SAVE_DONE, "")) == TMS_OK;
	/* All of the group are told so: it has to be a failure. */
	if (!sound && job->status != TMS_FULL && job->status != TMS_DAMAGED && job->status != TMS_MEMORY)
		job->status = TMS_IO;
	if (job->status != TMS_OK)
	{
		ledger->active = before;
		if (job->placed)
			remove_placed(ledger, job->placed);
		job->placed = NULL;
	}
	return sound;
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

/* Makes sure that nothing is left of a commit that failed; see above. */
static TmsStatus settle_doubt(Ledger *ledger)
{
	LedgerDb *db = &ledger->write;
	char log_file[sizeof ledger->file + 8];
	int64_t busy = 1;
	TmsStatus status;
	int fd;

	pthread_mutex_lock(&ledger->read_lock); /* a reader would keep the log from being cut */
	status = ledger_db_int(db, ledger_db_bind(db, SQL_CHECKPOINT, ""), &busy);
	pthread_mutex_unlock(&ledger->read_lock);
	if (status != TMS_OK || busy)
		return status == TMS_OK ? TMS_IO : status;
	snprintf(log_file, sizeof log_file, "%s-wal", ledger->file);
	fd = open(log_file, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && fsync(fd) != 0)
		status = TMS_IO;
	if (fd >= 0)
		close(fd);
	if (status != TMS_OK)
		return status;
	while (ledger->doubtful_count > 0)
	{
		char *path = ledger->doubtful[--ledger->doubtful_count];

		remove_placed(ledger, path);
		free(path);
	}
	ledger->doubt = false;
	log_event(LOG_LEVEL_INFO, "ledger", "event=\"a failed commit was settled\"");
	return TMS_OK;
}

/* What the last groups left to be done before the next one may begin. */
static TmsStatus ready(Ledger *ledger)
{
	TmsStatus status = TMS_OK;

	if (ledger->damaged)
		status = replace_damaged(ledger);
	if (status == TMS_OK && ledger->doubt)
		status = settle_doubt(ledger);
	return status;
}

/* Nothing of the group holds, and no one is told otherwise. commit_failed: its files are not removed yet. */
static void undo_group(Ledger *ledger, LedgerJob *group, TmsStatus status, bool commit_failed)
{
	LedgerDb *db = &ledger->write;

	if (db->handle && !sqlite3_get_autocommit(db->handle) &&
		ledger_db_run(db, ledger_db_bind(db, SQL_ROLLBACK, "")) != TMS_OK)
		log_event(LOG_LEVEL_ERROR, "ledger", "error=\"a transaction could not be rolled back\"");
	for (LedgerJob *job = group; job; job = job->next)
	{
		char *path = job->placed && commit_failed ? strdup(job->placed) : NULL;

		if (path)
			ledger->doubtful[ledger->doubtful_count++] = path;
		else if (job->placed && !commit_failed)
			remove_placed(ledger, job->placed);
		job->status = status;
	}
	ledger->doubt = ledger->doubt || commit_failed;
	ledger->placing_at = 0;
	if (db->handle && ledger_load_active(ledger) != TMS_OK)
		log_event(LOG_LEVEL_ERROR, "ledger", "error=\"the active ledger cannot be read\"");
}

static void run_group(Ledger *ledger, LedgerJob *group)
{
	LedgerDb *db = &ledger->write;
	bool commit_failed = false;
	TmsStatus status = ready(ledger);

	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_BEGIN, ""));
	for (LedgerJob *job = group; job && status == TMS_OK; job = job->next)
		if (!run_job(ledger, job))
			status = job->status;
	if (status == TMS_OK)
		status = sync_folders(ledger, group);
	if (status == TMS_OK)
	{
		status = ledger_db_run(db, ledger_db_bind(db, SQL_COMMIT, ""));
		commit_failed = status != TMS_OK;
	}
	if (status == TMS_OK)
		ledger_note_high(ledger);
	else
		undo_group(ledger, group, status, commit_failed);
}

/* Takes up to LEDGER_GROUP_MAX waiting jobs off the queue; the lock is held. */
static LedgerJob *take_group(Ledger *ledger)
{
	LedgerJob *group = ledger->first, *last = group;

	for (int i = 1; i < LEDGER_GROUP_MAX && last->next; i++)
		last = last->next;
	ledger->first = last->next;
	if (!ledger->first)
		ledger->last = NULL;
	last->next = NULL;
	return group;
}

/*
 * Whoever takes a capture waits for this thread, so it should run as soon as it can: Linux lets the thread go first that asks
 * for shorter slices of time, and gives it no more of the CPU for that. It does so from 6.12 on, and ignores it before.
 */
static void take_short_slices(void)
{
	struct
	{
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attributes; /* struct sched_attr, which the headers of Linux and of the C library do not agree on */

	if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0)
		return;
	attributes.runtime = WRITER_SLICE_NS;
	(void) !syscall(SYS_sched_setattr, 0, &attributes, 0);
}

static void *writer_main(void *argument)
{
	Ledger *ledger = argument;

	pthread_setname_np(pthread_self(), "ledger");
	take_short_slices();
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
		for (; group; group = next)
		{
			next = group->next; /* the job is its owner's again once it is over */
			sem_post(&group->over);
		}
		pthread_mutex_lock(&ledger->lock);
	}
	pthread_mutex_unlock(&ledger->lock);
	return NULL;
}

/* Queues a job, unless the ledger is closing. The writer sleeps only while the queue is empty. */
static bool enqueue(Ledger *ledger, LedgerJob *job)
{
	bool queued;

	pthread_mutex_lock(&ledger->lock);
	queued = !ledger->stopping;
	if (queued && ledger->last)
		ledger->last->next = job;
	else if (queued)
	{
		ledger->first = job;
		pthread_cond_signal(&ledger->wake);
	}
	if (queued)
		ledger->last = job;
	pthread_mutex_unlock(&ledger->lock);
	return queued;
}

TmsStatus ledger_write(Ledger *ledger, TmsStatus (*run)(Ledger *, LedgerJob *), void *argument)
{
	LedgerJob job = {.run = run, .argument = argument, .status = TMS_STOPPED};

	sem_init(&job.over, 0, 0);
	if (enqueue(ledger, &job))
		while (sem_wait(&job.over) != 0)
			; /* a signal */
	sem_destroy(&job.over);
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

/* Touches each table, the end of the captures and the queue: what is broken there stops every write. */
static TmsStatus touch_database(LedgerDb *db)
{
	static const int touched[] = {SQL_CAPTURE_MAX_ID, SQL_REGISTER_BACKLOG, SQL_COUNTERS};
	TmsStatus status = TMS_OK;
	int64_t ignored;

	for (size_t i = 0; i < sizeof touched / sizeof *touched && status == TMS_OK; i++)
		status = ledger_db_int(db, ledger_db_bind(db, touched[i], ""), &ignored);
	db->unproven = false;
	return status;
}

/* Opens both connections and puts right what was found. */
static TmsStatus open_connections(Ledger *ledger)
{
	bool fresh = access(ledger->file, F_OK) != 0;
	TmsStatus status = ledger_db_open(&ledger->write, ledger->file, LEDGER_DB_WRITE, &ledger->damaged);

	if (status == TMS_OK)
		status = touch_database(&ledger->write);
	if (status == TMS_OK)
		status = ledger_recover(ledger, fresh);
	if (status == TMS_OK)
		status = ledger_db_open(&ledger->read, ledger->file, LEDGER_DB_READ, &ledger->damaged);
	if (status != TMS_OK)
		ledger_db_close(&ledger->write);
	return status;
}

/* The same; what turns out to be damaged is replaced. */
static TmsStatus open_database(Ledger *ledger)
{
	TmsStatus status = open_connections(ledger);

	if (status == TMS_OK || !ledger->damaged)
		return status;
	move_damaged(ledger->file);
	ledger->damaged = false;
	return open_connections(ledger);
}

/* In the writer thread, between two transactions. When it fails it is tried again before the next one. */
static TmsStatus replace_damaged(Ledger *ledger)
{
	TmsStatus status;

	pthread_mutex_lock(&ledger->read_lock);
	ledger_db_close(&ledger->read);
	ledger_db_close(&ledger->write);
	move_damaged(ledger->file);
	ledger->generation++;
	/* What a failed commit may have left is in the file that was moved aside; its files are found by the indexing. */
	while (ledger->doubtful_count > 0)
		free(ledger->doubtful[--ledger->doubtful_count]);
	ledger->doubt = false;
	ledger->damaged = false;
	status = open_connections(ledger);
	if (status != TMS_OK)
		ledger->damaged = true;
	pthread_mutex_unlock(&ledger->read_lock);
	return status;
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

/* Gives back what a ledger holds, whatever of it there is. */
static void free_ledger(Ledger *ledger)
{
	ledger_db_close(&ledger->read);
	ledger_db_close(&ledger->write);
	ledger_notes_close(ledger);
	if (ledger->index_wanted >= 0)
		close(ledger->index_wanted);
	if (ledger->data >= 0)
		close(ledger->data);
	while (ledger->doubtful_count > 0)
		free(ledger->doubtful[--ledger->doubtful_count]);
	pthread_cond_destroy(&ledger->wake);
	pthread_mutex_destroy(&ledger->lock);
	pthread_mutex_destroy(&ledger->read_lock);
	pthread_mutex_destroy(&ledger->elapsed_lock);
	free(ledger);
}

TmsStatus ledger_open(Cache *cache, const char *data_dir, const char *device, const char *machine_id, Ledger **out)
{
	Ledger *ledger = calloc(1, sizeof *ledger);
	TmsStatus status = TMS_IO;

	if (!ledger)
		return TMS_MEMORY;
	ledger->cache = cache;
	ledger->high = ledger->placing = -1;
	pthread_mutex_init(&ledger->lock, NULL);
	pthread_mutex_init(&ledger->read_lock, NULL);
	pthread_mutex_init(&ledger->elapsed_lock, NULL);
	pthread_cond_init(&ledger->wake, NULL);
	snprintf(ledger->file, sizeof ledger->file, "%s/ledger.db", data_dir);
	snprintf(ledger->device, sizeof ledger->device, "%s", device);
	snprintf(ledger->machine_id, sizeof ledger->machine_id, "%s", machine_id);
	ledger->data = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ledger->index_wanted = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (ledger->data >= 0 && ledger->index_wanted >= 0)
		status = ledger_notes_open(ledger);
	if (status == TMS_OK)
		status = open_database(ledger);
	if (status == TMS_OK)
		status = start_writer(ledger);
	if (status == TMS_OK)
		status = ledger_index_start(ledger);
	if (status != TMS_OK)
	{
		log_event(LOG_LEVEL_ERROR, "ledger", "file=%s status=%s error=\"cannot be opened\"", ledger->file,
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
		/* So that the next start does not take this one's end for a power cut. */
		if (ledger->write.handle && ledger_meta_put(&ledger->write, "closed", 1) != TMS_OK)
			log_event(LOG_LEVEL_WARNING, "ledger", "error=\"its end could not be noted\"");
	}
	free_ledger(ledger);
}
