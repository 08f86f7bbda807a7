/*
 * The cache folder: data_dir/cache/<storage path>, data_dir/tmp/ for what is being written, data_dir/quarantine/.
 *
 * A file below cache/ never changes once it is there; it appears by rename from tmp/ (same file system) and goes by unlink.
 * Every file is opened relative to a held folder descriptor with O_NOFOLLOW and a checked storage path, so no name leads
 * out of the folder.
 *
 * With each file travels its note, a JSON text by which the ledger can be made again from the cache: the extended attribute
 * user.tms, or, where the file system takes none (or not one of that length), a side file <path>.json.
 *
 * All functions may be called from any thread; one CacheWriter is used by one thread at a time.
 */
#ifndef AGENT_CACHE_H
#define AGENT_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/object_path.h"
#include "../common/sha256.h"
#include "../common/status.h"

typedef struct Cache Cache;

/* A file being written to tmp/. */
typedef struct CacheWriter CacheWriter;

/* Space that intake leaves free, so that the ledger can always write down what makes room. */
#define CACHE_RESERVE_BYTES (INT64_C(8) * 1024 * 1024)

/* What quarantine/ may hold; beyond it nothing more is put there, and nothing there is ever deleted. */
#define CACHE_QUARANTINE_BYTES (INT64_C(1024) * 1024 * 1024)

/* Longest note, with its final NUL. */
#define CACHE_NOTE_SIZE 8192

/*
 * Opens or creates the folders below data_dir and empties tmp/: whoever calls holds the lock of data_dir. The caller closes.
 */
extern TMS_CHECKED TmsStatus cache_open(const char *data_dir, Cache **out);
extern void cache_close(Cache *cache);

/* --- intake --- */

/* Starts a temporary file; expected (0: unknown) bytes are allocated at once, so that a full disk is found early (TMS_FULL). */
extern TMS_CHECKED TmsStatus cache_create(Cache *cache, int64_t expected, CacheWriter **out);

/* Adds bytes, hashing them. TMS_FULL, TMS_IO. */
extern TMS_CHECKED TmsStatus cache_write(CacheWriter *writer, const void *data, size_t len);

/* Gives the file its note; to be called before cache_finish, which makes both durable. TMS_FULL, TMS_IO. */
extern TMS_CHECKED TmsStatus cache_note(CacheWriter *writer, const char *json);

/*
 * Ends and syncs the file: bytes and digest are known, the data is durable under its temporary name. A failed sync is never
 * tried again on the same file.
 */
extern TMS_CHECKED TmsStatus cache_finish(CacheWriter *writer, int64_t *bytes, uint8_t sha256[TMS_SHA256_SIZE]);

/* Name of the temporary file within tmp/, for ledger_append; the bytes so far, mapped for reading (NULL when empty). */
extern const char *cache_temporary(const CacheWriter *writer);
extern const uint8_t *cache_map(CacheWriter *writer, size_t *len);

/* The temporary file was renamed away (ledger_append): freeing the writer need not look for it. */
extern void cache_given_away(CacheWriter *writer);

/* Frees the writer; the temporary file is removed if it is still there. */
extern void cache_writer_free(CacheWriter *writer);

/*
 * Moves the temporary file to quarantine/ under a name made of time and `name`, with a .reason file beside it, both durable.
 * TMS_AGAIN when quarantine/ holds its most: the file stays the writer's.
 */
extern TMS_CHECKED TmsStatus cache_quarantine(CacheWriter *writer, const char *name, const char *reason);

/* --- the cached files --- */

/* Opens a cached file for reading; *size in bytes. The caller closes the descriptor. TMS_NOT_FOUND, TMS_INVALID. */
extern TMS_CHECKED TmsStatus cache_read(Cache *cache, const char *path, int *fd, int64_t *size);

/*
 * Unlinks a cached file and its side file, and folders that became empty; returns when that is durable. TMS_OK when it is
 * gone already.
 */
extern TMS_CHECKED TmsStatus cache_remove(Cache *cache, const char *path);

/* The same for many, with one sync for those that follow each other in one folder; *gone tells of each. Failures are logged. */
extern void cache_remove_all(Cache *cache, const char *const *paths, int count, bool *gone);

/* Free and total bytes of the file system. */
extern TMS_CHECKED TmsStatus cache_space(Cache *cache, int64_t *free_bytes, int64_t *total_bytes);

/* --- the ledger and its recovery --- */

/*
 * Renames a temporary file (and its side file) to a storage path, never over another (TMS_EXISTS). The folders are made, and
 * durable, before that; the name itself is durable after cache_sync.
 */
extern TMS_CHECKED TmsStatus cache_place(Cache *cache, const char *temporary, const char *path);

/* Makes the names in the folder of a storage path durable. */
extern TMS_CHECKED TmsStatus cache_sync(Cache *cache, const char *path);

/* Moves a cached file out of the way, to quarantine/, however much that holds. TMS_NOT_FOUND. */
extern TMS_CHECKED TmsStatus cache_set_aside(Cache *cache, const char *path, const char *reason);

/* Reads a cached file's note. TMS_NOT_FOUND when it has none. */
extern TMS_CHECKED TmsStatus cache_read_note(Cache *cache, const char *path, char out[CACHE_NOTE_SIZE]);

/* Says what to do with a file that cache_walk met; any other status than TMS_OK ends the walk. */
typedef TmsStatus (*CacheVisit)(void *state, const char *path, const TmsStoragePathParts *parts);

/*
 * Visits the captures of the cache, hour by hour and by seq within the hour. changed_since: only folders whose names changed
 * then or later (microseconds since 1970; 0: all). Holds the names of one hour at a time. Ends early, with its status, when a
 * visit does not say TMS_OK; a folder that cannot be read is logged and passed over.
 */
extern TMS_CHECKED TmsStatus cache_walk(Cache *cache, int64_t changed_since, CacheVisit visit, void *state);

#endif
