/*
 * MD5 by way of OpenSSL; see md5.h. An Md5 is OpenSSL's own context.
 */
#include <openssl/evp.h>

#include "md5.h"

Md5 *md5_new(void)
{
	Md5 *digest = (Md5 *) EVP_MD_CTX_new();

	if (digest != NULL && md5_reset(digest))
		return digest;
	md5_free(digest);
	return NULL;
}

bool md5_reset(Md5 *digest)
{
	return EVP_DigestInit_ex((EVP_MD_CTX *) digest, EVP_md5(), NULL) == 1;
}

bool md5_update(Md5 *digest, const void *data, size_t len)
{
	return EVP_DigestUpdate((EVP_MD_CTX *) digest, data, len) == 1;
}

bool md5_final(Md5 *digest, uint8_t out[MD5_SIZE])
{
	return EVP_DigestFinal_ex((EVP_MD_CTX *) digest, out, NULL) == 1;
}

void md5_free(Md5 *digest)
{
	EVP_MD_CTX_free((EVP_MD_CTX *) digest);
}
