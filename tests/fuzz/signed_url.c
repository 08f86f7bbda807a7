/*
 * A request to the cache server: a line each for path, expires, sig and Range. Nothing but the one signature opens a path; a
 * path that opens leads nowhere but below the cache; a range is within the file.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cache_request.h"
#include "common/object_path.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW INT64_C(1795327386)

static const uint8_t key[TMS_URL_KEY_SIZE] = {1, 2, 3};

static void require(bool holds)
{
	if (!holds)
		abort();
}

/* What the path's owner would sign opens it, just as long as it may; with any bit changed it does not. */
static void check_signature(const char *path, unsigned bit)
{
	char sig[TMS_URL_SIGNATURE_SIZE], expires[32];

	snprintf(expires, sizeof expires, "%lld", (long long) NOW);
	if (!tms_url_signature(key, path, NOW, sig))
		return; /* longer than any path */
	require(cache_request_refusal(key, path, expires, sig, NOW) == NULL);
	require(cache_request_refusal(key, path, expires, sig, NOW + 1) != NULL);
	require(cache_request_refusal(key, path, expires, sig, NOW - CACHE_EXPIRES_MAX - 1) != NULL);
	sig[bit % 43] ^= (char) (1 << bit % 7);
	require(cache_request_refusal(key, path, expires, sig, NOW) != NULL);
}

static void check_path(const char *path)
{
	static const char prefix[] = TMS_URL_PREFIX;
	TmsStoragePathParts parts;
	const char *tail = path + sizeof prefix - 1;

	if (strncmp(path, prefix, sizeof prefix - 1) != 0 || !tms_storage_path_valid(tail, strlen(tail)))
		return;
	require(*tail != '/' && strstr(tail, "//") == NULL && strncmp(tail, "../", 3) != 0 &&
			strstr(tail, "/../") == NULL && strcmp(tail, "..") != 0 && strlen(tail) < TMS_STORAGE_PATH_SIZE);
	(void) tms_storage_path_parse(tail, &parts);
}

static void check_range(const char *header, int64_t size)
{
	int64_t first, length;
	CacheRange range = cache_request_range(header, size, &first, &length);

	if (range == CACHE_RANGE_WHOLE)
		require(first == 0 && length == size);
	else if (range == CACHE_RANGE_PART)
		require(first >= 0 && length > 0 && first < size && length <= size - first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int64_t sizes[] = {0, 1, 250000, INT64_MAX};
	char *text = strndup((const char *) data, size);
	char *lines[4] = {NULL}, *rest = text;
	size_t len;

	for (int i = 0; i < 4 && rest; i++)
		lines[i] = strsep(&rest, "\n");
	for (int i = 0; i < 3; i++)
		if (lines[i])
		{
			len = strlen(lines[i]);
			require(cache_request_decode(lines[i]) == strlen(lines[i]) && strlen(lines[i]) <= len);
		}
	require(cache_request_refusal(key, lines[0], lines[1], lines[2], NOW) != NULL); /* nobody guesses a signature */
	check_signature(lines[0], size > 0 ? data[size - 1] : 0);
	check_path(lines[0]);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		check_range(lines[3], sizes[i]);
	free(text);
	return 0;
}
