/*
 * Storage paths and object keys: where a capture lies in the front end's cache and in the image center.
 *
 * A storage path is [A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*, has no part "." or "..", and at most 255 bytes. Its characters
 * need no escaping in a URL, a shell or SQL; whatever passes tms_storage_path_valid can be appended to a folder or a URL.
 */
#ifndef TMS_OBJECT_PATH_H
#define TMS_OBJECT_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sha256.h"

#define TMS_STORAGE_PATH_MAX  255
#define TMS_STORAGE_PATH_SIZE (TMS_STORAGE_PATH_MAX + 1)
#define TMS_DEVICE_CODE_MAX   63
#define TMS_DEVICE_CODE_SIZE  (TMS_DEVICE_CODE_MAX + 1)
#define TMS_OBJECT_KEY_SIZE   (TMS_DEVICE_CODE_MAX + 1 + TMS_STORAGE_PATH_SIZE)

/* What the agent's own storage paths say of their capture. */
typedef struct TmsStoragePathParts
{
	int64_t seq;
	int32_t ledger_no;
	uint8_t sha256_head[4]; /* the first four bytes of the digest */
} TmsStoragePathParts;

/* Is this (not NUL-terminated) text a storage path? Bytes after a NUL count, so an embedded NUL is refused. */
extern bool tms_storage_path_valid(const char *path, size_t len);

/* Is this text a device code, [A-Za-z0-9][A-Za-z0-9._-]{0,62}? */
extern bool tms_device_code_valid(const char *code, size_t len);

/* Writes "<device code>/<storage path>"; both must be valid. False when a part is not valid. */
extern bool tms_object_key(const char *device_code, const char *path, char out[TMS_OBJECT_KEY_SIZE]);

/*
 * Writes the agent's storage path of a capture: YYYY/MM/DD/HH/<seq>-<ledger number, 8 hex>-<first 8 hex of sha256>.jpg,
 * with captured_at (microseconds since 1970, UTC) in UTC. False for a time outside the years 0001 to 9999 or a seq < 1.
 */
extern bool tms_storage_path_make(int64_t captured_at, int64_t seq, int32_t ledger_no,
								  const uint8_t sha256[TMS_SHA256_SIZE], char out[TMS_STORAGE_PATH_SIZE]);

/* Reads the file name of such a path (folders before it are not looked at); false when the name is not of that form. */
extern bool tms_storage_path_parse(const char *path, TmsStoragePathParts *parts);

#endif
