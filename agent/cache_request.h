/*
 * What a request to the cache server asks for, and whether it may: the parts that need no server to be tested.
 */
#ifndef AGENT_CACHE_REQUEST_H
#define AGENT_CACHE_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/url_sign.h"

/* A signed URL may not be valid for longer: seven days, as presigned URLs of S3 stores. Seconds. */
#define CACHE_EXPIRES_MAX (7 * 86400)

/*
 * Decodes %XX in place and returns the new length. A NUL, a control character and a % without two hexadecimal digits become
 * a character that no path and no signature has, so that what comes of them is refused.
 */
extern size_t cache_request_decode(char *text);

/* May this be served at `now` (Unix seconds)? NULL when it may, else the reason; path is decoded, the others may be NULL. */
extern const char *cache_request_refusal(const uint8_t key[TMS_URL_KEY_SIZE], const char *path, const char *expires,
										 const char *sig, int64_t now);

typedef enum CacheRange
{
	CACHE_RANGE_WHOLE, /* none asked for, several, or not understood: all bytes */
	CACHE_RANGE_PART,
	CACHE_RANGE_OUTSIDE, /* begins behind the end: 416 */
} CacheRange;

/* Reads a Range header (NULL: none) for a file of `size` bytes; *first and *length tell the part. */
extern CacheRange cache_request_range(const char *header, int64_t size, int64_t *first, int64_t *length);

#endif
