/*
 * common/sha256: digests in one shot and in pieces, HMACs, hexadecimal text.
 */
#include "vectors.h"

#include "common/sha256.h"

static bool check_digest(char **field)
{
	size_t len;
	uint8_t *data = vector_hex(field[0], &len);
	uint8_t digest[TMS_SHA256_SIZE];
	char hex[TMS_SHA256_HEX_SIZE];
	bool done = tms_sha256(data, len, digest);

	free(data);
	tms_sha256_hex(digest, hex);
	return done && strcmp(hex, field[1]) == 0;
}

static void test_digests(void **state)
{
	vectors_check("sha256.tsv", 2, check_digest);
}

/* Every way to cut the data in two, with one digest object that is used again and again. */
static bool check_pieces(char **field)
{
	TmsSha256 *digest = tms_sha256_new();
	size_t len;
	size_t cut;
	uint8_t *data = vector_hex(field[0], &len);
	uint8_t expected[TMS_SHA256_SIZE];
	bool same = tms_sha256_parse(field[1], strlen(field[1]), expected);

	for (cut = 0; cut <= len; cut++)
	{
		uint8_t out[TMS_SHA256_SIZE] = {0};

		same = same && tms_sha256_update(digest, data, cut) && tms_sha256_update(digest, data + cut, len - cut) &&
			   tms_sha256_final(digest, out) && memcmp(out, expected, sizeof(out)) == 0 && tms_sha256_reset(digest);
	}
	free(data);
	tms_sha256_free(digest);
	return same;
}

static void test_pieces(void **state)
{
	vectors_check("sha256.tsv", 2, check_pieces);
}

/* The third vector of FIPS 180-2, a million times "a", in pieces of 1,000. */
static void test_million(void **state)
{
	TmsSha256 *digest = tms_sha256_new();
	char piece[1000];
	uint8_t out[TMS_SHA256_SIZE];
	char hex[TMS_SHA256_HEX_SIZE];

	memset(piece, 'a', sizeof(piece));
	assert_non_null(digest);
	for (int i = 0; i < 1000; i++)
		assert_true(tms_sha256_update(digest, piece, sizeof(piece)));
	assert_true(tms_sha256_final(digest, out));
	tms_sha256_free(digest);
	tms_sha256_hex(out, hex);
	assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static bool check_hmac(char **field)
{
	size_t key_len;
	size_t data_len;
	uint8_t *key = vector_hex(field[0], &key_len);
	uint8_t *data = vector_hex(field[1], &data_len);
	uint8_t code[TMS_SHA256_SIZE];
	char hex[TMS_SHA256_HEX_SIZE];
	bool done = tms_hmac_sha256(key, key_len, data, data_len, code);

	free(key);
	free(data);
	tms_sha256_hex(code, hex);
	return done && strcmp(hex, field[2]) == 0;
}

static void test_hmacs(void **state)
{
	vectors_check("hmac_sha256.tsv", 3, check_hmac);
}

/* An empty key may come without an address, which most of OpenSSL takes for "the key of the call before". */
static void test_null_key(void **state)
{
	uint8_t none[TMS_SHA256_SIZE];
	uint8_t empty[TMS_SHA256_SIZE];

	assert_true(tms_hmac_sha256(NULL, 0, "x", 1, none));
	assert_true(tms_hmac_sha256("", 0, "x", 1, empty));
	assert_memory_equal(none, empty, sizeof(none));
}

static void test_hex(void **state)
{
	static const char lower[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
	static const char upper[] = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
	uint8_t digest[TMS_SHA256_SIZE];
	uint8_t untouched[TMS_SHA256_SIZE];
	char hex[TMS_SHA256_HEX_SIZE];

	assert_true(tms_sha256_parse(upper, 64, digest));
	tms_sha256_hex(digest, hex);
	assert_string_equal(hex, lower);

	memcpy(untouched, digest, sizeof(digest));
	assert_false(tms_sha256_parse(lower, 63, digest));
	assert_false(tms_sha256_parse(lower, 65, digest));
	assert_false(tms_sha256_parse("", 0, digest));
	for (int i = 0; i < 64; i++)
	{
		static const char wrong[] = "g/:@G`\x80 ";

		for (const char *c = wrong; *c != '\0'; c++)
		{
			memcpy(hex, lower, sizeof(hex));
			hex[i] = *c;
			assert_false(tms_sha256_parse(hex, 64, digest));
		}
		hex[i] = '\0';
		assert_false(tms_sha256_parse(hex, 64, digest));
	}
	assert_memory_equal(digest, untouched, sizeof(digest));
}

static void test_free_null(void **state)
{
	tms_sha256_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digests),   cmocka_unit_test(test_pieces),   cmocka_unit_test(test_million),
		cmocka_unit_test(test_hmacs),     cmocka_unit_test(test_null_key), cmocka_unit_test(test_hex),
		cmocka_unit_test(test_free_null),
	};

	return cmocka_run_group_tests_name("sha256", tests, NULL, NULL);
}
