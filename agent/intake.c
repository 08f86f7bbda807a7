/*
 * Taking one capture: see intake.h. What the cache and the ledger log about a failure is not logged again here.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/jpeg.h"
#include "clock.h"
#include "health.h"
#include "intake.h"
#include "log.h"
#include "metrics.h"

struct Intake
{
	const ServiceContext *context;
	CacheWriter *writer;
	int64_t bytes;
	int64_t limit; /* of bytes */
};

const char *intake_failure(TmsStatus status)
{
	switch (status)
	{
		case TMS_INVALID:
			return "not a JPEG";
		case TMS_CONFLICT:
			return "Idempotency-Key: was used for another photograph";
		case TMS_TOO_LARGE:
			return "the photograph is too large";
		case TMS_FULL:
			return "the disk is full";
		case TMS_STOPPED:
			return "the agent is stopping";
		case TMS_MEMORY:
			return "out of memory";
		default:
			return "the photograph could not be stored";
	}
}

TmsStatus intake_begin(const ServiceContext *context, int64_t expected, Intake **out)
{
	Intake *intake;
	TmsStatus status;

	if (expected > context->config->max_image_bytes)
		return TMS_TOO_LARGE;
	intake = calloc(1, sizeof *intake);
	if (!intake)
		return TMS_MEMORY;
	intake->context = context;
	intake->limit = context->config->max_image_bytes;
	status = cache_create(context->cache, expected, &intake->writer);
	if (status != TMS_OK)
	{
		health_error(HEALTH_INTAKE, "%s", intake_failure(status));
		free(intake);
		return status;
	}
	*out = intake;
	return TMS_OK;
}

TmsStatus intake_write(Intake *intake, const void *data, size_t len)
{
	TmsStatus status;

	if ((int64_t) len > intake->limit - intake->bytes)
		return TMS_TOO_LARGE;
	status = cache_write(intake->writer, data, len);
	if (status == TMS_OK)
		intake->bytes += (int64_t) len;
	else
		health_error(HEALTH_INTAKE, "%s", intake_failure(status));
	return status;
}

void intake_lift_limit(Intake *intake)
{
	intake->limit = INT64_MAX;
}

TmsStatus intake_quarantine(Intake *intake, const char *name, const char *reason)
{
	return intake->bytes > 0 ? cache_quarantine(intake->writer, name, reason) : TMS_OK;
}

/* Is it a JPEG? One with a damaged tail is taken, and its record says so. */
static TmsStatus check_jpeg(Intake *intake, Record *record, char error[RECORD_ERROR_SIZE])
{
	size_t len;
	const uint8_t *data = cache_map(intake->writer, &len);
	TmsJpegState state = data ? tms_jpeg_check(data, len).state : TMS_JPEG_NOT;

	if (!data && intake->bytes > 0)
		return TMS_MEMORY; /* it could not be looked at: no verdict */
	if (state == TMS_JPEG_NOT)
	{
		snprintf(error, RECORD_ERROR_SIZE, "%s",
				 intake->bytes == 0 ? "no bytes: not a JPEG" : intake_failure(TMS_INVALID));
		return TMS_INVALID;
	}
	if (state == TMS_JPEG_TRUNCATED && record_set_attribute(record, "jpeg", tms_jpeg_state_name(state)) != TMS_OK)
		log_event(LOG_LEVEL_WARNING, "jpeg_truncated", "error=\"no room for it in the attributes\"");
	return TMS_OK;
}

/* Makes the file durable, its record with it, then the ledger's row. */
static TmsStatus append(Intake *intake, const char *key, LedgerEntry *entry)
{
	char note[CACHE_NOTE_SIZE];
	TmsStatus status;

	entry->taken_at = clock_now();
	if (!entry->record.has_captured_at)
		entry->record.captured_at = entry->taken_at;
	entry->record.has_captured_at = true;
	status = ledger_describe(entry, note, sizeof note);
	if (status == TMS_OK)
		status = cache_note(intake->writer, note);
	if (status == TMS_OK)
		status = cache_finish(intake->writer, &entry->bytes, entry->sha256);
	if (status == TMS_OK)
		status = ledger_append(intake->context->ledger, cache_temporary(intake->writer), key, entry);
	if (status == TMS_OK)
		cache_given_away(intake->writer);
	return status;
}

TmsStatus intake_finish(Intake *intake, const Record *record, const char *key, LedgerEntry *entry,
						char error[RECORD_ERROR_SIZE])
{
	int64_t begun = clock_steady();
	TmsStatus status;

	memset(entry, 0, sizeof *entry);
	entry->record = *record;
	status = check_jpeg(intake, &entry->record, error);
	if (status == TMS_INVALID)
		return status;
	if (status == TMS_OK)
		status = append(intake, key, entry);
	if (status == TMS_OK)
	{
		metrics_add(METRIC_CAPTURES_TAKEN, 1);
		metrics_add(METRIC_BYTES_TAKEN, entry->bytes);
		metrics_time(METRIC_INTAKE, clock_steady() - begun);
	}
	if (status == TMS_OK || status == TMS_EXISTS)
		health_ok(HEALTH_INTAKE);
	else
	{
		snprintf(error, RECORD_ERROR_SIZE, "%s", intake_failure(status));
		if (status != TMS_STOPPED && status != TMS_CONFLICT)
			health_error(HEALTH_INTAKE, "%s", error);
	}
	return status;
}

void intake_free(Intake *intake)
{
	if (!intake)
		return;
	cache_writer_free(intake->writer);
	free(intake);
}
