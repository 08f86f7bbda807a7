/*
 * Tests of agent/backoff.c: waits double up to a limit, are half random, and never end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/backoff.h"

static const BackoffSchedule schedule = {1000, 60000};

static void doubles_up_to_the_limit(void **state)
{
	static const int64_t longest[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

	for (int i = 0; i < (int) (sizeof longest / sizeof longest[0]); i++)
	{
		assert_int_equal(backoff_delay(&schedule, i + 1, 0), longest[i]);
		assert_int_equal(backoff_delay(&schedule, i + 1, UINT32_MAX), longest[i] - longest[i] / 2);
	}
}

static void never_gives_up(void **state)
{
	assert_int_equal(backoff_delay(&schedule, INT32_MAX, 0), 60000);
	assert_int_equal(backoff_delay(&backoff_refused, INT32_MAX, 0), backoff_refused.most);
}

static void counts_and_forgets(void **state)
{
	Backoff backoff = {0};

	for (int i = 1; i <= 10; i++)
	{
		int64_t longest = backoff_delay(&schedule, i, 0);

		backoff_fail(&backoff, &schedule, 5000000);
		assert_int_equal(backoff.failures, i);
		assert_in_range(backoff.retry_at, 5000000 + longest / 2, 5000000 + longest);
	}
	backoff_reset(&backoff);
	assert_int_equal(backoff.failures, 0);
	assert_int_equal(backoff.retry_at, 0);
	backoff.failures = INT32_MAX;
	backoff_fail(&backoff, &schedule, 0);
	assert_int_equal(backoff.failures, INT32_MAX);
}

/* What the peer asks for is the least, and a longer wait of one's own stays. */
static void asked_to_wait(void **state)
{
	Backoff backoff = {0};

	backoff_fail(&backoff, &schedule, 5000000);
	backoff_at_least(&backoff, 0, 5000000);
	assert_in_range(backoff.retry_at, 5000500, 5001000);
	for (int i = 0; i < 50; i++)
	{
		backoff.retry_at = 0;
		backoff_at_least(&backoff, 80000, 5000000);
		assert_in_range(backoff.retry_at, 5080000, 5090000);
	}
	backoff.retry_at = 6000000;
	backoff_at_least(&backoff, 80000, 5000000);
	assert_int_equal(backoff.retry_at, 6000000);
}

/* A fleet that failed in the same instant does not come back in the same instant. */
static void spreads(void **state)
{
	int64_t least = INT64_MAX;
	int64_t most = 0;

	for (int i = 0; i < 200; i++)
	{
		Backoff backoff = {.failures = 20};

		backoff_fail(&backoff, &schedule, 0);
		least = backoff.retry_at < least ? backoff.retry_at : least;
		most = backoff.retry_at > most ? backoff.retry_at : most;
	}
	assert_true(most - least > 15000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(doubles_up_to_the_limit),
		cmocka_unit_test(never_gives_up),
		cmocka_unit_test(counts_and_forgets),
		cmocka_unit_test(asked_to_wait),
		cmocka_unit_test(spreads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
