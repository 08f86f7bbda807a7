/*
 * One capture by its bare id.
 */
#ifndef TMS_LOOKUP_H
#define TMS_LOOKUP_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "common/sha256.h"

typedef struct TmsCaptureRow
{
	TimestampTz captured_at;
	int64 capture_id;
	int32 device_id;
	char *path; /* palloc'd in the caller's context; NULL: the row has none */
	int64 image_bytes; /* -1: the row has none */
	bool has_sha256;
	uint8 sha256[TMS_SHA256_SIZE];
} TmsCaptureRow;

/*
 * Finds a capture; false when there is none, or none that the current user may see. tms.ledger_day, read as the extension's
 * owner, tells the day, and tms.capture is read as the current user with that day's bounds as constants: one partition is
 * planned and locked, whatever their number. Needs an active snapshot. Error 42P01 when there is no tms.capture.
 */
extern bool tms_capture_lookup(int64 capture_id, TmsCaptureRow *row);

#endif
