/*
 * A randomized simulation of the ledger protocol (DESIGN 6a) against the real tms.ingest.
 *
 *   ledger_protocol CONNINFO TOKEN RUNS SEED
 *
 * The agent's side is modeled here, independently of the agent's code: disks with ledgers, intake, uploads, cleaning and
 * trimming, calls that are lost, late or repeated, copied and rolled-back disks, replaced disks that come back, a lost
 * ledger.db beside a full cache; on the other side the path center is restored to an older state and the image center is
 * emptied; or it is lost and made again from manifests, or some are imported again. At the end of a run all disks report until nothing changes, and then:
 *
 *   - every capture that some disk still has an entry for has exactly one row, by its digest, or its seq is in a declared gap;
 *   - no digest and no capture_id has two rows;
 *   - nothing was cleaned that was not in the image center at that moment.
 *
 * A run is told by its seed, so a failure can be repeated: RUNS 1 with that seed prints every step.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/capture_id.h"
#include "common/sha256.h"
#include "tests/simulate/manifests.h"
#include "tests/simulate/path_center.h"

#define CAPTURES_MAX 96 /* taken in one run */
#define LEDGERS_MAX  24
#define DISKS_MAX    6
#define LATE_MAX     4
#define BATCH        3
#define SQL_SIZE     8192
#define ROUNDS_MAX   400

typedef struct Entry
{
	int capture; /* number of the photograph; 0: the ledger has no entry for this seq (any more) */
	bool uploaded;
	bool held;
	int confirmed_at; /* step; 0: not confirmed */
} Entry;

typedef struct SimLedger
{
	TmsUuid uuid;
	bool sealed;
	int last; /* greatest seq */
	int confirmed;
	Entry entries[CAPTURES_MAX + 1]; /* by seq */
} SimLedger;

typedef struct Disk
{
	bool running; /* in a device; otherwise on the shelf */
	bool copied; /* another disk began as this one */
	int count;
	int report_no;
	SimLedger ledgers[LEDGERS_MAX]; /* the last one is the active one */
} Disk;

static const char *token;
static uint64_t random_state;
static bool talking;
static int step_no, captures, disk_count, snapshot_at, parted_at, calls, late_count;
static bool in_image_center[CAPTURES_MAX + 1];
static Disk disks[DISKS_MAX], saved_disk;
static bool has_saved_disk, has_imports;
static char *late[LATE_MAX];

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
	va_list args;

	if (!talking)
		return;
	printf("# step %d: ", step_no);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

/* splitmix64: the same on every machine. */
static unsigned below(unsigned n)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (unsigned) ((z ^ (z >> 31)) % n);
}

static void digest_of(int capture, uint8_t out[TMS_SHA256_SIZE])
{
	char text[32];
	int len = snprintf(text, sizeof text, "photograph %d", capture);

	if (!tms_sha256(text, (size_t) len, out))
		die("sha256", "failed");
}

static void hex_of(int capture, char out[TMS_SHA256_HEX_SIZE])
{
	uint8_t digest[TMS_SHA256_SIZE];

	digest_of(capture, digest);
	tms_sha256_hex(digest, out);
}

/* --- disks --- */

static SimLedger *active(Disk *disk)
{
	return &disk->ledgers[disk->count - 1];
}

static void seal_all(Disk *disk)
{
	for (int i = 0; i < disk->count; i++)
		disk->ledgers[i].sealed = true;
}

static SimLedger *add_ledger(Disk *disk)
{
	SimLedger *ledger;

	if (disk->count == LEDGERS_MAX)
		return NULL;
	ledger = &disk->ledgers[disk->count++];
	memset(ledger, 0, sizeof *ledger);
	for (int i = 0; i < TMS_UUID_SIZE; i++)
		ledger->uuid.bytes[i] = (uint8_t) below(256);
	return ledger;
}

static void empty_disk(Disk *disk)
{
	memset(disk, 0, sizeof *disk);
	disk->running = true;
	add_ledger(disk);
}

static void take(Disk *disk)
{
	SimLedger *ledger = active(disk);

	if (captures == CAPTURES_MAX)
		return;
	ledger->entries[++ledger->last] = (Entry){.capture = ++captures, .held = true};
	say("capture %d is seq %d", captures, ledger->last);
}

static void upload(Disk *disk)
{
	char hex[TMS_SHA256_HEX_SIZE];

	for (int i = 0; i < disk->count; i++)
		for (int seq = 1; seq <= disk->ledgers[i].last; seq++)
		{
			Entry *entry = &disk->ledgers[i].entries[seq];

			if (!entry->capture || !entry->held || entry->uploaded || below(2))
				continue;
			entry->uploaded = in_image_center[entry->capture] = true;
			hex_of(entry->capture, hex);
			manifests_note(&disk->ledgers[i].uuid, seq, entry->capture, hex);
		}
}

/* Unlinks what is confirmed and, asked right now, in the image center. */
static void clean(Disk *disk)
{
	for (int i = 0; i < disk->count; i++)
		for (int seq = 1; seq <= disk->ledgers[i].confirmed; seq++)
		{
			Entry *entry = &disk->ledgers[i].entries[seq];

			if (!entry->capture || !entry->held || !entry->uploaded || below(2))
				continue;
			entry->uploaded = in_image_center[entry->capture];
			entry->held = !entry->uploaded;
		}
}

/* Drops cleaned entries that were confirmed before the oldest backup there is: that is what ledger_keep must be set to. */
static void trim(Disk *disk)
{
	for (int i = 0; i < disk->count; i++)
		for (int seq = 1; seq < disk->ledgers[i].confirmed; seq++)
		{
			Entry *entry = &disk->ledgers[i].entries[seq];

			if (entry->capture && (entry->held || entry->confirmed_at == 0 || entry->confirmed_at >= snapshot_at))
				break;
			entry->capture = 0;
		}
}

/* A lost ledger.db: what the cache holds comes back under the old numbers, in sealed ledgers. */
static void lose_ledgers(Disk *disk)
{
	for (int i = 0; i < disk->count; i++)
	{
		SimLedger *ledger = &disk->ledgers[i];
		int last = 0;

		for (int seq = 1; seq <= ledger->last; seq++)
		{
			Entry *entry = &ledger->entries[seq];

			if (!entry->held)
				entry->capture = 0;
			if (entry->capture)
				last = seq;
			entry->uploaded = false;
			entry->confirmed_at = 0;
		}
		ledger->last = last;
		ledger->confirmed = 0;
	}
	seal_all(disk);
	add_ledger(disk);
}

/* --- calls --- */

/* The first seq the ledger still has; last + 1 when it has none. */
static int oldest(const SimLedger *ledger)
{
	int seq = 1;

	while (seq <= ledger->last && !ledger->entries[seq].capture)
		seq++;
	return seq;
}

/* How far the image center has every capture, and above which it has none. */
static void watermarks(const SimLedger *ledger, int *uploaded, int *uploaded_max)
{
	*uploaded = *uploaded_max = 0;
	for (int seq = 1; seq <= ledger->last; seq++)
	{
		if (ledger->entries[seq].uploaded)
			*uploaded_max = seq;
		if (*uploaded == seq - 1 && (ledger->entries[seq].uploaded || !ledger->entries[seq].capture))
			*uploaded = seq;
	}
}

/* Writes the call that reports the next rows of a ledger; *first and *count tell which. The caller frees it. */
static char *make_call(Disk *disk, const SimLedger *ledger, int *first, int *count)
{
	char uuid[TMS_UUID_TEXT_SIZE], hex[TMS_SHA256_HEX_SIZE], paths[1024] = "", digests[1024] = "", prev[128] = "";
	int uploaded, uploaded_max;
	char *sql = malloc(SQL_SIZE);

	*first = ledger->confirmed + 1;
	*count = ledger->last - ledger->confirmed < BATCH ? ledger->last - ledger->confirmed : BATCH;
	for (int i = 0; i < *count; i++)
	{
		int capture = ledger->entries[*first + i].capture;

		hex_of(capture, hex);
		sprintf(paths + strlen(paths), capture ? "%s'p/%d'" : "%sNULL", i ? "," : "", capture);
		sprintf(digests + strlen(digests), capture ? "%s'\\x%s'" : "%sNULL", i ? "," : "", hex);
	}
	if (*first > 1 && ledger->entries[*first - 1].capture)
	{
		hex_of(ledger->entries[*first - 1].capture, hex);
		sprintf(prev, ",\"prev_sha256\":\"%s\"", hex);
	}
	tms_uuid_format(&ledger->uuid, uuid);
	watermarks(ledger, &uploaded, &uploaded_max);
	snprintf(
		sql, SQL_SIZE,
		"SELECT accepted_seq, fork_from FROM tms.ingest('{\"device\":\"sim-1\",\"token\":\"%s\",\"ledger\":\"%s\","
		"\"oldest_seq\":%d,\"last_seq\":%d,\"first_seq\":%d,\"uploaded_seq\":%d,\"uploaded_max\":%d,\"cleaned_seq\":0,"
		"\"report_no\":%d%s}', array_fill(now(), ARRAY[%d]), ARRAY[%s]::text[], array_fill(1000, ARRAY[%d]),"
		" ARRAY[%s]::bytea[], NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
		token, uuid, oldest(ledger), ledger->last, *first, uploaded, uploaded_max, ++disk->report_no, prev, *count,
		paths, *count, digests);
	return sql;
}

/* Moves what is from seq `from` on to the ledger that all twins would move it to. */
static void fork_ledger(Disk *disk, int index, int from)
{
	SimLedger *old = &disk->ledgers[index], *to = NULL;
	int first = from;
	bool was_active = !old->sealed;
	uint8_t digest[TMS_SHA256_SIZE];
	TmsUuid uuid;

	while (first <= old->last && !old->entries[first].capture)
		first++;
	if (first <= old->last)
	{
		digest_of(old->entries[first].capture, digest);
		if (!tms_ledger_fork_uuid(&old->uuid, from, digest, &uuid))
			die("fork", "failed");
		for (int i = 0; i < disk->count && !to; i++)
			if (memcmp(&disk->ledgers[i].uuid, &uuid, sizeof uuid) == 0)
				to = &disk->ledgers[i];
	}
	if (!to && disk->count < LEDGERS_MAX)
	{
		/* The active one stays the last: a ledger that is not to be it goes before. */
		to = add_ledger(disk);
		if (first <= old->last)
			to->uuid = uuid;
		to->sealed = !was_active;
		if (to->sealed)
		{
			SimLedger moved = *to;

			disk->ledgers[disk->count - 1] = disk->ledgers[disk->count - 2];
			disk->ledgers[disk->count - 2] = moved;
			to = &disk->ledgers[disk->count - 2];
			if (index == disk->count - 2)
				die("fork", "the active ledger was taken for a sealed one");
		}
	}
	if (!to)
		return;
	for (int seq = first; seq <= old->last; seq++)
	{
		to->entries[++to->last] = old->entries[seq];
		to->entries[to->last].confirmed_at = 0;
		old->entries[seq].capture = 0;
	}
	old->last = from - 1;
	old->sealed = true;
	if (old->confirmed > old->last)
		old->confirmed = old->last;
	if (was_active && to != active(disk))
	{
		SimLedger moved = *to;

		*to = *active(disk);
		*active(disk) = moved;
		active(disk)->sealed = false;
	}
}

static void take_answer(Disk *disk, int index, PGresult *answer, int first, int count)
{
	SimLedger *ledger = &disk->ledgers[index];
	int accepted = atoi(PQgetvalue(answer, 0, 0)), last = first + count - 1;

	ledger->confirmed = accepted < last ? accepted : last;
	for (int seq = 1; seq <= ledger->confirmed; seq++)
		if (ledger->entries[seq].confirmed_at == 0)
			ledger->entries[seq].confirmed_at = step_no;
	if (!PQgetisnull(answer, 0, 1))
	{
		say("ledger %d forks at %s", index, PQgetvalue(answer, 0, 1));
		parted_at = step_no;
		fork_ledger(disk, index, atoi(PQgetvalue(answer, 0, 1)));
	}
}

/* Reports a ledger. How it ends is left to chance unless it is to be `sure`. Returns whether the agent moved on. */
static bool report(Disk *disk, int index, bool sure)
{
	SimLedger before = disk->ledgers[index];
	int first, count, disk_ledgers = disk->count;
	char *sql = make_call(disk, &disk->ledgers[index], &first, &count);
	unsigned fate = sure ? 9 : below(10);
	bool moved_on = false;

	if (fate == 0)
	{
		say("call for ledger %d, seq %d, is lost", index, first);
		free(sql);
		return false;
	}
	if (fate == 1 && late_count < LATE_MAX)
	{
		say("call for ledger %d, seq %d, will be late", index, first);
		late[late_count++] = sql;
		return false;
	}
	for (int times = fate == 2 ? 2 : 1; times > 0; times--)
	{
		PGresult *answer = query(sql);

		calls++;
		say("ledger %d, seq %d..%d: accepted %s", index, first, first + count - 1, PQgetvalue(answer, 0, 0));
		if (fate != 3 && times == 1) /* 3: the answer is lost */
		{
			take_answer(disk, index, answer, first, count);
			moved_on = disk->count != disk_ledgers || disk->ledgers[index].confirmed != before.confirmed ||
					   disk->ledgers[index].last != before.last;
		}
		PQclear(answer);
	}
	free(sql);
	return moved_on;
}

static void deliver_late(void)
{
	if (late_count == 0)
		return;
	say("a late call arrives");
	run_sql(late[--late_count]);
	free(late[late_count]);
	calls++;
}

static void forget_late(void)
{
	while (late_count > 0)
		free(late[--late_count]);
}

/* --- the path center --- */

static void save_path_center(void)
{
	path_center_fill("tms.", "sim_");
	snapshot_at = step_no;
	say("the path center is backed up");
}

/*
 * No late call survives a restore: the documentation asks for a restart. And none goes back to before a disk was
 * copied or went back in time, or before a fork: then one twin may get places that another one has, which is a limit that the
 * documentation states.
 */
static void restore_path_center(void)
{
	if (parted_at >= snapshot_at && parted_at > 0)
		return;
	forget_late();
	path_center_fill("sim_", "tms.");
	say("the path center is restored");
}

/* Loads manifests, whole or in part, into the path center as it is, or after it was lost. */
static void import_manifests(bool lost)
{
	bool whole = below(2) != 0;
	char *sql;

	if (!has_imports)
		return;
	if (lost)
	{
		forget_late();
		path_center_fill(NULL, "tms.");
	}
	for (int number = 0; (sql = manifests_load_sql(number, whole, below)) != NULL; number++)
	{
		run_sql(sql);
		free(sql);
	}
	say("manifests are imported, %s, the path center %s", whole ? "whole" : "in part", lost ? "was lost" : "is there");
}

/* --- a run --- */

static void copy_disk(Disk *disk)
{
	Disk *copy;

	if (disk_count == DISKS_MAX)
		return;
	copy = &disks[disk_count++];
	disk->copied = true;
	*copy = *disk;
	if (has_imports || below(2))
	{
		/* Another machine: it sees that, seals what it found and opens a ledger of its own. */
		seal_all(copy);
		add_ledger(copy);
	}
	parted_at = step_no;
	say("disk %d is copied to disk %d", (int) (disk - disks), disk_count - 1);
}

static void accident(Disk *disk)
{
	switch (below(10))
	{
		case 0:
			copy_disk(disk);
			break;
		case 1:
			saved_disk = *disk;
			has_saved_disk = true;
			break;
		case 2:
			/* The disk as it was then, in a device of its own: what it took since is gone with the old state. */
			if (has_saved_disk && !has_imports && below(2))
			{
				*disk = saved_disk;
				disk->running = true;
				parted_at = step_no;
				say("disk %d goes back in time", (int) (disk - disks));
			}
			break;
		case 3:
			/*
			 * Not on one of two twins: without the cleaned entry at the place where they part it would fork one later than
			 * the other and register what follows a second time.
			 */
			if (disk->copied)
				break;
			lose_ledgers(disk);
			say("disk %d loses its ledger.db", (int) (disk - disks));
			break;
		case 4:
			disk->running = !disk->running;
			say("disk %d is %s", (int) (disk - disks), disk->running ? "put back" : "replaced");
			if (!disk->running && disk_count < DISKS_MAX)
				empty_disk(&disks[disk_count++]);
			break;
		case 5:
			restore_path_center();
			break;
		case 6:
			memset(in_image_center, 0, sizeof in_image_center);
			manifests_clear();
			say("the image center is emptied");
			break;
		case 7:
			save_path_center();
			break;
		default:
			import_manifests(below(2) != 0);
			break;
	}
}

static void one_step(void)
{
	Disk *disk = &disks[below((unsigned) disk_count)];

	step_no++;
	if (below(12) == 0)
		accident(disk);
	else if (disk->running)
		switch (below(8))
		{
			case 0:
			case 1:
				take(disk);
				break;
			case 2:
				upload(disk);
				break;
			case 3:
				clean(disk);
				trim(disk);
				break;
			case 4:
				deliver_late();
				break;
			default:
				report(disk, (int) below((unsigned) disk->count), false);
		}
}

/* All disks run and report until nothing changes. False: they never come to rest. */
static bool settle(void)
{
	bool moved = true;

	forget_late();
	for (int i = 0; i < disk_count; i++)
		disks[i].running = true;
	for (int round = 0; round < ROUNDS_MAX && moved; round++)
	{
		moved = false;
		step_no++;
		for (int i = 0; i < disk_count; i++)
			for (int k = 0; k < disks[i].count; k++)
				moved = report(&disks[i], k, true) || moved;
	}
	return !moved;
}

static int complain(const char *what, int capture)
{
	printf("# %s: capture %d\n", what, capture);
	return 1;
}

static int check(void)
{
	int bad = 0;
	char sql[400], hex[TMS_SHA256_HEX_SIZE], uuid[TMS_UUID_TEXT_SIZE];

	if (count_of("SELECT count(*) - count(DISTINCT sha256) FROM tms.capture") != 0)
		bad += complain("a digest has two rows", 0);
	if (count_of("SELECT count(*) - count(DISTINCT capture_id) FROM tms.capture") != 0)
		bad += complain("a capture_id has two rows", 0);
	for (int i = 0; i < disk_count; i++)
		for (int k = 0; k < disks[i].count; k++)
			for (int seq = 1; seq <= disks[i].ledgers[k].last; seq++)
			{
				const Entry *entry = &disks[i].ledgers[k].entries[seq];

				if (!entry->capture)
					continue;
				hex_of(entry->capture, hex);
				tms_uuid_format(&disks[i].ledgers[k].uuid, uuid);
				snprintf(sql, sizeof sql,
						 "SELECT (SELECT count(*) FROM tms.capture WHERE sha256 = '\\x%s') + (SELECT count(*) FROM"
						 " tms.declared_gap JOIN tms.ledger USING (ledger_no) WHERE ledger = '%s' AND %d BETWEEN "
						 "from_seq AND to_seq)",
						 hex, uuid, seq);
				if (count_of(sql) != 1)
					bad += complain("neither one row nor a gap", entry->capture);
				if (!entry->held && entry->uploaded && !in_image_center[entry->capture])
					continue; /* the image center was emptied afterwards: the README's honest limit */
			}
	return bad;
}

static int one_run(uint64_t seed)
{
	int bad;

	random_state = seed;
	step_no = captures = snapshot_at = parted_at = late_count = 0;
	has_saved_disk = false;
	/*
	 * A run has imports, or disks of one past that give the same seqs to other captures: which of these has a seq manifests do
	 * not tell, a limit that the documentation states.
	 */
	has_imports = below(2) != 0;
	memset(in_image_center, 0, sizeof in_image_center);
	manifests_clear();
	path_center_fill(NULL, "tms.");
	save_path_center();
	disk_count = 1;
	empty_disk(&disks[0]);
	for (int steps = 40 + (int) below(160); steps > 0; steps--)
		one_step();
	if (!settle())
	{
		printf("# run with seed %llu: never comes to rest\n", (unsigned long long) seed);
		return 1;
	}
	bad = check();
	if (bad > 0)
		printf("# run with seed %llu: %d violations\n", (unsigned long long) seed, bad);
	return bad;
}

int main(int argc, char **argv)
{
	long runs, bad = 0, steps = 0;
	uint64_t seed;

	if (argc != 5)
		die("usage", "ledger_protocol CONNINFO TOKEN RUNS SEED");
	path_center_open(argv[1]);
	token = argv[2];
	runs = atol(argv[3]);
	seed = strtoull(argv[4], NULL, 10);
	talking = runs == 1;
	for (long run = 0; run < runs; run++)
	{
		bad += one_run(seed + (uint64_t) run);
		steps += step_no;
		/* Everything is deleted again in each run: without this the scans get longer and longer. */
		if (run % 50 == 49)
			run_sql("TRUNCATE tms.capture");
	}
	printf("%ld runs, %ld steps, %d calls, %ld violations\n", runs, steps, calls, bad);
	path_center_close();
	return bad == 0 ? 0 : 1;
}
