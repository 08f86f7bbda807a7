/*
 * In which order entries are uploaded; see uploader_queue.h.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "uploader_queue.h"
#include "uploader_table.h"

#define READ_COUNT 32 /* entries read at once */
#define READS_MAX  8 /* in one go: the rest of a long row of known entries is passed the next time */

/*
 * How soon the end of a source is looked at again, and its beginning, where entries come back that were uploaded
 * once.
 */
#define LOOK_INTERVAL   (CLOCK_SECOND / 4)
#define REWIND_INTERVAL (10 * CLOCK_SECOND)

/* One of the ledger's two queues, read in pieces. */
typedef struct Source
{
	bool requested;
	int64_t last_id; /* last one read; 0: from the beginning */
	int64_t look_at; /* not read again before */
	int64_t rewind_at; /* read from the beginning then */
	int count;
	int next; /* entries[next .. count-1] were not looked at yet */
	LedgerEntry entries[READ_COUNT];
} Source;

typedef enum Turn
{
	TURN_BACKLOG,
	TURN_REQUESTED,
	TURN_RETRY,
	TURN_COUNT
} Turn;

/* Whose turn it is; the others follow when it has nothing. */
static const Turn turns[] = {TURN_BACKLOG, TURN_RETRY, TURN_BACKLOG, TURN_REQUESTED};

#define TURNS ((int) (sizeof(turns) / sizeof(turns[0])))

struct UploaderQueue
{
	Ledger *ledger;
	UploaderTable table;
	int turn;
	Source backlog;
	Source requested;
};

UploaderQueue *uploader_queue_new(Ledger *ledger)
{
	UploaderQueue *queue = calloc(1, sizeof(*queue));

	if (queue == NULL)
		return NULL;
	queue->ledger = ledger;
	queue->requested.requested = true;
	uploader_table_init(&queue->table);
	return queue;
}

void uploader_queue_free(UploaderQueue *queue)
{
	if (queue == NULL)
		return;
	uploader_table_free(&queue->table);
	free(queue);
}

/* Reads on; false when the time has not come, there is nothing more, or the ledger cannot be read (it has told). */
static bool source_read(Source *source, Ledger *ledger, int64_t now)
{
	TmsStatus status;

	if (now < source->look_at)
		return false;
	if (now >= source->rewind_at)
	{
		source->last_id = 0;
		source->rewind_at = now + REWIND_INTERVAL;
	}
	source->next = 0;
	source->count = 0;
	status =
		ledger_next_uploads(ledger, source->requested, source->last_id, source->entries, READ_COUNT, &source->count);
	if (status != TMS_OK)
	{
		source->count = 0;
		source->look_at = now + CLOCK_SECOND;
		return false;
	}
	if (source->count > 0)
		source->last_id = source->entries[source->count - 1].id;
	if (source->count < READ_COUNT)
		source->look_at = now + LOOK_INTERVAL;
	return source->count > 0;
}

/* The next entry that is neither under way nor waiting. */
static bool take_from(UploaderQueue *queue, Source *source, int64_t now, LedgerEntry *out)
{
	for (int reads = 0;; reads++)
	{
		while (source->next < source->count)
		{
			const LedgerEntry *entry = &source->entries[source->next++];

			if (uploader_table_find(&queue->table, entry->id) == NULL)
			{
				*out = *entry;
				return true;
			}
		}
		if (reads == READS_MAX || !source_read(source, queue->ledger, now))
			return false;
	}
}

/* The next entry that failed before and is still to be uploaded. */
static bool take_retry(UploaderQueue *queue, int64_t now, LedgerEntry *out)
{
	UploaderItem *item;

	while ((item = uploader_table_due(&queue->table, now)) != NULL)
	{
		TmsStatus status = ledger_get_id(queue->ledger, item->id, out);

		if (status == TMS_OK && out->held && out->uploaded_at == 0)
			return true;
		if (status == TMS_OK || status == TMS_NOT_FOUND)
			uploader_table_remove(&queue->table, item->id);
		else
		{
			backoff_fail(&item->backoff, &backoff_away, now);
			uploader_table_wait(&queue->table, item);
		}
	}
	return false;
}

static bool take_turn(UploaderQueue *queue, Turn turn, int64_t now, LedgerEntry *out)
{
	switch (turn)
	{
		case TURN_BACKLOG:
			return take_from(queue, &queue->backlog, now, out);
		case TURN_REQUESTED:
			return take_from(queue, &queue->requested, now, out);
		default:
			return take_retry(queue, now, out);
	}
}

bool uploader_queue_take(UploaderQueue *queue, int64_t now, LedgerEntry *out)
{
	Turn first = turns[queue->turn];

	for (int i = 0; i < TURN_COUNT; i++)
	{
		if (!take_turn(queue, (first + i) % TURN_COUNT, now, out))
			continue;
		queue->turn = (queue->turn + 1) % TURNS;
		return uploader_table_take(&queue->table, out->id) != NULL;
	}
	return false;
}

void uploader_queue_done(UploaderQueue *queue, int64_t id)
{
	uploader_table_remove(&queue->table, id);
}

void uploader_queue_again(UploaderQueue *queue, int64_t id, int64_t now)
{
	UploaderItem *item = uploader_table_find(&queue->table, id);

	if (item == NULL)
		return;
	item->backoff.retry_at = now;
	uploader_table_wait(&queue->table, item);
}

int64_t uploader_queue_delay(UploaderQueue *queue, int64_t id, const BackoffSchedule *schedule, int64_t least,
							 int64_t now)
{
	UploaderItem *item = uploader_table_find(&queue->table, id);

	if (item == NULL)
		return 0;
	backoff_fail(&item->backoff, schedule, now);
	backoff_at_least(&item->backoff, least, now);
	uploader_table_wait(&queue->table, item);
	return item->backoff.retry_at - now;
}

void uploader_queue_set_overwrite(UploaderQueue *queue, int64_t id)
{
	UploaderItem *item = uploader_table_find(&queue->table, id);

	if (item != NULL)
		item->overwrite = true;
}

bool uploader_queue_overwrite(UploaderQueue *queue, int64_t id)
{
	UploaderItem *item = uploader_table_find(&queue->table, id);

	return item != NULL && item->overwrite;
}

int uploader_queue_failures(UploaderQueue *queue, int64_t id)
{
	UploaderItem *item = uploader_table_find(&queue->table, id);

	return item != NULL ? item->backoff.failures : 0;
}
