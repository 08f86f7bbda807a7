/*
 * Intake by HTTP: POST /v1/captures, and what is asked of the agent on the same port.
 *
 * A thread for each connection: a sender waits for the disk, and all that wait share one commit of the ledger. The number
 * of connections is limited, and one that is silent for IDLE_SECONDS is closed, so nobody holds a thread for ever.
 */
#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "health.h"
#include "intake.h"
#include "intake_request.h"
#include "listen.h"
#include "log.h"
#include "metrics.h"
#include "metrics_text.h"
#include "service.h"
#include "status.h"
#include "status_page.h"

#define CONNECTIONS  256
#define IDLE_SECONDS 30
#define STACK_BYTES  (1024 * 1024)
#define BUFFER_BYTES (256 * 1024) /* of a connection: photographs come in few large pieces */
#define STOP_MS      700 /* what is under way has this long to end when the agent stops */

/* lock guards active, stopping and the connections. */
typedef struct IntakeHttp
{
	const ServiceContext *context;
	struct MHD_Daemon *daemon;
	pthread_mutex_t lock;
	pthread_cond_t idle; /* active became 0 */
	int active; /* requests between head and answer */
	bool stopping; /* new ones are refused */
	int connections;
	bool crowded; /* told that there are too many, until half of them are gone */
} IntakeHttp;

/* What a request is refused with; status 0: it is not. */
typedef struct Refusal
{
	unsigned status;
	const char *error;
	const char *header; /* or NULL */
	const char *value;
} Refusal;

/* A request between its head and its answer. */
typedef struct Exchange
{
	const struct Route *route;
	Refusal refusal;
	bool entered; /* it counts among the active ones */
	IntakeRequest *capture; /* of POST /v1/captures; of one that is refused, to read its body */
	const char *rest; /* of the path, behind the route's */
} Exchange;

typedef enum MHD_Result (*Answer)(IntakeHttp *server, struct MHD_Connection *connection, Exchange *exchange);

typedef struct Route
{
	const char *method;
	const char *path; /* one that ends with a slash, but "/", stands for all below it */
	bool guarded; /* by intake.token_file */
	Answer begin; /* with the head; NULL: nothing to do before the body is there */
	Answer answer;
} Route;

static enum MHD_Result send_body(struct MHD_Connection *connection, unsigned status, const char *type, char *body,
								 const char *header, const char *value)
{
	enum MHD_Result result;
	struct MHD_Response *response =
		body ? MHD_create_response_from_buffer(strlen(body), body, MHD_RESPMEM_MUST_FREE) : NULL;

	if (!response)
	{
		free(body);
		return MHD_NO; /* out of memory: the connection is closed */
	}
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	if (header)
		MHD_add_response_header(response, header, value);
	result = MHD_queue_response(connection, status, response);
	metrics_count_answer(status);
	MHD_destroy_response(response);
	return result;
}

/* Sends a JSON object and frees it. */
static enum MHD_Result send_json(struct MHD_Connection *connection, unsigned status, json_t *json, const char *header,
								 const char *value)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	return send_body(connection, status, "application/json", text, header, value);
}

static enum MHD_Result send_error(struct MHD_Connection *connection, unsigned status, const char *error,
								  const char *header, const char *value)
{
	return send_json(connection, status, json_pack("{s:s}", "error", error), header, value);
}

/* --- routes --- */

static enum MHD_Result send_capture(struct MHD_Connection *connection, const IntakeAnswer *answer)
{
	char ledger[TMS_UUID_TEXT_SIZE], sha256[TMS_SHA256_HEX_SIZE];

	if (answer->status != MHD_HTTP_CREATED)
		return send_error(connection, answer->status, answer->error, NULL, NULL);
	tms_uuid_format(&answer->entry.ledger, ledger);
	tms_sha256_hex(answer->entry.sha256, sha256);
	return send_json(connection, answer->status,
					 json_pack("{s:I,s:s,s:s,s:s}", "seq", (json_int_t) answer->entry.seq, "path", answer->entry.path,
							   "sha256", sha256, "ledger", ledger),
					 answer->repeated ? "Idempotency-Replayed" : NULL, "true");
}

static enum MHD_Result begin_capture(IntakeHttp *server, struct MHD_Connection *connection, Exchange *exchange)
{
	IntakeAnswer answer;

	exchange->capture = intake_request_begin(server->context, connection, &answer);
	return exchange->capture ? MHD_YES : send_capture(connection, &answer);
}

static enum MHD_Result answer_capture(IntakeHttp *server, struct MHD_Connection *connection, Exchange *exchange)
{
	IntakeAnswer answer;

	intake_request_end(exchange->capture, &answer);
	return send_capture(connection, &answer);
}

static enum MHD_Result answer_status(IntakeHttp *server, struct MHD_Connection *connection, Exchange *exchange)
{
	char *text = status_json(server->context, true);

	if (!text)
		return send_error(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "the ledger cannot be read", NULL, NULL);
	return send_body(connection, MHD_HTTP_OK, "application/json", text, NULL, NULL);
}

static enum MHD_Result answer_metrics(IntakeHttp *server, struct MHD_Connection *connection, Exchange *exchange)
{
	char *text = metrics_text(server->context);

	if (!text)
		return send_error(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "the ledger cannot be read", NULL, NULL);
	return send_body(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, NULL, NULL);
}

/* Queues a response for a browser, which is to take it for nothing else than it is. */
static enum MHD_Result send_to_browser(struct MHD_Connection *connection, struct MHD_Response *response,
									   const char *type, const char *policy, const char *caching)
{
	enum MHD_Result result;

	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, caching);
	MHD_add_response_header(response, "Content-Security-Policy", policy);
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
	result = MHD_queue_response(connection, MHD_HTTP_OK, response);
	metrics_count_answer(MHD_HTTP_OK);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result answer_page(IntakeHttp *server, struct MHD_Connection *connection, Exchange *exchange)
{
	const char *photographs = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "photographs");
	char policy[STATUS_PAGE_POLICY_SIZE];
	char *page =
		status_page_policy(policy) ? status_page(server->context, !photographs || strcmp(photographs, "0") != 0) : NULL;

	if (!page)
		return send_error(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, "the ledger cannot be read", NULL, NULL);
	return send_to_browser(connection, MHD_create_response_from_buffer(strlen(page), page, MHD_RESPMEM_MUST_FREE),
						   "text/html; charset=utf-8", policy, "no-store");
}

/* A photograph of the cache, for the page. Only paths of captures: what else lies in the folder is none of a reader's business. */
static enum MHD_Result answer_photograph(IntakeHttp *server, struct MHD_Connection *connection, Exchange *exchange)
{
	TmsStoragePathParts parts;
	struct MHD_Response *response;
	int64_t size;
	int fd;

	if (!tms_storage_path_parse(exchange->rest, &parts) ||
		cache_read(server->context->cache, exchange->rest, &fd, &size) != TMS_OK)
		return send_error(connection, MHD_HTTP_NOT_FOUND, "no such photograph", NULL, NULL);
	response = MHD_create_response_from_fd64((uint64_t) size, fd);
	if (!response)
		close(fd);
	/* What is below a storage path never changes. */
	return send_to_browser(connection, response, "image/jpeg", "default-src 'none'",
						   "private, max-age=604800, immutable");
}

static enum MHD_Result answer_healthz(IntakeHttp *server, struct MHD_Connection *connection, Exchange *exchange)
{
	return send_body(connection, MHD_HTTP_OK, "text/plain; charset=utf-8", strdup("ok\n"), NULL, NULL);
}

static const Route routes[] = {
	{"POST", "/v1/captures", true, begin_capture, answer_capture},
	{"GET", "/v1/status", true, NULL, answer_status},
	{"GET", "/", true, NULL, answer_page},
	{"GET", STATUS_PAGE_PHOTOGRAPHS, true, NULL, answer_photograph},
	{"GET", "/metrics", true, NULL, answer_metrics},
	{"GET", "/healthz", false, NULL, answer_healthz},
};

/* Is it the route's path? *rest is what is behind it. */
static bool route_matches(const Route *route, const char *path, const char **rest)
{
	size_t len = strlen(route->path);

	if (strncmp(path, route->path, len) != 0)
		return false;
	*rest = path + len;
	return **rest == '\0' || (len > 1 && route->path[len - 1] == '/');
}

/* What answers GET answers HEAD too: libmicrohttpd leaves the body out. */
static const Route *find_route(const char *method, const char *path, const char **rest, const char **allowed)
{
	*allowed = *rest = NULL;
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
	{
		bool get = strcmp(routes[i].method, MHD_HTTP_METHOD_GET) == 0;

		if (!route_matches(&routes[i], path, rest))
			continue;
		if (strcmp(method, routes[i].method) == 0 || (get && strcmp(method, MHD_HTTP_METHOD_HEAD) == 0))
			return &routes[i];
		*allowed = get ? "GET, HEAD" : routes[i].method;
	}
	return NULL;
}

/* Are they the same? Digests are compared, so the time taken tells nothing of the token. */
static bool same_token(const char *token, const char *shown)
{
	uint8_t theirs[TMS_SHA256_SIZE], ours[TMS_SHA256_SIZE];

	return tms_sha256(shown, strlen(shown), theirs) && tms_sha256(token, strlen(token), ours) &&
		   CRYPTO_memcmp(theirs, ours, TMS_SHA256_SIZE) == 0;
}

/* Does the request show the token: as a bearer token, or, from a browser, as the password of anybody? */
static bool has_token(const char *token, struct MHD_Connection *connection)
{
	static const char scheme[] = "Bearer ";
	const char *shown = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
	char *name, *password = NULL;
	bool has;

	if (!*token)
		return true;
	if (shown && strncasecmp(shown, scheme, strlen(scheme)) == 0)
		return same_token(token, shown + strlen(scheme));
	name = MHD_basic_auth_get_username_password(connection, &password);
	has = password && same_token(token, password);
	MHD_free(name);
	MHD_free(password);
	return has;
}

/* Counts a request in, unless the agent is stopping. */
static bool enter(IntakeHttp *server)
{
	bool entered;

	pthread_mutex_lock(&server->lock);
	entered = !server->stopping;
	server->active += entered;
	pthread_mutex_unlock(&server->lock);
	return entered;
}

static void leave(IntakeHttp *server)
{
	pthread_mutex_lock(&server->lock);
	if (--server->active == 0)
		pthread_cond_signal(&server->idle);
	pthread_mutex_unlock(&server->lock);
}

/* Is a request refused by its head alone? */
static Refusal find_refusal(IntakeHttp *server, struct MHD_Connection *connection, const char *method,
							const Route *route, const char *allowed)
{
	if (!route && allowed)
		return (Refusal){MHD_HTTP_METHOD_NOT_ALLOWED, "method not allowed", MHD_HTTP_HEADER_ALLOW, allowed};
	if (!route)
		return (Refusal){.status = MHD_HTTP_NOT_FOUND, .error = "no such resource"};
	if (route->guarded && !has_token(server->context->config->intake_token, connection))
		return (Refusal){MHD_HTTP_UNAUTHORIZED, "a valid token is needed", MHD_HTTP_HEADER_WWW_AUTHENTICATE,
						 "Bearer, Basic realm=\"tms-agent\", charset=\"UTF-8\""};
	/* A page that a browser got from elsewhere could make it post a form here. Senders are no browsers, and our page has no form. */
	if (strcmp(method, MHD_HTTP_METHOD_POST) == 0 &&
		MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ORIGIN))
		return (Refusal){.status = MHD_HTTP_FORBIDDEN, .error = "a web page may not hand in photographs"};
	return (Refusal){0};
}

static enum MHD_Result answer_refusal(struct MHD_Connection *connection, const Refusal *refusal)
{
	return send_error(connection, refusal->status, refusal->error, refusal->header, refusal->value);
}

/* The head of a request is there. */
static enum MHD_Result begin(IntakeHttp *server, struct MHD_Connection *connection, const char *url, const char *method,
							 void **state)
{
	const char *allowed, *rest;
	const Route *route = find_route(method, url, &rest, &allowed);
	Exchange *exchange = calloc(1, sizeof *exchange);

	if (!exchange)
		return MHD_NO;
	*state = exchange;
	exchange->route = route;
	exchange->rest = rest; /* lasts as long as the request */
	exchange->refusal = find_refusal(server, connection, method, route, allowed);
	exchange->entered = exchange->refusal.status == 0 && enter(server);
	if (exchange->entered)
		return route->begin ? route->begin(server, connection, exchange) : MHD_YES;
	if (exchange->refusal.status == 0)
		exchange->refusal = (Refusal){.status = MHD_HTTP_SERVICE_UNAVAILABLE, .error = intake_failure(TMS_STOPPED)};
	else
		exchange->capture = intake_request_refused(server->context, connection);
	return exchange->capture ? MHD_YES : answer_refusal(connection, &exchange->refusal);
}

/* libmicrohttpd calls this with a request's head, then with each piece of its body, then once more for the answer. */
static enum MHD_Result handle(void *handle, struct MHD_Connection *connection, const char *url, const char *method,
							  const char *version, const char *data, size_t *data_len, void **state)
{
	IntakeHttp *server = handle;
	Exchange *exchange = *state;
	bool go_on = true;

	if (!exchange)
		return begin(server, connection, url, method, state);
	if (*data_len > 0)
	{
		if (exchange->capture)
			go_on = intake_request_data(exchange->capture, data, *data_len);
		*data_len = 0;
		return go_on ? MHD_YES : MHD_NO;
	}
	return exchange->refusal.status != 0 ? answer_refusal(connection, &exchange->refusal)
										 : exchange->route->answer(server, connection, exchange);
}

/* The request is over, whichever way: what was not taken is removed. */
static void end(void *handle, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode why)
{
	Exchange *exchange = *state;

	if (!exchange)
		return;
	intake_request_free(exchange->capture);
	if (exchange->entered)
		leave(handle);
	free(exchange);
	*state = NULL;
}

/* Further connections are closed without a word, which senders cannot tell from an agent that is away: the operator is told. */
static void count_connection(void *handle, struct MHD_Connection *connection, void **state,
							 enum MHD_ConnectionNotificationCode what)
{
	IntakeHttp *server = handle;
	bool tell;

	pthread_mutex_lock(&server->lock);
	server->connections += what == MHD_CONNECTION_NOTIFY_STARTED ? 1 : -1;
	tell = server->connections == CONNECTIONS && !server->crowded;
	server->crowded = tell || (server->crowded && server->connections > CONNECTIONS / 2);
	pthread_mutex_unlock(&server->lock);
	if (!tell)
		return;
	health_error(HEALTH_INTAKE, "%d connections at once: more are not taken", CONNECTIONS);
	log_event(LOG_LEVEL_WARNING, "intake_crowded", "connections=%d error=\"more are not taken until some end\"",
			  CONNECTIONS);
}

static bool intake_http_wanted(const Config *config)
{
	return *config->intake_listen != '\0';
}

static void free_server(IntakeHttp *server)
{
	pthread_cond_destroy(&server->idle);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

static TmsStatus intake_http_start(const ServiceContext *context, void **handle_out)
{
	IntakeHttp *server = calloc(1, sizeof *server);
	TmsStatus status;
	int fd;

	if (!server)
		return TMS_MEMORY;
	server->context = context;
	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->idle, NULL);
	status = listen_open(context->config->intake_listen, "intake.listen", &fd);
	if (status == TMS_OK)
	{
		server->daemon = MHD_start_daemon(
			MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL,
			handle, server, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned) CONNECTIONS,
			MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) IDLE_SECONDS, MHD_OPTION_THREAD_STACK_SIZE, (size_t) STACK_BYTES,
			MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) BUFFER_BYTES, MHD_OPTION_CONNECTION_MEMORY_INCREMENT,
			(size_t) BUFFER_BYTES / 2, MHD_OPTION_NOTIFY_COMPLETED, end, server, MHD_OPTION_NOTIFY_CONNECTION,
			count_connection, server, MHD_OPTION_END);
		if (!server->daemon)
		{
			log_event(LOG_LEVEL_ERROR, "intake_http", "error=\"the HTTP server does not start\"");
			status = TMS_IO;
		}
	}
	if (status != TMS_OK)
	{
		free_server(server);
		return status;
	}
	*handle_out = server;
	return TMS_OK;
}

/* Lets what is under way have its answer, so that no sender has to send again what is here; but not for long. */
static void intake_http_stop(void *handle)
{
	IntakeHttp *server = handle;
	struct timespec until;

	listen_keep(server->context->config->intake_listen, MHD_quiesce_daemon(server->daemon));
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += STOP_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&server->lock);
	server->stopping = true;
	while (server->active > 0 && pthread_cond_clockwait(&server->idle, &server->lock, CLOCK_MONOTONIC, &until) == 0)
		;
	pthread_mutex_unlock(&server->lock);
	MHD_stop_daemon(server->daemon);
	free_server(server);
}

const Service intake_http_service = {
	.name = "intake_http",
	.wanted = intake_http_wanted,
	.start = intake_http_start,
	.stop = intake_http_stop,
};
