/*
 * An S3 store's refusal: whatever its body, what is told of it is one short line of printable ASCII. And a base URL with a
 * key, on two lines before it: what is signed is one line a header, and the URL has nothing but what a URL may have.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/s3.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static bool is_printable(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

static bool check_line(void *argument, const char *line)
{
	require(is_printable(line) && strstr(line, ": ") != NULL);
	return true;
}

static void check_signing(const char *base_url, const char *key)
{
	static const TmsSigv4Credentials credentials = {
		.access_key_id = "id", .secret_access_key = "secret", .session_token = "token", .region = "us-east-1"};
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/%";
	const TmsS3Request request = {
		.method = "GET", .base_url = base_url, .key = key, .payload = TMS_S3_NO_PAYLOAD, .time = 1369353600};
	char url[TMS_S3_URL_SIZE], presigned[TMS_S3_URL_SIZE];
	const char *path;

	if (!tms_s3_sign(&credentials, &request, url, check_line, NULL))
		return;
	require(is_printable(url) && strncmp(url, base_url, strcspn(base_url, ":") + 3) == 0);
	path = strchr(strstr(url, "://") + 3, '/');
	require(path != NULL && path[strspn(path, allowed)] == '\0');
	if (tms_s3_presign(&credentials, &request, 60, presigned))
		require(strncmp(presigned, url, strlen(url)) == 0 && presigned[strlen(url)] == '?');
}

static void check_refusal(const uint8_t *body, size_t len, int status)
{
	TmsS3Refusal refusal;
	char phrase[200];

	tms_s3_refusal_read(&refusal, status, (const char *) body, len, "us-east-1", 1000000, 1002000);
	tms_s3_refusal_explain(&refusal, phrase, sizeof phrase);
	require(is_printable(phrase) && strncmp(phrase, "HTTP ", 5) == 0);
	require(is_printable(refusal.code) && is_printable(refusal.message) && is_printable(refusal.region) &&
			is_printable(refusal.endpoint));
	require(tms_s3_refusal_problem(&refusal) <= TMS_S3_REFUSED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int statuses[] = {301, 307, 400, 401, 403, 404, 409, 412, 500, 501, 503};
	const uint8_t *first = memchr(data, '\n', size);
	const uint8_t *second = first != NULL ? memchr(first + 1, '\n', size - (size_t) (first + 1 - data)) : NULL;
	char *base_url, *key;

	for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
		check_refusal(data, size, statuses[i]);
	if (second == NULL)
		return 0;
	base_url = strndup((const char *) data, (size_t) (first - data));
	key = strndup((const char *) first + 1, (size_t) (second - first - 1));
	check_signing(base_url, key);
	free(base_url);
	free(key);
	return 0;
}
