/*
 * A manifest's lines and its name, as docs/agent.md and tms.import_image_center have them.
 */
#ifndef AGENT_MANIFEST_TEXT_H
#define AGENT_MANIFEST_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "../common/status.h"
#include "ledger.h"

#define MANIFEST_LINE_SIZE (RECORD_JSON_SIZE + 512)

/* Writes an entry as one line, its line end included, and its length. TMS_TOO_LARGE when it does not fit. */
extern TMS_CHECKED TmsStatus manifest_line(const LedgerEntry *entry, char out[MANIFEST_LINE_SIZE], size_t *len);

/*
 * Makes the path of a manifest, below the device's folder: "manifest/YYYY/MM/DD/HH/<ledger>-<seq>-<digest>.jsonl", with the
 * first seq in it and the first 8 digits of the digest of its bytes, so that no two manifests have the same name. TMS_INVALID
 * for an hour outside the years 0001 to 9999.
 */
extern TMS_CHECKED TmsStatus manifest_path(int64_t hour, const TmsUuid *ledger, int64_t seq,
										   const uint8_t sha256[TMS_SHA256_SIZE], char out[TMS_STORAGE_PATH_SIZE]);

#endif
