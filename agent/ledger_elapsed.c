/*
 * Time that has demonstrably passed, and the cleaning period measured by it.
 *
 * The clock of day may be a year off, at intake or now, and says nothing about the age of a capture. Elapsed time is counted
 * from the first start of this ledger.db by the kernel's clock since boot, which nobody can set, and it is never more than
 * what really passed:
 *
 *  - Within one boot of the machine (boot_id) all of it counts, suspends and times without an agent too.
 *  - Over a reboot the count goes on where it was last written down. How long the machine was off is added when two clocks
 *    agree on it to within an hour: the clock of day and the image center's (the Date of its answers), each as the
 *    difference to what it said when the count was last complete. The lesser counts. A clock that was set meanwhile does
 *    not agree; then what is cleaned is cleaned later, never sooner.
 *
 * elapsed_mark(elapsed, last_id): captures up to last_id were taken in before that elapsed time. So those up to the last_id of
 * the newest mark that is `period` old are at least that old. Time that is added later for when the machine was off does not
 * count for what was taken in since: the marks made since are dropped.
 *
 * Known limit: both clocks wrong by the same amount, at the same time, over a reboot.
 *
 * Invariants: ledger->elapsed changes only after the transaction that wrote it down was committed; only ledger_mark changes
 * it, which one thread calls (the cleaner). elapsed_lock guards ledger->elapsed and ledger->witness.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "ledger_db.h"
#include "ledger_sql.h"
#include "log.h"

/* Two clocks that agree to within this tell how long the machine was off. */
#define AGREEMENT (3600 * CLOCK_SECOND)

/* Marks are this part of the cleaning period apart, within limits: that much later something may leave. */
#define MARKS_PER_PERIOD 200
#define MARK_SHORTEST    CLOCK_SECOND
#define MARK_LONGEST     (3600 * CLOCK_SECOND)

/* What is lost of the count by a reboot is at most this. */
#define SAVE_INTERVAL (60 * CLOCK_SECOND)

/* Each is a number in meta. */
static const struct
{
	const char *name;
	size_t offset;
} fields[] = {
	{"elapsed", offsetof(LedgerElapsed, base)},
	{"elapsed_boottime", offsetof(LedgerElapsed, boottime)},
	{"elapsed_boot", offsetof(LedgerElapsed, boot)},
	{"elapsed_off_since", offsetof(LedgerElapsed, off_since)},
	{"elapsed_seen", offsetof(LedgerElapsed, seen.elapsed)},
	{"elapsed_seen_clock", offsetof(LedgerElapsed, seen.clock)},
	{"elapsed_seen_store", offsetof(LedgerElapsed, seen.store)},
};

#define FIELD_COUNT (sizeof fields / sizeof fields[0])

static int64_t *field_of(LedgerElapsed *elapsed, size_t field)
{
	return (int64_t *) ((char *) elapsed + fields[field].offset);
}

static int64_t elapsed_at(const LedgerElapsed *elapsed, int64_t boottime)
{
	return elapsed->base + boottime - elapsed->boottime;
}

/* Which boot of the machine this is, as a number; 0: not known. */
static int64_t boot_number(void)
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	char text[64] = "", digits[16];
	int count = 0;

	if (file && !fgets(text, sizeof text, file))
		text[0] = '\0';
	if (file)
		fclose(file);
	for (const char *at = text; *at && count < 15; at++)
		if (*at != '-' && *at != '\n')
			digits[count++] = *at;
	digits[count] = '\0';
	return (int64_t) strtoull(digits, NULL, 16);
}

TmsStatus ledger_elapsed_read(LedgerDb *db, LedgerElapsed *out)
{
	LedgerElapsed elapsed = {.off_since = -1};
	int64_t boot = boot_number(), boottime = clock_boot();
	TmsStatus status = TMS_OK;

	for (size_t i = 0; i < FIELD_COUNT && status == TMS_OK; i++)
		status = ledger_meta_get(db, fields[i].name, field_of(&elapsed, i));
	if (status != TMS_OK)
		return status;
	if (boot != 0 && boot == elapsed.boot && boottime >= elapsed.boottime)
		elapsed.base += boottime - elapsed.boottime;
	else if (elapsed.off_since < 0)
		elapsed.off_since = elapsed.base;
	elapsed.boot = boot;
	elapsed.boottime = boottime;
	*out = elapsed;
	return TMS_OK;
}

TmsStatus ledger_elapsed_load(Ledger *ledger)
{
	LedgerElapsed elapsed;
	TmsStatus status = ledger_elapsed_read(&ledger->write, &elapsed);

	if (status != TMS_OK)
		return status;
	pthread_mutex_lock(&ledger->elapsed_lock);
	ledger->elapsed = elapsed;
	memset(&ledger->witness, 0, sizeof ledger->witness);
	pthread_mutex_unlock(&ledger->elapsed_lock);
	ledger->saved_at = 0;
	return TMS_OK;
}

int64_t ledger_elapsed(Ledger *ledger)
{
	int64_t elapsed;

	pthread_mutex_lock(&ledger->elapsed_lock);
	elapsed = elapsed_at(&ledger->elapsed, clock_boot());
	pthread_mutex_unlock(&ledger->elapsed_lock);
	return elapsed;
}

void ledger_witness(Ledger *ledger, int64_t store_time)
{
	if (store_time == 0)
		return;
	pthread_mutex_lock(&ledger->elapsed_lock);
	ledger->witness = (LedgerWitness){
		.elapsed = elapsed_at(&ledger->elapsed, clock_boot()),
		.clock = clock_now(),
		.store = store_time,
	};
	pthread_mutex_unlock(&ledger->elapsed_lock);
}

int64_t ledger_time_off(const LedgerWitness *before, const LedgerWitness *after)
{
	int64_t passed = after->elapsed - before->elapsed;
	int64_t by_clock = after->clock - before->clock - passed;
	int64_t by_store = after->store - before->store - passed;
	int64_t apart = by_clock > by_store ? by_clock - by_store : by_store - by_clock;
	int64_t lesser = by_clock < by_store ? by_clock : by_store;

	if (before->store == 0 || apart > AGREEMENT)
		return -1;
	return lesser > 0 ? lesser : 0;
}

/*
 * Takes in what the image center's clock said last. Returns the time that was added for when the machine was off. Without a
 * clock to compare with from before, that time is lost; without agreement it may come later, when a clock was set right.
 */
static int64_t hear_witness(LedgerElapsed *elapsed, const LedgerWitness *witness)
{
	int64_t off = 0;

	if (witness->store == 0)
		return 0;
	if (elapsed->off_since >= 0 && elapsed->seen.store != 0)
		off = ledger_time_off(&elapsed->seen, witness);
	if (off < 0)
		return 0;
	elapsed->off_since = -1;
	elapsed->base += off;
	elapsed->seen = *witness;
	elapsed->seen.elapsed += off;
	return off;
}

typedef struct Mark
{
	LedgerElapsed elapsed;
	int64_t off; /* time added for when the machine was off */
	int64_t off_since; /* the elapsed time then */
	int64_t period;
	int64_t keep; /* how long marks are of use */
} Mark;

/* The shortest time between two marks. */
static int64_t mark_interval(int64_t period)
{
	int64_t interval = period > 0 ? period / MARKS_PER_PERIOD : MARK_LONGEST;

	return interval < MARK_SHORTEST ? MARK_SHORTEST : interval > MARK_LONGEST ? MARK_LONGEST : interval;
}

/* The newest mark; both 0 when there is none. */
static TmsStatus last_mark(LedgerDb *db, int64_t *elapsed, int64_t *last_id)
{
	sqlite3_stmt *row = ledger_db_bind(db, SQL_MARK_LAST, "");
	TmsStatus status = ledger_db_step(db, row);

	*elapsed = *last_id = 0;
	if (status == TMS_OK)
	{
		*elapsed = sqlite3_column_int64(row, 0);
		*last_id = sqlite3_column_int64(row, 1);
	}
	if (row)
		sqlite3_reset(row);
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

/* Adds a mark when there are captures behind the last one, and drops those that are of no use any more. */
static TmsStatus add_mark(Ledger *ledger, const Mark *mark)
{
	LedgerDb *db = &ledger->write;
	int64_t marked_at, marked_id, last_id = 0, now;
	TmsStatus status = last_mark(db, &marked_at, &marked_id);

	if (status == TMS_OK)
		status = ledger_db_int(db, ledger_db_bind(db, SQL_CAPTURE_MAX_ID, ""), &last_id);
	now = elapsed_at(&mark->elapsed, clock_boot()); /* read after the id: nothing up to it was taken in later */
	if (status != TMS_OK || last_id <= marked_id || (marked_id > 0 && now - marked_at < mark_interval(mark->period)))
		return status;
	status = ledger_db_run(db, ledger_db_bind(db, SQL_MARK_PUT, "ii", now, last_id));
	if (status == TMS_OK && mark->period > 0)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_MARK_DROP_BEFORE, "i", now - mark->keep));
	return status;
}

static TmsStatus run_mark(Ledger *ledger, LedgerJob *job)
{
	Mark *mark = job->argument;
	LedgerDb *db = &ledger->write;
	LedgerElapsed saved = mark->elapsed;
	TmsStatus status = TMS_OK;

	if (mark->off > 0)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_MARK_DROP_SINCE, "i", mark->off_since));
	if (status == TMS_OK)
		status = add_mark(ledger, mark);
	saved.boottime = clock_boot();
	saved.base = elapsed_at(&mark->elapsed, saved.boottime);
	for (size_t i = 0; i < FIELD_COUNT && status == TMS_OK; i++)
		status = ledger_meta_put(db, fields[i].name, *field_of(&saved, i));
	if (status == TMS_OK)
		mark->elapsed = saved;
	return status;
}

TmsStatus ledger_mark(Ledger *ledger, int64_t period, int64_t keep)
{
	Mark mark = {.period = period, .keep = keep > period ? keep : period};
	int64_t now = clock_steady();
	int64_t interval = mark_interval(period) < SAVE_INTERVAL ? mark_interval(period) : SAVE_INTERVAL;
	LedgerWitness witness;
	TmsStatus status;

	if (ledger->saved_at != 0 && now - ledger->saved_at < interval)
		return TMS_OK;
	pthread_mutex_lock(&ledger->elapsed_lock);
	mark.elapsed = ledger->elapsed;
	witness = ledger->witness;
	memset(&ledger->witness, 0, sizeof ledger->witness); /* once */
	pthread_mutex_unlock(&ledger->elapsed_lock);
	mark.off_since = mark.elapsed.off_since;
	mark.off = hear_witness(&mark.elapsed, &witness);
	status = ledger_write(ledger, run_mark, &mark);
	if (status != TMS_OK)
		return status;
	pthread_mutex_lock(&ledger->elapsed_lock);
	ledger->elapsed = mark.elapsed;
	pthread_mutex_unlock(&ledger->elapsed_lock);
	ledger->saved_at = now;
	if (mark.off > 0)
		log_event(LOG_LEVEL_INFO, "time_off_counted", "seconds=%lld", (long long) (mark.off / CLOCK_SECOND));
	return TMS_OK;
}
