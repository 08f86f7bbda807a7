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

struct Intake
{
	const ServiceContext *context;
	CacheWriter *writer;
	int64_t bytes;
	int64_t limit; /* of bytes */
	bool finished; /* cache_finish was called: the bytes are final */
	uint8_t sha256[TMS_SHA256_SIZE];
};

const char *intake_failure(TmsStatus status)
{
	switch (status)
	{
		case TMS_INVALID:
			return "not a JPEG";
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

/* Ends the file once: a failed sync is never tried again. */
static TmsStatus finish_file(Intake *intake)
{
	if (intake->finished)
		return TMS_OK;
	intake->finished = true;
	return cache_finish(intake->writer, &intake->bytes, intake->sha256);
}

TmsStatus intake_digest(Intake *intake, uint8_t sha256[TMS_SHA256_SIZE])
{
	TmsStatus status = finish_file(intake);

	if (status == TMS_OK)
		memcpy(sha256, intake->sha256, TMS_SHA256_SIZE);
	return status;
}

TmsStatus intake_quarantine(Intake *intake, const char *name, const char *reason)
{
	TmsStatus status = finish_file(intake);

	return status == TMS_OK ? cache_quarantine(intake->writer, name, reason) : status;
}

/* Is it a JPEG? One with a damaged tail is taken, and its record says so. */
static TmsStatus check_jpeg(Intake *intake, Record *record, char error[RECORD_ERROR_SIZE])
{
	size_t len;
	const uint8_t *data = cache_map(intake->writer, &len);
	TmsJpegState state = data ? tms_jpeg_check(data, len).state : TMS_JPEG_NOT;

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

TmsStatus intake_finish(Intake *intake, const Record *record, const char *name, LedgerEntry *entry,
						char error[RECORD_ERROR_SIZE])
{
	TmsStatus status = finish_file(intake);

	memset(entry, 0, sizeof *entry);
	entry->record = *record;
	if (status == TMS_OK)
		status = check_jpeg(intake, &entry->record, error);
	if (status == TMS_INVALID)
	{
		TmsStatus kept = intake->bytes > 0 ? intake_quarantine(intake, name, error) : TMS_OK;

		return kept == TMS_OK ? TMS_INVALID : kept;
	}
	if (status == TMS_OK)
	{
		if (!entry->record.has_captured_at)
			entry->record.captured_at = clock_now();
		entry->record.has_captured_at = true;
		entry->bytes = intake->bytes;
		memcpy(entry->sha256, intake->sha256, TMS_SHA256_SIZE);
		status = ledger_append(intake->context->ledger, cache_temporary(intake->writer), entry);
	}
	if (status == TMS_OK)
		health_ok(HEALTH_INTAKE);
	else
	{
		snprintf(error, RECORD_ERROR_SIZE, "%s", intake_failure(status));
		if (status != TMS_STOPPED)
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
