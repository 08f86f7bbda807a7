/*
 * The fetch engine: libcurl's multi interface behind a poller.
 *
 * One engine per backend, made when first needed and kept, so that later queries reuse its connections. A change of any
 * foreign server or user mapping makes it stale; it is then closed, and made anew, as soon as no request is under way.
 *
 * Invariants
 * - A running job is in engine.running and in its group's `running`, its easy handle is in engine.multi, and its outcome is
 *   TMS_FETCH_RUNNING. Only finish_job and drop_job end that; both give back all that is libcurl's.
 * - No error is raised while libcurl is on the stack: callbacks note a failure in the job and return short.
 * - Signals are blocked while libcurl runs: its resolver threads inherit the mask, so PostgreSQL's handlers never run there.
 */
#include "postgres.h"

#include <curl/curl.h>
#include <signal.h>

#include "lib/ilist.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "tms_fdw/address.h"
#include "tms_fdw/fetch.h"
#include "tms_fdw/fetch_answer.h"
#include "tms_fdw/fetch_failure.h"
#include "tms_fdw/fetch_socket.h"
#include "tms_fdw/poller.h"

#define MAX_IDLE_CONNECTIONS 64
#define STALL                INT64CONST(1000000) /* microseconds */
#define NEVER                INT64CONST(-1)

/* Seconds until a file of certificates that was replaced is read again. */
#define CA_FILE_BELIEVED     10L
#define SYSTEM_FILE_BELIEVED 300L

struct TmsFetchGroup
{
	MemoryContext context;
	MemoryContextCallback on_reset;
	dlist_head running;
	dlist_head ended; /* and not yet taken */
	dlist_head taken;
};

typedef struct Job
{
	TmsFetch fetch; /* first: every TmsFetch is a Job */
	TmsFetchGroup *group;
	dlist_node group_node; /* in one of the group's lists */
	dlist_node engine_node; /* in engine.running while it runs */
	CURL *easy;
	struct curl_slist *headers;
	TmsAnswer answer;
	const char *no_socket; /* why a socket was not opened; the host may have other addresses */
	bool allow_loopback;
	bool opened_socket;
	int connect_timeout; /* milliseconds */
	int first_byte_timeout;
	int timeout;
	int64 started_at; /* tms_poller_clock, moved on by time in which nobody drove the engine */
} Job;

static struct
{
	CURLM *multi; /* NULL: not made yet */
	TmsPoller poller;
	dlist_head running;
	int n_running;
	int64 curl_due; /* when libcurl wants to be called without an event */
	int64 driven_at; /* until when the engine was driven */
	bool stale;
} engine;

/* --- the engine --- */

static sigset_t enter_curl(void)
{
	sigset_t all;
	sigset_t saved;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &saved);
	return saved;
}

static void leave_curl(sigset_t saved)
{
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

static void mark_stale(Datum arg, int cacheid, uint32 hashvalue)
{
	engine.stale = true;
}

static int on_watch(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
	bool readable = what == CURL_POLL_IN || what == CURL_POLL_INOUT;
	bool writable = what == CURL_POLL_OUT || what == CURL_POLL_INOUT;

	/* Letting go of a socket that was closed already fails and does not matter. */
	return tms_poller_watch(&engine.poller, fd, readable, writable) || what == CURL_POLL_REMOVE ? 0 : -1;
}

static int on_timer(CURLM *multi, long timeout, void *arg)
{
	engine.curl_due = timeout < 0 ? NEVER : tms_poller_clock() + timeout * INT64CONST(1000);
	return 0;
}

static void open_engine(void)
{
	static bool initialized = false;
	sigset_t saved;

	if (!initialized)
	{
		if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("libcurl could not be initialized")));
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, mark_stale, (Datum) 0);
		CacheRegisterSyscacheCallback(USERMAPPINGOID, mark_stale, (Datum) 0);
		dlist_init(&engine.running);
		initialized = true;
	}
	tms_poller_open(&engine.poller);
	saved = enter_curl();
	engine.multi = curl_multi_init();
	leave_curl(saved);
	if (engine.multi == NULL)
	{
		tms_poller_close(&engine.poller);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	curl_multi_setopt(engine.multi, CURLMOPT_SOCKETFUNCTION, on_watch);
	curl_multi_setopt(engine.multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(engine.multi, CURLMOPT_MAXCONNECTS, (long) MAX_IDLE_CONNECTIONS);
	/* Closes idle connections before the last descriptor is taken. */
	curl_multi_setopt(engine.multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) tms_fetch_sockets_max());
	engine.curl_due = NEVER;
	engine.stale = false;
}

static void close_engine_if_stale(void)
{
	sigset_t saved;

	if (engine.multi == NULL || !engine.stale || engine.n_running > 0)
		return;
	saved = enter_curl();
	curl_multi_cleanup(engine.multi);
	leave_curl(saved);
	engine.multi = NULL;
	tms_poller_close(&engine.poller);
}

/* --- the end of a job --- */

/* Gives back what is libcurl's and takes the job off the engine. Raises no error: it is part of every abort. */
static void drop_job(Job *job)
{
	sigset_t saved = enter_curl();

	curl_multi_remove_handle(engine.multi, job->easy);
	curl_easy_cleanup(job->easy);
	curl_slist_free_all(job->headers);
	leave_curl(saved);
	if (job->opened_socket)
		tms_fetch_sockets_count_anew();
	job->easy = NULL;
	job->headers = NULL;
	tms_answer_end(&job->answer);
	dlist_delete(&job->engine_node);
	engine.n_running--;
}

/* A running job has its outcome: hands it over to its group. */
static void finish_job(Job *job)
{
	Assert(job->fetch.outcome != TMS_FETCH_RUNNING);
	drop_job(job);
	job->fetch.elapsed = tms_poller_clock() - job->started_at;
	dlist_delete(&job->group_node);
	dlist_push_tail(&job->group->ended, &job->group_node);
}

/* --- callbacks of one transfer --- */

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
	Job *job = arg;
	size_t len = size * count;
	long status = 0;
	char date[64];

	curl_easy_getinfo(job->easy, CURLINFO_RESPONSE_CODE, &status);
	if (!tms_answer_header(&job->answer, (int) status, line, len))
		return 0;
	if (len > 5 && len < sizeof(date) && pg_strncasecmp(line, "date:", 5) == 0)
	{
		memcpy(date, line + 5, len - 5);
		date[len - 5] = '\0';
		job->fetch.date = (int64) curl_getdate(date, NULL);
	}
	return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
	Job *job = arg;

	return tms_answer_body(&job->answer, data, size * count) ? size * count : 0;
}

static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	Job *job = arg;
	const char *why = "address refused";
	int fd = -1;

	if (!tms_address_refused(&address->addr, job->allow_loopback))
		fd = tms_fetch_socket_open(address->family, address->socktype, address->protocol, &why);
	if (fd < 0)
	{
		job->no_socket = why;
		return CURL_SOCKET_BAD;
	}
	job->opened_socket = true;
	return fd;
}

static int on_close_socket(void *arg, curl_socket_t fd)
{
	return tms_fetch_socket_close(fd);
}

/* --- driving --- */

static int64 job_deadline(const Job *job)
{
	int limit = job->answer.header_bytes > 0 ? job->timeout : Min(job->first_byte_timeout, job->timeout);

	return job->started_at + limit * INT64CONST(1000);
}

/* Gives the running jobs back the time in which nobody drove the engine, such as between two FETCHes of a cursor. */
static void forgive_pause(void)
{
	int64 now = tms_poller_clock();
	int64 pause = now - engine.driven_at;
	dlist_iter iter;

	dlist_foreach (iter, &engine.running)
	{
		Job *job = dlist_container(Job, engine_node, iter.cur);

		job->started_at += pause;
		if (pause >= STALL)
			job->fetch.stalled = true;
	}
	engine.driven_at = now;
}

/* The sooner of two moments, either of which may be NEVER. */
static int64 sooner(int64 one, int64 other)
{
	return one == NEVER || (other != NEVER && other < one) ? other : one;
}

/* Wakes the next wait when something is due, at `until` at the latest. */
static void set_alarm(int64 until)
{
	int64 due = sooner(engine.curl_due, until);
	dlist_iter iter;

	dlist_foreach (iter, &engine.running)
		due = sooner(due, job_deadline(dlist_container(Job, engine_node, iter.cur)));
	tms_poller_set_alarm(&engine.poller, due);
}

/* Lets libcurl work on what is ready. */
static CURLMcode run_curl(const TmsPollEvent *events, int n_events)
{
	sigset_t saved = enter_curl();
	CURLMcode code = CURLM_OK;
	int n_running;
	int i;

	for (i = 0; i < n_events && code == CURLM_OK; i++)
	{
		int ready = (events[i].readable ? CURL_CSELECT_IN : 0) | (events[i].writable ? CURL_CSELECT_OUT : 0) |
					(events[i].broken ? CURL_CSELECT_ERR : 0);

		code = curl_multi_socket_action(engine.multi, events[i].fd, ready, &n_running);
	}
	if (code == CURLM_OK && engine.curl_due != NEVER && engine.curl_due <= tms_poller_clock())
	{
		engine.curl_due = NEVER;
		code = curl_multi_socket_action(engine.multi, CURL_SOCKET_TIMEOUT, 0, &n_running);
	}
	leave_curl(saved);
	return code;
}

/* Jobs that libcurl is done with. */
static void finish_completed(void)
{
	CURLMsg *message;
	int n_left;

	while ((message = curl_multi_info_read(engine.multi, &n_left)) != NULL)
	{
		CURLcode code = message->data.result;
		char *private = NULL;
		Job *job;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		job = (Job *) private;
		tms_answer_judge(&job->answer, code == CURLE_OK);
		if (code == CURLE_COULDNT_CONNECT && job->no_socket != NULL)
			tms_answer_fail(&job->answer, TMS_FETCH_REFUSED, "%s", job->no_socket);
		if (job->fetch.outcome == TMS_FETCH_RUNNING)
			tms_fetch_fail(job->easy, code, &job->answer, job->connect_timeout);
		finish_job(job);
	}
}

static void finish_overdue(void)
{
	int64 now = tms_poller_clock();
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &engine.running)
	{
		Job *job = dlist_container(Job, engine_node, iter.cur);

		if (now < job_deadline(job))
			continue;
		if (job->answer.header_bytes == 0)
			tms_answer_fail(&job->answer, TMS_FETCH_TIMED_OUT, "timed out after %s before the first byte",
							tms_fetch_duration(Min(job->first_byte_timeout, job->timeout)));
		else if (job->answer.expected_bytes >= 0)
			tms_answer_fail(&job->answer, TMS_FETCH_TIMED_OUT,
							"timed out after %s with " INT64_FORMAT " of " INT64_FORMAT " bytes",
							tms_fetch_duration(job->timeout), job->fetch.bytes, job->answer.expected_bytes);
		else
			tms_answer_fail(&job->answer, TMS_FETCH_TIMED_OUT, "timed out after %s", tms_fetch_duration(job->timeout));
		finish_job(job);
	}
}

/* One round: works on what has happened, with a wait event after waiting for it until that moment. */
static void drive(uint32 wait_event, int64 until)
{
	TmsPollEvent events[32];
	CURLMcode code;
	int n_events;

	if (wait_event != 0)
		set_alarm(until);
	n_events = tms_poller_wait(&engine.poller, events, lengthof(events), wait_event);
	code = run_curl(events, n_events);
	finish_completed();
	finish_overdue();
	engine.driven_at = tms_poller_clock();
	if (code != CURLM_OK)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("libcurl failed: %s", curl_multi_strerror(code))));
}

/* --- the start of a job --- */

static bool set_fixed_options(CURL *easy)
{
	static const struct
	{
		CURLoption option;
		long value;
	} options[] = {
		{CURLOPT_NOSIGNAL, 1},
		{CURLOPT_HTTPGET, 1},
		{CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1}, /* one request a connection: a cap on one is a cap on both */
		{CURLOPT_HTTP09_ALLOWED, 0},
		{CURLOPT_HTTP_CONTENT_DECODING, 0},
		{CURLOPT_PATH_AS_IS, 1}, /* what is signed is what is sent */
		{CURLOPT_FOLLOWLOCATION, 0},
		{CURLOPT_NETRC, CURL_NETRC_IGNORED},
		{CURLOPT_HTTPAUTH, CURLAUTH_BASIC},
		{CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2},
		{CURLOPT_BUFFERSIZE, 128 * 1024},
#if LIBCURL_VERSION_NUM >= 0x075000
		{CURLOPT_MAXLIFETIME_CONN, 300}, /* a name's other address, a certificate trusted no more: noticed then */
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
		{CURLOPT_QUICK_EXIT, 1}, /* a cancel does not wait for a name server */
#endif
#if LIBCURL_VERSION_NUM < 0x075500
		{CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS},
#endif
	};
	bool ok = true;
	int i;

	for (i = 0; i < lengthof(options); i++)
		ok = ok && curl_easy_setopt(easy, options[i].option, options[i].value) == CURLE_OK;
#if LIBCURL_VERSION_NUM >= 0x075500
	ok = ok && curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
#endif
	/* An empty proxy is no proxy, whatever the postmaster's environment says. */
	return ok && curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK;
}

static bool add_header(Job *job, const char *line)
{
	struct curl_slist *longer = curl_slist_append(job->headers, line);

	if (longer == NULL)
		return false;
	job->headers = longer;
	return true;
}

static bool set_headers(Job *job, const TmsFetchRequest *request)
{
	const char *const *line;
	bool ok = true;

	for (line = request->headers; line != NULL && *line != NULL; line++)
		ok = ok && add_header(job, *line);
	if (request->bearer_token != NULL)
	{
		char *header = psprintf("Authorization: Bearer %s", request->bearer_token);

		ok = ok && add_header(job, header);
		pfree(header);
	}
	return ok && curl_easy_setopt(job->easy, CURLOPT_HTTPHEADER, job->headers) == CURLE_OK;
}

static bool set_credentials(Job *job, const TmsFetchRequest *request)
{
	if (request->username == NULL)
		return true;
	return curl_easy_setopt(job->easy, CURLOPT_USERNAME, request->username) == CURLE_OK &&
		   curl_easy_setopt(job->easy, CURLOPT_PASSWORD, request->password ? request->password : "") == CURLE_OK;
}

/*
 * Trusts one file of certificates: the given one, or that of the system. libcurl keeps what it has read of one file; with a
 * folder beside it, it reads all again for every connection, a tenth of a second in which no cancel is seen. A file of one's own is
 * small, and read again soon after it was replaced.
 */
static bool set_trust(CURL *easy, const char *ca_file)
{
#if LIBCURL_VERSION_NUM >= 0x074600
	const curl_version_info_data *libcurl = curl_version_info(CURLVERSION_NOW);
	bool has_system_file = libcurl->age >= CURLVERSION_SEVENTH && libcurl->cainfo != NULL;
#else
	bool has_system_file = false;
#endif

#if LIBCURL_VERSION_NUM >= 0x075700
	if (curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, ca_file != NULL ? CA_FILE_BELIEVED : SYSTEM_FILE_BELIEVED) !=
		CURLE_OK)
		return false;
#endif
	if (ca_file != NULL && curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file) != CURLE_OK)
		return false;
	return (ca_file == NULL && !has_system_file) || curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) == CURLE_OK;
}

static bool set_options(Job *job, const TmsFetchRequest *request)
{
	CURL *easy = job->easy;
	bool ok = set_fixed_options(easy) && set_headers(job, request) && set_credentials(job, request) &&
			  set_trust(easy, request->ca_file);

	return ok && curl_easy_setopt(easy, CURLOPT_URL, request->url) == CURLE_OK &&
		   (request->wanted != TMS_WANTED_HEAD || curl_easy_setopt(easy, CURLOPT_NOBODY, 1L) == CURLE_OK) &&
		   curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) request->connect_timeout) == CURLE_OK &&
		   curl_easy_setopt(easy, CURLOPT_PRIVATE, (char *) job) == CURLE_OK &&
		   curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header) == CURLE_OK &&
		   curl_easy_setopt(easy, CURLOPT_HEADERDATA, job) == CURLE_OK &&
		   curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
		   curl_easy_setopt(easy, CURLOPT_WRITEDATA, job) == CURLE_OK &&
		   curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket) == CURLE_OK &&
		   curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, job) == CURLE_OK &&
		   curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket) == CURLE_OK;
}

bool tms_fetch_has_room(void)
{
	return engine.n_running < tms_fetch_sockets_max();
}

TmsFetch *tms_fetch_start(TmsFetchGroup *group, const TmsFetchRequest *request, void *owner)
{
	Job *job = MemoryContextAllocZero(group->context, sizeof(Job));
	sigset_t saved;
	bool ok;

	close_engine_if_stale();
	if (engine.multi == NULL)
		open_engine();
	forgive_pause();
	job->fetch.owner = owner;
	job->fetch.outcome = TMS_FETCH_RUNNING;
	job->fetch.date = -1;
	job->group = group;
	job->allow_loopback = request->allow_loopback;
	job->connect_timeout = request->connect_timeout;
	job->first_byte_timeout = request->first_byte_timeout;
	job->timeout = request->timeout;
	job->started_at = engine.driven_at;
	saved = enter_curl();
	job->easy = curl_easy_init();
	leave_curl(saved);
	if (job->easy == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	/* From here on the end of the group frees what is libcurl's. */
	dlist_push_tail(&engine.running, &job->engine_node);
	engine.n_running++;
	dlist_push_tail(&group->running, &job->group_node);
	ok = tms_answer_begin(&job->answer, &job->fetch, group->context, request) && set_options(job, request);
	saved = enter_curl();
	ok = ok && curl_multi_add_handle(engine.multi, job->easy) == CURLM_OK;
	leave_curl(saved);
	if (!ok)
	{
		tms_answer_fail(&job->answer, TMS_FETCH_NO_MEMORY, "out of memory");
		finish_job(job);
	}
	return &job->fetch;
}

/* --- groups --- */

/* The context of a group goes away: ends what is under way. The memory goes with the context. */
static void end_group(void *arg)
{
	TmsFetchGroup *group = arg;
	dlist_iter iter;

	dlist_foreach (iter, &group->running)
		drop_job(dlist_container(Job, group_node, iter.cur));
	close_engine_if_stale();
}

TmsFetchGroup *tms_fetch_group_create(MemoryContext context)
{
	TmsFetchGroup *group = MemoryContextAllocZero(context, sizeof(TmsFetchGroup));

	group->context = context;
	dlist_init(&group->running);
	dlist_init(&group->ended);
	dlist_init(&group->taken);
	group->on_reset.func = end_group;
	group->on_reset.arg = group;
	MemoryContextRegisterResetCallback(context, &group->on_reset);
	return group;
}

TmsFetch *tms_fetch_next(TmsFetchGroup *group)
{
	dlist_node *node;

	if (dlist_is_empty(&group->ended))
		return NULL;
	node = dlist_pop_head_node(&group->ended);
	dlist_push_tail(&group->taken, node);
	return &dlist_container(Job, group_node, node)->fetch;
}

void tms_fetch_wait(TmsFetchGroup *group, int64 until, TmsWaitEvent event)
{
	if (!dlist_is_empty(&group->ended) || (until == NEVER && dlist_is_empty(&group->running)))
		return;
	if (engine.multi == NULL)
		open_engine();
	forgive_pause();
	while (dlist_is_empty(&group->ended) && (until == NEVER || tms_poller_clock() < until))
		drive(tms_wait_event(event), until);
}

int64 tms_fetch_sent_at(const TmsFetch *fetch)
{
	return ((const Job *) fetch)->started_at;
}

void tms_fetch_go_on(void)
{
	if (engine.n_running == 0)
		return;
	forgive_pause();
	drive(0, NEVER);
}

void tms_fetch_end(TmsFetch *fetch)
{
	Job *job = (Job *) fetch;

	if (fetch->outcome == TMS_FETCH_RUNNING)
		drop_job(job);
	dlist_delete(&job->group_node);
	if (fetch->body != NULL)
		pfree(fetch->body);
	pfree(job);
}
