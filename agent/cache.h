/*
 * The cache folder: data_dir/cache/<storage path>, data_dir/tmp/ for what is being written, data_dir/quarantine/.
 *
 * A file below cache/ never changes once it is there; it appears by rename from tmp/ (same file system) and goes by unlink.
 * Every file is opened relative to a held folder descriptor with O_NOFOLLOW and a checked storage path, so no name leads
 * out of the folder.
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

/* Opens or creates the folders below data_dir and empties tmp/. The caller closes. */
extern TMS_CHECKED TmsStatus cache_open(const char *data_dir, Cache **out);
extern void cache_close(Cache *cache);

/* Starts a temporary file; expected (0: unknown) bytes are allocated at once, so that a full disk is found early (TMS_FULL). */
extern TMS_CHECKED TmsStatus cache_create(Cache *cache, int64_t expected, CacheWriter **out);

/* Adds bytes, hashing them. TMS_FULL, TMS_IO. */
extern TMS_CHECKED TmsStatus cache_write(CacheWriter *writer, const void *data, size_t len);

/*
 * Ends and syncs the file: bytes and digest are known, the data is durable under its temporary name. A failed sync is never
 * tried again on the same file.
 */
extern TMS_CHECKED TmsStatus cache_finish(CacheWriter *writer, int64_t *bytes, uint8_t sha256[TMS_SHA256_SIZE]);

/* Name of the temporary file within tmp/, for ledger_append; the bytes so far, mapped for reading (NULL when empty). */
extern const char *cache_temporary(const CacheWriter *writer);
extern const uint8_t *cache_map(CacheWriter *writer, size_t *len);

/* Frees the writer; the temporary file is removed unless it was renamed away (ledger_append, cache_quarantine). */
extern void cache_writer_free(CacheWriter *writer);

/* Moves the temporary file to quarantine/ under a name made of time and `name`, with a .reason file beside it. */
extern TMS_CHECKED TmsStatus cache_quarantine(CacheWriter *writer, const char *name, const char *reason);

/* Opens a cached file for reading; *size in bytes. The caller closes the descriptor. TMS_NOT_FOUND, TMS_INVALID. */
extern TMS_CHECKED TmsStatus cache_read(Cache *cache, const char *path, int *fd, int64_t *size);

/* Unlinks a cached file and its side file, and folders that became empty; TMS_OK when it is gone already. */
extern TMS_CHECKED TmsStatus cache_remove(Cache *cache, const char *path);

/* Free and total bytes of the file system. */
extern TMS_CHECKED TmsStatus cache_space(Cache *cache, int64_t *free_bytes, int64_t *total_bytes);

#endif
