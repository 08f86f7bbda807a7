/*
 * In which order entries are uploaded. Three sources take turns, so that none of them keeps another waiting: the
 * backlog, oldest first; the ledger's second queue, which upload requests fill, newest first; and entries that failed before and
 * whose time has come.
 *
 * An entry that was taken is under way until one of the four functions below tells how it ended. Belongs to one
 * thread.
 */
#ifndef AGENT_UPLOADER_QUEUE_H
#define AGENT_UPLOADER_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/status.h"
#include "backoff.h"
#include "ledger.h"

typedef struct UploaderQueue UploaderQueue;

/* The ledger must outlive the queue. NULL: out of memory. */
extern UploaderQueue *uploader_queue_new(Ledger *ledger);
extern void uploader_queue_free(UploaderQueue *queue);

/* Takes the next entry; `now` by the steady clock. False: none for the moment. */
extern bool uploader_queue_take(UploaderQueue *queue, int64_t now, LedgerEntry *out);

/* Ended for good: uploaded, set aside or gone. */
extern void uploader_queue_done(UploaderQueue *queue, int64_t id);

/* Ended without fault of its own: comes again soon, its failures uncounted. */
extern void uploader_queue_again(UploaderQueue *queue, int64_t id, int64_t now);

/*
 * Failed for itself: comes again after a wait by that schedule, of `least` microseconds at least, while others go on.
 * Returns the wait.
 */
extern int64_t uploader_queue_delay(UploaderQueue *queue, int64_t id, const BackoffSchedule *schedule, int64_t least,
									int64_t now);

/* Its next PUT may overwrite: the store has kept other bytes than it was sent, or can do nothing else. And: may it? */
extern void uploader_queue_set_overwrite(UploaderQueue *queue, int64_t id);
extern bool uploader_queue_overwrite(UploaderQueue *queue, int64_t id);

/* How often in a row it has failed for itself. */
extern int uploader_queue_failures(UploaderQueue *queue, int64_t id);

#endif
