/*
 * Wrong digests in the server log, each object once an hour, so that a page that is loaded all day does not fill the log with
 * one broken photograph.
 *
 * State: what was logged lately, by hash, and when; a newer object takes the place of an older one with the same remainder,
 * which may then be logged again sooner.
 * Owner of the lock: the state's own (shared_state.h).
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "tms_ext/digest_log.h"
#include "tms_ext/shared_state.h"

#define PLACES 1024
#define PAUSE  (INT64CONST(3600) * 1000 * 1000)

typedef struct Logged
{
	uint64 hash;
	int64 at; /* tms_shared_clock; 0: nothing yet */
} Logged;

static TmsSharedState logged_state = {"TmsDigestLog", PLACES * sizeof(Logged), NULL};

void tms_digest_log_init(void)
{
	tms_shared_state_announce(&logged_state);
}

void tms_digest_log(TmsOrigin origin, int64 capture_id, const char *device, const char *path)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) path, strlen(path),
									  hash_combine64(capture_id, hash_combine64(MyDatabaseId, origin)));
	Logged *logged = tms_shared_state_lock(&logged_state, LW_EXCLUSIVE);
	int64 now = tms_shared_clock();
	bool is_news;

	logged += hash % PLACES;
	is_news = logged->at == 0 || logged->hash != hash || now - logged->at >= PAUSE;
	if (is_news)
	{
		logged->hash = hash;
		logged->at = now;
	}
	tms_shared_state_unlock(&logged_state);
	if (is_news)
		ereport(LOG_SERVER_ONLY,
				(errmsg("wrong digest of capture " INT64_FORMAT " from %s", capture_id, tms_origin_name(origin)),
				 errdetail("Device \"%s\", path \"%s\".", device, path),
				 errhint("Compare the object with the front end's copy; this is logged once an hour."),
				 errhidestmt(true)));
}
