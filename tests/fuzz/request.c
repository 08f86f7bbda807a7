/*
 * The agent's own code on both sides of libmicrohttpd's parsers. Cache and ledger are real and lie in a temporary folder; only
 * what would fill the disk in ten minutes of fuzzing is taken out by the linker (--wrap): the ledger's append, where the record
 * is checked instead, and quarantine/.
 */
#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/intake_request.h"
#include "agent/log.h"
#include "agent/record.h"
#include "request.h"

#define ROUNDS_MAX 100000 /* of the server's loop without an answer: it hangs */

static Config config = {.max_image_bytes = 100000};
static ServiceContext context = {.config = &config};
static struct MHD_Daemon *server;
static char folder[] = "/tmp/tms_fuzz_XXXXXX";

typedef struct Exchange
{
	IntakeRequest *request;
	unsigned status;
	char taken[RECORD_JSON_SIZE + 64]; /* what fuzz_request returns */
} Exchange;

static Exchange exchange;

TmsStatus __wrap_ledger_append(Ledger *ledger, const char *temporary, const char *key, LedgerEntry *entry);
TmsStatus __wrap_cache_quarantine(CacheWriter *writer, const char *name, const char *reason);

/* libFuzzer sees no branches of libmicrohttpd: what came of the request, and what was taken from it, stand in for them. */
static uint8_t outcomes[4096] __attribute__((section("__libfuzzer_extra_counters")));

static void count_outcome(unsigned status, const void *data, size_t len)
{
	uint8_t hash[TMS_SHA256_SIZE];

	if (tms_sha256(data, len, hash))
		outcomes[(status + hash[0] + (size_t) hash[1] * 256) % sizeof outcomes] = 1;
}

/* What was taken can be written down, and is the same when it is read again. */
TmsStatus __wrap_ledger_append(Ledger *ledger, const char *temporary, const char *key, LedgerEntry *entry)
{
	static Record again;
	static char json[RECORD_JSON_SIZE], twice[RECORD_JSON_SIZE];
	char error[RECORD_ERROR_SIZE];

	if (entry->record.captured_at == entry->taken_at)
		entry->record.has_captured_at = false; /* the sender did not tell it: no matter of the input */
	if (record_to_json(&entry->record, json, sizeof json) != TMS_OK ||
		record_from_stored(&again, json, strlen(json), error) != TMS_OK ||
		record_to_json(&again, twice, sizeof twice) != TMS_OK || strcmp(json, twice) != 0)
		abort();
	count_outcome(entry->bytes > 28, &(size_t){strlen(json)}, sizeof(size_t));
	snprintf(exchange.taken, sizeof exchange.taken, "%s %lld", json, (long long) entry->bytes);
	entry->seq = 1;
	strcpy(entry->path, "2026/11/22/06/1-00000001-00000000.jpg");
	return TMS_OK;
}

TmsStatus __wrap_cache_quarantine(CacheWriter *writer, const char *name, const char *reason)
{
	return TMS_OK;
}

static enum MHD_Result answer(struct MHD_Connection *connection, const IntakeAnswer *what)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(2, (void *) "ok", MHD_RESPMEM_PERSISTENT);
	enum MHD_Result result = MHD_queue_response(connection, what->status, response);

	/* The text goes into JSON and logs: one line that says something. */
	for (const char *c = what->error; what->status != MHD_HTTP_CREATED && (*c || c == what->error); c++)
		if (*c < ' ' || *c > '~')
			abort();
	count_outcome(what->status, what->error, strlen(what->error));
	exchange.status = what->status;
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result handle(void *state, struct MHD_Connection *connection, const char *url, const char *method,
							  const char *version, const char *data, size_t *len, void **slot)
{
	IntakeAnswer what;
	bool go_on;

	if (!*slot)
	{
		*slot = &exchange;
		exchange.request = intake_request_begin(&context, connection, &what);
		return exchange.request ? MHD_YES : answer(connection, &what);
	}
	if (*len > 0)
	{
		go_on = !exchange.request || intake_request_data(exchange.request, data, *len);
		*len = 0;
		return go_on ? MHD_YES : MHD_NO;
	}
	intake_request_end(exchange.request, &what);
	return answer(connection, &what);
}

static void end(void *state, struct MHD_Connection *connection, void **slot, enum MHD_RequestTerminationCode why)
{
	intake_request_free(exchange.request);
	exchange.request = NULL;
}

static void remove_folder(void)
{
	char command[64];

	ledger_close(context.ledger);
	cache_close(context.cache);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	if (system(command) != 0)
		fprintf(stderr, "%s is left\n", folder);
}

static void start(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	if (!mkdtemp(folder) || cache_open(folder, &context.cache) != TMS_OK ||
		ledger_open(context.cache, folder, "gate-1", "machine", &context.ledger) != TMS_OK)
		abort();
	config.data_dir = folder;
	atexit(remove_folder);
	server = MHD_start_daemon(MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, handle, NULL, MHD_OPTION_NOTIFY_COMPLETED, end,
							  &exchange, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) 256 * 1024, MHD_OPTION_END);
	if (!server)
		abort();
}

/* Sends what there is room for, in one piece at most. */
static void send_piece(int fd, const char *text, size_t len, size_t piece, size_t *sent)
{
	size_t left = len - *sent;
	ssize_t done = left ? send(fd, text + *sent, left < piece ? left : piece, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	if (done > 0)
		*sent += (size_t) done;
	else if (done < 0 && errno != EAGAIN)
		*sent = len; /* it hung up on us */
}

static void converse(int fd, const char *text, size_t len, size_t piece)
{
	char reply[4096];
	size_t sent = 0;

	for (int i = 0; i < ROUNDS_MAX; i++)
	{
		send_piece(fd, text, len, piece, &sent);
		MHD_run(server);
		if (sent == len && recv(fd, reply, sizeof reply, MSG_DONTWAIT) == 0)
			return;
	}
	abort();
}

const char *fuzz_request(const char *charset, const char *target, const char *content_type, const uint8_t *body,
						 size_t len, size_t piece)
{
	struct sockaddr_in from = {.sin_family = AF_INET};
	size_t size = strlen(target) + strlen(content_type) + len + 200;
	char *text = malloc(size);
	int pair[2], head;

	if (!server)
		start();
	head =
		snprintf(text, size,
				 "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n",
				 target, content_type, len);
	memcpy(text + head, body, len);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
		abort();
	fcntl(pair[1], F_SETFL, O_NONBLOCK);
	config.charset = (char *) charset;
	exchange.status = 0;
	exchange.taken[0] = '\0';
	if (MHD_add_connection(server, pair[1], (struct sockaddr *) &from, sizeof from) != MHD_YES)
		abort();
	converse(pair[0], text, (size_t) head + len, piece);
	close(pair[0]);
	MHD_run(server);
	switch (exchange.status)
	{
		case 0: /* libmicrohttpd refused it */
		case MHD_HTTP_CREATED:
		case MHD_HTTP_BAD_REQUEST:
		case MHD_HTTP_CONTENT_TOO_LARGE:
		case MHD_HTTP_UNPROCESSABLE_CONTENT:
			break;
		default:
			abort();
	}
	free(text);
	snprintf(exchange.taken + strlen(exchange.taken), 16, " %u", exchange.status);
	return exchange.taken;
}
