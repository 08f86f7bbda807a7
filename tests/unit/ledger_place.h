/*
 * A data folder with cache and ledger for the tests of both.
 */
#ifndef TESTS_UNIT_LEDGER_PLACE_H
#define TESTS_UNIT_LEDGER_PLACE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/ledger.h"

#define MACHINE "0123456789abcdef0123456789abcdef"
#define HOUR    INT64_C(3600000000)
#define NOW     INT64_C(1795000000000000) /* 2026-11-18 */

typedef struct Place
{
	char dir[64];
	Cache *cache;
	Ledger *ledger;
} Place;

static inline void open_as(Place *place, const char *device, const char *machine_id)
{
	assert_int_equal(cache_open(place->dir, &place->cache), TMS_OK);
	assert_int_equal(ledger_open(place->cache, place->dir, device, machine_id, &place->ledger), TMS_OK);
}

static inline void close_place(Place *place)
{
	ledger_close(place->ledger);
	cache_close(place->cache);
}

static inline void reopen(Place *place)
{
	close_place(place);
	open_as(place, "unit-1", MACHINE);
}

static inline int set_up(void **state)
{
	Place *place = calloc(1, sizeof *place);

	strcpy(place->dir, "/tmp/tms-ledger-test.XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	open_as(place, "unit-1", MACHINE);
	*state = place;
	return 0;
}

/* Runs a shell command with the data folder as its working directory. */
static inline void in_place(const Place *place, const char *command)
{
	char line[600];

	snprintf(line, sizeof line, "cd '%s' && %s", place->dir, command);
	assert_int_equal(system(line), 0);
}

static inline int tear_down(void **state)
{
	Place *place = *state;
	char command[100];

	close_place(place);
	snprintf(command, sizeof command, "rm -rf '%s'", place->dir);
	assert_int_equal(system(command), 0);
	free(place);
	return 0;
}

/* Takes one capture made of `text` with these attributes, under a key unless that is NULL; its entry in *entry. */
static inline TmsStatus append_attributes(Place *place, const char *text, const char *attributes, const char *key,
										  LedgerEntry *entry)
{
	CacheWriter *writer;
	char note[CACHE_NOTE_SIZE];
	TmsStatus status;

	memset(entry, 0, sizeof *entry);
	record_init(&entry->record);
	entry->record.captured_at = entry->taken_at = NOW;
	entry->record.has_captured_at = true;
	snprintf(entry->record.plate, sizeof entry->record.plate, "%s", text);
	snprintf(entry->record.attributes, sizeof entry->record.attributes, "%s", attributes);
	assert_int_equal(cache_create(place->cache, 0, &writer), TMS_OK);
	assert_int_equal(cache_write(writer, text, strlen(text)), TMS_OK);
	assert_int_equal(ledger_describe(entry, note, sizeof note), TMS_OK);
	assert_int_equal(cache_note(writer, note), TMS_OK);
	assert_int_equal(cache_finish(writer, &entry->bytes, entry->sha256), TMS_OK);
	status = ledger_append(place->ledger, cache_temporary(writer), key, entry);
	cache_writer_free(writer);
	return status;
}

static inline TmsStatus append_key(Place *place, const char *text, const char *key, LedgerEntry *entry)
{
	return append_attributes(place, text, "", key, entry);
}

static inline TmsStatus append(Place *place, const char *text, LedgerEntry *entry)
{
	return append_key(place, text, NULL, entry);
}

static inline LedgerEntry *append_many(Place *place, int count)
{
	LedgerEntry *entries = calloc((size_t) count, sizeof *entries);
	char text[32];

	for (int i = 0; i < count; i++)
	{
		snprintf(text, sizeof text, "capture %d", i + 1);
		assert_int_equal(append(place, text, &entries[i]), TMS_OK);
	}
	return entries;
}

/* The ledger that intake appends to. */
static inline LedgerInfo active(Place *place)
{
	LedgerInfo infos[16];
	int count;

	assert_int_equal(ledger_list(place->ledger, infos, 16, &count), TMS_OK);
	for (int i = 0; i < count; i++)
		if (!infos[i].sealed)
			return infos[i];
	fail_msg("no active ledger");
	return infos[0];
}

static inline bool in_cache(Place *place, const char *path)
{
	int64_t size;
	int fd;

	if (cache_read(place->cache, path, &fd, &size) != TMS_OK)
		return false;
	close(fd);
	return true;
}

/* One upload, or one step of a deletion; TMS_NOT_FOUND where the ledger does not allow it. */
static inline TmsStatus set_uploaded(Place *place, int64_t id, int64_t at)
{
	LedgerUpload upload = {.id = id, .at = at, .how = LEDGER_VERIFIED_READ, .etag = "\"tag\""};

	return ledger_set_uploaded(place->ledger, &upload, 1);
}

static inline TmsStatus cleaning(Place *place, int64_t id)
{
	LedgerCleaning one = {.id = id, .receipt = "{\"rule\":\"expired\"}"};
	TmsStatus status = ledger_cleaning(place->ledger, &one, 1);

	return status == TMS_OK && !one.allowed ? TMS_NOT_FOUND : status;
}

static inline TmsStatus cleaned(Place *place, int64_t id)
{
	LedgerCleaning one = {.id = id, .allowed = true, .gone = true};

	return ledger_cleaned(place->ledger, &one, 1);
}

/* Waits until a ledger is reported, as it is once the cache was indexed; false after ten seconds. */
static inline bool wait_for_ledger(Place *place, const TmsUuid *uuid, LedgerInfo *info)
{
	for (int i = 0; i < 1000; i++)
	{
		const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
		LedgerInfo infos[16];
		int count;

		assert_int_equal(ledger_list(place->ledger, infos, 16, &count), TMS_OK);
		for (int k = 0; k < count; k++)
			if (memcmp(&infos[k].ledger, uuid, sizeof *uuid) == 0)
			{
				*info = infos[k];
				return true;
			}
		nanosleep(&pause, NULL);
	}
	return false;
}

#endif
