/*
 * What the uploader remembers of single entries; see uploader_table.h.
 */
#include <stdlib.h>
#include <string.h>

#include "uploader_table.h"

void uploader_table_init(UploaderTable *table)
{
	memset(table, 0, sizeof(*table));
	table->soonest = INT64_MAX;
}

void uploader_table_free(UploaderTable *table)
{
	free(table->items);
	uploader_table_init(table);
}

/* Where the item of that id is or would be. */
static int position(const UploaderTable *table, int64_t id)
{
	int low = 0;
	int high = table->count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (table->items[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

UploaderItem *uploader_table_find(UploaderTable *table, int64_t id)
{
	int at = position(table, id);

	return at < table->count && table->items[at].id == id ? &table->items[at] : NULL;
}

static void remove_at(UploaderTable *table, int at)
{
	memmove(&table->items[at], &table->items[at + 1], sizeof(UploaderItem) * (size_t) (table->count - at - 1));
	table->count--;
}

static bool forget_soonest(UploaderTable *table)
{
	int soonest = -1;

	for (int i = 0; i < table->count; i++)
		if (!table->items[i].under_way &&
			(soonest < 0 || table->items[i].backoff.retry_at < table->items[soonest].backoff.retry_at))
			soonest = i;
	if (soonest < 0)
		return false;
	remove_at(table, soonest);
	return true;
}

static bool make_room(UploaderTable *table)
{
	UploaderItem *items;
	int size;

	if (table->count < table->size)
		return true;
	if (table->size == UPLOADER_TABLE_MAX)
		return forget_soonest(table);
	size = table->size == 0 ? 64 : table->size * 2;
	items = realloc(table->items, sizeof(UploaderItem) * (size_t) size);
	if (items == NULL)
		return false;
	table->items = items;
	table->size = size;
	return true;
}

UploaderItem *uploader_table_take(UploaderTable *table, int64_t id)
{
	UploaderItem *item = uploader_table_find(table, id);

	if (item == NULL)
	{
		int at;

		if (!make_room(table))
			return NULL;
		at = position(table, id);
		memmove(&table->items[at + 1], &table->items[at], sizeof(UploaderItem) * (size_t) (table->count - at));
		table->count++;
		item = &table->items[at];
		memset(item, 0, sizeof(*item));
		item->id = id;
	}
	item->under_way = true;
	return item;
}

void uploader_table_wait(UploaderTable *table, UploaderItem *item)
{
	item->under_way = false;
	if (item->backoff.retry_at < table->soonest)
		table->soonest = item->backoff.retry_at;
}

void uploader_table_remove(UploaderTable *table, int64_t id)
{
	UploaderItem *item = uploader_table_find(table, id);

	if (item != NULL)
		remove_at(table, (int) (item - table->items));
}

UploaderItem *uploader_table_due(UploaderTable *table, int64_t now)
{
	UploaderItem *due = NULL;

	if (now < table->soonest)
		return NULL;
	table->soonest = INT64_MAX;
	for (int i = 0; i < table->count; i++)
	{
		UploaderItem *item = &table->items[i];

		if (item->under_way)
			continue;
		if (due == NULL && item->backoff.retry_at <= now)
			due = item;
		if (item->backoff.retry_at < table->soonest)
			table->soonest = item->backoff.retry_at;
	}
	return due;
}
