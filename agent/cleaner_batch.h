/*
 * One batch of deletions: asks the image center about each capture, right now, journals, unlinks, journals. The only code that
 * deletes captures from the cache.
 *
 * A file is unlinked only if, all of it at that moment: the image center answers with its size and digest (told by the store,
 * or by the entity tag that the object had when its digest was verified, or by the bytes, read back); the path center has
 * confirmed its row; and, unless the rule is the full disk, it is older than the cleaning period by the image center's clock
 * too, where that tells the time. The ledger asks once more, right before the unlink, whether the entry is uploaded and
 * confirmed, and keeps the receipt.
 */
#ifndef AGENT_CLEANER_BATCH_H
#define AGENT_CLEANER_BATCH_H

#include "ledger.h"
#include "service.h"
#include "upload_request.h"

#define CLEANER_BATCH       64
#define CLEANER_CONNECTIONS 8 /* questions at once */

/* By which rule, and its inputs; all in microseconds or bytes. */
typedef struct CleanerRule
{
	bool early; /* the disk is low: not expired, but safe */
	int64_t period; /* in force; 0: none is known yet */
	int64_t free_bytes;
	int64_t min_free_bytes;
} CleanerRule;

/* What became of one capture of the batch. */
typedef enum CleanerVerdict
{
	CLEANER_UNKNOWN, /* no answer of use: it stays */
	CLEANER_YOUNG, /* by the image center's clock: it stays */
	CLEANER_MISSING, /* not in the image center: it goes there again */
	CLEANER_SAFE, /* it may go */
} CleanerVerdict;

typedef struct CleanerCheck
{
	const LedgerEntry *entry;
	UploadObject object;
	CleanerVerdict verdict;
	UploadResult result; /* of the last question */
} CleanerCheck;

typedef struct CleanerBatch
{
	const ServiceContext *context; /* set by the owner, as the next two */
	UploadClient *client;
	int stop_fd;

	LedgerEntry entries[CLEANER_BATCH]; /* filled by the owner */
	int count;
	CleanerCheck checks[CLEANER_BATCH];
	LedgerCleaning journal[CLEANER_BATCH];
} CleanerBatch;

typedef struct CleanerOutcome
{
	int cleaned;
	int missing;
	bool ended; /* nothing more is to be asked for a while: the store is away or of no use, or TERM; */
	char reason[200]; /* why, "" with TERM */
} CleanerOutcome;

/* Runs the batch; the outcome is added to *out. */
extern void cleaner_batch_run(CleanerBatch *batch, const CleanerRule *rule, CleanerOutcome *out);

#endif
