/*
 * What the files of the cache share: its held descriptors and the ways into its folders. Nobody else includes this.
 */
#ifndef AGENT_CACHE_FOLDER_H
#define AGENT_CACHE_FOLDER_H

#include <pthread.h>
#include <stdatomic.h>

#include "cache.h"

#define CACHE_NOTE_ATTRIBUTE "user.tms"
#define CACHE_NOTE_SUFFIX    ".json"

/* Hours that captures go to at the same time are few; a folder that falls out of the list costs some syncs, no more. */
#define CACHE_DURABLE_MAX 64

struct Cache
{
	int data; /* folders, held open */
	int cache;
	int tmp;
	int quarantine;
	atomic_uint serial; /* of names in tmp/ and quarantine/ */
	atomic_llong quarantine_bytes;
	atomic_bool quarantine_full; /* told so */
	atomic_bool has_sides; /* a side file was written to tmp/: one may have to be placed */
	pthread_mutex_t lock;
	char durable[CACHE_DURABLE_MAX]
				[TMS_STORAGE_PATH_SIZE]; /* by lock: folders known to be durable; "" is a free place */
	int durable_next; /* by lock: the place that is used next */
};

/* Measures quarantine/ anew: it may have been emptied. */
extern TMS_CHECKED TmsStatus cache_measure_quarantine(Cache *cache);

/* TMS_FULL for an errno that says so, else TMS_IO. */
extern TmsStatus cache_errno_status(int error);

/* Logs a failure of the file system: what was tried, on which file, and errno; returns cache_errno_status of it. */
extern TmsStatus cache_failed(const char *what, const char *name);

/*
 * Opens the folder that a storage path lies in, part by part from cache/ on, so that no symbolic link is followed; *base is
 * the file's name, within `path`. make: folders that are missing are made, and all on the way are made durable. The caller
 * closes the descriptor. -1 with errno.
 */
extern int cache_open_folder(Cache *cache, const char *path, bool make, const char **base);

/* Renames within the file system, never over another file. 0, or -1 with errno. */
extern int cache_rename(int from_folder, const char *from, int to_folder, const char *to);

/*
 * Moves `from_folder/from` and its side file to quarantine/ under a name made of the time and `name`, with the reason
 * beside it, and makes that durable.
 */
extern TMS_CHECKED TmsStatus cache_move_to_quarantine(Cache *cache, int from_folder, const char *from, const char *name,
													  const char *reason);

#endif
