/*
 * Taking one capture, whichever way it comes: bytes in pieces, then the record, then all durable or nothing.
 *
 * One thread at a time works on one Intake; any number of them go on side by side and share the ledger's commits.
 */
#ifndef AGENT_INTAKE_H
#define AGENT_INTAKE_H

#include <stddef.h>
#include <stdint.h>

#include "ledger.h"
#include "record.h"
#include "service.h"

typedef struct Intake Intake;

/*
 * Starts a capture of `expected` bytes (0: unknown). TMS_TOO_LARGE when that is over max_image_bytes, TMS_FULL, TMS_IO.
 * The caller ends it with intake_free, whatever comes of it.
 */
extern TMS_CHECKED TmsStatus intake_begin(const ServiceContext *context, int64_t expected, Intake **out);

/* Adds bytes. TMS_TOO_LARGE beyond max_image_bytes, TMS_FULL, TMS_IO; nothing more may be added then. */
extern TMS_CHECKED TmsStatus intake_write(Intake *intake, const void *data, size_t len);

/* Takes any number of bytes from here on: for what is too large to be a capture and goes to quarantine/ whole. */
extern void intake_lift_limit(Intake *intake);

/*
 * Takes what was written as one capture; TMS_OK means durable, and *entry says under which seq and path. captured_at is now
 * when the record has none. TMS_EXISTS: this was taken under the same key before, and *entry is that capture; TMS_CONFLICT: other
 * bytes were (see ledger_append). TMS_INVALID: not a JPEG; the caller may move it to quarantine/. TMS_FULL, TMS_IO, TMS_STOPPED ...: nothing was taken. On
 * failure `error` says why, in one line.
 */
extern TMS_CHECKED TmsStatus intake_finish(Intake *intake, const Record *record, const char *key, LedgerEntry *entry,
										   char error[RECORD_ERROR_SIZE]);

/*
 * Moves what was written to quarantine/ with a reason, without taking it; no bytes at all leave nothing there. TMS_AGAIN:
 * quarantine/ is full.
 */
extern TMS_CHECKED TmsStatus intake_quarantine(Intake *intake, const char *name, const char *reason);

/* Frees it; what was not taken is removed. NULL is allowed. */
extern void intake_free(Intake *intake);

/* What a sender is told about a failure of that kind, in a few words; static memory. */
extern const char *intake_failure(TmsStatus status);

#endif
