/*
 * HTTP/1.0 over a plain socket: the answer ends with the connection, so there is nothing to parse but its head.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "cli_http.h"
#include "config.h"

#define ANSWER_MAX      (1024 * 1024)
#define TIMEOUT_SECONDS 60 /* without any progress; a durable write on a busy disk takes its time */

/* An address to listen on everywhere is reached by way of this machine's own. */
static const char *reachable(const char *host)
{
	if (strcmp(host, "0.0.0.0") == 0)
		return "127.0.0.1";
	return strcmp(host, "::") == 0 ? "::1" : host;
}

static int connect_to(const char *listen, char *why)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	struct timeval patience = {.tv_sec = TIMEOUT_SECONDS};
	char host[256], service[8];
	int port, fd = -1, error;

	if (!config_split_listen(listen, host, &port))
	{
		snprintf(why, CLI_HTTP_WHY_SIZE, "%s is not host:port", listen);
		return -1;
	}
	snprintf(service, sizeof service, "%d", port);
	error = getaddrinfo(reachable(host), service, &hints, &found);
	if (error)
	{
		snprintf(why, CLI_HTTP_WHY_SIZE, "%s: %s", listen, gai_strerror(error));
		return -1;
	}
	for (struct addrinfo *one = found; one && fd < 0; one = one->ai_next)
	{
		fd = socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		if (connect(fd, one->ai_addr, one->ai_addrlen) != 0)
		{
			error = errno;
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(found);
	if (fd < 0)
		snprintf(why, CLI_HTTP_WHY_SIZE, "%s: %s", listen, strerror(error ? error : errno));
	return fd;
}

/* Sends head and body. A peer that answers before it has read all is no failure: its answer tells. */
static bool send_request(int fd, const CliRequest *request)
{
	char *head;
	int len =
		asprintf(&head,
				 "%s %s HTTP/1.0\r\nHost: %s\r\n%s%s%s"
				 "Content-Type: image/jpeg\r\nContent-Length: %lld\r\n\r\n",
				 request->method, request->target, request->listen, *request->token ? "Authorization: Bearer " : "",
				 request->token, *request->token ? "\r\n" : "", (long long) request->body_bytes);
	int64_t left = request->body < 0 ? 0 : request->body_bytes;
	bool sent;

	if (len < 0)
		return false;
	sent = send(fd, head, (size_t) len, MSG_NOSIGNAL) == len;
	explicit_bzero(head, (size_t) len);
	free(head);
	while (sent && left > 0)
	{
		ssize_t n = sendfile(fd, request->body, NULL, (size_t) left);

		if (n <= 0)
			sent = false;
		else
			left -= n;
	}
	return sent;
}

/* Reads to the end of the connection; NULL when there is too much or it breaks. */
static char *read_answer(int fd, size_t *len)
{
	char *answer = malloc(ANSWER_MAX + 1);
	ssize_t n = -1;

	*len = 0;
	while (answer && *len < ANSWER_MAX && (n = recv(fd, answer + *len, ANSWER_MAX - *len, 0)) > 0)
		*len += (size_t) n;
	/* A connection that was reset behind a whole answer has still given it. */
	if (answer && (*len == ANSWER_MAX || (n < 0 && *len == 0)))
	{
		free(answer);
		return NULL;
	}
	if (answer)
		answer[*len] = '\0';
	return answer;
}

TmsStatus cli_http(const CliRequest *request, CliResponse *response, char why[CLI_HTTP_WHY_SIZE])
{
	int fd = connect_to(request->listen, why);
	char *answer, *body;
	size_t len;

	*response = (CliResponse){0};
	if (fd < 0)
		return TMS_AGAIN;
	(void) send_request(fd, request);
	answer = read_answer(fd, &len);
	close(fd);
	if (!answer)
	{
		snprintf(why, CLI_HTTP_WHY_SIZE, "%s: no answer", request->listen);
		return TMS_AGAIN;
	}
	body = strstr(answer, "\r\n\r\n");
	if (!body || strncmp(answer, "HTTP/1.", 7) != 0 || sscanf(answer + 7, "%*d %3d", &response->status) != 1)
	{
		snprintf(why, CLI_HTTP_WHY_SIZE, "%s: what answers is not the agent", request->listen);
		free(answer);
		return TMS_INVALID;
	}
	memmove(answer, body + 4, len - (size_t) (body + 4 - answer) + 1);
	response->body = answer;
	return TMS_OK;
}

bool cli_http_escape(const char *text, size_t len, char *out, size_t size)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];
		bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._~", c);

		if (n + 4 > size)
			return false;
		if (plain && c)
			out[n++] = (char) c;
		else
		{
			out[n++] = '%';
			out[n++] = hex[c >> 4];
			out[n++] = hex[c & 15];
		}
	}
	out[n] = '\0';
	return true;
}
