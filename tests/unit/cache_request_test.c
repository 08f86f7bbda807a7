/*
 * Tests of agent/cache_request.c: decoding, the signature's check with the golden vectors, ranges.
 */
#include "vectors.h"

#include "agent/cache_request.h"

static void check_decoded(const char *text, const char *expected)
{
	char *copy = strdup(text);

	assert_int_equal(cache_request_decode(copy), strlen(expected));
	assert_string_equal(copy, expected);
	free(copy);
}

static void decoding(void **state)
{
	check_decoded("", "");
	check_decoded("/v1/images/a", "/v1/images/a");
	check_decoded("%2e%2E%2f%41", "../A");
	check_decoded("%252e", "%2e"); /* once only */
	check_decoded("a+b", "a+b");
	check_decoded("a%00b", "a\x01"
						   "b");
	check_decoded("a%0a%7f", "a\x01\x01");
	check_decoded("%", "\x01");
	check_decoded("%4", "\x01"
						"4");
	check_decoded("%zz", "\x01zz");
	check_decoded("\xe4%bb%a4", "\xe4\xbb\xa4");
}

/* The vector's token, path, expires, key, signature: served when it is time, and not when anything is changed. */
static bool check_signed(char **field)
{
	size_t token_len;
	char *token = vector_text(field[0], &token_len), *path = vector_string(field[1]), *sig = field[4];
	int64_t expires = strtoll(field[2], NULL, 10);
	uint8_t key[TMS_URL_KEY_SIZE];
	bool good = tms_url_key(token, token_len, key);

	if (expires < 0 || expires > INT64_MAX - 1)
	{
		/* Not a time this server takes, signed or not. */
		good = good && cache_request_refusal(key, path, field[2], sig, 1) != NULL;
	}
	else
	{
		good = good && cache_request_refusal(key, path, field[2], sig, expires) == NULL;
		good = good && cache_request_refusal(key, path, field[2], sig, expires - CACHE_EXPIRES_MAX) == NULL;
		good = good && !strcmp(cache_request_refusal(key, path, field[2], sig, expires + 1), "the URL has expired");
		good = good && !strcmp(cache_request_refusal(key, path, field[2], sig, expires - CACHE_EXPIRES_MAX - 1),
							   "the URL is valid for too long");
		sig[0] = sig[0] == 'A' ? 'B' : 'A';
		good = good && !strcmp(cache_request_refusal(key, path, field[2], sig, expires), "the signature is wrong");
	}
	free(token);
	free(path);
	return good;
}

static void signatures(void **state)
{
	vectors_check("url_sign.tsv", 5, check_signed);
}

static void refusals(void **state)
{
	static const char path[] = "/v1/images/a";
	uint8_t key[TMS_URL_KEY_SIZE];
	char sig[TMS_URL_SIGNATURE_SIZE];

	assert_true(tms_url_key("t", 1, key));
	assert_true(tms_url_signature(key, path, 1000, sig));
	assert_null(cache_request_refusal(key, path, "1000", sig, 999));
	assert_string_equal(cache_request_refusal(key, path, NULL, sig, 999), "the URL is not signed");
	assert_string_equal(cache_request_refusal(key, path, "1000", NULL, 999), "the URL is not signed");
	assert_string_equal(cache_request_refusal(key, path, "", sig, 999), "the signature is wrong");
	assert_string_equal(cache_request_refusal(key, path, "1000", "", 999), "the signature is wrong");
	assert_string_equal(cache_request_refusal(key, path, "1001", sig, 999), "the signature is wrong");
	assert_string_equal(cache_request_refusal(key, path, "1000x", sig, 999), "the signature is wrong");
	assert_string_equal(cache_request_refusal(key, path, " 1000", sig, 999), "the signature is wrong");
	assert_string_equal(cache_request_refusal(key, path, "+1000", sig, 999), "the signature is wrong");
	assert_string_equal(cache_request_refusal(key, "/v1/images/b", "1000", sig, 999), "the signature is wrong");
	/* A wrong signature says nothing of the time. */
	assert_string_equal(cache_request_refusal(key, "/v1/images/b", "1000", sig, 2000), "the signature is wrong");
}

typedef struct Range
{
	const char *header;
	CacheRange kind;
	int64_t first;
	int64_t length;
} Range;

static const Range ranges[] = {
	{NULL, CACHE_RANGE_WHOLE, 0, 1000},
	{"", CACHE_RANGE_WHOLE, 0, 1000},
	{"bytes=0-0", CACHE_RANGE_PART, 0, 1},
	{"bytes=0-999", CACHE_RANGE_PART, 0, 1000},
	{"bytes=0-1000", CACHE_RANGE_PART, 0, 1000},
	{"bytes=10-", CACHE_RANGE_PART, 10, 990},
	{"bytes=999-", CACHE_RANGE_PART, 999, 1},
	{"bytes=10-19", CACHE_RANGE_PART, 10, 10},
	{"bytes=-1", CACHE_RANGE_PART, 999, 1},
	{"bytes=-1000", CACHE_RANGE_PART, 0, 1000},
	{"bytes=-5000", CACHE_RANGE_PART, 0, 1000},
	{"bytes=999999999999999999-", CACHE_RANGE_OUTSIDE, 0, 0},
	{"bytes=1000-", CACHE_RANGE_OUTSIDE, 0, 0},
	{"bytes=1000-2000", CACHE_RANGE_OUTSIDE, 0, 0},
	{"bytes=-0", CACHE_RANGE_OUTSIDE, 0, 0},
	{"bytes=9-8", CACHE_RANGE_WHOLE, 0, 1000},
	{"bytes=0-1,5-6", CACHE_RANGE_WHOLE, 0, 1000},
	{"bytes=-", CACHE_RANGE_WHOLE, 0, 1000},
	{"bytes=--1", CACHE_RANGE_WHOLE, 0, 1000},
	{"bytes=a-b", CACHE_RANGE_WHOLE, 0, 1000},
	{"bytes=1 - 2", CACHE_RANGE_WHOLE, 0, 1000},
	{"bytes=9999999999999999999-", CACHE_RANGE_WHOLE, 0, 1000},
	{"bytes=0-9999999999999999999", CACHE_RANGE_WHOLE, 0, 1000},
	{"bytes=7", CACHE_RANGE_WHOLE, 0, 1000},
	{"items=0-1", CACHE_RANGE_WHOLE, 0, 1000},
};

static void byte_ranges(void **state)
{
	int64_t first, length;

	for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
	{
		const Range *range = &ranges[i];
		CacheRange kind = cache_request_range(range->header, 1000, &first, &length);

		if (kind != range->kind || (kind != CACHE_RANGE_OUTSIDE && (first != range->first || length != range->length)))
			fail_msg("%s: kind %d, first %lld, length %lld", range->header, (int) kind, (long long) first,
					 (long long) length);
	}
	assert_int_equal(cache_request_range("bytes=0-", 0, &first, &length), CACHE_RANGE_OUTSIDE);
	assert_int_equal(cache_request_range("bytes=-1", 0, &first, &length), CACHE_RANGE_OUTSIDE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decoding),
		cmocka_unit_test(signatures),
		cmocka_unit_test(refusals),
		cmocka_unit_test(byte_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
