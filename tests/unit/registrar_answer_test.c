/*
 * Tests of agent/registrar_answer.c: what answers are taken, which cleaning periods make sense, and what is confirmed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/registrar_answer.h"

#define HOUR INT64_C(3600000000)

static bool read_answer(RegistrarAnswer *answer, const char *accepted, const char *fork, const char *period,
						const char *id, const char *since, const char *until)
{
	const char *const fields[REGISTRAR_ANSWER_FIELDS] = {accepted, fork, period, id, since, until};

	return registrar_answer_read(fields, answer);
}

static void a_plain_answer(void **state)
{
	RegistrarAnswer answer;

	assert_true(read_answer(&answer, "4294967295", NULL, "604800000000", NULL, NULL, NULL));
	assert_int_equal(answer.accepted, INT64_C(4294967295));
	assert_int_equal(answer.fork_from, 0);
	assert_int_equal(answer.cleaning_period, 7 * 24 * HOUR);
	assert_false(answer.has_request);
}

static void all_fields(void **state)
{
	RegistrarAnswer answer;

	assert_true(read_answer(&answer, "12", "7", "1000000", "3", "1970-01-01T01:00:00.000000Z", "1970-01-01T02:00:00Z"));
	assert_int_equal(answer.fork_from, 7);
	assert_int_equal(answer.cleaning_period, 1000000);
	assert_true(answer.has_request);
	assert_int_equal(answer.request_id, 3);
	assert_int_equal(answer.request_since, HOUR);
	assert_int_equal(answer.request_until, 2 * HOUR);
}

static void no_answer_at_all(void **state)
{
	static const char *const accepted[] = {NULL, "", "-1", "1.5", "x", "12 ", "99999999999999999999"};
	RegistrarAnswer answer;

	for (size_t i = 0; i < sizeof accepted / sizeof accepted[0]; i++)
		assert_false(read_answer(&answer, accepted[i], NULL, "604800000000", NULL, NULL, NULL));
	assert_false(read_answer(&answer, "1", "0", "604800000000", NULL, NULL, NULL));
	assert_false(read_answer(&answer, "1", "x", "604800000000", NULL, NULL, NULL));
	assert_false(read_answer(&answer, "1", NULL, "604800000000", "1", NULL, "2026-01-01T00:00:00Z"));
	assert_false(read_answer(&answer, "1", NULL, "604800000000", "1", "2026-01-01T00:00:00Z", "infinity"));
	assert_false(read_answer(&answer, "1", NULL, "604800000000", "x", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"));
}

/* The rest of such an answer holds. */
static void periods_that_make_no_sense(void **state)
{
	static const char *const periods[] = {
		NULL, "", "0", "-1", "-604800000000", "999999", "3155760000000001", "99999999999999999999", "7 days"};
	RegistrarAnswer answer;

	for (size_t i = 0; i < sizeof periods / sizeof periods[0]; i++)
	{
		assert_true(read_answer(&answer, "5", NULL, periods[i], NULL, NULL, NULL));
		assert_int_equal(answer.cleaning_period, 0);
		assert_int_equal(answer.accepted, 5);
	}
	assert_true(read_answer(&answer, "5", NULL, "3155760000000000", NULL, NULL, NULL));
	assert_int_equal(answer.cleaning_period, CLEANING_PERIOD_MAX);
}

/* A twin's captures behind ours, an older path center, a fork. */
static void what_is_confirmed(void **state)
{
	RegistrarAnswer answer = {.accepted = 100};

	assert_int_equal(registrar_answer_confirmed(&answer, 60), 60);
	assert_int_equal(registrar_answer_confirmed(&answer, 100), 100);
	assert_int_equal(registrar_answer_confirmed(&answer, 150), 100);
	answer.fork_from = 40;
	assert_int_equal(registrar_answer_confirmed(&answer, 60), 39);
	answer.fork_from = 1;
	assert_int_equal(registrar_answer_confirmed(&answer, 60), 0);
	answer.accepted = 0;
	answer.fork_from = 0;
	assert_int_equal(registrar_answer_confirmed(&answer, 60), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plain_answer),    cmocka_unit_test(all_fields),
		cmocka_unit_test(no_answer_at_all),  cmocka_unit_test(periods_that_make_no_sense),
		cmocka_unit_test(what_is_confirmed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
