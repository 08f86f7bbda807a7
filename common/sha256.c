/*
 * SHA-256 and HMAC-SHA-256: the only file of both programs that asks OpenSSL for them.
 */
#include "sha256.h"

#include <limits.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

struct TmsSha256
{
	EVP_MD_CTX *context;
};

TmsSha256 *tms_sha256_new(void)
{
	TmsSha256 *digest = malloc(sizeof(*digest));

	if (digest == NULL)
		return NULL;
	digest->context = EVP_MD_CTX_new();
	if (digest->context == NULL || !tms_sha256_reset(digest))
	{
		tms_sha256_free(digest);
		return NULL;
	}
	return digest;
}

bool tms_sha256_reset(TmsSha256 *digest)
{
	return EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL) == 1;
}

bool tms_sha256_update(TmsSha256 *digest, const void *data, size_t len)
{
	return EVP_DigestUpdate(digest->context, data, len) == 1;
}

bool tms_sha256_final(TmsSha256 *digest, uint8_t out[TMS_SHA256_SIZE])
{
	return EVP_DigestFinal_ex(digest->context, out, NULL) == 1;
}

void tms_sha256_free(TmsSha256 *digest)
{
	if (digest == NULL)
		return;
	EVP_MD_CTX_free(digest->context);
	free(digest);
}

bool tms_sha256(const void *data, size_t len, uint8_t out[TMS_SHA256_SIZE])
{
	return EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL) == 1;
}

bool tms_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[TMS_SHA256_SIZE])
{
	if (key_len > INT_MAX)
		return false;
	return HMAC(EVP_sha256(), key, (int) key_len, data, len, out, NULL) != NULL;
}

void tms_hex_format(const uint8_t *bytes, size_t count, char *out)
{
	static const char digits[] = "0123456789abcdef";
	size_t i;

	for (i = 0; i < count; i++)
	{
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool tms_hex_parse(const char *hex, size_t count, uint8_t *out)
{
	size_t i;

	for (i = 0; i < 2 * count; i++)
		if (hex_value(hex[i]) < 0)
			return false;
	for (i = 0; i < count; i++)
		out[i] = (uint8_t) (hex_value(hex[2 * i]) << 4 | hex_value(hex[2 * i + 1]));
	return true;
}

void tms_sha256_hex(const uint8_t digest[TMS_SHA256_SIZE], char out[TMS_SHA256_HEX_SIZE])
{
	tms_hex_format(digest, TMS_SHA256_SIZE, out);
}

bool tms_sha256_parse(const char *hex, size_t len, uint8_t out[TMS_SHA256_SIZE])
{
	return len == 2 * TMS_SHA256_SIZE && tms_hex_parse(hex, TMS_SHA256_SIZE, out);
}
