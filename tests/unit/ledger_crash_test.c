/*
 * SIGKILL, and a failing disk, at every system call that changes something: whatever was acknowledged before is found again,
 * exactly once, nothing else was acknowledged, and nothing is in the way.
 *
 * The test runs itself as a child under strace, which kills it at the n-th call of a kind, or lets that call fail, for each
 * kind and growing n, until there is no n-th call. The child's own list of acknowledgements, on its standard output, is the
 * judge. In the default run n grows in steps; with TMS_LONG set every n is tried.
 */
#include "ledger_place.h"

#define CAPTURES 5
#define TRIES    3 /* a sender sends again what was not acknowledged */

static const char *const calls[] = {"fsync",     "fdatasync", "renameat2", "mkdirat", "unlinkat", "ftruncate",
									"fsetxattr", "pwrite64",  "openat",    "openat2", "write"};

/* --- the child --- */

/* Takes one capture, with a disk that may fail at any point. */
static TmsStatus try_append(Place *place, const char *text, LedgerEntry *entry)
{
	CacheWriter *writer;
	TmsStatus status = cache_create(place->cache, 0, &writer);

	if (status != TMS_OK)
		return status;
	memset(entry, 0, sizeof *entry);
	entry->record.captured_at = entry->taken_at = NOW;
	entry->record.has_captured_at = true;
	status = cache_write(writer, text, strlen(text));
	if (status == TMS_OK)
		status = cache_note(writer, "{}");
	if (status == TMS_OK)
		status = cache_finish(writer, &entry->bytes, entry->sha256);
	if (status == TMS_OK)
		status = ledger_append(place->ledger, cache_temporary(writer), NULL, entry);
	cache_writer_free(writer);
	return status;
}

static void say(const char *line)
{
	if (write(STDOUT_FILENO, line, strlen(line)) < 0)
		exit(3);
}

/* Takes captures, each said as "taken SEQ SHA256", and cleans the first one away. */
static int child(const char *dir)
{
	Place place = {.ledger = NULL};
	LedgerEntry entries[CAPTURES];
	char text[32], sha256[TMS_SHA256_HEX_SIZE], line[200];

	if (cache_open(dir, &place.cache) != TMS_OK ||
		ledger_open(place.cache, dir, "unit-1", MACHINE, &place.ledger) != TMS_OK)
		return 2;
	for (int i = 0; i < CAPTURES; i++)
	{
		TmsStatus status = TMS_IO;

		snprintf(text, sizeof text, "capture %d", i + 1);
		for (int n = 0; n < TRIES && status != TMS_OK; n++)
			status = try_append(&place, text, &entries[i]);
		if (status != TMS_OK)
			return 2;
		tms_sha256_hex(entries[i].sha256, sha256);
		snprintf(line, sizeof line, "taken %d %s\n", (int) entries[i].seq, sha256);
		say(line);
	}
	if (set_uploaded(&place, entries[0].id, NOW) == TMS_OK &&
		ledger_confirm(place.ledger, &entries[0].ledger, 1) == TMS_OK && cleaning(&place, entries[0].id) == TMS_OK &&
		cache_remove(place.cache, entries[0].path) == TMS_OK)
		(void) !cleaned(&place, entries[0].id);
	close_place(&place);
	say("end\n");
	return 0;
}

/* --- the judge --- */

static void same_bytes(Place *place, const LedgerEntry *entry)
{
	char bytes[64];
	uint8_t sha256[TMS_SHA256_SIZE];
	int64_t size;
	int fd;

	assert_int_equal(cache_read(place->cache, entry->path, &fd, &size), TMS_OK);
	assert_int_equal(read(fd, bytes, sizeof bytes), size);
	close(fd);
	assert_true(tms_sha256(bytes, (size_t) size, sha256));
	assert_memory_equal(sha256, entry->sha256, TMS_SHA256_SIZE);
}

static int files_in_cache(const Place *place)
{
	char command[120], text[16] = "";
	FILE *pipe;

	snprintf(command, sizeof command, "find '%s/cache' -name '*.jpg' | wc -l", place->dir);
	pipe = popen(command, "r");
	assert_non_null(fgets(text, sizeof text, pipe));
	pclose(pipe);
	return atoi(text);
}

/*
 * Looks at what the child left, and goes on with it. acknowledged: how many captures it was told of; killed: one more may be
 * there, committed and not yet told.
 */
static void judge(Place *place, int acknowledged, char (*sha256)[TMS_SHA256_HEX_SIZE], bool killed)
{
	LedgerInfo infos[4];
	LedgerEntry entries[CAPTURES + 1], entry;
	char hex[TMS_SHA256_HEX_SIZE];
	int ledgers, count, held = 0;

	open_as(place, "unit-1", MACHINE);
	assert_int_equal(ledger_list(place->ledger, infos, 4, &ledgers), TMS_OK);
	assert_true(ledgers >= 1);
	assert_int_equal(ledger_read(place->ledger, &infos[0].ledger, 1, entries, CAPTURES + 1, &count), TMS_OK);
	assert_true(count >= acknowledged && count <= acknowledged + killed);
	assert_int_equal(infos[0].last_seq, count);
	for (int i = 0; i < count; i++)
	{
		assert_int_equal(entries[i].seq, i + 1);
		tms_sha256_hex(entries[i].sha256, hex);
		if (i < acknowledged)
			assert_string_equal(hex, sha256[i]);
		if (entries[i].held)
			same_bytes(place, &entries[i]);
		else
			assert_true(i == 0 && entries[i].uploaded_at != 0 && !in_cache(place, entries[i].path));
		held += entries[i].held;
	}
	assert_int_equal(files_in_cache(place), held);
	assert_int_equal(append(place, "goes on", &entry), TMS_OK);
	same_bytes(place, &entry);
	close_place(place);
}

/* Did strace do what it was asked to? */
static bool was_injected(const Place *place)
{
	char command[120];

	snprintf(command, sizeof command, "grep -q -e INJECTED -e 'killed by SIGKILL' '%s.trace'", place->dir);
	return system(command) == 0;
}

/*
 * One run of the child with a fault at the n-th such call, or, when the kernel is to lack it (ENOSYS), from there on, which must
 * not hinder the child. False: there was no n-th call.
 */
static bool run_child(const char *self, const char *call, const char *fault, int n)
{
	Place place = {.ledger = NULL};
	char command[700], line[400], sha256[CAPTURES][TMS_SHA256_HEX_SIZE];
	int acknowledged = 0, seq;
	bool ended = false, lacking = strstr(fault, "ENOSYS") != NULL, injected;
	FILE *pipe;

	strcpy(place.dir, "/tmp/tms-crash-test.XXXXXX");
	assert_non_null(mkdtemp(place.dir));
	snprintf(command, sizeof command,
			 "ASAN_OPTIONS=detect_leaks=0 strace -f -qq -o '%s.trace' -e trace=%s -e inject=%s:%s:when=%d%s '%s'"
			 " child '%s' 2>'%s.log'",
			 place.dir, call, call, fault, n, lacking ? "+" : "", self, place.dir, place.dir);
	pipe = popen(command, "r");
	assert_non_null(pipe);
	while (fgets(line, sizeof line, pipe))
	{
		if (strcmp(line, "end\n") == 0)
			ended = true;
		else if (acknowledged < CAPTURES && sscanf(line, "taken %d %64s", &seq, sha256[acknowledged]) == 2)
			assert_int_equal(seq, ++acknowledged);
	}
	pclose(pipe);
	injected = was_injected(&place);
	if (!injected || lacking)
		assert_true(ended && acknowledged == CAPTURES);
	judge(&place, acknowledged, sha256, strstr(fault, "KILL") != NULL);
	in_place(&place, "! grep -e Sanitizer -e 'runtime error' \"$PWD.log\" && cd / && rm -rf \"$OLDPWD\"*");
	return injected;
}

static const char *self;

static void sweep(const char *fault, int step)
{
	size_t count = sizeof calls / sizeof *calls;
	int runs = 0;

	/* The last one is also how threads are told to stop, which no disk can keep from working. */
	if (strncmp(fault, "error", 5) == 0)
		count--;
	for (size_t i = 0; i < count; i++)
		for (int n = 1; run_child(self, calls[i], fault, n); n += getenv("TMS_LONG") ? 1 : step)
			runs++;
	print_message("# %s: %d runs\n", fault, runs);
	assert_true(runs > 10);
}

static void survives_a_kill(void **state)
{
	sweep("signal=KILL", 13);
}

static void survives_a_failing_disk(void **state)
{
	sweep("error=EIO", 23);
}

static void survives_a_full_disk(void **state)
{
	sweep("error=ENOSPC", 29);
}

static void works_on_an_old_kernel(void **state)
{
	assert_true(run_child(self, "openat2", "error=ENOSYS", 1));
	assert_true(run_child(self, "sched_setattr", "error=ENOSYS", 1));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(works_on_an_old_kernel), cmocka_unit_test(survives_a_kill),
									   cmocka_unit_test(survives_a_failing_disk),
									   cmocka_unit_test(survives_a_full_disk)};

	if (argc == 3 && strcmp(argv[1], "child") == 0)
		return child(argv[2]);
	self = argv[0];
	return cmocka_run_group_tests_name("ledger_crash", tests, NULL, NULL);
}
