/*
 * Folders and files of the cache.
 *
 * Invariants
 * - A name below cache/ is given only to a file whose bytes and note are durable (cache_finish), and only by a rename that
 *   cannot replace another file.
 * - Before a file is renamed into a folder, every folder on its way is durable. A folder is taken for durable only if this
 *   process has synced its parents since it saw the folder made or found it: one found there may be the work of a process
 *   that was killed between mkdir and fsync. The list of those folders is only ever a saving: a folder that is removed leaves
 *   it (under `lock`), and a rename into a folder that has just gone makes it again.
 * - Files in tmp/ are nobody's after a restart, for no acknowledged capture is there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cache_folder.h"
#include "log.h"

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)

/* How often a folder may vanish under our hands (the cleaner removes empty ones) before that counts as a failure. */
#define FOLDER_TRIES 16

TmsStatus cache_errno_status(int error)
{
	return error == ENOSPC || error == EDQUOT ? TMS_FULL : TMS_IO;
}

TmsStatus cache_failed(const char *what, const char *name)
{
	char quoted[600];
	int error = errno;

	log_event(LOG_LEVEL_ERROR, "cache_failed", "what=%s file=%s error=%s", what, log_quote(name, quoted, sizeof quoted),
			  strerrorname_np(error));
	return cache_errno_status(error);
}

/* --- opening --- */

/* Opens data_dir/name, making it if it is missing; -1 after logging. */
static int open_subfolder(int data, const char *name)
{
	int fd;

	if (mkdirat(data, name, 0750) != 0 && errno != EEXIST)
	{
		(void) cache_failed("mkdir", name);
		return -1;
	}
	fd = openat(data, name, FOLDER_FLAGS);
	if (fd < 0)
		(void) cache_failed("open", name);
	return fd;
}

static DIR *open_listing(int folder)
{
	int fd = openat(folder, ".", FOLDER_FLAGS);
	DIR *listing = fd < 0 ? NULL : fdopendir(fd);

	if (!listing && fd >= 0)
		close(fd);
	return listing;
}

static TmsStatus empty_tmp(Cache *cache)
{
	DIR *listing = open_listing(cache->tmp);
	struct dirent *one;
	int removed = 0;

	if (!listing)
		return cache_failed("list", "tmp");
	while ((one = readdir(listing)) != NULL)
		if (one->d_name[0] != '.' && unlinkat(cache->tmp, one->d_name, 0) == 0)
			removed++;
	closedir(listing);
	if (removed > 0)
		log_event(LOG_LEVEL_INFO, "tmp_emptied", "files=%d", removed);
	return TMS_OK;
}

TmsStatus cache_measure_quarantine(Cache *cache)
{
	DIR *listing = open_listing(cache->quarantine);
	int64_t bytes = 0;
	struct dirent *one;
	struct stat about;

	if (!listing)
		return cache_failed("list", "quarantine");
	while ((one = readdir(listing)) != NULL)
		if (one->d_name[0] != '.' && fstatat(cache->quarantine, one->d_name, &about, AT_SYMLINK_NOFOLLOW) == 0)
			bytes += about.st_size;
	closedir(listing);
	cache->quarantine_bytes = bytes;
	return TMS_OK;
}

TmsStatus cache_open(const char *data_dir, Cache **out)
{
	Cache *cache = calloc(1, sizeof *cache);
	struct stat tmp, files;
	TmsStatus status = TMS_IO;

	if (!cache)
		return TMS_MEMORY;
	pthread_mutex_init(&cache->lock, NULL);
	cache->cache = cache->tmp = cache->quarantine = -1;
	if (mkdir(data_dir, 0750) != 0 && errno != EEXIST)
		(void) cache_failed("mkdir", data_dir);
	cache->data = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cache->data < 0)
		(void) cache_failed("open", data_dir);
	else if ((cache->cache = open_subfolder(cache->data, "cache")) >= 0 &&
			 (cache->tmp = open_subfolder(cache->data, "tmp")) >= 0 &&
			 (cache->quarantine = open_subfolder(cache->data, "quarantine")) >= 0)
	{
		if (fsync(cache->data) != 0 || fstat(cache->tmp, &tmp) != 0 || fstat(cache->cache, &files) != 0)
			status = cache_failed("sync", data_dir);
		else if (tmp.st_dev != files.st_dev)
			log_event(LOG_LEVEL_ERROR, "cache_failed", "error=\"cache and tmp are on different file systems\"");
		else
			status = empty_tmp(cache);
		if (status == TMS_OK)
			status = cache_measure_quarantine(cache);
	}
	if (status != TMS_OK)
	{
		cache_close(cache);
		return status;
	}
	*out = cache;
	return TMS_OK;
}

void cache_close(Cache *cache)
{
	const int held[] = {cache->quarantine, cache->tmp, cache->cache, cache->data};

	for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
		if (held[i] >= 0)
			close(held[i]);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

/* --- folders --- */

/* Place of a folder in the list of durable ones, or -1; `lock` is held. */
static int find_durable(const Cache *cache, const char *folder)
{
	for (int i = 0; i < CACHE_DURABLE_MAX; i++)
		if (strcmp(cache->durable[i], folder) == 0)
			return i;
	return -1;
}

static bool is_durable(Cache *cache, const char *folder)
{
	bool durable;

	pthread_mutex_lock(&cache->lock);
	durable = find_durable(cache, folder) >= 0;
	pthread_mutex_unlock(&cache->lock);
	return durable;
}

static void set_durable(Cache *cache, const char *folder, bool durable)
{
	int place;

	pthread_mutex_lock(&cache->lock);
	place = find_durable(cache, folder);
	if (!durable && place >= 0)
		cache->durable[place][0] = '\0';
	else if (durable && place < 0)
	{
		snprintf(cache->durable[cache->durable_next], sizeof cache->durable[0], "%s", folder);
		cache->durable_next = (cache->durable_next + 1) % CACHE_DURABLE_MAX;
	}
	pthread_mutex_unlock(&cache->lock);
}

/* Opens a folder by its path below cache/ ("" is cache/ itself); make: as cache_open_folder says. */
static int walk_to_folder(Cache *cache, const char *folder, bool make)
{
	struct open_how how = {.flags = FOLDER_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	char part[TMS_STORAGE_PATH_SIZE];
	int at;

	/* At once where nothing is to be made, and the kernel (from 5.6 on) or a sandbox older than that lets us. */
	if (!make)
	{
		at = (int) syscall(SYS_openat2, cache->cache, *folder ? folder : ".", &how, sizeof how);
		if (at < 0 && errno == ELOOP)
			errno = ENOTDIR; /* as below */
		if (at >= 0 || (errno != ENOSYS && errno != EPERM))
			return at;
	}
	at = dup(cache->cache);
	while (at >= 0 && *folder)
	{
		size_t len = strcspn(folder, "/");
		int next = -1, error;

		memcpy(part, folder, len);
		part[len] = '\0';
		folder += len + (folder[len] == '/');
		if (!make || ((mkdirat(at, part, 0750) == 0 || errno == EEXIST) && fsync(at) == 0))
			next = openat(at, part, FOLDER_FLAGS);
		error = errno;
		close(at);
		errno = error;
		at = next;
	}
	return at;
}

int cache_open_folder(Cache *cache, const char *path, bool make, const char **base)
{
	const char *slash = strrchr(path, '/');
	char folder[TMS_STORAGE_PATH_SIZE] = "";
	int fd;

	*base = slash ? slash + 1 : path;
	if (slash)
		snprintf(folder, sizeof folder, "%.*s", (int) (slash - path), path);
	for (int i = 0; i < FOLDER_TRIES; i++)
	{
		bool known = make && is_durable(cache, folder);

		fd = walk_to_folder(cache, folder, make && !known);
		if (fd >= 0 || errno != ENOENT || !make)
		{
			if (fd >= 0 && make && !known)
				set_durable(cache, folder, true);
			return fd;
		}
		set_durable(cache, folder, false);
	}
	return -1;
}

/* Removes the folder of a path if it is empty, then the one it was in, and so on. */
static void remove_empty_folders(Cache *cache, const char *path)
{
	char folder[TMS_STORAGE_PATH_SIZE];
	char *slash;

	snprintf(folder, sizeof folder, "%s", path);
	while ((slash = strrchr(folder, '/')) != NULL)
	{
		const char *name;
		int parent;
		bool removed;

		*slash = '\0';
		parent = cache_open_folder(cache, folder, false, &name);
		if (parent < 0)
			continue; /* gone already: its parent may still be there */
		set_durable(cache, folder, false);
		removed = unlinkat(parent, name, AT_REMOVEDIR) == 0;
		close(parent);
		if (!removed)
			return;
	}
}

/* --- files --- */

int cache_rename(int from_folder, const char *from, int to_folder, const char *to)
{
	if (renameat2(from_folder, from, to_folder, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* A file system without RENAME_NOREPLACE: a link does not replace either. */
	if (linkat(from_folder, from, to_folder, to, 0) != 0)
		return -1;
	return unlinkat(from_folder, from, 0);
}

/* Name of the side file; false when it would be too long. */
static bool side_name(const char *base, char *out, size_t size)
{
	return snprintf(out, size, "%s" CACHE_NOTE_SUFFIX, base) < (int) size;
}

/* Moves side file, if there may be one, and file to an open folder; 0, or -1 with errno. */
static int place_pair(Cache *cache, const char *temporary, int folder, const char *base)
{
	char from[TMS_STORAGE_PATH_SIZE], to[TMS_STORAGE_PATH_SIZE];

	/* A rename waits for files that are being made in tmp/, even if what it is to move is not there. */
	if (!cache->has_sides)
		return cache_rename(cache->tmp, temporary, folder, base);
	if (!side_name(temporary, from, sizeof from) || !side_name(base, to, sizeof to))
	{
		errno = ENAMETOOLONG;
		return -1;
	}
	/* Only after this has the image its name: a side file without an image says nothing. */
	if (faccessat(folder, base, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
	{
		errno = EEXIST;
		return -1;
	}
	if (renameat(cache->tmp, from, folder, to) != 0 && errno != ENOENT)
		return -1;
	return cache_rename(cache->tmp, temporary, folder, base);
}

TmsStatus cache_place(Cache *cache, const char *temporary, const char *path)
{
	for (int i = 0; i < FOLDER_TRIES; i++)
	{
		const char *base;
		int folder = cache_open_folder(cache, path, true, &base), result, error;

		if (folder < 0)
			return cache_failed("mkdir", path);
		result = place_pair(cache, temporary, folder, base);
		error = errno;
		close(folder);
		if (result == 0)
			return TMS_OK;
		errno = error;
		if (error == EEXIST)
			return TMS_EXISTS;
		if (error != ENOENT || faccessat(cache->tmp, temporary, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
			break;
	}
	return cache_failed("rename", path);
}

TmsStatus cache_sync(Cache *cache, const char *path)
{
	const char *base;
	int folder = cache_open_folder(cache, path, false, &base);
	TmsStatus status = TMS_OK;

	if (folder < 0)
		return cache_failed("open", path);
	if (fsync(folder) != 0)
		status = cache_failed("fsync", path);
	close(folder);
	return status;
}

TmsStatus cache_read(Cache *cache, const char *path, int *fd, int64_t *size)
{
	const char *base;
	struct stat about;
	int folder, file, error;

	if (!tms_storage_path_valid(path, strlen(path)))
		return TMS_INVALID;
	folder = cache_open_folder(cache, path, false, &base);
	file = folder < 0 ? -1 : openat(folder, base, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	error = errno;
	if (folder >= 0)
		close(folder);
	errno = error;
	if (file < 0)
		return error == ENOENT || error == ENOTDIR ? TMS_NOT_FOUND
			   : error == ELOOP                    ? TMS_INVALID
												   : cache_failed("open", path);
	if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode))
	{
		close(file);
		return TMS_INVALID;
	}
	*fd = file;
	*size = about.st_size;
	return TMS_OK;
}

/* Unlinks a file and its side file; their folder is not synced yet. */
static TmsStatus unlink_file(Cache *cache, const char *path)
{
	char side[TMS_STORAGE_PATH_SIZE];
	const char *base;
	TmsStatus status = TMS_OK;
	int folder;

	if (!tms_storage_path_valid(path, strlen(path)))
		return TMS_INVALID;
	folder = cache_open_folder(cache, path, false, &base);
	if (folder < 0)
		return errno == ENOENT || errno == ENOTDIR ? TMS_OK : cache_failed("open", path);
	if (unlinkat(folder, base, 0) != 0 && errno != ENOENT)
		status = cache_failed("unlink", path);
	else if (side_name(base, side, sizeof side) && unlinkat(folder, side, 0) != 0 && errno != ENOENT)
		status = cache_failed("unlink", path);
	close(folder);
	return status;
}

static bool in_same_folder(const char *a, const char *b)
{
	size_t len = (size_t) (strrchr(a, '/') ? strrchr(a, '/') - a + 1 : 0);

	return strncmp(a, b, len) == 0 && strchr(b + len, '/') == NULL;
}

/* Makes durable what was unlinked in the folder of a path; the folder may be gone by now. */
static bool folder_synced(Cache *cache, const char *path)
{
	const char *base;
	int folder = cache_open_folder(cache, path, false, &base);
	bool synced;

	if (folder < 0)
		return errno == ENOENT || errno == ENOTDIR;
	synced = fsync(folder) == 0;
	if (!synced)
		(void) cache_failed("fsync", path);
	close(folder);
	return synced;
}

void cache_remove_all(Cache *cache, const char *const *paths, int count, bool *gone)
{
	bool synced = true;

	for (int i = 0; i < count; i++)
		gone[i] = unlink_file(cache, paths[i]) == TMS_OK;
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || !in_same_folder(paths[i - 1], paths[i]))
			synced = folder_synced(cache, paths[i]);
		gone[i] = gone[i] && synced;
	}
	for (int i = 0; i < count; i++)
		if (gone[i] && (i + 1 == count || !in_same_folder(paths[i], paths[i + 1])))
			remove_empty_folders(cache, paths[i]);
}

TmsStatus cache_remove(Cache *cache, const char *path)
{
	bool gone;

	if (!tms_storage_path_valid(path, strlen(path)))
		return TMS_INVALID;
	cache_remove_all(cache, &path, 1, &gone);
	return gone ? TMS_OK : TMS_IO;
}

TmsStatus cache_set_aside(Cache *cache, const char *path, const char *reason)
{
	const char *base;
	TmsStatus status;
	int folder;

	if (!tms_storage_path_valid(path, strlen(path)))
		return TMS_INVALID;
	folder = cache_open_folder(cache, path, false, &base);
	if (folder < 0)
		return errno == ENOENT ? TMS_NOT_FOUND : cache_failed("open", path);
	status = cache_move_to_quarantine(cache, folder, base, base, reason);
	if (status == TMS_OK && fsync(folder) != 0)
		status = cache_failed("fsync", path);
	close(folder);
	return status;
}

/* Reads the side file of an image; its length, or -1. */
static ssize_t read_side_file(Cache *cache, const char *path, char *out, size_t size)
{
	char side[TMS_STORAGE_PATH_SIZE];
	const char *base;
	int folder = cache_open_folder(cache, path, false, &base), fd = -1;
	ssize_t len;

	if (folder >= 0 && side_name(base, side, sizeof side))
		fd = openat(folder, side, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	len = fd < 0 ? -1 : read(fd, out, size);
	if (fd >= 0)
		close(fd);
	if (folder >= 0)
		close(folder);
	return len;
}

TmsStatus cache_read_note(Cache *cache, const char *path, char out[CACHE_NOTE_SIZE])
{
	int64_t size;
	ssize_t len;
	int fd;
	TmsStatus status = cache_read(cache, path, &fd, &size);

	if (status != TMS_OK)
		return status;
	len = fgetxattr(fd, CACHE_NOTE_ATTRIBUTE, out, CACHE_NOTE_SIZE - 1);
	close(fd);
	if (len < 0)
		len = read_side_file(cache, path, out, CACHE_NOTE_SIZE - 1);
	if (len < 0)
		return TMS_NOT_FOUND;
	out[len] = '\0';
	return TMS_OK;
}

TmsStatus cache_space(Cache *cache, int64_t *free_bytes, int64_t *total_bytes)
{
	struct statvfs about;

	if (fstatvfs(cache->cache, &about) != 0)
		return cache_failed("statvfs", "cache");
	*free_bytes = (int64_t) about.f_bavail * (int64_t) about.f_frsize;
	*total_bytes = (int64_t) about.f_blocks * (int64_t) about.f_frsize;
	return TMS_OK;
}
