/*
 * common/url_sign: keys and signatures as openssl computes them, and nothing else accepted.
 */
#include "vectors.h"

#include "common/sha256.h"
#include "common/url_sign.h"

static bool check_signature(char **field)
{
	size_t token_len;
	char *token = vector_text(field[0], &token_len);
	int64_t expires = atoll(field[2]);
	uint8_t key[TMS_URL_KEY_SIZE];
	char hex[TMS_SHA256_HEX_SIZE];
	char signature[TMS_URL_SIGNATURE_SIZE];
	bool derived = tms_url_key(token, token_len, key);

	free(token);
	tms_sha256_hex(key, hex);
	return derived && strcmp(hex, field[3]) == 0 && tms_url_signature(key, field[1], expires, signature) &&
		   strcmp(signature, field[4]) == 0 && tms_url_signature_valid(key, field[1], expires, field[4]);
}

static void test_signatures(void **state)
{
	vectors_check("url_sign.tsv", 5, check_signature);
}

static void test_wrong_signatures(void **state)
{
	static const uint8_t key[TMS_URL_KEY_SIZE] = {1};
	static const uint8_t other_key[TMS_URL_KEY_SIZE] = {2};
	static const char path[] = TMS_URL_PREFIX "2026/11/22/06/1-00000000-00000000.jpg";
	char good[TMS_URL_SIGNATURE_SIZE];
	char wrong[TMS_URL_SIGNATURE_SIZE + 8];

	assert_true(tms_url_signature(key, path, 1000, good));
	assert_int_equal(strlen(good), TMS_URL_SIGNATURE_SIZE - 1);
	assert_true(tms_url_signature_valid(key, path, 1000, good));

	assert_false(tms_url_signature_valid(other_key, path, 1000, good));
	assert_false(tms_url_signature_valid(key, path, 1001, good));
	assert_false(tms_url_signature_valid(key, path, -1000, good));
	assert_false(tms_url_signature_valid(key, TMS_URL_PREFIX "other.jpg", 1000, good));
	assert_false(tms_url_signature_valid(key, "", 1000, good));
	assert_false(tms_url_signature_valid(key, path, 1000, ""));

	for (size_t i = 0; i < sizeof(good) - 1; i++)
	{
		snprintf(wrong, sizeof(wrong), "%s", good);
		wrong[i] = good[i] == 'A' ? 'B' : 'A';
		assert_false(tms_url_signature_valid(key, path, 1000, wrong));
		wrong[i] = '\0';
		assert_false(tms_url_signature_valid(key, path, 1000, wrong));
	}
	snprintf(wrong, sizeof(wrong), "%s=", good);
	assert_false(tms_url_signature_valid(key, path, 1000, wrong));
	snprintf(wrong, sizeof(wrong), "%sA", good);
	assert_false(tms_url_signature_valid(key, path, 1000, wrong));
}

/* What was signed cannot be read in two ways: a newline in the path moves nothing into the expiry. */
static void test_newline(void **state)
{
	static const uint8_t key[TMS_URL_KEY_SIZE];
	char one[TMS_URL_SIGNATURE_SIZE];
	char other[TMS_URL_SIGNATURE_SIZE];

	assert_true(tms_url_signature(key, "/v1/images/a", 12, one));
	assert_true(tms_url_signature(key, "/v1/images/a\n12", 12, other));
	assert_string_not_equal(one, other);
}

static void test_long_path(void **state)
{
	static const uint8_t key[TMS_URL_KEY_SIZE];
	char path[2048];
	char signature[TMS_URL_SIGNATURE_SIZE];

	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_false(tms_url_signature(key, path, 1, signature));
	assert_false(tms_url_signature_valid(key, path, 1, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signatures),
		cmocka_unit_test(test_wrong_signatures),
		cmocka_unit_test(test_newline),
		cmocka_unit_test(test_long_path),
	};

	return cmocka_run_group_tests_name("url_sign", tests, NULL, NULL);
}
