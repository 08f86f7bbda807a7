/*
 * The ledger: the agent's durable record of its captures, and the only queue. The only module that knows SQLite.
 *
 * One ledger.db holds several ledgers (UUIDs): one active, which intake appends to, and sealed ones, which go on being
 * reported, uploaded and cleaned. An entry is found by its id (local row number, in the order of intake over all ledgers,
 * never given twice) or by (ledger, seq).
 *
 * Threads: every function may be called from any thread. Writes are handed to one writer thread that runs all that wait in
 * one transaction (group commit, synchronous=FULL) and returns when they are durable; reads use a connection of their own
 * and never wait for a write.
 *
 * A damaged page or row sets that one item aside (ledger_counts tells how many) and never stops the rest.
 */
#ifndef AGENT_LEDGER_H
#define AGENT_LEDGER_H

#include "../common/capture_id.h"
#include "../common/object_path.h"
#include "../common/sha256.h"
#include "../common/status.h"
#include "cache.h"
#include "record.h"

typedef struct Ledger Ledger;

#define LEDGER_ETAG_SIZE 132

typedef struct LedgerEntry
{
	int64_t id;
	TmsUuid ledger;
	int64_t seq;
	int64_t bytes;
	int64_t taken_at; /* microseconds since 1970 by the agent's clock at intake */
	int64_t uploaded_at; /* 0: not verified in the image center */
	bool held; /* the file is in the cache */
	bool requested; /* an upload request waits for it */
	char path[TMS_STORAGE_PATH_SIZE];
	uint8_t sha256[TMS_SHA256_SIZE];
	char etag[LEDGER_ETAG_SIZE]; /* of the object when its digest was verified; "" when it has none */
	Record record; /* record.captured_at is always set */
} LedgerEntry;

typedef struct LedgerInfo
{
	TmsUuid ledger;
	bool sealed;
	int64_t oldest_seq; /* least seq the ledger still has an entry for; last_seq + 1 when it has none */
	int64_t last_seq; /* 0: nothing yet */
	int64_t confirmed; /* every seq up to this one is in the path center */
	int64_t uploaded_seq; /* watermarks as DESIGN 6a defines them */
	int64_t uploaded_max;
	int64_t cleaned_seq;
} LedgerInfo;

typedef struct LedgerCounts
{
	int64_t cached; /* files in the cache */
	int64_t cached_bytes;
	int64_t upload_backlog;
	int64_t upload_oldest; /* taken_at of the oldest pending one; 0: none */
	int64_t upload_requested; /* of upload_backlog: in the second queue; counted to 100,000 */
	int64_t register_backlog;
	int64_t register_oldest;
	int64_t set_aside; /* never uploadable, or damaged: reported, not dropped */
	int64_t cleaned; /* files that left the cache since ledger.db was made */
	int64_t cleaned_early; /* of these, those that were not expired: the disk was full */
	int64_t violations_waiting; /* unregistered, with a violation_code: the registrar sends at once; counted to 1000 */
} LedgerCounts;

/*
 * Opens or creates data_dir/ledger.db. Seals and replaces the active ledger when device or machine_id differ from what the
 * ledger remembers (a copied disk), or when it went back in time (see ledger_recover.c). TMS_DAMAGED only when not even a
 * new file can be made; a broken file is moved aside and the cache is indexed again. The caller closes it.
 */
extern TMS_CHECKED TmsStatus ledger_open(Cache *cache, const char *data_dir, const char *device, const char *machine_id,
										 Ledger **out);

/* Waits for what is under way, closes; NULL is allowed. */
extern void ledger_close(Ledger *ledger);

/*
 * Appends one capture whose bytes lie, synced, in the cache's temporary file `temporary`: gives it the next seq, makes its
 * path, moves the file there (never over another), syncs the folder, writes the row, and returns when all is durable.
 * Captures of concurrent callers share one sync and one commit. In: record, bytes, sha256, taken_at. Out: id, ledger, seq,
 * path, held. On any failure nothing is acknowledged, no seq is used up and the file is gone or left as an orphan.
 *
 * key (NULL: none) names what the sender handed over. Under a key that was used within LEDGER_KEY_TIME, for one of the last
 * LEDGER_KEYS captures, nothing is appended: TMS_EXISTS when the bytes were the same, and TMS_CONFLICT when they were
 * others. *entry then has the id, ledger, seq, path and sha256 of that time, whatever became of the capture since.
 */
#define LEDGER_KEYS     1000000
#define LEDGER_KEY_TIME (INT64_C(24) * 3600 * 1000000) /* microseconds during which the agent ran */
extern TMS_CHECKED TmsStatus ledger_append(Ledger *ledger, const char *temporary, const char *key, LedgerEntry *entry);

/* One entry by (ledger, seq), or by id. TMS_NOT_FOUND. */
extern TMS_CHECKED TmsStatus ledger_get(Ledger *ledger, const TmsUuid *uuid, int64_t seq, LedgerEntry *out);
extern TMS_CHECKED TmsStatus ledger_get_id(Ledger *ledger, int64_t id, LedgerEntry *out);

/* The one under a storage path, also when a fork has moved it to another ledger. TMS_NOT_FOUND. */
extern TMS_CHECKED TmsStatus ledger_get_path(Ledger *ledger, const char *path, LedgerEntry *out);

/*
 * What travels with a capture's file (cache_note): its record and taken_at as JSON text, from which a lost ledger is made
 * again. TMS_TOO_LARGE when it does not fit.
 */
extern TMS_CHECKED TmsStatus ledger_describe(const LedgerEntry *entry, char *out, size_t size);

/* --- uploader --- */

/*
 * Next entries that are held, not uploaded and not set aside: of the backlog, oldest first, or (`requested`) of the second
 * queue, that of upload requests, newest first; the two do not overlap. They follow the one of last_id, 0: from the beginning;
 * at most max, *count tells how many.
 */
extern TMS_CHECKED TmsStatus ledger_next_uploads(Ledger *ledger, bool requested, int64_t last_id, LedgerEntry *out,
												 int max, int *count);

/* How the image center was found to hold exactly a capture. */
typedef enum LedgerVerified
{
	LEDGER_NOT_VERIFIED,
	LEDGER_VERIFIED_LENGTH, /* its size alone */
	LEDGER_VERIFIED_TOLD, /* its size, and its digest as the store tells it */
	LEDGER_VERIFIED_READ, /* its bytes came back and have the digest */
} LedgerVerified;

typedef struct LedgerUpload
{
	int64_t id;
	int64_t at; /* microseconds since 1970 */
	LedgerVerified how;
	char etag[LEDGER_ETAG_SIZE];
} LedgerUpload;

/* The image center holds these captures: one commit for all. */
extern TMS_CHECKED TmsStatus ledger_set_uploaded(Ledger *ledger, const LedgerUpload *uploads, int count);

/* The image center does not hold this capture any more, for that reason: it is to be uploaded again. */
extern TMS_CHECKED TmsStatus ledger_set_missing(Ledger *ledger, int64_t id, const char *reason);

/* This one can never be uploaded (reason: a short phrase): the watermark steps over it, status reports it. */
extern TMS_CHECKED TmsStatus ledger_set_aside(Ledger *ledger, int64_t id, const char *reason);

/* --- manifests --- */

/* Captures of one ledger and hour that are in the image center, and in no manifest yet. */
typedef struct LedgerManifest
{
	int64_t hour; /* since 1970 */
	int64_t ledger_no; /* local */
	TmsUuid ledger;
	int64_t count;
	int64_t first_at; /* when the first and the last of them were verified, microseconds since 1970 */
	int64_t last_at;
	bool waits; /* others of the same hour are on their way */
} LedgerManifest;

/* The next of these behind *place (all zero: the first), by hour and ledger. TMS_NOT_FOUND: there is no more. */
extern TMS_CHECKED TmsStatus ledger_manifest_next(Ledger *ledger, LedgerManifest *place);

/* Its captures with id > after_id, in the order of intake. */
extern TMS_CHECKED TmsStatus ledger_manifest_read(Ledger *ledger, const LedgerManifest *manifest, int64_t after_id,
												  LedgerEntry *out, int max, int *count);

/* These are in a manifest now. */
extern TMS_CHECKED TmsStatus ledger_manifest_written(Ledger *ledger, const LedgerManifest *manifest, const int64_t *ids,
													 int count);

/* Looks at some of the captures that were uploaded before there were manifests; *more: there are others. */
extern TMS_CHECKED TmsStatus ledger_manifest_walk(Ledger *ledger, bool *more);

/* --- registrar --- */

/* All ledgers, oldest first, sealed ones too; but for sealed ones while the cache is indexed: they may not be whole yet. */
extern TMS_CHECKED TmsStatus ledger_list(Ledger *ledger, LedgerInfo *out, int max, int *count);

/* Entries of one ledger with from_seq <= seq, ascending; seqs the ledger has no entry for are missing from the answer. */
extern TMS_CHECKED TmsStatus ledger_read(Ledger *ledger, const TmsUuid *uuid, int64_t from_seq, LedgerEntry *out,
										 int max, int *count);

/* The path center has every seq up to `confirmed`. May go down: the path center was restored. */
extern TMS_CHECKED TmsStatus ledger_confirm(Ledger *ledger, const TmsUuid *uuid, int64_t confirmed);

/* A report number greater than every one given before, also across restarts. */
extern TMS_CHECKED TmsStatus ledger_next_report(Ledger *ledger, int64_t *report_no);

/*
 * The path center holds other captures from seq `from` on: seals the ledger at from - 1 and moves its entries >= from to the
 * ledger tms_ledger_fork_uuid names, renumbered from 1 behind what that one has, paths kept; it becomes the active one when
 * the forked one was. Repeating a fork that was done already does nothing.
 */
extern TMS_CHECKED TmsStatus ledger_fork(Ledger *ledger, const TmsUuid *uuid, int64_t from);

/*
 * Clears "uploaded" of what is held and was captured in [since, until), in all ledgers, as upload request request_id asks,
 * also of what was set aside, and then remembers the id. Works in pieces, so that intake goes on meanwhile; what a crash cuts
 * short is asked again.
 */
extern TMS_CHECKED TmsStatus ledger_request_upload(Ledger *ledger, int64_t request_id, int64_t since, int64_t until);

/* Greatest upload request carried out; 0: none. */
extern int64_t ledger_request_seen(Ledger *ledger);

/* What became of an upload request that was carried out. Times in microseconds since 1970. */
typedef struct LedgerRequest
{
	int64_t id;
	int64_t taken_at;
	int64_t held; /* captures it put into the second queue */
	int64_t not_held; /* captures of its span that had left the cache before */
	int64_t done_at; /* when the second queue was empty again; 0: not yet */
} LedgerRequest;

/* The last ones, newest first; at least those that are not done and the LEDGER_REQUESTS newest are kept. */
#define LEDGER_REQUESTS 8
extern TMS_CHECKED TmsStatus ledger_requests(Ledger *ledger, LedgerRequest *out, int max, int *count);

/* The cleaning period in force, microseconds; 0: none known yet, nothing may be cleaned. Kept across restarts. */
extern int64_t ledger_cleaning_period(Ledger *ledger);

/* A shorter one that was told once and waits to be told again; 0: none. */
extern int64_t ledger_offered_period(Ledger *ledger);

typedef enum LedgerPeriod
{
	LEDGER_PERIOD_SAME, /* it is in force already */
	LEDGER_PERIOD_TAKEN, /* it is in force from now on */
	LEDGER_PERIOD_OFFERED, /* told for the first time */
	LEDGER_PERIOD_WAITS, /* told again, but too soon */
} LedgerPeriod;

/*
 * The path center told this period (microseconds, sensible). A longer one than that in force is taken at once. A shorter
 * one, and the first ever, only when it is told again at least `wait` (of elapsed time) later, and no other in between;
 * what was told is kept across restarts.
 */
extern TMS_CHECKED TmsStatus ledger_offer_period(Ledger *ledger, int64_t period, int64_t wait, LedgerPeriod *out);

/* --- time that has demonstrably passed; ledger_elapsed.c --- */

/* What clocks said at one moment, microseconds. */
typedef struct LedgerWitness
{
	int64_t elapsed;
	int64_t clock; /* the clock of day */
	int64_t store; /* the image center's clock; 0: not told */
} LedgerWitness;

/* Microseconds that have passed since ledger.db was made: never more than really did, whatever clocks are set to. */
extern int64_t ledger_elapsed(Ledger *ledger);

/* The image center said what time it is (microseconds since 1970; 0: it did not). */
extern void ledger_witness(Ledger *ledger, int64_t store_time);

/*
 * Notes how far intake is and writes the count down, when it is time to: to be called every few seconds, by one thread.
 * period: the cleaning period, for which notes are made often enough; keep: the longest time that ledger_aged is asked for.
 */
extern TMS_CHECKED TmsStatus ledger_mark(Ledger *ledger, int64_t period, int64_t keep);

/* The id up to which all captures were demonstrably taken in that long ago; 0: none. */
extern int64_t ledger_aged(Ledger *ledger, int64_t period);

/* --- cleaner --- */

/* What may be cleaned, and a position in it. */
typedef struct LedgerCleanable
{
	int64_t before; /* taken_at and captured_at are both before it, */
	int64_t last_id; /* and the id is at most this */
	int64_t taken_at, id; /* behind this entry; 0, 0: from the oldest on. Moved on by each call */
	bool ended; /* out: nothing is left behind the position */
} LedgerCleanable;

/*
 * Entries that are held, uploaded and confirmed, by taken_at, oldest first, at most max. Looks at so many rows a call: it may
 * find fewer, or none, before it ended.
 */
extern TMS_CHECKED TmsStatus ledger_next_cleanable(Ledger *ledger, LedgerCleanable *where, LedgerEntry *out, int max,
												   int *count);

#define LEDGER_RECEIPT_SIZE 640

/* One deletion. */
typedef struct LedgerCleaning
{
	int64_t id;
	bool early; /* not expired: the disk is full */
	char receipt[LEDGER_RECEIPT_SIZE]; /* the rule and its inputs, a JSON object */
	bool allowed; /* out of ledger_cleaning: held, uploaded and confirmed right then; else the file has to stay */
	bool gone; /* for ledger_cleaned: the file is gone, durably; else it stays after all */
} LedgerCleaning;

/*
 * Journals that files are about to be unlinked, and that they are gone: one commit each for all of them. What a crash in
 * between leaves is finished at the next start: what is gone stays explained, what is still there stays.
 */
extern TMS_CHECKED TmsStatus ledger_cleaning(Ledger *ledger, LedgerCleaning *list, int count);
extern TMS_CHECKED TmsStatus ledger_cleaned(Ledger *ledger, const LedgerCleaning *list, int count);

/*
 * Drops entries that are a prefix of their ledger, cleaned, below confirmed (the entry at confirmed stays) and taken before
 * `before`, and with an id of last_id at most. *dropped tells how many.
 */
extern TMS_CHECKED TmsStatus ledger_trim(Ledger *ledger, int64_t before, int64_t last_id, int64_t *dropped);

/* --- status --- */

/* The newest entries of all ledgers, newest first. */
extern TMS_CHECKED TmsStatus ledger_newest(Ledger *ledger, LedgerEntry *out, int max, int *count);

/* Counters, from figures kept up to date by every write: no scan of the table. */
extern TMS_CHECKED TmsStatus ledger_counts(Ledger *ledger, LedgerCounts *out);

#endif
