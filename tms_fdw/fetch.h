/*
 * The fetch engine: many HTTP requests at once, cancellable. The only module of the server library that knows libcurl, with
 * fetch_failure.h, which tells why requests fail; it knows neither devices nor breaker nor executor.
 *
 * A group of requests belongs to one memory context. Resetting or deleting that context (normal end, error, subtransaction
 * abort) ends every request of the group. Requests of all groups of a backend run while any one of them is waited for;
 * connections stay open between groups and queries.
 */
#ifndef TMS_FETCH_H
#define TMS_FETCH_H

#include "postgres.h"

#include "common/sha256.h"
#include "tms_ext/compat.h"

/* What is wanted of an object. */
typedef enum TmsFetchWanted
{
	TMS_WANTED_BODY,
	TMS_WANTED_CHECK, /* the body is read and judged, and not kept */
	TMS_WANTED_HEAD, /* a HEAD: whether it is there, and of which size */
} TmsFetchWanted;

/* What to ask for. Times in milliseconds, counted from tms_fetch_start; texts are only read during that call. */
typedef struct TmsFetchRequest
{
	const char *url; /* http or https; never shown to anybody */
	TmsFetchWanted wanted;
	const char *username; /* Basic authentication, with password; or NULL */
	const char *password;
	const char *bearer_token; /* or NULL */
	const char *const *headers; /* further header lines, NULL behind the last; or NULL */
	const char
		*s3_region; /* the server is an S3 store of this region, whose refusals are explained; NULL: it is none */
	const char *ca_file; /* certificates to trust, NULL: those of the system */
	bool allow_loopback; /* may the host's address be a loopback address? Link-local ones are always refused. */
	int64 expected_bytes; /* a body of any other size is a failure; -1: any size up to max_bytes */
	int64 max_bytes; /* at most MaxAllocSize - VARHDRSZ counts */
	const uint8 *expected_sha256; /* a body with any other digest is a failure; NULL: none expected */
	int connect_timeout;
	int first_byte_timeout; /* until the first byte of the answer */
	int timeout; /* until the last one */
} TmsFetchRequest;

typedef enum TmsFetchOutcome
{
	TMS_FETCH_RUNNING,
	TMS_FETCH_OK,
	TMS_FETCH_REFUSED, /* not sent: the address is not one that may be asked, or no descriptor was left */
	TMS_FETCH_UNREACHABLE, /* no name, no connection, no trust */
	TMS_FETCH_TIMED_OUT,
	TMS_FETCH_BROKEN, /* the connection or the answer broke off, or was no HTTP */
	TMS_FETCH_STATUS, /* an answer with another status than 200 */
	TMS_FETCH_WRONG_SIZE,
	TMS_FETCH_WRONG_DIGEST,
	TMS_FETCH_NO_MEMORY,
} TmsFetchOutcome;

#define TMS_FETCH_REASON_SIZE 192

typedef struct TmsFetch
{
	void *owner; /* the caller's, as given at start */
	TmsFetchOutcome outcome;
	bytea *
		body; /* with TMS_FETCH_OK, if it was wanted; in the group's context; the caller may take it and set this to NULL */
	char reason[TMS_FETCH_REASON_SIZE]; /* of a failure, such as "HTTP 404"; has neither URL nor secret */
	bool stalled; /* for a second or more nobody drove the engine: a peer may have given up for that alone */
	int status; /* of the answer; 0: none */
	int64 bytes; /* of body received */
	int64 date; /* the answer's Date, seconds since 1970; -1: none */
	int64 elapsed; /* microseconds from start to end, without time in which nobody drove the engine */
} TmsFetch;

typedef struct TmsFetchGroup TmsFetchGroup;

/* A group in this context, which should be one of its own: its reset ends the group. */
extern TmsFetchGroup *tms_fetch_group_create(MemoryContext context);

/*
 * May one more request be under way? A backend has so many descriptors for sockets, and needs some of them to wait at all. Who
 * starts one nevertheless may see it fail for that.
 */
extern bool tms_fetch_has_room(void);

/* Sends a request; the result belongs to the group until tms_fetch_end. Bad requests end with a failure, not an error. */
extern TmsFetch *tms_fetch_start(TmsFetchGroup *group, const TmsFetchRequest *request, void *owner);

/* Takes a request of the group that has ended, in the order of their ends; NULL when there is none now. Never waits. */
extern TmsFetch *tms_fetch_next(TmsFetchGroup *group);

/*
 * Drives all requests until one of the group has ended, or until this moment of tms_poller_clock. With -1 for no such moment
 * returns at once when none of the group runs. `event` is what the session shows meanwhile. Raises the error of a pending cancel.
 */
extern void tms_fetch_wait(TmsFetchGroup *group, int64 until, TmsWaitEvent event);

/* When a running request was sent, on tms_poller_clock; moved on by time in which nobody drove the engine. */
extern int64 tms_fetch_sent_at(const TmsFetch *fetch);

/* Works on what has happened to any request so far, without waiting. Raises the error of a pending cancel. */
extern void tms_fetch_go_on(void);

/* Ends a request, running or not, and frees it and its body. */
extern void tms_fetch_end(TmsFetch *fetch);

#endif
