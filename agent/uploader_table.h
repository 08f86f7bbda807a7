/*
 * What the uploader remembers of single entries: those under way, and those that failed and wait for their time.
 * Everything else is found in the ledger. A table sorted by id, in memory alone: after a restart everything is tried
 * at once.
 */
#ifndef AGENT_UPLOADER_TABLE_H
#define AGENT_UPLOADER_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "backoff.h"

/*
 * So many entries that fail each for itself are remembered; the ledger still has those forgotten, which are tried
 * sooner.
 */
#define UPLOADER_TABLE_MAX 65536

typedef struct UploaderItem
{
	int64_t id; /* of the ledger's entry */
	bool under_way;
	bool overwrite; /* its next PUT may take the place of what the store has under that name */
	Backoff backoff;
} UploaderItem;

typedef struct UploaderTable
{
	UploaderItem *items; /* ascending by id */
	int count;
	int size;
	int64_t soonest; /* no item that waits is due before; INT64_MAX: none waits */
} UploaderTable;

extern void uploader_table_init(UploaderTable *table);
extern void uploader_table_free(UploaderTable *table);

/* The item of that id, or NULL. Pointers hold until the next add or remove. */
extern UploaderItem *uploader_table_find(UploaderTable *table, int64_t id);

/*
 * Marks an entry as under way, new or known. A full table forgets the waiting item that is due first. NULL: out of
 * memory, or nothing but items under way.
 */
extern UploaderItem *uploader_table_take(UploaderTable *table, int64_t id);

/* An item under way ended: waits until backoff->retry_at, which the caller has set. */
extern void uploader_table_wait(UploaderTable *table, UploaderItem *item);

/* Forgets an item; unknown ids are allowed. */
extern void uploader_table_remove(UploaderTable *table, int64_t id);

/* The waiting item of the least id whose time has come, or NULL. */
extern UploaderItem *uploader_table_due(UploaderTable *table, int64_t now);

#endif
