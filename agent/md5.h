/*
 * MD5 in pieces, by way of OpenSSL: what S3 stores give as the entity tag of an object. It tells of accidents, not of
 * forgery; SHA-256 is in common/sha256.
 */
#ifndef AGENT_MD5_H
#define AGENT_MD5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MD5_SIZE 16

typedef struct Md5 Md5; /* a digest under way */

/* Starts a digest. NULL when OpenSSL has no MD5 (FIPS) or no memory; the caller frees it with md5_free. */
extern Md5 *md5_new(void);

/* Begins anew. False when OpenSSL fails. */
extern bool md5_reset(Md5 *digest);

/* Adds bytes; writes the digest of all of them and ends it. False when OpenSSL fails. */
extern bool md5_update(Md5 *digest, const void *data, size_t len);
extern bool md5_final(Md5 *digest, uint8_t out[MD5_SIZE]);

/* Frees a digest; NULL is allowed. */
extern void md5_free(Md5 *digest);

#endif
