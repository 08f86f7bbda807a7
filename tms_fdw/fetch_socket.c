/*
 * libcurl's sockets.
 *
 * libcurl 7.88 closes a socket on which no connection came about (a timeout, a cancel, the slower one of two addresses) without
 * the callback that is there for it. Counted as open for ever, some hundred of those would leave the backend without a
 * descriptor to wait with. So each is known by its inode, and who has opened any looks afterwards which are still there.
 *
 * Invariant: sockets[0 .. n_sockets - 1] are those counted by AcquireExternalFD and not given back yet.
 */
#include "postgres.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "tms_fdw/fetch_socket.h"

#define SPARE_DESCRIPTORS 16 /* for the poller, the server's own waiting, and other extensions */
#define FEWEST_SOCKETS    8
#define MOST_SOCKETS      600 /* twice the largest concurrency, and idle ones */

typedef struct Socket
{
	int fd;
	ino_t inode;
} Socket;

static Socket sockets[MOST_SOCKETS];
static int n_sockets;

int tms_fetch_sockets_max(void)
{
	/* A third of all descriptors is for what is not a file: see AcquireExternalFD. */
	return Min(Max(max_safe_fds / 3 - SPARE_DESCRIPTORS, FEWEST_SOCKETS), MOST_SOCKETS);
}

static void forget(int i)
{
	sockets[i] = sockets[--n_sockets];
	ReleaseExternalFD();
}

int tms_fetch_socket_open(int family, int type, int protocol, const char **why)
{
	struct stat status;
	int fd;

	*why = "too many open files";
	if (n_sockets >= MOST_SOCKETS || !AcquireExternalFD())
		return -1;
	fd = socket(family, type | SOCK_CLOEXEC, protocol);
	if (fd < 0 || fstat(fd, &status) != 0)
	{
		*why = "no socket could be opened";
		if (fd >= 0)
			close(fd);
		ReleaseExternalFD();
		return -1;
	}
	sockets[n_sockets].fd = fd;
	sockets[n_sockets++].inode = status.st_ino;
	return fd;
}

int tms_fetch_socket_close(int fd)
{
	int i;

	for (i = 0; i < n_sockets; i++)
	{
		if (sockets[i].fd == fd)
		{
			forget(i);
			break;
		}
	}
	return close(fd);
}

void tms_fetch_sockets_count_anew(void)
{
	int i;

	for (i = n_sockets - 1; i >= 0; i--)
	{
		struct stat status;

		if (fstat(sockets[i].fd, &status) != 0 || !S_ISSOCK(status.st_mode) || status.st_ino != sockets[i].inode)
			forget(i);
	}
}
