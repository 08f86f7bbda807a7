/*
 * The cache server: photographs of the cache to whoever shows a signed URL, and /healthz to everybody.
 *
 * libmicrohttpd runs a few threads on one epoll each; files go out by sendfile, so a reader that takes its time holds a
 * descriptor and no thread. Nothing is said of a file, not even whether it is there, before the signature is found good.
 *
 * Threads: everything in CacheServer but `refused` is set at start and only read afterwards; the ledger and the cache may
 * be used from any thread. `refused_lock` guards `refused` and `refused_told`.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cache_cert.h"
#include "cache_request.h"
#include "health.h"
#include "listen.h"
#include "log.h"
#include "service.h"

#define THREADS            4
#define CONNECTIONS        1024
#define CONNECTIONS_PER_IP 768 /* one address cannot take them all */
#define IDLE_SECONDS       30 /* without a byte either way */
#define REFUSED_SECONDS    10 /* one log line at most for all refusals in this time */

typedef struct CacheServer
{
	const ServiceContext *context;
	uint8_t url_key[TMS_URL_KEY_SIZE];
	struct MHD_Daemon *daemon;
	atomic_bool started; /* what the library has to say before this is why it does not start */
	pthread_mutex_t refused_lock;
	int64_t refused;
	time_t refused_told;
} CacheServer;

static enum MHD_Result send_response(struct MHD_Connection *connection, unsigned status, struct MHD_Response *response)
{
	enum MHD_Result result;

	if (!response)
		return MHD_NO; /* out of memory: the connection is closed */
	result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

/* Answers with one line of text. `header` and `value` add a header unless NULL. */
static enum MHD_Result send_text(struct MHD_Connection *connection, unsigned status, const char *text,
								 const char *header, const char *value)
{
	char line[200];
	int len = snprintf(line, sizeof line, "%s\n", text);
	struct MHD_Response *response = MHD_create_response_from_buffer((size_t) len, line, MHD_RESPMEM_MUST_COPY);

	if (response)
	{
		MHD_add_response_header(response, "Content-Type", "text/plain; charset=utf-8");
		if (header)
			MHD_add_response_header(response, header, value);
	}
	return send_response(connection, status, response);
}

/* One line now and then: a token that was changed on one side only shows here. */
static void note_refusal(CacheServer *server, const char *why)
{
	time_t now = time(NULL);
	int64_t count = 0;

	pthread_mutex_lock(&server->refused_lock);
	server->refused++;
	if (now - server->refused_told >= REFUSED_SECONDS || now < server->refused_told)
	{
		count = server->refused;
		server->refused = 0;
		server->refused_told = now;
	}
	pthread_mutex_unlock(&server->refused_lock);
	if (count)
		log_event(LOG_LEVEL_WARNING, "cache_refused", "reason=\"%s\" requests=%" PRId64, why, count);
}

/* Did a ledger have this capture, and its file was cleaned? */
static bool was_cleaned(const ServiceContext *context, const char *path)
{
	LedgerEntry entry;

	return ledger_get_path(context->ledger, path, &entry) == TMS_OK && !entry.held;
}

/* The digest's head, which the name of a capture ends with, is a validator: what lies under a name never changes. */
static void add_etag(struct MHD_Response *response, const char *path)
{
	TmsStoragePathParts parts;
	char etag[16];

	if (!tms_storage_path_parse(path, &parts))
		return;
	snprintf(etag, sizeof etag, "\"%02x%02x%02x%02x\"", parts.sha256_head[0], parts.sha256_head[1],
			 parts.sha256_head[2], parts.sha256_head[3]);
	MHD_add_response_header(response, "ETag", etag);
}

/* Sends an open file, all or the part that was asked for; the descriptor is the response's from here on. */
static enum MHD_Result send_file(struct MHD_Connection *connection, const char *path, int fd, int64_t size,
								 const char *range)
{
	struct MHD_Response *response;
	int64_t first, length;
	unsigned status = MHD_HTTP_OK;
	char text[80];

	switch (cache_request_range(range, size, &first, &length))
	{
		case CACHE_RANGE_OUTSIDE:
			close(fd);
			snprintf(text, sizeof text, "bytes */%" PRId64, size);
			return send_text(connection, MHD_HTTP_RANGE_NOT_SATISFIABLE, "the range is outside the file",
							 "Content-Range", text);
		case CACHE_RANGE_PART:
			status = MHD_HTTP_PARTIAL_CONTENT;
			break;
		case CACHE_RANGE_WHOLE:
			break;
	}
	response = MHD_create_response_from_fd_at_offset64((uint64_t) length, fd, (uint64_t) first);
	if (!response)
	{
		close(fd);
		return MHD_NO;
	}
	MHD_add_response_header(response, "Content-Type", "image/jpeg");
	MHD_add_response_header(response, "Accept-Ranges", "bytes");
	add_etag(response, path);
	if (status == MHD_HTTP_PARTIAL_CONTENT)
	{
		snprintf(text, sizeof text, "bytes %" PRId64 "-%" PRId64 "/%" PRId64, first, first + length - 1, size);
		MHD_add_response_header(response, "Content-Range", text);
	}
	return send_response(connection, status, response);
}

static enum MHD_Result answer_image(CacheServer *server, struct MHD_Connection *connection, const char *url,
									const char *method)
{
	const char *path = url + strlen(TMS_URL_PREFIX);
	const char *range = NULL, *why;
	int64_t size;
	int fd;

	why = cache_request_refusal(server->url_key, url,
								MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "expires"),
								MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "sig"), time(NULL));
	if (why)
	{
		note_refusal(server, why);
		return send_text(connection, MHD_HTTP_FORBIDDEN, why, NULL, NULL);
	}
	if (!tms_storage_path_valid(path, strlen(path)))
		return send_text(connection, MHD_HTTP_NOT_FOUND, "not a storage path", NULL, NULL);
	switch (cache_read(server->context->cache, path, &fd, &size))
	{
		case TMS_OK:
			break;
		case TMS_NOT_FOUND:
		case TMS_INVALID:
			if (was_cleaned(server->context, path))
				return send_text(connection, MHD_HTTP_GONE, "cleaned", NULL, NULL);
			return send_text(connection, MHD_HTTP_NOT_FOUND, "not in this cache", NULL, NULL);
		default:
			health_error(HEALTH_CACHE_SERVER, "cannot read %s", path);
			return send_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "cannot read the file", NULL, NULL);
	}
	health_ok(HEALTH_CACHE_SERVER);
	if (strcmp(method, MHD_HTTP_METHOD_GET) == 0)
		range = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Range");
	return send_file(connection, path, fd, size, range);
}

/* libmicrohttpd calls this with a request's head, then with each piece of its body, then once more for the answer. */
static enum MHD_Result answer(void *state, struct MHD_Connection *connection, const char *url, const char *method,
							  const char *version, const char *data, size_t *data_len, void **request)
{
	static int seen;

	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return send_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "use GET or HEAD", "Allow", "GET, HEAD");
	if (*request == NULL)
	{
		*request = &seen;
		return MHD_YES;
	}
	if (*data_len > 0)
	{
		*data_len = 0; /* nobody asked for a body */
		return MHD_YES;
	}
	if (strncmp(url, TMS_URL_PREFIX, strlen(TMS_URL_PREFIX)) == 0)
		return answer_image(state, connection, url, method);
	if (strcmp(url, "/healthz") == 0)
		return send_text(connection, MHD_HTTP_OK, "ok", NULL, NULL);
	return send_text(connection, MHD_HTTP_NOT_FOUND, "nothing here", NULL, NULL);
}

static size_t decode(void *state, struct MHD_Connection *connection, char *text)
{
	return cache_request_decode(text);
}

/* What the library says: why it does not start, or later that a peer went away in the middle. */
static void __attribute__((format(printf, 2, 0))) log_library(void *state, const char *format, va_list args)
{
	CacheServer *server = state;
	char text[300], quoted[400];

	vsnprintf(text, sizeof text, format, args);
	text[strcspn(text, "\n")] = '\0';
	log_event(server->started ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, "cache_server", "message=%s",
			  log_quote(text, quoted, sizeof quoted));
}

static void free_server(CacheServer *server)
{
	explicit_bzero(server->url_key, sizeof server->url_key);
	pthread_mutex_destroy(&server->refused_lock);
	free(server);
}

static TmsStatus start_daemon(CacheServer *server, int fd)
{
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *) cache_cert_retrieve},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
		{MHD_OPTION_END, 0, NULL},
	};
	struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
	bool secure = *server->context->config->tls_cert != '\0';

	if (secure)
		flags |= MHD_USE_TLS;
	server->daemon = MHD_start_daemon(
		flags, 0, NULL, NULL, answer, server, MHD_OPTION_EXTERNAL_LOGGER, log_library, server, MHD_OPTION_LISTEN_SOCKET,
		fd, MHD_OPTION_THREAD_POOL_SIZE, (unsigned) THREADS, MHD_OPTION_CONNECTION_LIMIT, (unsigned) CONNECTIONS,
		MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned) CONNECTIONS_PER_IP, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned) IDLE_SECONDS, MHD_OPTION_UNESCAPE_CALLBACK, decode, NULL, MHD_OPTION_ARRAY, secure ? tls : none,
		MHD_OPTION_END);
	if (!server->daemon)
	{
		log_event(LOG_LEVEL_ERROR, "cache_server", "error=\"does not start\"");
		return TMS_INVALID;
	}
	server->started = true;
	return TMS_OK;
}

static bool cache_server_wanted(const Config *config)
{
	return *config->cache_listen != '\0';
}

static TmsStatus cache_server_start(const ServiceContext *context, void **handle)
{
	const Config *config = context->config;
	CacheServer *server = calloc(1, sizeof *server);
	TmsStatus status = TMS_OK;
	int fd;

	if (!server)
		return TMS_MEMORY;
	server->context = context;
	pthread_mutex_init(&server->refused_lock, NULL);
	if (!tms_url_key(config->token, strlen(config->token), server->url_key))
		status = TMS_MEMORY;
	if (status == TMS_OK && *config->tls_cert)
		status = cache_cert_open(config->tls_cert, config->tls_key);
	if (status == TMS_OK)
		status = listen_open(config->cache_listen, "cache.listen", &fd);
	if (status == TMS_OK)
		status = start_daemon(server, fd);
	if (status != TMS_OK)
	{
		free_server(server);
		return status;
	}
	*handle = server;
	return TMS_OK;
}

static void cache_server_stop(void *handle)
{
	CacheServer *server = handle;

	/* Cuts what is being sent: readers ask the image center or come again. */
	listen_keep(server->context->config->cache_listen, MHD_quiesce_daemon(server->daemon));
	MHD_stop_daemon(server->daemon);
	free_server(server);
}

const Service cache_server_service = {
	.name = "cache_server",
	.wanted = cache_server_wanted,
	.start = cache_server_start,
	.stop = cache_server_stop,
};
