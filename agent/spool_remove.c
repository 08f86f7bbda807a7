/*
 * See spool_remove.h. The name is taken away first, by a rename: what comes under it from then on is another file. Then there
 * is time to look at what was renamed; if it is not the file that was taken, it gets its name back.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cache_folder.h"
#include "log.h"
#include "spool_remove.h"

#define HIDDEN_PREFIX ".tms-taken-"

bool spool_has_writer(int fd, bool unknown)
{
	/* Granted only while nobody writes; who opens it for writing from now on waits for us to give it up, a moment later. */
	if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
	{
		(void) fcntl(fd, F_SETLEASE, F_UNLCK);
		return false;
	}
	return errno == EAGAIN || unknown;
}

/* Is the file of that name the one that was seen, as it was, and does nobody write to it? */
static bool is_same(int folder, const char *name, const struct stat *seen)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* -1: a link, for example */
	bool written = fd >= 0 && spool_has_writer(fd, false);
	struct stat now;

	if (fd >= 0)
		close(fd);
	return !written && fstatat(folder, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && now.st_dev == seen->st_dev &&
		   now.st_ino == seen->st_ino && now.st_size == seen->st_size && now.st_mtim.tv_sec == seen->st_mtim.tv_sec &&
		   now.st_mtim.tv_nsec == seen->st_mtim.tv_nsec;
}

/* Gives the file a name that nobody uses; one that a crash left there is not replaced. 0, or -1 with errno. */
static int hide(int folder, const char *name, const char *hidden)
{
	if (renameat2(folder, name, folder, hidden, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* A file system without RENAME_NOREPLACE; nobody but this thread makes such names. */
	if (faccessat(folder, hidden, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
	{
		errno = EEXIST;
		return -1;
	}
	return renameat(folder, name, folder, hidden);
}

static void remove_failed(const char *name)
{
	char quoted[2 * NAME_MAX];

	log_event(LOG_LEVEL_ERROR, "spool", "file=%s error=\"taken, but cannot be removed: %s\"",
			  log_quote(name, quoted, sizeof quoted), strerror(errno));
}

void spool_remove(int folder, const char *name, const struct stat *seen)
{
	char hidden[NAME_MAX + 1];

	if (snprintf(hidden, sizeof hidden, HIDDEN_PREFIX "%s", name) >= (int) sizeof hidden)
		errno = EEXIST;
	else if (hide(folder, name, hidden) == 0)
		name = hidden;
	if (name != hidden && errno != EEXIST)
	{
		if (errno != ENOENT)
			remove_failed(name);
		return;
	}
	/* Without room for a hidden name what is left is to look at it under its own. */
	if (is_same(folder, name, seen))
	{
		if (unlinkat(folder, name, 0) == 0)
			return;
		remove_failed(name);
	}
	(void) spool_put_back(folder, name);
}

bool spool_put_back(int folder, const char *name)
{
	static const size_t len = sizeof HIDDEN_PREFIX - 1;

	if (strncmp(name, HIDDEN_PREFIX, len) != 0 || name[len] == '\0')
		return false;
	/* When its name is taken by now it waits until that one was taken. */
	(void) !cache_rename(folder, name, folder, name + len);
	return true;
}
