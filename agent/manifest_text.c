/*
 * A manifest's lines and its name; see manifest_text.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "manifest_text.h"

#define HOUR (INT64_C(3600) * 1000000) /* microseconds */

TmsStatus manifest_line(const LedgerEntry *entry, char out[MANIFEST_LINE_SIZE], size_t *len)
{
	char record[RECORD_JSON_SIZE], uuid[TMS_UUID_TEXT_SIZE], sha256[TMS_SHA256_HEX_SIZE];
	TmsStatus status = record_to_json(&entry->record, record, sizeof record);
	int written;

	if (status != TMS_OK)
		return status;
	tms_uuid_format(&entry->ledger, uuid);
	tms_sha256_hex(entry->sha256, sha256);
	/* The record follows without its brace; it has a member at least, for captured_at is always set. */
	written =
		snprintf(out, MANIFEST_LINE_SIZE,
				 "{\"ledger\":\"%s\",\"seq\":%" PRId64 ",\"path\":\"%s\",\"sha256\":\"%s\",\"bytes\":%" PRId64 ",%s\n",
				 uuid, entry->seq, entry->path, sha256, entry->bytes, record + 1);
	*len = (size_t) written;
	return written > 0 && written < MANIFEST_LINE_SIZE ? TMS_OK : TMS_TOO_LARGE;
}

TmsStatus manifest_path(int64_t hour, const TmsUuid *ledger, int64_t seq, const uint8_t sha256[TMS_SHA256_SIZE],
						char out[TMS_STORAGE_PATH_SIZE])
{
	char time[TMS_TIME_TEXT_SIZE], uuid[TMS_UUID_TEXT_SIZE], digest[TMS_SHA256_HEX_SIZE];

	if (!tms_time_format(hour * HOUR, time))
		return TMS_INVALID;
	tms_uuid_format(ledger, uuid);
	tms_sha256_hex(sha256, digest);
	/* "2026-11-22T06:..." */
	snprintf(out, TMS_STORAGE_PATH_SIZE, "manifest/%.4s/%.2s/%.2s/%.2s/%s-%010" PRId64 "-%.8s.jsonl", time, time + 5,
			 time + 8, time + 11, uuid, seq, digest);
	return TMS_OK;
}
