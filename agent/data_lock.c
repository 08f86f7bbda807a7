/*
 * A lock of the open file (not of the process): it can be looked at without taking it, and it goes with the process however
 * that ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "data_lock.h"
#include "log.h"

static int open_lock(const char *data_dir, int flags)
{
	char path[4096];

	if (snprintf(path, sizeof path, "%s/agent.lock", data_dir) >= (int) sizeof path)
	{
		errno = ENAMETOOLONG;
		return -1;
	}
	return open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0640);
}

/* The process id its holder wrote into the file; 0: none. */
static int read_pid(int fd)
{
	char text[16] = "";

	return pread(fd, text, sizeof text - 1, 0) > 0 ? atoi(text) : 0;
}

TmsStatus data_lock_take(const char *data_dir, int *fd)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char text[16], folder[512];
	int len;

	log_quote(data_dir, folder, sizeof folder);
	if (mkdir(data_dir, 0750) != 0 && errno != EEXIST)
	{
		log_event(LOG_LEVEL_ERROR, "start", "data_dir=%s error=\"cannot make the folder: %s\"", folder,
				  strerror(errno));
		return TMS_IO;
	}
	*fd = open_lock(data_dir, O_RDWR | O_CREAT);
	if (*fd < 0)
	{
		log_event(LOG_LEVEL_ERROR, "start", "data_dir=%s error=\"cannot open agent.lock: %s\"", folder,
				  strerror(errno));
		return TMS_IO;
	}
	if (fcntl(*fd, F_OFD_SETLK, &whole) != 0)
	{
		TmsStatus status = errno == EAGAIN || errno == EACCES ? TMS_EXISTS : TMS_IO;

		if (status == TMS_EXISTS)
			log_event(LOG_LEVEL_ERROR, "start",
					  "data_dir=%s error=\"another agent (process %d) is running on this folder\"", folder,
					  read_pid(*fd));
		else
			log_event(LOG_LEVEL_ERROR, "start", "data_dir=%s error=\"cannot lock: %s\"", folder, strerror(errno));
		close(*fd);
		return status;
	}
	/* The number is for people's eyes: failing to write it is no reason not to run. */
	len = snprintf(text, sizeof text, "%d\n", (int) getpid());
	if (ftruncate(*fd, 0) != 0 || pwrite(*fd, text, (size_t) len, 0) != len)
		log_event(LOG_LEVEL_WARNING, "start", "data_dir=%s error=\"cannot write agent.lock: %s\"", folder,
				  strerror(errno));
	return TMS_OK;
}

bool data_lock_held(const char *data_dir, int *pid)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open_lock(data_dir, O_RDWR);
	bool held;

	*pid = 0;
	if (fd < 0 && errno == EACCES)
	{
		whole.l_type = F_RDLCK;
		fd = open_lock(data_dir, O_RDONLY);
	}
	if (fd < 0)
		return false;
	held = fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
	if (held)
		*pid = read_pid(fd);
	close(fd);
	return held;
}
