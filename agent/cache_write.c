/*
 * Files on their way into the cache: written to tmp/, hashed, noted, synced; and what goes to quarantine/ instead.
 *
 * A writer's file has a name in tmp/ that no other file of this process gets, so freeing the writer may always unlink that
 * name: it is there only if the file was not renamed away.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "cache_folder.h"
#include "clock.h"
#include "log.h"
#include "metrics.h"

#define NAME_SIZE 48

/* Of a name that came from outside, as much as this goes into a name in quarantine/. */
#define QUARANTINE_NAME_MAX 100

struct CacheWriter
{
	Cache *cache;
	int fd;
	char name[NAME_SIZE];
	char side[NAME_SIZE]; /* of the side file; "" when there is none */
	TmsSha256 *digest;
	int64_t bytes;
	int64_t allocated;
	bool given_away;
	void *map; /* of map_len bytes, or NULL */
	size_t map_len;
};

TmsStatus cache_create(Cache *cache, int64_t expected, CacheWriter **out)
{
	CacheWriter *writer;
	int64_t free_bytes, total_bytes;
	TmsStatus status = cache_space(cache, &free_bytes, &total_bytes);

	if (status != TMS_OK)
		return status;
	if (free_bytes < expected + CACHE_RESERVE_BYTES)
		return TMS_FULL;
	writer = calloc(1, sizeof *writer);
	if (!writer)
		return TMS_MEMORY;
	writer->cache = cache;
	writer->digest = tms_sha256_new();
	snprintf(writer->name, sizeof writer->name, "%d-%u", (int) getpid(), ++cache->serial);
	writer->fd = openat(cache->tmp, writer->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (!writer->digest)
		status = TMS_MEMORY;
	else if (writer->fd < 0)
		status = cache_failed("create", writer->name);
	else if (expected > 0 && fallocate(writer->fd, FALLOC_FL_KEEP_SIZE, 0, expected) == 0)
		writer->allocated = expected;
	else if (expected > 0 && errno != EOPNOTSUPP)
		status = cache_errno_status(errno) == TMS_FULL ? TMS_FULL : cache_failed("fallocate", writer->name);
	if (status != TMS_OK)
	{
		cache_writer_free(writer);
		return status;
	}
	*out = writer;
	return TMS_OK;
}

/* Writes it all; 0, or -1 with errno. */
static int write_all(int fd, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t written = write(fd, data, len);

		if (written < 0 && errno != EINTR)
			return -1;
		if (written > 0)
		{
			data += written;
			len -= (size_t) written;
		}
	}
	return 0;
}

TmsStatus cache_write(CacheWriter *writer, const void *data, size_t len)
{
	if (write_all(writer->fd, data, len) != 0)
		return cache_errno_status(errno) == TMS_FULL ? TMS_FULL : cache_failed("write", writer->name);
	writer->bytes += (int64_t) len;
	return tms_sha256_update(writer->digest, data, len) ? TMS_OK : TMS_MEMORY;
}

TmsStatus cache_note(CacheWriter *writer, const char *json)
{
	size_t len = strlen(json);
	int fd;

	if (len >= CACHE_NOTE_SIZE)
		return TMS_TOO_LARGE;
	/* Whatever keeps the attribute from being written, a side file does as well; a full disk shows there again. */
	if (fsetxattr(writer->fd, CACHE_NOTE_ATTRIBUTE, json, len, 0) == 0)
		return TMS_OK;
	snprintf(writer->side, sizeof writer->side, "%.40s" CACHE_NOTE_SUFFIX, writer->name);
	writer->cache->has_sides = true;
	fd = openat(writer->cache->tmp, writer->side, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0 || write_all(fd, json, len) != 0 || fsync(fd) != 0)
	{
		TmsStatus status = cache_failed("write", writer->side);

		if (fd >= 0)
			close(fd);
		return status;
	}
	close(fd);
	return TMS_OK;
}

TmsStatus cache_finish(CacheWriter *writer, int64_t *bytes, uint8_t sha256[TMS_SHA256_SIZE])
{
	int64_t begun;

	if (!tms_sha256_final(writer->digest, sha256))
		return TMS_MEMORY;
	*bytes = writer->bytes;
	if (writer->allocated > writer->bytes && ftruncate(writer->fd, writer->bytes) != 0)
		return cache_failed("truncate", writer->name);
	/* fsync, not fdatasync: the note in the extended attribute is not needed to read the data, but it is needed. */
	begun = clock_steady();
	if (fsync(writer->fd) != 0)
		return cache_failed("fsync", writer->name);
	metrics_time(METRIC_FSYNC, clock_steady() - begun);
	return TMS_OK;
}

const char *cache_temporary(const CacheWriter *writer)
{
	return writer->name;
}

const uint8_t *cache_map(CacheWriter *writer, size_t *len)
{
	*len = (size_t) writer->bytes;
	if (writer->map && writer->map_len == *len)
		return writer->map;
	if (writer->map)
		munmap(writer->map, writer->map_len);
	writer->map_len = *len;
	writer->map = *len == 0 ? NULL : mmap(NULL, *len, PROT_READ, MAP_SHARED | MAP_POPULATE, writer->fd, 0);
	if (writer->map == MAP_FAILED)
	{
		(void) cache_failed("mmap", writer->name);
		writer->map = NULL;
	}
	return writer->map;
}

void cache_given_away(CacheWriter *writer)
{
	writer->given_away = true;
}

void cache_writer_free(CacheWriter *writer)
{
	if (!writer)
		return;
	if (writer->map)
		munmap(writer->map, writer->map_len);
	if (writer->fd >= 0 && !writer->given_away)
		(void) unlinkat(writer->cache->tmp, writer->name, 0);
	if (writer->fd >= 0)
		close(writer->fd);
	if (writer->side[0] && !writer->given_away)
		(void) unlinkat(writer->cache->tmp, writer->side, 0);
	tms_sha256_free(writer->digest);
	free(writer);
}

/* --- quarantine --- */

/* A name of time, serial number and what is harmless of `name`. */
static void quarantine_name(Cache *cache, const char *name, char out[TMS_STORAGE_PATH_SIZE])
{
	time_t now = time(NULL);
	struct tm utc;
	size_t len;

	gmtime_r(&now, &utc);
	len = strftime(out, TMS_STORAGE_PATH_SIZE, "%Y%m%dT%H%M%SZ", &utc);
	len += (size_t) snprintf(out + len, TMS_STORAGE_PATH_SIZE - len, "-%d-%u-", (int) getpid(), ++cache->serial);
	for (int i = 0; name[i] && i < QUARANTINE_NAME_MAX; i++)
	{
		char c = name[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("._-", c);

		out[len++] = plain ? c : '_';
	}
	out[len] = '\0';
}

/* Writes quarantine/name; TMS_OK when it is durable but for its name. */
static TmsStatus write_reason(Cache *cache, const char *name, const char *reason)
{
	int fd = openat(cache->quarantine, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	TmsStatus status = TMS_OK;

	if (fd < 0)
		return cache_failed("create", name);
	if (write_all(fd, reason, strlen(reason)) != 0 || write_all(fd, "\n", 1) != 0 || fsync(fd) != 0)
		status = cache_failed("write", name);
	close(fd);
	return status;
}

TmsStatus cache_move_to_quarantine(Cache *cache, int from_folder, const char *from, const char *name,
								   const char *reason)
{
	char to[TMS_STORAGE_PATH_SIZE], side_from[2 * TMS_STORAGE_PATH_SIZE], side[2 * TMS_STORAGE_PATH_SIZE], quoted[600];
	struct stat about;
	TmsStatus status;

	quarantine_name(cache, name, to);
	snprintf(side, sizeof side, "%s.reason", to);
	if (fstatat(from_folder, from, &about, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? TMS_NOT_FOUND : cache_failed("stat", from);
	status = write_reason(cache, side, reason);
	if (status != TMS_OK)
		return status;
	if (cache_rename(from_folder, from, cache->quarantine, to) != 0)
		return cache_failed("rename", to);
	snprintf(side_from, sizeof side_from, "%s" CACHE_NOTE_SUFFIX, from);
	snprintf(side, sizeof side, "%s" CACHE_NOTE_SUFFIX, to);
	if (cache_rename(from_folder, side_from, cache->quarantine, side) != 0 && errno != ENOENT)
		return cache_failed("rename", side);
	if (fsync(cache->quarantine) != 0)
		return cache_failed("fsync", "quarantine");
	cache->quarantine_bytes += about.st_size;
	log_event(LOG_LEVEL_WARNING, "quarantined", "file=%s bytes=%" PRId64 " reason=%s", to, (int64_t) about.st_size,
			  log_quote(reason, quoted, sizeof quoted));
	return TMS_OK;
}

TmsStatus cache_quarantine(CacheWriter *writer, const char *name, const char *reason)
{
	Cache *cache = writer->cache;
	char quoted[600];

	if (cache->quarantine_bytes + writer->bytes > CACHE_QUARANTINE_BYTES &&
		(cache_measure_quarantine(cache) != TMS_OK || cache->quarantine_bytes + writer->bytes > CACHE_QUARANTINE_BYTES))
	{
		/* Once until it is emptied: whoever sends such bytes tends to send more of them. */
		if (!atomic_exchange(&cache->quarantine_full, true))
			log_event(LOG_LEVEL_ERROR, "quarantine_full", "bytes=%lld reason=%s action=\"nothing more is kept there\"",
					  (long long) cache->quarantine_bytes, log_quote(reason, quoted, sizeof quoted));
		return TMS_AGAIN;
	}
	cache->quarantine_full = false;
	if (fsync(writer->fd) != 0)
		return cache_failed("fsync", writer->name);
	return cache_move_to_quarantine(cache, cache->tmp, writer->name, name, reason);
}
