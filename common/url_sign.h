/*
 * Signed URLs of the front end's cache server: the wrapper signs, the cache server checks.
 *
 *   url_key = HMAC-SHA256(token, "tms cache url v1")
 *   sig     = base64url without padding (HMAC-SHA256(url_key, METHOD "\n" path "\n" expires))
 *
 * METHOD is "GET" and holds for HEAD too; path is the decoded URL path from /v1/images/ on; expires is Unix seconds in
 * decimal.
 */
#ifndef TMS_URL_SIGN_H
#define TMS_URL_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TMS_URL_KEY_SIZE       32
#define TMS_URL_SIGNATURE_SIZE 44 /* 43 characters and the final NUL */
#define TMS_URL_PREFIX         "/v1/images/"

/* Derives the key that signs URLs from a device's token. False when OpenSSL fails. */
extern bool tms_url_key(const char *token, size_t token_len, uint8_t out[TMS_URL_KEY_SIZE]);

/* Signs `path` (NUL-terminated, from /v1/images/ on) until `expires`. False when OpenSSL fails or the path is too long. */
extern bool tms_url_signature(const uint8_t key[TMS_URL_KEY_SIZE], const char *path, int64_t expires,
							  char out[TMS_URL_SIGNATURE_SIZE]);

/* Is `sig` the signature of path and expires? Takes the same time for every wrong signature; does not look at the clock. */
extern bool tms_url_signature_valid(const uint8_t key[TMS_URL_KEY_SIZE], const char *path, int64_t expires,
									const char *sig);

#endif
