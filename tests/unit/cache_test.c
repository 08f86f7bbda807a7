/*
 * The cache folder: files come by rename and go by unlink, nothing leads out of it, notes travel along.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/stat.h>

#include "agent/cache_folder.h"
#include "ledger_place.h"

#define PATH       "2026/11/18/10/7-0000002a-00010203.jpg"
#define OTHER      "2026/11/18/10/8-0000002a-00010203.jpg"
#define NEXT_HOUR  "2026/11/18/11/9-0000002a-00010203.jpg"
#define FAST_TURNS 300

static int set_up_cache(void **state)
{
	Place *place = calloc(1, sizeof *place);

	strcpy(place->dir, "/tmp/tms-cache-test.XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	assert_int_equal(cache_open(place->dir, &place->cache), TMS_OK);
	*state = place;
	return 0;
}

static int tear_down_cache(void **state)
{
	Place *place = *state;

	cache_close(place->cache);
	in_place(place, "cd / && rm -rf \"$OLDPWD\"");
	free(place);
	return 0;
}

/* Writes a file and gives it a path. */
static TmsStatus put(Place *place, const char *path, const char *text, const char *note)
{
	uint8_t sha256[TMS_SHA256_SIZE];
	CacheWriter *writer;
	int64_t bytes;
	TmsStatus status;

	assert_int_equal(cache_create(place->cache, (int64_t) strlen(text) + 100, &writer), TMS_OK);
	assert_int_equal(cache_write(writer, text, strlen(text)), TMS_OK);
	if (note)
		assert_int_equal(cache_note(writer, note), TMS_OK);
	assert_int_equal(cache_finish(writer, &bytes, sha256), TMS_OK);
	assert_int_equal(bytes, strlen(text));
	status = cache_place(place->cache, cache_temporary(writer), path);
	if (status == TMS_OK)
		status = cache_sync(place->cache, path);
	cache_writer_free(writer);
	return status;
}

/* Does the file hold just this? */
static bool holds(Place *place, const char *path, const char *text)
{
	char read_back[200];
	int64_t size;
	ssize_t len;
	int fd;

	if (cache_read(place->cache, path, &fd, &size) != TMS_OK)
		return false;
	len = read(fd, read_back, sizeof read_back);
	close(fd);
	return len == (ssize_t) strlen(text) && size == len && memcmp(read_back, text, (size_t) len) == 0;
}

static bool exists(const Place *place, const char *name)
{
	char path[400];
	struct stat about;

	snprintf(path, sizeof path, "%s/%s", place->dir, name);
	return lstat(path, &about) == 0;
}

static void writes_and_hashes(void **state)
{
	Place *place = *state;
	uint8_t sha256[TMS_SHA256_SIZE], expected[TMS_SHA256_SIZE];
	CacheWriter *writer;
	const uint8_t *map;
	int64_t bytes;
	size_t len;

	assert_int_equal(cache_create(place->cache, 0, &writer), TMS_OK);
	assert_null(cache_map(writer, &len));
	assert_int_equal(cache_write(writer, "photo", 5), TMS_OK);
	assert_memory_equal(cache_map(writer, &len), "photo", 5);
	assert_int_equal(cache_write(writer, "graph", 5), TMS_OK);
	map = cache_map(writer, &len);
	assert_int_equal(len, 10);
	assert_memory_equal(map, "photograph", 10);
	assert_int_equal(cache_finish(writer, &bytes, sha256), TMS_OK);
	assert_int_equal(bytes, 10);
	assert_true(tms_sha256("photograph", 10, expected));
	assert_memory_equal(sha256, expected, TMS_SHA256_SIZE);
	cache_writer_free(writer);
	in_place(place, "test -z \"$(ls tmp)\"");
}

static void never_replaces_a_file(void **state)
{
	Place *place = *state;

	assert_int_equal(put(place, PATH, "first", "{\"n\":1}"), TMS_OK);
	assert_int_equal(put(place, PATH, "second", "{\"n\":2}"), TMS_EXISTS);
	assert_true(holds(place, PATH, "first"));
	in_place(place, "test -z \"$(ls tmp)\"");
}

static void refuses_paths_that_lead_out(void **state)
{
	static const char *const paths[] = {
		"../secret.jpg", "/etc/passwd", "2026/../../secret.jpg", "2026//x.jpg", "", "2026/11/18/10/\n.jpg", "a\\b",
		"./x.jpg",       "x.jpg/"};
	Place *place = *state;
	int64_t size;
	int fd;

	in_place(place, "echo secret > secret.jpg");
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
	{
		assert_int_equal(cache_read(place->cache, paths[i], &fd, &size), TMS_INVALID);
		assert_int_equal(cache_remove(place->cache, paths[i]), TMS_INVALID);
		assert_int_equal(cache_set_aside(place->cache, paths[i], "x"), TMS_INVALID);
	}
	assert_true(exists(place, "secret.jpg"));
}

static void follows_no_link(void **state)
{
	Place *place = *state;
	int64_t size;
	int fd;

	in_place(place,
			 "mkdir -p outside/11/18/10 cache/2025/11/18/10 && echo x > outside/11/18/10/x.jpg"
			 " && ln -s ../outside cache/2026 && ln -s ../../../../../outside/11/18/10/x.jpg cache/2025/11/18/10/x.jpg"
			 " && mkdir cache/2025/11/18/10/folder.jpg && mkfifo cache/2025/11/18/10/fifo.jpg");
	assert_int_not_equal(cache_read(place->cache, "2026/11/18/10/x.jpg", &fd, &size), TMS_OK);
	assert_int_equal(cache_read(place->cache, "2025/11/18/10/x.jpg", &fd, &size), TMS_INVALID);
	assert_int_equal(cache_read(place->cache, "2025/11/18/10/folder.jpg", &fd, &size), TMS_INVALID);
	assert_int_equal(cache_read(place->cache, "2025/11/18/10/fifo.jpg", &fd, &size), TMS_INVALID);
	assert_int_not_equal(put(place, "2026/11/18/10/y.jpg", "y", NULL), TMS_OK);
	assert_int_equal(cache_read(place->cache, "2025/11/18/10/none.jpg", &fd, &size), TMS_NOT_FOUND);
	assert_int_equal(cache_read(place->cache, "2024/11/18/10/none.jpg", &fd, &size), TMS_NOT_FOUND);
	assert_false(exists(place, "outside/11/18/10/y.jpg"));
}

static void removes_what_became_empty(void **state)
{
	Place *place = *state;

	assert_int_equal(put(place, PATH, "7", NULL), TMS_OK);
	assert_int_equal(put(place, OTHER, "8", NULL), TMS_OK);
	assert_int_equal(put(place, NEXT_HOUR, "9", NULL), TMS_OK);
	assert_int_equal(cache_remove(place->cache, PATH), TMS_OK);
	assert_true(holds(place, OTHER, "8"));
	assert_int_equal(cache_remove(place->cache, OTHER), TMS_OK);
	assert_false(exists(place, "cache/2026/11/18/10"));
	assert_true(holds(place, NEXT_HOUR, "9"));
	assert_int_equal(cache_remove(place->cache, NEXT_HOUR), TMS_OK);
	assert_false(exists(place, "cache/2026"));
	assert_true(exists(place, "cache"));
	/* Gone already is as good; and the folders come back. */
	assert_int_equal(cache_remove(place->cache, NEXT_HOUR), TMS_OK);
	assert_int_equal(put(place, PATH, "7 again", NULL), TMS_OK);
	assert_true(holds(place, PATH, "7 again"));
}

/* A short note and one that no extended attribute of a common file system takes. */
static void notes_travel_with_the_file(void **state)
{
	static const size_t lengths[] = {20, 3000, CACHE_NOTE_SIZE - 1};
	Place *place = *state;
	char note[CACHE_NOTE_SIZE + 1], read_back[CACHE_NOTE_SIZE];
	CacheWriter *writer;

	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
	{
		memset(note, 'a' + (int) i, lengths[i]);
		note[lengths[i]] = '\0';
		assert_int_equal(put(place, PATH, "bytes", note), TMS_OK);
		assert_int_equal(cache_read_note(place->cache, PATH, read_back), TMS_OK);
		assert_string_equal(read_back, note);
		assert_int_equal(cache_remove(place->cache, PATH), TMS_OK);
		assert_false(exists(place, "cache/2026"));
	}
	assert_int_equal(put(place, PATH, "bytes", NULL), TMS_OK);
	assert_int_equal(cache_read_note(place->cache, PATH, read_back), TMS_NOT_FOUND);
	memset(note, 'x', CACHE_NOTE_SIZE);
	note[CACHE_NOTE_SIZE] = '\0';
	assert_int_equal(cache_create(place->cache, 0, &writer), TMS_OK);
	assert_int_equal(cache_note(writer, note), TMS_TOO_LARGE);
	cache_writer_free(writer);
}

static void start_empties_tmp(void **state)
{
	Place *place = *state;
	CacheWriter *writer;

	assert_int_equal(cache_create(place->cache, 0, &writer), TMS_OK);
	in_place(place, "test -n \"$(ls tmp)\"");
	cache_writer_free(writer);
	in_place(place, "touch tmp/1-1 tmp/1-1.json");
	cache_close(place->cache);
	assert_int_equal(cache_open(place->dir, &place->cache), TMS_OK);
	in_place(place, "test -z \"$(ls tmp)\"");
}

static void full_disk_is_found_before_a_byte_is_written(void **state)
{
	Place *place = *state;
	CacheWriter *writer;
	int64_t free_bytes, total_bytes;

	assert_int_equal(cache_space(place->cache, &free_bytes, &total_bytes), TMS_OK);
	assert_true(free_bytes > 0 && total_bytes > free_bytes);
	assert_int_equal(cache_create(place->cache, total_bytes, &writer), TMS_FULL);
	in_place(place, "test -z \"$(ls tmp)\"");
}

static void quarantine_keeps_bytes_and_reason(void **state)
{
	Place *place = *state;
	CacheWriter *writer;

	assert_int_equal(cache_create(place->cache, 0, &writer), TMS_OK);
	assert_int_equal(cache_write(writer, "junk", 4), TMS_OK);
	assert_int_equal(cache_quarantine(writer, "../../etc/cron.d/x y\n.jpg", "not a JPEG"), TMS_OK);
	cache_writer_free(writer);
	in_place(place, "test \"$(cat quarantine/*.._.._etc_cron.d_x_y_.jpg)\" = junk"
					" && test \"$(cat quarantine/*.jpg.reason)\" = 'not a JPEG' && test $(ls quarantine | wc -l) = 2");
	assert_int_equal(put(place, PATH, "strange", "{\"n\":1}"), TMS_OK);
	assert_int_equal(cache_set_aside(place->cache, PATH, "why"), TMS_OK);
	assert_false(exists(place, "cache/" PATH));
	in_place(place, "test \"$(cat quarantine/*7-0000002a-00010203.jpg)\" = strange");
	assert_int_equal(cache_set_aside(place->cache, PATH, "why"), TMS_NOT_FOUND);
}

static void quarantine_has_a_limit(void **state)
{
	Place *place = *state;
	CacheWriter *writer;

	in_place(place, "truncate -s 1100M quarantine/large");
	cache_close(place->cache);
	assert_int_equal(cache_open(place->dir, &place->cache), TMS_OK);
	assert_int_equal(cache_create(place->cache, 0, &writer), TMS_OK);
	assert_int_equal(cache_write(writer, "junk", 4), TMS_OK);
	assert_int_equal(cache_quarantine(writer, "x.jpg", "not a JPEG"), TMS_AGAIN);
	in_place(place, "rm quarantine/large");
	assert_int_equal(cache_quarantine(writer, "x.jpg", "not a JPEG"), TMS_OK);
	cache_writer_free(writer);
}

typedef struct Visits
{
	char seen[400];
	int left; /* visits until it ends itself */
} Visits;

static TmsStatus note_visit(void *state, const char *path, const TmsStoragePathParts *parts)
{
	Visits *visits = state;
	size_t len = strlen(visits->seen);

	snprintf(visits->seen + len, sizeof visits->seen - len, "%.13s#%d ", path, (int) parts->seq);
	return --visits->left == 0 ? TMS_STOPPED : TMS_OK;
}

static void walks_in_order(void **state)
{
	static const char *const paths[] = {
		"2026/11/18/11/3-0000002a-00010203.jpg",
		"2026/11/18/10/10-0000002a-00010203.jpg",
		"2026/11/18/10/9-0000002a-00010203.jpg",
		"2025/01/01/00/100-0000002a-00010203.jpg",
	};
	Place *place = *state;
	Visits visits = {.left = 100};

	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		assert_int_equal(put(place, paths[i], "x", "{}"), TMS_OK);
	in_place(place, "touch cache/2026/11/18/10/foreign.jpg cache/2026/11/18/10/10-0000002a-00010203.jpg.json"
					" && mkdir cache/lost+found && touch cache/.ledgers");
	assert_int_equal(cache_walk(place->cache, 0, note_visit, &visits), TMS_OK);
	assert_string_equal(visits.seen, "2025/01/01/00#100 2026/11/18/10#9 2026/11/18/10#10 2026/11/18/11#3 ");
	visits = (Visits){.left = 2};
	assert_int_equal(cache_walk(place->cache, 0, note_visit, &visits), TMS_STOPPED);
	assert_string_equal(visits.seen, "2025/01/01/00#100 2026/11/18/10#9 ");
	in_place(place, "touch -d 2026-01-01 cache/2025/01/01/00 cache/2026/11/18/10");
	visits = (Visits){.left = 100};
	assert_int_equal(cache_walk(place->cache, INT64_C(1767225601000000), note_visit, &visits), TMS_OK);
	assert_string_equal(visits.seen, "2026/11/18/11#3 ");
}

/* The cleaner removes an hour's last file, and the folder, while intake puts the next one there. */
static void *put_and_remove(void *state)
{
	Place *place = state;

	for (int i = 0; i < FAST_TURNS; i++)
		if (put(place, OTHER, "8", NULL) != TMS_OK || cache_remove(place->cache, OTHER) != TMS_OK)
			return state;
	return NULL;
}

static void vanishing_folders_are_made_again(void **state)
{
	Place *place = *state;
	pthread_t thread;
	void *failed;

	assert_int_equal(pthread_create(&thread, NULL, put_and_remove, place), 0);
	for (int i = 0; i < FAST_TURNS; i++)
	{
		assert_int_equal(put(place, PATH, "7", NULL), TMS_OK);
		assert_int_equal(cache_remove(place->cache, PATH), TMS_OK);
	}
	pthread_join(thread, &failed);
	assert_null(failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_and_hashes, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(never_replaces_a_file, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(refuses_paths_that_lead_out, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(follows_no_link, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(removes_what_became_empty, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(notes_travel_with_the_file, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(start_empties_tmp, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(full_disk_is_found_before_a_byte_is_written, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(quarantine_keeps_bytes_and_reason, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(quarantine_has_a_limit, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(walks_in_order, set_up_cache, tear_down_cache),
		cmocka_unit_test_setup_teardown(vanishing_folders_are_made_again, set_up_cache, tear_down_cache),
	};

	return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
