/*
 * Tests of agent/rate_bucket.c with a simulated clock: never more than the rate and its quarter second, never much less.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/clock.h"
#include "agent/rate_bucket.h"

/* Sends as fast as the bucket lets, in pieces of `piece`, from *now to `until`; returns the bytes that passed. */
static int64_t run(RateBucket *bucket, int64_t rate, int64_t piece, int64_t *now, int64_t until)
{
	int64_t passed = 0;

	while (*now < until)
	{
		int64_t given, wait;

		rate_bucket_fill(bucket, rate, *now);
		given = rate_bucket_take(bucket, piece);
		assert_in_range(given, 0, piece);
		passed += given;
		wait = rate_bucket_wait(bucket);
		if (given == 0)
			assert_true(wait > 0);
		*now += given > 0 ? 1 : wait;
	}
	return passed;
}

static void keeps_the_rate(void **state)
{
	static const int64_t rates[] = {1024, 1500, 65536, 1 << 20, 125000000, INT64_C(1) << 34};

	for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
		for (int64_t piece = 1000; piece <= 65536; piece *= 8)
		{
			RateBucket bucket = {0};
			int64_t now = 5 * CLOCK_SECOND, rate = rates[i];
			int64_t passed = run(&bucket, rate, rate > 1 << 30 ? 1 << 20 : piece, &now, 15 * CLOCK_SECOND);

			assert_true(passed <= rate * 10 + rate / 4);
			/* A piece a microsecond is as fast as this loop is. */
			if (rate <= 1 << 20)
				assert_true(passed >= rate * 10 - rate / 16);
		}
}

/* No second, whichever, has more than its own and a quarter more. */
static void even(void **state)
{
	RateBucket bucket = {0};
	int64_t now = CLOCK_SECOND, rate = 100000;

	run(&bucket, rate, 65536, &now, 2 * CLOCK_SECOND);
	for (int i = 0; i < 50; i++)
	{
		int64_t passed = run(&bucket, rate, 65536, &now, now + CLOCK_SECOND / 5);

		assert_in_range(passed, rate / 5 - rate / 16, rate / 5 + rate / 16);
	}
	/* An hour of silence is not saved up. */
	now += 3600 * CLOCK_SECOND;
	assert_in_range(run(&bucket, rate, 65536, &now, now + CLOCK_SECOND), rate, rate + rate / 4);
}

static void change_of_rate(void **state)
{
	RateBucket bucket = {0};
	int64_t now = CLOCK_SECOND, fast = 1 << 20, slow = 1 << 14;

	run(&bucket, fast, 65536, &now, 3 * CLOCK_SECOND);
	assert_true(run(&bucket, slow, 65536, &now, 5 * CLOCK_SECOND) <= 2 * slow + slow / 4);
	assert_true(run(&bucket, fast, 65536, &now, 7 * CLOCK_SECOND) >= 2 * fast - fast / 16);
	rate_bucket_fill(&bucket, 0, now);
	assert_int_equal(rate_bucket_take(&bucket, INT64_C(1) << 40), INT64_C(1) << 40);
	assert_int_equal(rate_bucket_wait(&bucket), 0);
	rate_bucket_owe(&bucket, 1000);
	assert_int_equal(rate_bucket_take(&bucket, 1), 1);
}

static void debt(void **state)
{
	RateBucket bucket = {0};
	int64_t now = CLOCK_SECOND, rate = 10000, before;

	rate_bucket_fill(&bucket, rate, now);
	rate_bucket_owe(&bucket, 5 * rate);
	assert_int_equal(rate_bucket_take(&bucket, 1), 0);
	before = now;
	while (rate_bucket_take(&bucket, 1000) == 0)
	{
		now += rate_bucket_wait(&bucket);
		rate_bucket_fill(&bucket, rate, now);
	}
	assert_in_range(now - before, 4 * CLOCK_SECOND, 5 * CLOCK_SECOND);
}

/* A clock that does not move, or that is asked every microsecond, gives no byte too many and loses none. */
static void small_steps(void **state)
{
	RateBucket bucket = {0};
	int64_t rate = 1500, passed = 0;

	rate_bucket_fill(&bucket, rate, CLOCK_SECOND);
	while (rate_bucket_take(&bucket, 10) > 0)
		;
	for (int64_t now = CLOCK_SECOND; now < 11 * CLOCK_SECOND; now += 7)
	{
		rate_bucket_fill(&bucket, rate, now);
		passed += rate_bucket_take(&bucket, 100000);
	}
	assert_in_range(passed, 10 * rate - rate / 16, 10 * rate + 1 + rate / 32);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_the_rate), cmocka_unit_test(even),        cmocka_unit_test(change_of_rate),
		cmocka_unit_test(debt),           cmocka_unit_test(small_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
