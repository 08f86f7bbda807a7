/*
 * Identity of captures: the ledger's UUID, its number, and capture_id = ledger number << 32 | seq.
 */
#ifndef TMS_CAPTURE_ID_H
#define TMS_CAPTURE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sha256.h"

#define TMS_SEQ_MAX        INT64_C(4294967295)
#define TMS_LEDGER_NO_MAX  INT32_MAX
#define TMS_UUID_SIZE      16
#define TMS_UUID_TEXT_SIZE 37 /* with the final NUL */

typedef struct TmsUuid
{
	uint8_t bytes[TMS_UUID_SIZE];
} TmsUuid;

/* Reads the 36-character form, either case; false (and out untouched) for anything else. */
extern bool tms_uuid_parse(const char *text, size_t len, TmsUuid *out);

/* Writes the 36-character lower-case form and a NUL. */
extern void tms_uuid_format(const TmsUuid *uuid, char out[TMS_UUID_TEXT_SIZE]);

/* A new random (version 4) UUID; false when the system has no randomness. */
extern bool tms_uuid_random(TmsUuid *out);

/* The ledger number a UUID asks for: its first 31 bits (first 32 bits, big-endian, shifted right by one). */
extern int32_t tms_ledger_number(const TmsUuid *ledger);

/* capture_id of a seq (1 .. TMS_SEQ_MAX) in a ledger (0 .. TMS_LEDGER_NO_MAX); 0 when either is out of range. */
extern int64_t tms_capture_id(int32_t ledger_no, int64_t seq);

/* The two parts of a capture_id. */
extern int32_t tms_capture_ledger_no(int64_t capture_id);
extern int64_t tms_capture_seq(int64_t capture_id);

/*
 * The ledger that entries move to when `ledger` forks at seq `from`: UUID version 5 in the old ledger's name space of the
 * text "<from>:<sha256 of the first moved entry, lower-case hex>". Deterministic, so that a twin opens the same one.
 * False when OpenSSL fails.
 */
extern bool tms_ledger_fork_uuid(const TmsUuid *ledger, int64_t from, const uint8_t sha256[TMS_SHA256_SIZE],
								 TmsUuid *out);

#endif
