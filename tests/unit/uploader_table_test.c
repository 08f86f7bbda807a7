/*
 * Tests of agent/uploader_table.c: what is under way is never due, the least id goes first, and a full table forgets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/uploader_table.h"

static UploaderTable table;

static int begin(void **state)
{
	uploader_table_init(&table);
	return 0;
}

static int end(void **state)
{
	uploader_table_free(&table);
	return 0;
}

static void wait_until(int64_t id, int64_t retry_at)
{
	UploaderItem *item = uploader_table_take(&table, id);

	assert_non_null(item);
	item->backoff.retry_at = retry_at;
	uploader_table_wait(&table, item);
}

static int64_t due_id(int64_t now)
{
	UploaderItem *item = uploader_table_due(&table, now);

	return item == NULL ? 0 : item->id;
}

static void under_way_is_not_due(void **state)
{
	assert_null(uploader_table_find(&table, 7));
	assert_true(uploader_table_take(&table, 7)->under_way);
	assert_int_equal(due_id(INT64_MAX), 0);
	wait_until(7, 100);
	assert_int_equal(due_id(99), 0);
	assert_int_equal(due_id(100), 7);
	assert_ptr_equal(uploader_table_take(&table, 7), uploader_table_find(&table, 7));
	assert_int_equal(due_id(INT64_MAX), 0);
	assert_int_equal(table.count, 1);
}

static void least_id_first(void **state)
{
	static const int64_t ids[] = {50, 10, 40, 20, 30};

	for (int i = 0; i < 5; i++)
		wait_until(ids[i], 1000 - ids[i]);
	assert_int_equal(due_id(949), 0);
	assert_int_equal(due_id(950), 50);
	assert_int_equal(due_id(970), 30);
	for (int64_t id = 10; id <= 50; id += 10)
	{
		assert_int_equal(due_id(5000), id);
		uploader_table_remove(&table, id);
		assert_null(uploader_table_find(&table, id));
	}
	uploader_table_remove(&table, 10);
	assert_int_equal(table.count, 0);
	assert_int_equal(due_id(INT64_MAX), 0);
}

static void failures_are_kept(void **state)
{
	UploaderItem *item;

	uploader_table_take(&table, 1)->backoff.failures = 3;
	for (int64_t id = 2; id < 1000; id++)
		assert_non_null(uploader_table_take(&table, id));
	item = uploader_table_take(&table, 1);
	assert_int_equal(item->backoff.failures, 3);
	assert_int_equal(table.count, 999);
}

/* Only what waits is forgotten, and of that what would have come first anyway. */
static void full_table_forgets(void **state)
{
	for (int64_t id = 1; id <= UPLOADER_TABLE_MAX; id++)
		if (id % 2 == 0)
			wait_until(id, 1000000 + (id == 500 ? -1 : id));
		else
			assert_non_null(uploader_table_take(&table, id));
	assert_int_equal(table.count, UPLOADER_TABLE_MAX);
	assert_non_null(uploader_table_take(&table, UPLOADER_TABLE_MAX + 1));
	assert_int_equal(table.count, UPLOADER_TABLE_MAX);
	assert_null(uploader_table_find(&table, 500));
	for (int64_t id = 2; id <= UPLOADER_TABLE_MAX + 1; id++)
		if (id != 500)
			assert_non_null(uploader_table_take(&table, id));
	assert_non_null(uploader_table_find(&table, 1));
	assert_null(uploader_table_take(&table, UPLOADER_TABLE_MAX + 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(under_way_is_not_due, begin, end),
		cmocka_unit_test_setup_teardown(least_id_first, begin, end),
		cmocka_unit_test_setup_teardown(failures_are_kept, begin, end),
		cmocka_unit_test_setup_teardown(full_table_forgets, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
