/*
 * common/object_path: what is a storage path, and the paths that the agent makes and reads.
 */
#include "vectors.h"

#include "common/capture_record.h"
#include "common/object_path.h"

typedef bool (*NameCheck)(const char *text, size_t len);

static bool check_name(char **field, NameCheck valid)
{
	size_t len;
	char *text = vector_text(field[0], &len);
	bool answer = valid(text, len);

	free(text);
	return answer == (strcmp(field[1], "ok") == 0);
}

static bool check_storage_path(char **field)
{
	return check_name(field, tms_storage_path_valid);
}

static void test_storage_paths(void **state)
{
	vectors_check("storage_path.tsv", 2, check_storage_path);
}

static bool check_device_code(char **field)
{
	return check_name(field, tms_device_code_valid);
}

static void test_device_codes(void **state)
{
	vectors_check("device_code.tsv", 2, check_device_code);
}

/* A path of one byte is valid for the bytes of names only, whatever the locale. */
static void test_every_byte(void **state)
{
	static const char names[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

	for (int byte = 0; byte < 256; byte++)
	{
		char path[] = {'a', (char) byte, 'b'};

		assert_int_equal(tms_storage_path_valid(path, 3),
						 byte == '/' || memchr(names, byte, sizeof(names) - 1) != NULL);
	}
}

static bool check_object_key(char **field)
{
	char key[TMS_OBJECT_KEY_SIZE];

	if (!tms_object_key(field[0], field[1], key))
		return strcmp(field[2], "bad") == 0;
	return strcmp(field[2], key) == 0;
}

static void test_object_keys(void **state)
{
	vectors_check("object_key.tsv", 3, check_object_key);
}

static bool check_made(char **field)
{
	uint8_t sha256[TMS_SHA256_SIZE];
	char path[TMS_STORAGE_PATH_SIZE];
	TmsStoragePathParts parts;
	int64_t captured_at;
	int64_t seq = atoll(field[1]);
	int32_t ledger_no = (int32_t) atoll(field[2]);

	return tms_time_parse(field[0], strlen(field[0]), &captured_at) &&
		   tms_sha256_parse(field[3], strlen(field[3]), sha256) &&
		   tms_storage_path_make(captured_at, seq, ledger_no, sha256, path) && strcmp(path, field[4]) == 0 &&
		   tms_storage_path_valid(path, strlen(path)) && tms_storage_path_parse(path, &parts) && parts.seq == seq &&
		   parts.ledger_no == ledger_no && memcmp(parts.sha256_head, sha256, sizeof(parts.sha256_head)) == 0;
}

static void test_made(void **state)
{
	vectors_check("storage_path_made.tsv", 5, check_made);
}

static void test_not_made(void **state)
{
	static const uint8_t sha256[TMS_SHA256_SIZE];
	char path[TMS_STORAGE_PATH_SIZE];

	assert_true(tms_storage_path_make(0, 1, 0, sha256, path));
	assert_string_equal(path, "1970/01/01/00/1-00000000-00000000.jpg");
	assert_false(tms_storage_path_make(0, 0, 0, sha256, path));
	assert_false(tms_storage_path_make(0, -1, 0, sha256, path));
	assert_false(tms_storage_path_make(0, INT64_C(4294967296), 0, sha256, path));
	assert_false(tms_storage_path_make(0, 1, -1, sha256, path));
	assert_false(tms_storage_path_make(INT64_MAX, 1, 0, sha256, path));
	assert_false(tms_storage_path_make(INT64_MIN, 1, 0, sha256, path));
}

static bool check_read(char **field)
{
	char *path = vector_string(field[0]);
	TmsStoragePathParts parts;
	bool read = tms_storage_path_parse(path, &parts);
	char head[9];

	free(path);
	if (!read)
		return strcmp(field[1], "bad") == 0;
	tms_hex_format(parts.sha256_head, sizeof(parts.sha256_head), head);
	return parts.seq == atoll(field[1]) && parts.ledger_no == atoll(field[2]) && strcmp(head, field[3]) == 0;
}

static void test_read(void **state)
{
	vectors_check("storage_path_read.tsv", 4, check_read);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_storage_paths), cmocka_unit_test(test_device_codes), cmocka_unit_test(test_every_byte),
		cmocka_unit_test(test_object_keys),   cmocka_unit_test(test_made),         cmocka_unit_test(test_not_made),
		cmocka_unit_test(test_read),
	};

	return cmocka_run_group_tests_name("object_path", tests, NULL, NULL);
}
