/*
 * Wrong digests in the server log, each object once an hour, so that a page that is loaded all day does not fill the log with
 * one broken photograph.
 *
 * State: what was logged lately, by hash, and when. An object may stand in any place of the row that its hash gives; a new
 * one takes the place of the oldest, which may then be logged again sooner.
 * Owner of the lock: the state's own (shared_state.h).
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"

#include "tms_ext/digest_log.h"
#include "tms_ext/shared_state.h"

#define ROWS          128
#define PLACES_IN_ROW 8
#define PAUSE         (INT64CONST(3600) * 1000 * 1000)

typedef struct Logged
{
	uint64 hash;
	int64 at; /* tms_shared_clock; 0: nothing yet */
} Logged;

static TmsSharedState logged_state = {"TmsDigestLog", ROWS *PLACES_IN_ROW * sizeof(Logged), NULL};

void tms_digest_log_init(void)
{
	tms_shared_state_announce(&logged_state);
}

/* Was this not logged within the last PAUSE? Notes that it is now. */
static bool is_news(uint64 hash)
{
	Logged *row = (Logged *) tms_shared_state_lock(&logged_state, LW_EXCLUSIVE) + hash % ROWS * PLACES_IN_ROW;
	int64 now = tms_shared_clock();
	Logged *place = row;
	bool news;
	int i;

	for (i = 1; i < PLACES_IN_ROW && place->hash != hash; i++)
	{
		if (row[i].hash == hash || row[i].at < place->at)
			place = &row[i];
	}
	news = place->at == 0 || place->hash != hash || now - place->at >= PAUSE;
	if (news)
	{
		place->hash = hash;
		place->at = now;
	}
	tms_shared_state_unlock(&logged_state);
	return news;
}

void tms_digest_log(TmsOrigin origin, int64 capture_id, const char *device, const char *path)
{
	uint64 hash = hash_bytes_extended((const unsigned char *) path, strlen(path),
									  hash_combine64(capture_id, hash_combine64(MyDatabaseId, origin)));

	if (is_news(hash))
		ereport(LOG_SERVER_ONLY,
				(errmsg("wrong digest of capture " INT64_FORMAT " from %s", capture_id, tms_origin_name(origin)),
				 errdetail("Device \"%s\", path \"%s\".", device, path),
				 errhint("Compare the object with the front end's copy; this is logged once an hour."),
				 errhidestmt(true)));
}
