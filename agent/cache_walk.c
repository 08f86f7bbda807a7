/*
 * The walk over all captures of the cache: folders YYYY/MM/DD/HH in order, the files of an hour by seq.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache_folder.h"
#include "log.h"

#define LEVELS 4 /* year, month, day, hour */

/* No longer than <seq>-<ledger number>-<digest>.jpg with its greatest numbers. */
#define NAME_SIZE 40

typedef struct Walk
{
	Cache *cache;
	int64_t changed_since;
	CacheVisit visit;
	void *state;
} Walk;

/* The names of one folder that are of interest, in order. */
typedef struct Names
{
	char (*names)[NAME_SIZE];
	size_t count;
	size_t size;
} Names;

static bool is_number(const char *name, size_t digits)
{
	return strlen(name) == digits && strspn(name, "0123456789") == digits;
}

/* Is this a folder of the level (0: a year ... 3: an hour), or at LEVELS a capture? */
static bool belongs(const char *name, int level)
{
	TmsStoragePathParts parts;

	if (strlen(name) >= NAME_SIZE)
		return false;
	return level < LEVELS ? is_number(name, level == 0 ? 4 : 2) : tms_storage_path_parse(name, &parts);
}

/* Names of captures begin with the seq without leading zeros: a longer number is a greater one. */
static int compare_names(const void *a, const void *b)
{
	const char *left = a, *right = b;
	size_t left_digits = strspn(left, "0123456789"), right_digits = strspn(right, "0123456789");

	if (left_digits != right_digits)
		return left_digits < right_digits ? -1 : 1;
	return strcmp(left, right);
}

static bool add_name(Names *names, const char *name)
{
	if (names->count == names->size)
	{
		size_t size = names->size ? 2 * names->size : 64;
		void *grown = realloc(names->names, size * sizeof names->names[0]);

		if (!grown)
			return false;
		names->names = grown;
		names->size = size;
	}
	snprintf(names->names[names->count++], sizeof names->names[0], "%s", name);
	return true;
}

/* Lists a folder; TMS_NOT_FOUND when it is gone or cannot be read (logged). */
static TmsStatus list_names(Walk *walk, const char *folder, int level, Names *names)
{
	char inside[TMS_STORAGE_PATH_SIZE];
	const char *base;
	struct dirent *one;
	struct stat about;
	DIR *listing;
	TmsStatus status = TMS_OK;
	int fd;

	snprintf(inside, sizeof inside, "%s%s.", folder, *folder ? "/" : "");
	fd = cache_open_folder(walk->cache, inside, false, &base);
	if (fd >= 0 && level == LEVELS && fstat(fd, &about) == 0 &&
		about.st_mtim.tv_sec * INT64_C(1000000) + about.st_mtim.tv_nsec / 1000 < walk->changed_since)
	{
		close(fd);
		return TMS_OK;
	}
	listing = fd < 0 ? NULL : fdopendir(fd);
	if (!listing)
	{
		if (errno != ENOENT)
			(void) cache_failed("list", folder);
		if (fd >= 0)
			close(fd);
		return TMS_NOT_FOUND;
	}
	rewinddir(listing); /* the held descriptor of cache/ shares its position with every copy */
	while (status == TMS_OK && (one = readdir(listing)) != NULL)
		if (belongs(one->d_name, level) && !add_name(names, one->d_name))
			status = TMS_MEMORY;
	closedir(listing);
	if (names->count > 0)
		qsort(names->names, names->count, sizeof names->names[0], compare_names);
	return status;
}

/* Walks what is below a folder of the level; at LEVELS it visits the files. */
static TmsStatus walk_folder(Walk *walk, const char *folder, int level)
{
	Names names = {0};
	TmsStatus status = list_names(walk, folder, level, &names);

	for (size_t i = 0; i < names.count && status == TMS_OK; i++)
	{
		char path[TMS_STORAGE_PATH_SIZE];
		TmsStoragePathParts parts;

		if (snprintf(path, sizeof path, "%s%s%s", folder, *folder ? "/" : "", names.names[i]) >= (int) sizeof path)
			continue;
		if (level < LEVELS)
			status = walk_folder(walk, path, level + 1);
		else if (tms_storage_path_parse(path, &parts))
			status = walk->visit(walk->state, path, &parts);
	}
	free(names.names);
	return status == TMS_NOT_FOUND ? TMS_OK : status;
}

TmsStatus cache_walk(Cache *cache, int64_t changed_since, CacheVisit visit, void *state)
{
	Walk walk = {.cache = cache, .changed_since = changed_since, .visit = visit, .state = state};

	return walk_folder(&walk, "", 0);
}
