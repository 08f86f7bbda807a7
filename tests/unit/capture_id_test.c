/*
 * common/capture_id: UUIDs, ledger numbers, capture ids, the ledgers of forks.
 */
#include "vectors.h"

#include "common/capture_id.h"

static bool uuid_read(const char *text, TmsUuid *uuid)
{
	return tms_uuid_parse(text, strlen(text), uuid);
}

static bool check_uuid(char **field)
{
	static const TmsUuid before = {{1, 2, 3}};
	size_t len;
	char *text = vector_text(field[0], &len);
	TmsUuid uuid = before;
	char again[TMS_UUID_TEXT_SIZE];
	bool read = tms_uuid_parse(text, len, &uuid);

	free(text);
	if (!read)
		return strcmp(field[1], "bad") == 0 && memcmp(&uuid, &before, sizeof(uuid)) == 0;
	tms_uuid_format(&uuid, again);
	return strcmp(again, field[1]) == 0;
}

static void test_uuids(void **state)
{
	vectors_check("uuid.tsv", 2, check_uuid);
}

static void test_random(void **state)
{
	TmsUuid one;
	TmsUuid other;

	assert_true(tms_uuid_random(&one));
	assert_true(tms_uuid_random(&other));
	assert_memory_not_equal(&one, &other, sizeof(one));
	assert_int_equal(one.bytes[6] >> 4, 4);
	assert_int_equal(one.bytes[8] >> 6, 2);
}

static bool check_ledger_number(char **field)
{
	TmsUuid uuid;

	return uuid_read(field[0], &uuid) && tms_ledger_number(&uuid) == atoll(field[1]);
}

static void test_ledger_numbers(void **state)
{
	vectors_check("ledger_number.tsv", 2, check_ledger_number);
}

static bool check_capture_id(char **field)
{
	int32_t ledger_no = (int32_t) atoll(field[0]);
	int64_t seq = atoll(field[1]);
	int64_t id = tms_capture_id(ledger_no, seq);

	if (strcmp(field[2], "bad") == 0)
		return id == 0;
	return id == atoll(field[2]) && tms_capture_ledger_no(id) == ledger_no && tms_capture_seq(id) == seq;
}

static void test_capture_ids(void **state)
{
	vectors_check("capture_id.tsv", 3, check_capture_id);
}

static bool check_fork(char **field)
{
	TmsUuid ledger;
	TmsUuid fork;
	uint8_t sha256[TMS_SHA256_SIZE];
	char text[TMS_UUID_TEXT_SIZE];

	if (!uuid_read(field[0], &ledger) || !tms_sha256_parse(field[2], strlen(field[2]), sha256) ||
		!tms_ledger_fork_uuid(&ledger, atoll(field[1]), sha256, &fork))
		return false;
	tms_uuid_format(&fork, text);
	return strcmp(text, field[3]) == 0;
}

static void test_forks(void **state)
{
	vectors_check("ledger_fork.tsv", 4, check_fork);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_uuids),       cmocka_unit_test(test_random), cmocka_unit_test(test_ledger_numbers),
		cmocka_unit_test(test_capture_ids), cmocka_unit_test(test_forks),
	};

	return cmocka_run_group_tests_name("capture_id", tests, NULL, NULL);
}
