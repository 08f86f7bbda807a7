/*
 * One batch of deletions; see cleaner_batch.h.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cleaner_batch.h"
#include "clock.h"
#include "json_field.h"
#include "log.h"
#include "worker.h"

/* So many objects in a row that the store cannot tell about, and it is the store. */
#define FAILURES_IN_A_ROW 3

/* A store's clock that is further behind is told about; what is less just makes cleaning a little later. */
#define CLOCK_TOLERANCE (300 * CLOCK_SECOND)

/* --- asking --- */

static void end_batch(CleanerOutcome *out, const char *reason)
{
	if (out->ended)
		return;
	out->ended = true;
	snprintf(out->reason, sizeof out->reason, "%s", reason);
}

/* Is the entry old enough by the image center's clock too? Without that clock elapsed time is what counts. */
static bool old_enough(const CleanerRule *rule, const LedgerEntry *entry, int64_t store_time)
{
	int64_t youngest = entry->taken_at > entry->record.captured_at ? entry->taken_at : entry->record.captured_at;

	return rule->early || store_time == 0 || youngest < store_time - rule->period;
}

/* Is the answer good for the digest, not the size alone? */
static bool digest_holds(const CleanerBatch *batch, const CleanerCheck *check)
{
	const UploadResult *result = &check->result;

	return result->digest_known || config_verifies_length(batch->context->config) ||
		   (result->etag[0] != '\0' && strcmp(result->etag, check->entry->etag) == 0);
}

static void ask(CleanerBatch *batch, CleanerCheck *check, UploadMethod method, CleanerOutcome *out)
{
	if (upload_start(batch->client, method, &check->object, -1, check) != TMS_OK)
		end_batch(out, "out of memory");
}

static void answered(CleanerBatch *batch, const CleanerRule *rule, const UploadResult *result, int *failures,
					 CleanerOutcome *out)
{
	CleanerCheck *check = result->owner;

	check->result = *result;
	ledger_witness(batch->context->ledger, result->store_time);
	if (result->outcome == UPLOAD_AWAY || (result->outcome != UPLOAD_OK && result->outcome != UPLOAD_ABSENT &&
										   result->outcome != UPLOAD_DIFFERENT && ++*failures >= FAILURES_IN_A_ROW))
		end_batch(out, result->reason);
	if (result->outcome == UPLOAD_ABSENT || result->outcome == UPLOAD_DIFFERENT)
		check->verdict = CLEANER_MISSING;
	if (check->verdict == CLEANER_MISSING || result->outcome == UPLOAD_OK)
		*failures = 0;
	if (result->outcome != UPLOAD_OK)
		return;
	if (!digest_holds(batch, check))
		ask(batch, check, UPLOAD_GET, out);
	else if (old_enough(rule, check->entry, result->store_time))
		check->verdict = CLEANER_SAFE;
	else
	{
		check->verdict = CLEANER_YOUNG;
		if (clock_now() - result->store_time > CLOCK_TOLERANCE)
			end_batch(out, "the image center's clock is behind the agent's: nothing is cleaned early");
	}
}

/* Asks about all of them, some at once. */
static void ask_all(CleanerBatch *batch, const CleanerRule *rule, CleanerOutcome *out)
{
	UploadResult result;
	int next = 0, failures = 0;

	while (!out->ended && (next < batch->count || upload_under_way(batch->client) > 0))
	{
		for (; next < batch->count && !out->ended && upload_under_way(batch->client) < CLEANER_CONNECTIONS; next++)
		{
			CleanerCheck *check = &batch->checks[next];

			memset(check, 0, sizeof *check);
			check->entry = &batch->entries[next];
			check->object.bytes = check->entry->bytes;
			memcpy(check->object.path, check->entry->path, sizeof check->object.path);
			memcpy(check->object.sha256, check->entry->sha256, sizeof check->object.sha256);
			ask(batch, check, UPLOAD_HEAD, out);
		}
		upload_wait(batch->client, batch->stop_fd, CLOCK_SECOND);
		while (!out->ended && upload_next(batch->client, &result))
			answered(batch, rule, &result, &failures, out);
		if (worker_stopping(batch->stop_fd))
			end_batch(out, "");
	}
	upload_cut_off(batch->client);
	batch->count = next; /* the rest was not asked about */
}

/* --- telling --- */

static const char *checked_by(const CleanerBatch *batch, const CleanerCheck *check)
{
	const UploadResult *result = &check->result;

	if (result->method == UPLOAD_GET)
		return "bytes read back";
	if (result->digest_known)
		return "digest told by the store";
	return config_verifies_length(batch->context->config) ? "size" : "size and unchanged entity tag";
}

/* The rule, and what it was decided by. */
static void write_receipt(const CleanerBatch *batch, const CleanerRule *rule, const CleanerCheck *check, char *out)
{
	const LedgerEntry *entry = check->entry;
	json_t *receipt =
		json_pack("{s:s, s:I, s:I, s:s, s:I, s:o, s:o, s:o, s:I, s:I}", "rule", rule->early ? "disk_low" : "expired",
				  "period_seconds", (json_int_t) (rule->period / CLOCK_SECOND), "age_seconds",
				  (json_int_t) ((clock_now() - entry->taken_at) / CLOCK_SECOND), "image_center",
				  checked_by(batch, check), "bytes", (json_int_t) entry->bytes, "etag",
				  check->result.etag[0] ? json_string(check->result.etag) : json_null(), "asked_at",
				  json_time(clock_now()), "image_center_time", json_time(check->result.store_time), "free_bytes",
				  (json_int_t) rule->free_bytes, "min_free_bytes", (json_int_t) rule->min_free_bytes);
	size_t len = json_dumpb(receipt, out, LEDGER_RECEIPT_SIZE - 1, JSON_COMPACT);

	if (len >= LEDGER_RECEIPT_SIZE) /* an entity tag full of quotes */
	{
		json_object_set_new(receipt, "etag", json_null());
		len = json_dumpb(receipt, out, LEDGER_RECEIPT_SIZE - 1, JSON_COMPACT);
	}
	out[len < LEDGER_RECEIPT_SIZE ? len : 0] = '\0';
	json_decref(receipt);
}

/* The image center does not have it, or has something else: it goes there again. */
static void upload_again(CleanerBatch *batch, const CleanerCheck *check, CleanerOutcome *out)
{
	char reason[2 * sizeof check->result.reason];

	out->missing++;
	log_event(LOG_LEVEL_WARNING, "not_in_image_center", "seq=%" PRId64 " path=%s reason=%s", check->entry->seq,
			  check->entry->path, log_quote(check->result.reason, reason, sizeof reason));
	if (ledger_set_missing(batch->context->ledger, check->entry->id, check->result.reason) != TMS_OK)
		end_batch(out, "the ledger could not be written");
}

/* --- deleting --- */

/* Journals, unlinks, journals those that are safe. A failure is told where it happens and leaves files for later. */
static void remove_safe(CleanerBatch *batch, const CleanerRule *rule, CleanerOutcome *out)
{
	Ledger *ledger = batch->context->ledger;
	const CleanerCheck *safe[CLEANER_BATCH];
	const char *paths[CLEANER_BATCH];
	bool gone[CLEANER_BATCH];
	int count = 0, allowed = 0;

	for (int i = 0; i < batch->count; i++)
	{
		if (batch->checks[i].verdict != CLEANER_SAFE)
			continue;
		memset(&batch->journal[count], 0, sizeof batch->journal[count]);
		batch->journal[count].id = batch->checks[i].entry->id;
		batch->journal[count].early = rule->early;
		write_receipt(batch, rule, &batch->checks[i], batch->journal[count].receipt);
		safe[count++] = &batch->checks[i];
	}
	if (count == 0)
		return;
	if (ledger_cleaning(ledger, batch->journal, count) != TMS_OK)
	{
		end_batch(out, "the ledger could not be written");
		return;
	}
	for (int i = 0; i < count; i++)
		if (batch->journal[i].allowed)
			paths[allowed++] = safe[i]->entry->path;
	cache_remove_all(batch->context->cache, paths, allowed, gone);
	for (int i = 0, at = 0; i < count; i++)
	{
		if (batch->journal[i].allowed)
			batch->journal[i].gone = gone[at++];
		out->cleaned += batch->journal[i].gone;
		if (batch->journal[i].gone)
			log_event(LOG_LEVEL_DEBUG, "cleaned", "seq=%" PRId64 " path=%s receipt=%s", safe[i]->entry->seq,
					  safe[i]->entry->path, batch->journal[i].receipt);
	}
	if (ledger_cleaned(ledger, batch->journal, count) != TMS_OK)
		end_batch(out, "the ledger could not be written");
}

void cleaner_batch_run(CleanerBatch *batch, const CleanerRule *rule, CleanerOutcome *out)
{
	ask_all(batch, rule, out);
	for (int i = 0; i < batch->count; i++)
		if (batch->checks[i].verdict == CLEANER_MISSING)
			upload_again(batch, &batch->checks[i], out);
	/* The period may have been changed while the image center was asked: the next batch has the new one. */
	if (rule->early || ledger_cleaning_period(batch->context->ledger) == rule->period)
		remove_safe(batch, rule, out);
}
