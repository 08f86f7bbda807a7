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

typedef struct LedgerEntry
{
	int64_t id;
	TmsUuid ledger;
	int64_t seq;
	int64_t bytes;
	int64_t taken_at; /* microseconds since 1970 by the agent's clock at intake */
	int64_t uploaded_at; /* 0: not verified in the image center */
	bool held; /* the file is in the cache */
	char path[TMS_STORAGE_PATH_SIZE];
	uint8_t sha256[TMS_SHA256_SIZE];
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

/*
 * What travels with a capture's file (cache_note): its record and taken_at as JSON text, from which a lost ledger is made
 * again. TMS_TOO_LARGE when it does not fit.
 */
extern TMS_CHECKED TmsStatus ledger_describe(const LedgerEntry *entry, char *out, size_t size);

/* --- uploader --- */

/*
 * Next entries that are held, not uploaded and not set aside, with id > after_id, oldest first; at most max, *count tells
 * how many. `requested` picks the second queue (upload requests) instead of the backlog; the two do not overlap.
 */
extern TMS_CHECKED TmsStatus ledger_next_uploads(Ledger *ledger, bool requested, int64_t after_id, LedgerEntry *out,
												 int max, int *count);

/* The image center holds exactly this capture (verified at `at`), or, with at = 0, does not hold it any more. */
extern TMS_CHECKED TmsStatus ledger_set_uploaded(Ledger *ledger, int64_t id, int64_t at);

/* This one can never be uploaded (reason: a short phrase): the watermark steps over it, status reports it. */
extern TMS_CHECKED TmsStatus ledger_set_aside(Ledger *ledger, int64_t id, const char *reason);

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

/* The cleaning period in force, microseconds; 0: none known yet, nothing may be cleaned. Kept across restarts. */
extern int64_t ledger_cleaning_period(Ledger *ledger);
extern TMS_CHECKED TmsStatus ledger_set_cleaning_period(Ledger *ledger, int64_t period);

/* --- cleaner --- */

/*
 * Entries that are held, uploaded and confirmed, and whose taken_at and captured_at are both before `before`: by taken_at,
 * oldest first, those behind the entry after_id (0: from the oldest on).
 */
extern TMS_CHECKED TmsStatus ledger_next_cleanable(Ledger *ledger, int64_t before, int64_t after_id, LedgerEntry *out,
												   int max, int *count);

/*
 * Journals that the file is about to be unlinked, and that it is gone. A file found gone at start is finished by itself.
 * TMS_NOT_FOUND from ledger_cleaning, unless the entry is held, uploaded and confirmed right then: the file has to stay.
 */
extern TMS_CHECKED TmsStatus ledger_cleaning(Ledger *ledger, int64_t id);
extern TMS_CHECKED TmsStatus ledger_cleaned(Ledger *ledger, int64_t id);

/*
 * Drops entries that are a prefix of their ledger, cleaned, below confirmed (the entry at confirmed stays) and taken before
 * `before`. *dropped tells how many.
 */
extern TMS_CHECKED TmsStatus ledger_trim(Ledger *ledger, int64_t before, int64_t *dropped);

/* --- status --- */

/* The newest entries of all ledgers, newest first. */
extern TMS_CHECKED TmsStatus ledger_newest(Ledger *ledger, LedgerEntry *out, int max, int *count);

/* Counters, from figures kept up to date by every write: no scan of the table. */
extern TMS_CHECKED TmsStatus ledger_counts(Ledger *ledger, LedgerCounts *out);

#endif
