/*
 * From "host:port" to a socket that listens.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "listen.h"
#include "log.h"

#define BACKLOG  512
#define KEPT_MAX 8

static struct
{
	char address[300]; /* "": free */
	int fd;
} kept[KEPT_MAX];

void listen_keep(const char *listen_at, int fd)
{
	for (int i = 0; i < KEPT_MAX && fd >= 0; i++)
		if (kept[i].address[0] == '\0')
		{
			snprintf(kept[i].address, sizeof kept[i].address, "%s", listen_at);
			kept[i].fd = fd;
			return;
		}
	if (fd >= 0)
		close(fd);
}

/* The kept socket of that address, or -1. */
static int take_kept(const char *listen_at)
{
	for (int i = 0; i < KEPT_MAX; i++)
		if (strcmp(kept[i].address, listen_at) == 0)
		{
			kept[i].address[0] = '\0';
			return kept[i].fd;
		}
	return -1;
}

void listen_forget(void)
{
	for (int i = 0; i < KEPT_MAX; i++)
		if (kept[i].address[0] != '\0')
			close(take_kept(kept[i].address));
}

static TmsStatus fail(const char *listen_at, const char *key, const char *why)
{
	char address[300];

	log_event(LOG_LEVEL_ERROR, "listen", "key=%s address=%s error=\"%s\"", key,
			  log_quote(listen_at, address, sizeof address), why);
	return TMS_IO;
}

static int open_one(const struct addrinfo *one)
{
	int fd = socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, one->ai_protocol), on = 1, error;

	if (fd < 0)
		return -1;
	/* A listener can come back at once after a restart, while old connections fade out. */
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, one->ai_addr, one->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* The port a socket got. */
static int port_of(int fd)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof address;

	if (getsockname(fd, (struct sockaddr *) &address, &len) != 0)
		return 0;
	return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &address)->sin6_port
											   : ((struct sockaddr_in *) &address)->sin_port);
}

TmsStatus listen_open(const char *listen_at, const char *key, int *fd)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
	char host[256], service[8];
	int port, error;

	if (!config_split_listen(listen_at, host, &port))
		return fail(listen_at, key, "not host:port");
	*fd = take_kept(listen_at);
	if (*fd >= 0)
		return TMS_OK;
	snprintf(service, sizeof service, "%d", port);
	error = getaddrinfo(host, service, &hints, &found);
	if (error)
		return fail(listen_at, key, gai_strerror(error));
	for (struct addrinfo *one = found; one && *fd < 0; one = one->ai_next)
	{
		*fd = open_one(one);
		if (*fd < 0)
			error = errno;
	}
	freeaddrinfo(found);
	if (*fd < 0)
		return fail(listen_at, key, strerror(error));
	log_event(LOG_LEVEL_INFO, "listening", "key=%s host=%s port=%d", key, host, port_of(*fd));
	return TMS_OK;
}
