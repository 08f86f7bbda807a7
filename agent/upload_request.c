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
#include "md5.h"
#include "upload_answer.h"
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

/* Of an answer's body that is no photograph, so much is read, so that the connection stays usable. */
#define BODY_MAX (64 * 1024)

/* Does the S3 store know If-None-Match, with which nothing is overwritten? It is asked for until it is plain that not. */
typedef enum Condition
{
	CONDITION_ASKED,
	CONDITION_KNOWN, /* a PUT with it was answered */
	CONDITION_DOUBTED, /* a PUT was refused, perhaps for that */
	CONDITION_UNKNOWN, /* it does not */
} Condition;

struct UploadClient
{
	const Config *config;
	bool s3;
	Condition condition;
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
	int64_t received; /* bytes of the answer's body so far */
	TmsSha256 *digest; /* of what a PUT sends, a GET brings */
	Md5 *md5; /* of what a PUT sends to an S3 store; NULL: none */
	bool conditional; /* a PUT that overwrites nothing */
	char body[TMS_S3_ERROR_BODY_SIZE]; /* the beginning of the answer's */
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
	client->s3 = config_is_s3(config);
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
	md5_free(attempt->md5);
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
	if (!tms_sha256_update(attempt->digest, buffer, (size_t) got) ||
		(attempt->md5 != NULL && !md5_update(attempt->md5, buffer, (size_t) got)))
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

	if (offset != 0 || origin != SEEK_SET || !tms_sha256_reset(attempt->digest) ||
		(attempt->md5 != NULL && !md5_reset(attempt->md5)))
		return CURL_SEEKFUNC_FAIL;
	attempt->sent = 0;
	return CURL_SEEKFUNC_OK;
}

/* Takes an answer's body: a GET's is hashed, of any other the beginning is kept. What is too long is not read to its end. */
static size_t take_body(char *data, size_t size, size_t count, void *argument)
{
	Attempt *attempt = argument;
	size_t len = size * count;
	size_t kept =
		attempt->received < (int64_t) sizeof(attempt->body) ? (size_t) attempt->received : sizeof(attempt->body);
	size_t keep = len < sizeof(attempt->body) - kept ? len : sizeof(attempt->body) - kept;
	int64_t most = BODY_MAX;
	long status = 0;

	upload_rate_owe(&attempt->client->config->rate_limit, (int64_t) len);
	attempt->received += (int64_t) len;
	health_moved(HEALTH_IMAGE_CENTER);
	memcpy(attempt->body + kept, data, keep);
	curl_easy_getinfo(attempt->easy, CURLINFO_RESPONSE_CODE, &status);
	if (attempt->method == UPLOAD_GET && status < 300)
	{
		most = attempt->object.bytes;
		if (!tms_sha256_update(attempt->digest, data, len))
			return 0;
	}
	return attempt->received <= most ? len : 0;
}

static bool add_header(void *argument, const char *line)
{
	Attempt *attempt = argument;
	struct curl_slist *longer = curl_slist_append(attempt->headers, line);

	if (longer == NULL)
		return false;
	attempt->headers = longer;
	return true;
}

/* The URL of a plain HTTP store. */
static bool set_http_url(Attempt *attempt, const char *key)
{
	char *url;
	CURLcode code;

	if (asprintf(&url, "%s/%s", attempt->client->config->url, key) < 0)
		return false;
	code = curl_easy_setopt(attempt->easy, CURLOPT_URL, url);
	free(url);
	return code == CURLE_OK;
}

/* URL and signature of an S3 store. The digest is signed, so that the store refuses other bytes. */
static bool set_s3_url(Attempt *attempt, const char *key)
{
	const Config *config = attempt->client->config;
	const TmsSigv4Credentials credentials = {
		.access_key_id = config->access_key_id,
		.secret_access_key = config->secret_access_key,
		.region = config->region,
	};
	char hex[TMS_SHA256_HEX_SIZE];
	TmsS3Request request = {
		.method = upload_method_name(attempt->method),
		.base_url = config->url,
		.key = key,
		.payload = attempt->method == UPLOAD_PUT ? hex : TMS_S3_NO_PAYLOAD,
		.time = clock_now() / CLOCK_SECOND,
	};
	char url[TMS_S3_URL_SIZE];

	tms_sha256_hex(attempt->object.sha256, hex);
	return tms_s3_sign(&credentials, &request, url, add_header, attempt) &&
		   curl_easy_setopt(attempt->easy, CURLOPT_PATH_AS_IS, 1L) == CURLE_OK &&
		   curl_easy_setopt(attempt->easy, CURLOPT_URL, url) == CURLE_OK;
}

/* What any request to any store has. */
static bool set_common(Attempt *attempt)
{
	const Config *config = attempt->client->config;
	CURL *easy = attempt->easy;
	char key[TMS_OBJECT_KEY_SIZE];
	CURLcode code = CURLE_OK;

	if (!tms_object_key(config->device, attempt->object.path, key) ||
		!(attempt->client->s3 ? set_s3_url : set_http_url)(attempt, key))
		return false;
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
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
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

/* What a PUT tells a plain HTTP store, which may keep it; and an S3 store, which is not to overwrite. */
static bool add_put_headers(Attempt *attempt)
{
	UploadClient *client = attempt->client;
	const char *type = attempt->object.type;
	char hex[TMS_SHA256_HEX_SIZE];
	char line[sizeof("X-Content-SHA256: ") + TMS_SHA256_HEX_SIZE];

	snprintf(line, sizeof(line), "Content-Type: %s", type != NULL ? type : "image/jpeg");
	/* An empty Expect: a store that does not know it would cost a second's wait. */
	if (!add_header(attempt, line) || !add_header(attempt, "Expect:"))
		return false;
	if (client->s3)
	{
		attempt->conditional = !attempt->object.overwrite && client->condition != CONDITION_UNKNOWN;
		return !attempt->conditional || add_header(attempt, "If-None-Match: *");
	}
	tms_sha256_hex(attempt->object.sha256, hex);
	snprintf(line, sizeof(line), "X-Content-SHA256: %s", hex);
	return add_header(attempt, line);
}

static bool set_put(Attempt *attempt)
{
	CURL *easy = attempt->easy;

	attempt->digest = tms_sha256_new();
	if (attempt->digest == NULL || !add_put_headers(attempt))
		return false;
	if (attempt->client->s3)
		attempt->md5 = md5_new();
	curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) attempt->object.bytes);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, read_file);
	curl_easy_setopt(easy, CURLOPT_READDATA, attempt);
	curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, rewind_file);
	return curl_easy_setopt(easy, CURLOPT_SEEKDATA, attempt) == CURLE_OK;
}

/* What a cache on the way remembers is no answer of the store. */
static bool set_question(Attempt *attempt)
{
	return add_header(attempt, "Cache-Control: no-cache");
}

static bool set_head(Attempt *attempt)
{
	curl_easy_setopt(attempt->easy, CURLOPT_TIMEOUT, HEAD_TIMEOUT);
	return curl_easy_setopt(attempt->easy, CURLOPT_NOBODY, 1L) == CURLE_OK && set_question(attempt);
}

static bool set_get(Attempt *attempt)
{
	attempt->digest = tms_sha256_new();
	return attempt->digest != NULL && set_question(attempt);
}

typedef bool SetMethod(Attempt *attempt);

static SetMethod *const set_method[] = {[UPLOAD_PUT] = set_put, [UPLOAD_HEAD] = set_head, [UPLOAD_GET] = set_get};

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
	if (attempt->easy == NULL || !set_common(attempt) || !set_method[method](attempt) ||
		curl_easy_setopt(attempt->easy, CURLOPT_HTTPHEADER, attempt->headers) != CURLE_OK ||
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

static const char *answer_header(Attempt *attempt, const char *name)
{
	struct curl_header *header;

	return curl_easy_header(attempt->easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value : NULL;
}

/* With keys of its own or the client's, a store's tag is no MD5. */
static bool etag_is_md5(Attempt *attempt)
{
	const char *encryption = answer_header(attempt, "x-amz-server-side-encryption");

	return answer_header(attempt, "x-amz-server-side-encryption-customer-algorithm") == NULL &&
		   (encryption == NULL || strcmp(encryption, "AES256") == 0);
}

/*
 * A refusal of a PUT that was not to overwrite may be for that alone: some stores do not know the condition. Then this one
 * is tried without it, and if that succeeds, all others are.
 */
static void judge_condition(Attempt *attempt, long status, UploadResult *result)
{
	Condition *condition = &attempt->client->condition;
	bool refused =
		result->outcome == UPLOAD_REFUSED && (status == 501 || (status == 400 && *condition != CONDITION_KNOWN));

	if (attempt->conditional && (result->outcome == UPLOAD_EXISTS || result->outcome == UPLOAD_OK))
		*condition = CONDITION_KNOWN;
	else if (attempt->conditional && refused)
	{
		if (*condition != CONDITION_UNKNOWN)
			*condition = CONDITION_DOUBTED;
		result->outcome = UPLOAD_UNCONDITIONALLY;
	}
	else if (!attempt->conditional && result->outcome == UPLOAD_OK && *condition == CONDITION_DOUBTED)
	{
		*condition = CONDITION_UNKNOWN;
		log_event(LOG_LEVEL_WARNING, "store_may_overwrite",
				  "reason=\"the store does not know If-None-Match: what is there already is replaced\"");
	}
}

/* There is an answer. */
static void judge_answer(Attempt *attempt, long status, UploadResult *result)
{
	const Config *config = attempt->client->config;
	const char *date = answer_header(attempt, "Date");
	time_t store_time = date != NULL ? curl_getdate(date, NULL) : -1;
	curl_off_t length = -1;
	curl_off_t retry_after = 0;
	UploadAnswer answer = {
		.method = attempt->method,
		.s3 = attempt->client->s3,
		.region = config->region,
		.status = status,
		.content_sha256 = answer_header(attempt, "X-Content-SHA256"),
		.etag = answer_header(attempt, "ETag"),
		.etag_is_md5 = etag_is_md5(attempt),
		.time = store_time > 0 ? store_time : 0,
		.body = attempt->body,
		.body_len =
			attempt->received < (int64_t) sizeof(attempt->body) ? (size_t) attempt->received : sizeof(attempt->body),
	};
	uint8_t sha256[TMS_SHA256_SIZE];
	uint8_t md5[MD5_SIZE];

	curl_easy_getinfo(attempt->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	answer.length = length;
	answer.received = attempt->received;
	if (attempt->method == UPLOAD_GET && attempt->received == attempt->object.bytes &&
		tms_sha256_final(attempt->digest, sha256))
		answer.sha256 = sha256;
	if (attempt->md5 != NULL && attempt->sent == attempt->object.bytes && md5_final(attempt->md5, md5))
		answer.md5 = md5;
	curl_easy_getinfo(attempt->easy, CURLINFO_RETRY_AFTER, &retry_after);
	result->retry_after =
		retry_after < RETRY_AFTER_MAX / CLOCK_SECOND ? (int64_t) retry_after * CLOCK_SECOND : RETRY_AFTER_MAX;
	upload_answer_judge(&answer, &attempt->object, result);
	if (attempt->client->s3 && attempt->method == UPLOAD_PUT)
		judge_condition(attempt, status, result);
}

/* There is no answer. */
static void judge_failure(Attempt *attempt, CURLcode code, UploadResult *result)
{
	curl_off_t connected = 0;

	curl_easy_getinfo(attempt->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
	result->outcome = connected > 0 ? UPLOAD_BUSY : UPLOAD_AWAY;
	upload_answer_reason(result, attempt->error[0] != '\0' ? attempt->error : curl_easy_strerror(code));
}

static void judge(Attempt *attempt, CURLcode code, UploadResult *result)
{
	long status = 0;

	curl_easy_getinfo(attempt->easy, CURLINFO_RESPONSE_CODE, &status);
	if (attempt->unreadable != NULL)
	{
		result->outcome = UPLOAD_UNREADABLE;
		upload_answer_reason(result, attempt->unreadable);
	}
	/*
	 * A store that refuses need not wait for the rest of the body: the connection breaks, but the answer is there. So is it
	 * when more came back than was wanted (CURLE_WRITE_ERROR).
	 */
	else if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && status >= 200) ||
			 (attempt->method == UPLOAD_PUT && status >= 300))
		judge_answer(attempt, status, result);
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
