/*
 * Requests to the image center: one attempt to PUT an object, to ask with HEAD whether it is there, or to GET it back and
 * see whether it has the bytes of the digest (they are hashed on their way and go nowhere). The image center is a plain HTTP
 * store or an S3 store. The only file of the agent that knows libcurl; what an answer means is in upload_answer.
 *
 * Goes to the configured address alone: no redirect is followed, no proxy used, only http and https. Connections are
 * kept from request to request. An UploadClient belongs to one thread.
 */
#ifndef AGENT_UPLOAD_REQUEST_H
#define AGENT_UPLOAD_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/object_path.h"
#include "../common/sha256.h"
#include "../common/status.h"
#include "config.h"

typedef struct UploadClient UploadClient;

typedef enum UploadMethod
{
	UPLOAD_PUT,
	UPLOAD_HEAD,
	UPLOAD_GET
} UploadMethod;

typedef struct UploadObject
{
	char path[TMS_STORAGE_PATH_SIZE]; /* the key is "<device code>/<path>" */
	int64_t bytes;
	uint8_t sha256[TMS_SHA256_SIZE];
	bool overwrite; /* PUT to an S3 store: take the place of what is there already */
	const char *type; /* PUT: what it is, in static memory; NULL: image/jpeg */
} UploadObject;

#define UPLOAD_ETAG_SIZE 132

/* How one attempt ended. */
typedef enum UploadOutcome
{
	UPLOAD_OK, /* PUT: taken. HEAD: an object of this size, and of this digest where the store tells one, is there. GET: with
				  these bytes */
	UPLOAD_ABSENT, /* HEAD, GET: the store says that it has no such object */
	UPLOAD_DIFFERENT, /* the store has something else there; after a PUT, in place of what it was sent */
	UPLOAD_EXISTS, /* PUT to an S3 store: something of that name was there before, and still is */
	UPLOAD_UNCONDITIONALLY, /* PUT to an S3 store: it may not know how not to overwrite; try again with `overwrite` */
	UPLOAD_AWAY, /* no connection came about: not this object's fault */
	UPLOAD_BUSY, /* connected, but no answer, or one that says "later" */
	UPLOAD_REFUSED, /* an answer that will stay the same until somebody changes something */
	UPLOAD_MISCONFIGURED, /* likewise, and for every object: key, clock, bucket, region, quota */
	UPLOAD_UNREADABLE, /* PUT: the file could not be read or is not what it was; the store got no complete object */
	UPLOAD_OUTCOME_COUNT
} UploadOutcome;

typedef struct UploadResult
{
	void *owner; /* as given to upload_start */
	UploadMethod method;
	UploadOutcome outcome;
	bool
		digest_known; /* UPLOAD_OK: the store told this digest (or the MD5 of what was PUT), or the bytes that came back have it */
	char etag
		[UPLOAD_ETAG_SIZE]; /* as the store gave it, of the object; "" when it gave none, a weak one or a very long one */
	int64_t store_time; /* the store's clock, microseconds since 1970; 0: it did not tell */
	int64_t retry_after; /* how long the store asks to be left alone, microseconds; 0: it did not */
	char reason[200]; /* why it is not UPLOAD_OK; no secret in it */
} UploadResult;

/*
 * Makes a client of the configured store that keeps up to so many connections. `config` must outlive it. The caller
 * closes it; what is under way then is cut off.
 */
extern TMS_CHECKED TmsStatus upload_open(const Config *config, int connections, UploadClient **out);
extern void upload_close(UploadClient *client);

/*
 * Starts an attempt. A PUT reads `fd` from its beginning and owns it from now on, also when starting fails; the others
 * have -1. The bytes are hashed on their way: when they are not those of the digest, the last of them are held back.
 */
extern TMS_CHECKED TmsStatus upload_start(UploadClient *client, UploadMethod method, const UploadObject *object, int fd,
										  void *owner);

/* Moves bytes, for so many microseconds at most, until an attempt may have ended or stop_fd is readable. */
extern void upload_wait(UploadClient *client, int stop_fd, int64_t micros);

/* Takes the next attempt that has ended; false: none. */
extern bool upload_next(UploadClient *client, UploadResult *result);

/* Attempts that upload_next has not given back yet. */
extern int upload_under_way(const UploadClient *client);

/* Cuts off all of them; they end without a result. */
extern void upload_cut_off(UploadClient *client);

#endif
