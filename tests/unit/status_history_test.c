/*
 * Tests of agent/status_history.c: what another run left is taken up, what makes no sense is not, and the day stays a day.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/clock.h"
#include "agent/metrics.h"
#include "agent/status_history.h"

#define HOUR (3600 * CLOCK_SECOND)

static StatusSample samples[STATUS_HISTORY_COUNT];

/* At the start there is nothing, and a minute later there is a rate. Runs first. */
static void nothing_yet(void **state)
{
	status_history_restore(NULL);
	assert_int_equal(status_history_read(samples), 0);
	assert_true(status_history_rate(5, HOUR) < 0);
}

static void another_run(void **state)
{
	json_int_t now = clock_now() / CLOCK_SECOND;
	json_t *history = json_pack("{s:[[i,i,i,i,i], s, [I,i,i,i,i], [I,i,i,i,i], [I,i,i,i,i], [I,i,i,i,i], [I,i,i,i,i]]}",
								"samples", 1, 1, 1, 1, 1, "x", now - 90000, 500, 1, 1, 1, now - 7200, 1000, 1, 2, 3,
								now - 3600, 1100, 4, 5, 6, now - 3590, 1110, 4, 5, 6, now + 3600, 99999, 1, 1, 1);

	status_history_restore(history);
	json_decref(history);
	/* Not those of long ago and of the future, nor the one that was not due. */
	assert_int_equal(status_history_read(samples), 2);
	assert_int_equal(samples[0].taken, 1000);
	assert_int_equal(samples[1].register_backlog, 5);
	assert_int_equal(status_history_taken(), 1110);
	metrics_add(METRIC_CAPTURES_TAKEN, 40);
	assert_int_equal(status_history_taken(), 1150);
	/* Known at once: of the last hour, and of all there is. */
	assert_in_range((int) (status_history_rate(1150, HOUR) + 0.5), 49, 51);
	assert_in_range((int) (status_history_rate(1150, 24 * HOUR) + 0.5), 74, 76);
}

static void a_day(void **state)
{
	int64_t now = clock_steady();
	StatusSample last = {.at = now + 400 * STATUS_HISTORY_STEP, .taken = 2000};
	json_t *json;

	for (int64_t i = 0; i < 400; i++)
		for (int64_t often = 0; often < 5; often++)
			status_history_add(&(StatusSample){.at = now + i * STATUS_HISTORY_STEP + often, .taken = i});
	assert_int_equal(status_history_read(samples), STATUS_HISTORY_COUNT);
	assert_int_equal(samples[0].taken, 400 - STATUS_HISTORY_COUNT);
	assert_int_equal(samples[STATUS_HISTORY_COUNT - 1].taken, 399);
	json = status_history_json(&last);
	assert_int_equal(json_array_size(json_object_get(json, "names")), 5);
	assert_int_equal(json_array_size(json_object_get(json, "samples")), STATUS_HISTORY_COUNT + 1);
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_yet),
		cmocka_unit_test(another_run),
		cmocka_unit_test(a_day),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
