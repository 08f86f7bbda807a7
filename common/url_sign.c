/*
 * Signed URLs of the front end's cache server.
 */
#include "url_sign.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "sha256.h"

/* Longer than any path of a cache, prefix included. */
#define SIGNED_TEXT_SIZE 512

bool tms_url_key(const char *token, size_t token_len, uint8_t out[TMS_URL_KEY_SIZE])
{
	static const char purpose[] = "tms cache url v1";

	return tms_hmac_sha256(token, token_len, purpose, sizeof(purpose) - 1, out);
}

/* The alphabet of URLs (RFC 4648 section 5) in place of the standard one, without padding. */
static void base64url(const uint8_t digest[TMS_SHA256_SIZE], char out[TMS_URL_SIGNATURE_SIZE])
{
	unsigned char text[TMS_URL_SIGNATURE_SIZE + 1];
	size_t i;

	EVP_EncodeBlock(text, digest, TMS_SHA256_SIZE);
	for (i = 0; i < TMS_URL_SIGNATURE_SIZE - 1; i++)
		out[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : (char) text[i];
	out[TMS_URL_SIGNATURE_SIZE - 1] = '\0';
}

bool tms_url_signature(const uint8_t key[TMS_URL_KEY_SIZE], const char *path, int64_t expires,
					   char out[TMS_URL_SIGNATURE_SIZE])
{
	char text[SIGNED_TEXT_SIZE];
	uint8_t digest[TMS_SHA256_SIZE];
	int len = snprintf(text, sizeof(text), "GET\n%s\n%" PRId64, path, expires);

	if (len < 0 || (size_t) len >= sizeof(text))
		return false;
	if (!tms_hmac_sha256(key, TMS_URL_KEY_SIZE, text, (size_t) len, digest))
		return false;
	base64url(digest, out);
	return true;
}

bool tms_url_signature_valid(const uint8_t key[TMS_URL_KEY_SIZE], const char *path, int64_t expires, const char *sig)
{
	char expected[TMS_URL_SIGNATURE_SIZE];

	if (!tms_url_signature(key, path, expires, expected))
		return false;
	return strlen(sig) == sizeof(expected) - 1 && CRYPTO_memcmp(sig, expected, sizeof(expected) - 1) == 0;
}
