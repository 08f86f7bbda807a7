/*
 * SHA-256 and HMAC-SHA-256 by way of OpenSSL, in one shot and in pieces, and their hexadecimal text.
 */
#ifndef TMS_SHA256_H
#define TMS_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TMS_SHA256_SIZE     32
#define TMS_SHA256_HEX_SIZE (2 * TMS_SHA256_SIZE + 1) /* with the final NUL */

typedef struct TmsSha256 TmsSha256; /* a digest under way */

/* Start a digest. NULL when out of memory; the caller frees it with tms_sha256_free. */
extern TmsSha256 *tms_sha256_new(void);

/* Begin anew with a digest object that was used before. False when OpenSSL fails. */
extern bool tms_sha256_reset(TmsSha256 *digest);

/* Add len bytes. False when OpenSSL fails, after which the digest is worthless. */
extern bool tms_sha256_update(TmsSha256 *digest, const void *data, size_t len);

/* Write the digest of all bytes added so far and end it; reset before further use. */
extern bool tms_sha256_final(TmsSha256 *digest, uint8_t out[TMS_SHA256_SIZE]);

/* Free a digest; NULL is allowed. */
extern void tms_sha256_free(TmsSha256 *digest);

/* Digest of one buffer. False when OpenSSL fails (out of memory). */
extern bool tms_sha256(const void *data, size_t len, uint8_t out[TMS_SHA256_SIZE]);

/* HMAC-SHA-256 of one buffer. False when OpenSSL fails. */
extern bool tms_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
							uint8_t out[TMS_SHA256_SIZE]);

/* Writes 2 * count lower-case hexadecimal digits and a NUL. */
extern void tms_hex_format(const uint8_t *bytes, size_t count, char *out);

/* Reads 2 * count hexadecimal digits of either case; false (and out untouched) when one of them is none. */
extern bool tms_hex_parse(const char *hex, size_t count, uint8_t *out);

/* Lower-case hexadecimal text of a digest, NUL-terminated. */
extern void tms_sha256_hex(const uint8_t digest[TMS_SHA256_SIZE], char out[TMS_SHA256_HEX_SIZE]);

/* Reads 64 hexadecimal digits of either case; false (and out untouched) for anything else. */
extern bool tms_sha256_parse(const char *hex, size_t len, uint8_t out[TMS_SHA256_SIZE]);

#endif
