/*
 * Requests to the image center; see upload_request.h.
 */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "health.h"
#include "log.h"
#include "upload_rate.h"
#include "upload_request.h"
#include "worker.h"

#define CONNECT_TIMEOUT 10L /* seconds */
#define HEAD_TIMEOUT    20L
/* A transfer that moves less than this for so long has no one at its other end. */
#define STALL_BYTES   100L
#define STALL_SECONDS 30L
#define KEEP_IDLE     60L /* seconds before a kept connection is probed */
/*
 * Seconds that an address or a file of certificates is believed, and the longest life of a connection: within these a
 * store that moved or renewed its certificate is found.
 */
#define BELIEVED     10L
#define LONGEST_LIFE 300L
/* A store that asks for more has a wrong clock or a wrong mind. */
#define RETRY_AFTER_MAX (3600 * CLOCK_SECOND)

struct UploadClient
{
	const Config *config;
	CURLM *multi;
	struct Attempt *attempts; /* all under way, or ended and not yet taken by upload_next */
	int count; /* of them */
};

/* One attempt under way. */
typedef struct Attempt
{
	struct Attempt *next;
	UploadClient *client;
	UploadMethod method;
	UploadObject object;
	void *owner;
	CURL *easy;
	struct curl_slist *headers;
	int fd;
	int64_t sent; /* PUT: bytes read from fd so far */
	int64_t received; /* GET: bytes that came back so far */
	TmsSha256 *digest; /* of these */
	const char *unreadable; /* what is wrong with the file, or NULL */
	int64_t paused_at; /* by the rate limit, since then by the steady clock; 0: it is not */
	char error[CURL_ERROR_SIZE];
} Attempt;

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_state;

static void initialize_curl(void)
{
	curl_state = curl_global_init(CURL_GLOBAL_DEFAULT);
}

TmsStatus upload_open(const Config *config, int connections, UploadClient **out)
{
	UploadClient *client;

	pthread_once(&curl_once, initialize_curl);
	client = curl_state == CURLE_OK ? calloc(1, sizeof(*client)) : NULL;
	if (client != NULL)
		client->multi = curl_multi_init();
	if (client == NULL || client->multi == NULL)
	{
		log_event(LOG_LEVEL_ERROR, "upload_client", "error=\"out of memory\"");
		free(client);
		return TMS_MEMORY;
	}
	client->config = config;
	curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long) connections);
	*out = client;
	return TMS_OK;
}

/* --- one attempt --- */

static void attempt_free(Attempt *attempt)
{
	curl_easy_cleanup(attempt->easy);
	curl_slist_free_all(attempt->headers);
	tms_sha256_free(attempt->digest);
	if (attempt->fd >= 0)
		close(attempt->fd);
	free(attempt);
}

/* Takes an attempt off its client and frees it. */
static void attempt_end(Attempt *attempt)
{
	Attempt **link = &attempt->client->attempts;

	while (*link != attempt)
		link = &(*link)->next;
	*link = attempt->next;
	attempt->client->count--;
	curl_multi_remove_handle(attempt->client->multi, attempt->easy);
	attempt_free(attempt);
}

void upload_close(UploadClient *client)
{
	if (client == NULL)
		return;
	upload_cut_off(client);
	curl_multi_cleanup(client->multi);
	free(client);
}

int upload_under_way(const UploadClient *client)
{
	return client->count;
}

void upload_cut_off(UploadClient *client)
{
	while (client->attempts != NULL)
		attempt_end(client->attempts);
}

static size_t unreadable(Attempt *attempt, const char *why)
{
	attempt->unreadable = why;
	return CURL_READFUNC_ABORT;
}

/*
 * The rate limit lets nothing pass for the moment. Who is held back is not stalled: the limit on slow transfers begins anew
 * when it goes on.
 */
static size_t pause_attempt(Attempt *attempt)
{
	attempt->paused_at = clock_steady();
	curl_easy_setopt(attempt->easy, CURLOPT_LOW_SPEED_LIMIT, 0L);
	return CURL_READFUNC_PAUSE;
}

/* Lets go on whoever is paused longest, when bytes may pass. Microseconds until it may be of use again; -1: none waits. */
static int64_t resume_attempt(UploadClient *client)
{
	Attempt *longest = NULL;
	int64_t wait;

	for (Attempt *attempt = client->attempts; attempt != NULL; attempt = attempt->next)
		if (attempt->paused_at != 0 && (longest == NULL || attempt->paused_at < longest->paused_at))
			longest = attempt;
	if (longest == NULL)
		return -1;
	wait = upload_rate_wait(&client->config->rate_limit);
	if (wait > 0)
		return wait;
	longest->paused_at = 0;
	curl_easy_setopt(longest->easy, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES);
	curl_easy_pause(longest->easy, CURLPAUSE_CONT);
	return 0;
}

/* libcurl asks for the next bytes of the file. The last of them go only when all of them were the right ones. */
static size_t read_file(char *buffer, size_t size, size_t count, void *argument)
{
	Attempt *attempt = argument;
	int64_t left = attempt->object.bytes - attempt->sent;
	size_t room = size * count;
	uint8_t digest[TMS_SHA256_SIZE];
	ssize_t got;

	if (left == 0)
		return 0;
	if ((int64_t) room > left)
		room = (size_t) left;
	room = (size_t) upload_rate_take(&attempt->client->config->rate_limit, (int64_t) room);
	if (room == 0)
		return pause_attempt(attempt);
	do
		got = pread(attempt->fd, buffer, room, attempt->sent);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return unreadable(attempt, "the file cannot be read");
	if (got == 0)
		return unreadable(attempt, "the file is too short");
	if (!tms_sha256_update(attempt->digest, buffer, (size_t) got))
		return CURL_READFUNC_ABORT;
	attempt->sent += got;
	health_moved(HEALTH_IMAGE_CENTER);
	if (attempt->sent < attempt->object.bytes)
		return (size_t) got;
	if (!tms_sha256_final(attempt->digest, digest))
		return CURL_READFUNC_ABORT;
	if (memcmp(digest, attempt->object.sha256, sizeof(digest)) != 0)
		return unreadable(attempt, "the file has other bytes than were recorded");
	return (size_t) got;
}

/* libcurl begins again, as on a kept connection that turned out to be closed. */
static int rewind_file(void *argument, curl_off_t offset, int origin)
{
	Attempt *attempt = argument;

	if (offset != 0 || origin != SEEK_SET || !tms_sha256_reset(attempt->digest))
		return CURL_SEEKFUNC_FAIL;
	attempt->sent = 0;
	return CURL_SEEKFUNC_OK;
}

/* What a store says in an answer's body is of no use. */
static size_t discard(char *data, size_t size, size_t count, void *argument)
{
	Attempt *attempt = argument;

	upload_rate_owe(&attempt->client->config->rate_limit, (int64_t) (size * count));
	return size * count;
}

/* Hashes what comes back; more than the object has is not wanted. */
static size_t hash_answer(char *data, size_t size, size_t count, void *argument)
{
	Attempt *attempt = argument;

	upload_rate_owe(&attempt->client->config->rate_limit, (int64_t) (size * count));
	attempt->received += (int64_t) (size * count);
	health_moved(HEALTH_IMAGE_CENTER);
	if (attempt->received > attempt->object.bytes)
		return 0;
	return tms_sha256_update(attempt->digest, data, size * count) ? size * count : 0;
}

static bool add_header(Attempt *attempt, const char *line)
{
	struct curl_slist *longer = curl_slist_append(attempt->headers, line);

	if (longer == NULL)
		return false;
	attempt->headers = longer;
	return true;
}

/* What any request to any store has. */
static bool set_common(Attempt *attempt)
{
	const Config *config = attempt->client->config;
	CURL *easy = attempt->easy;
	char key[TMS_OBJECT_KEY_SIZE];
	char *url;
	CURLcode code;

	if (!tms_object_key(config->device, attempt->object.path, key) || asprintf(&url, "%s/%s", config->url, key) < 0)
		return false;
	code = curl_easy_setopt(easy, CURLOPT_URL, url);
	free(url);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, attempt);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, attempt->error);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* Without it, leaving waits for a name server that does not answer. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "tms-agent/" TMS_VERSION);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, attempt);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, KEEP_IDLE);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT);
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, BELIEVED);
	curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, BELIEVED);
	curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, LONGEST_LIFE);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, STALL_SECONDS);
	/* Nobody can keep a connection busy for ever either. */
	curl_easy_setopt(easy, CURLOPT_TIMEOUT, 2 * STALL_SECONDS + (long) (attempt->object.bytes / STALL_BYTES));
	if (config->ca_file[0] != '\0' && code == CURLE_OK)
		code = curl_easy_setopt(easy, CURLOPT_CAINFO, config->ca_file);
	if (config->username[0] != '\0' && code == CURLE_OK)
	{
		curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);
		code = curl_easy_setopt(easy, CURLOPT_USERNAME, config->username);
		if (code == CURLE_OK)
			code = curl_easy_setopt(easy, CURLOPT_PASSWORD, config->password);
	}
	return code == CURLE_OK;
}

static bool set_put(Attempt *attempt)
{
	CURL *easy = attempt->easy;
	char hex[TMS_SHA256_HEX_SIZE];
	char line[sizeof("X-Content-SHA256: ") + TMS_SHA256_HEX_SIZE];

	attempt->digest = tms_sha256_new();
	if (attempt->digest == NULL)
		return false;
	tms_sha256_hex(attempt->object.sha256, hex);
	snprintf(line, sizeof(line), "X-Content-SHA256: %s", hex);
	/* An empty Expect: a store that does not know it would cost a second's wait. */
	if (!add_header(attempt, "Content-Type: image/jpeg") || !add_header(attempt, "Expect:") ||
		!add_header(attempt, line))
		return false;
	curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) attempt->object.bytes);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_file);
	curl_easy_setopt(easy, CURLOPT_READDATA, attempt);
	curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, rewind_file);
	curl_easy_setopt(easy, CURLOPT_SEEKDATA, attempt);
	return curl_easy_setopt(easy, CURLOPT_HTTPHEADER, attempt->headers) == CURLE_OK;
}

/* What a cache on the way remembers is no answer of the store. */
static bool set_question(Attempt *attempt)
{
	return add_header(attempt, "Cache-Control: no-cache") &&
		   curl_easy_setopt(attempt->easy, CURLOPT_HTTPHEADER, attempt->headers) == CURLE_OK;
}

static bool set_head(Attempt *attempt)
{
	curl_easy_setopt(attempt->easy, CURLOPT_TIMEOUT, HEAD_TIMEOUT);
	return curl_easy_setopt(attempt->easy, CURLOPT_NOBODY, 1L) == CURLE_OK && set_question(attempt);
}

static bool set_get(Attempt *attempt)
{
	attempt->digest = tms_sha256_new();
	if (attempt->digest == NULL)
		return false;
	curl_easy_setopt(attempt->easy, CURLOPT_WRITEFUNCTION, hash_answer);
	return curl_easy_setopt(attempt->easy, CURLOPT_WRITEDATA, attempt) == CURLE_OK && set_question(attempt);
}

/* What sets up each method, and its name. */
static const struct UploadMethodRule
{
	const char *name;
	bool (*set)(Attempt *attempt);
} methods[] = {
	[UPLOAD_PUT] = {"PUT", set_put},
	[UPLOAD_HEAD] = {"HEAD", set_head},
	[UPLOAD_GET] = {"GET", set_get},
};

TmsStatus upload_start(UploadClient *client, UploadMethod method, const UploadObject *object, int fd, void *owner)
{
	Attempt *attempt = calloc(1, sizeof(*attempt));

	if (attempt == NULL)
	{
		if (fd >= 0)
			close(fd);
		return TMS_MEMORY;
	}
	attempt->client = client;
	attempt->method = method;
	attempt->object = *object;
	attempt->owner = owner;
	attempt->fd = fd;
	attempt->easy = curl_easy_init();
	if (attempt->easy == NULL || !set_common(attempt) || !methods[method].set(attempt) ||
		curl_multi_add_handle(client->multi, attempt->easy) != CURLM_OK)
	{
		log_event(LOG_LEVEL_ERROR, "upload_request", "path=%s error=\"out of memory\"", object->path);
		attempt_free(attempt);
		return TMS_MEMORY;
	}
	attempt->next = client->attempts;
	client->attempts = attempt;
	client->count++;
	return TMS_OK;
}

void upload_wait(UploadClient *client, int stop_fd, int64_t micros)
{
	struct curl_waitfd stop = {.fd = stop_fd, .events = CURL_WAIT_POLLIN};
	int running;
	int64_t limited = resume_attempt(client);

	/* Perform first, so that what was just started is on its way before the wait. It may even have ended by then. */
	curl_multi_perform(client->multi, &running);
	if (running < client->count)
		return;
	if (limited >= 0 && limited < micros)
		micros = limited;
	curl_multi_poll(client->multi, &stop, 1, worker_poll_timeout(micros), NULL);
	curl_multi_perform(client->multi, &running);
}

/* --- how it ended --- */

/* A copy of a text that came from outside, fit for a log line. */
static void set_reason(UploadResult *result, const char *text)
{
	size_t i;

	for (i = 0; text[i] != '\0' && i < sizeof(result->reason) - 1; i++)
		result->reason[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	result->reason[i] = '\0';
}

/* Statuses that a store changes by itself: time-out, too early, too many requests; and all of 5xx. */
static bool status_is_passing(long status)
{
	return status == 408 || status == 425 || status == 429 || status >= 500;
}

static const char *answer_header(Attempt *attempt, const char *name)
{
	struct curl_header *header;

	return curl_easy_header(attempt->easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value : NULL;
}

/* The digest that the store tells of the object; false: none. An entity tag that is no SHA-256 says nothing. */
static bool told_digest(Attempt *attempt, uint8_t digest[TMS_SHA256_SIZE])
{
	const char *told = answer_header(attempt, "X-Content-SHA256");
	size_t len;

	if (told == NULL)
		told = answer_header(attempt, "ETag");
	if (told == NULL)
		return false;
	len = strlen(told);
	if (len >= 2 && told[0] == '"' && told[len - 1] == '"')
	{
		told++;
		len -= 2;
	}
	return tms_sha256_parse(told, len, digest);
}

/* An entity tag stands for the bytes only when it is a strong one. */
static void take_etag(Attempt *attempt, UploadResult *result)
{
	const char *etag = answer_header(attempt, "ETag");

	if (etag == NULL || etag[0] != '"' || strlen(etag) >= sizeof(result->etag))
		return;
	for (const char *at = etag; *at != '\0'; at++)
		if (*at < ' ' || *at > '~')
			return;
	strcpy(result->etag, etag);
}

/* A HEAD was answered with success: is it the object? */
static void judge_head(Attempt *attempt, UploadResult *result)
{
	uint8_t digest[TMS_SHA256_SIZE];
	bool told = told_digest(attempt, digest);
	curl_off_t length = -1;

	curl_easy_getinfo(attempt->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	result->outcome = UPLOAD_DIFFERENT;
	if (length < 0)
		set_reason(result, "HEAD: the store does not tell the object's size");
	else if (length != attempt->object.bytes)
		snprintf(result->reason, sizeof(result->reason), "HEAD: the store has %lld bytes instead of %lld",
				 (long long) length, (long long) attempt->object.bytes);
	else if (told && memcmp(digest, attempt->object.sha256, sizeof(digest)) != 0)
		set_reason(result, "HEAD: the store has other bytes");
	else
	{
		result->outcome = UPLOAD_OK;
		result->digest_known = told;
		take_etag(attempt, result);
	}
}

/* A GET was answered with success, to its end or until there was more than expected: are these the bytes? */
static void judge_get(Attempt *attempt, UploadResult *result)
{
	uint8_t digest[TMS_SHA256_SIZE];

	result->outcome = UPLOAD_DIFFERENT;
	if (attempt->received != attempt->object.bytes)
		snprintf(result->reason, sizeof(result->reason), "GET: the store has %s bytes than %lld",
				 attempt->received > attempt->object.bytes ? "more" : "fewer", (long long) attempt->object.bytes);
	else if (!tms_sha256_final(attempt->digest, digest) || memcmp(digest, attempt->object.sha256, sizeof(digest)) != 0)
		set_reason(result, "GET: the store has other bytes");
	else
	{
		result->outcome = UPLOAD_OK;
		result->digest_known = true;
		take_etag(attempt, result);
	}
}

/* There is an answer. */
static void judge_status(Attempt *attempt, long status, UploadResult *result)
{
	const char *date = answer_header(attempt, "Date");
	time_t store_time = date != NULL ? curl_getdate(date, NULL) : -1;
	curl_off_t retry_after = 0;

	if (store_time > 0)
		result->store_time = store_time * CLOCK_SECOND;
	curl_easy_getinfo(attempt->easy, CURLINFO_RETRY_AFTER, &retry_after);
	result->retry_after =
		retry_after < RETRY_AFTER_MAX / CLOCK_SECOND ? (int64_t) retry_after * CLOCK_SECOND : RETRY_AFTER_MAX;
	if (status >= 200 && status < 300)
	{
		if (attempt->method == UPLOAD_HEAD)
			judge_head(attempt, result);
		else if (attempt->method == UPLOAD_GET)
			judge_get(attempt, result);
		else
			result->outcome = UPLOAD_OK;
		return;
	}
	snprintf(result->reason, sizeof(result->reason), "%s: HTTP status %ld%s", methods[attempt->method].name, status,
			 status >= 300 && status < 400 ? " (redirects are not followed)" : "");
	if (attempt->method != UPLOAD_PUT && (status == 404 || status == 410))
		result->outcome = UPLOAD_ABSENT;
	else
		result->outcome = status_is_passing(status) ? UPLOAD_BUSY : UPLOAD_REFUSED;
}

/* There is no answer. */
static void judge_failure(Attempt *attempt, CURLcode code, UploadResult *result)
{
	curl_off_t connected = 0;

	curl_easy_getinfo(attempt->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
	result->outcome = connected > 0 ? UPLOAD_BUSY : UPLOAD_AWAY;
	set_reason(result, attempt->error[0] != '\0' ? attempt->error : curl_easy_strerror(code));
}

static void judge(Attempt *attempt, CURLcode code, UploadResult *result)
{
	long status = 0;

	curl_easy_getinfo(attempt->easy, CURLINFO_RESPONSE_CODE, &status);
	if (attempt->unreadable != NULL)
	{
		result->outcome = UPLOAD_UNREADABLE;
		set_reason(result, attempt->unreadable);
	}
	/* A store that refuses need not wait for the rest of the body: the connection breaks, but the answer is there. So is it
	   when more came back than was wanted. */
	else if (code == CURLE_OK || (attempt->method == UPLOAD_PUT && status >= 300) ||
			 attempt->received > attempt->object.bytes)
		judge_status(attempt, status, result);
	else
		judge_failure(attempt, code, result);
}

bool upload_next(UploadClient *client, UploadResult *result)
{
	CURLMsg *message;
	Attempt *attempt;
	int left;

	do
		message = curl_multi_info_read(client->multi, &left);
	while (message != NULL && message->msg != CURLMSG_DONE);
	if (message == NULL)
		return false;
	curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &attempt);
	memset(result, 0, sizeof(*result));
	result->owner = attempt->owner;
	result->method = attempt->method;
	judge(attempt, message->data.result, result);
	attempt_end(attempt);
	return true;
}
