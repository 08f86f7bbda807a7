/*
 * Tests of agent/watchdog.c with a simulated clock: told only after the patience, and only without a reason; and of the signs
 * of life of threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/clock.h"
#include "agent/health.h"
#include "agent/watchdog.h"
#include "agent/worker.h"

#define MINUTE (60 * CLOCK_SECOND)

static void tells_after_the_patience(void **state)
{
	WatchdogPart part = {0};
	WatchdogView view = {.backlog = 5, .mark = 7};
	int64_t now = MINUTE;

	for (; now < MINUTE + WATCHDOG_PATIENCE; now += 10 * CLOCK_SECOND)
		assert_int_equal(watchdog_look(&part, &view, now), 0);
	assert_int_equal(watchdog_look(&part, &view, now), WATCHDOG_PATIENCE);
	assert_int_equal(watchdog_look(&part, &view, now + MINUTE), WATCHDOG_PATIENCE + MINUTE);
	/* Something got done: the patience begins anew. */
	view.mark = 8;
	assert_int_equal(watchdog_look(&part, &view, now + 2 * MINUTE), 0);
	assert_int_equal(watchdog_look(&part, &view, now + 3 * MINUTE), 0);
	assert_int_equal(watchdog_look(&part, &view, now + 2 * MINUTE + WATCHDOG_PATIENCE), WATCHDOG_PATIENCE);
}

static void nothing_to_tell(void **state)
{
	WatchdogPart idle = {0}, failing = {0}, busy = {0};

	for (int64_t now = MINUTE; now < 1000 * MINUTE; now += MINUTE)
	{
		assert_int_equal(watchdog_look(&idle, &(WatchdogView){.backlog = 0, .mark = 1}, now), 0);
		assert_int_equal(watchdog_look(&failing, &(WatchdogView){.backlog = 9, .mark = 1, .explained = true}, now), 0);
		assert_int_equal(watchdog_look(&busy, &(WatchdogView){.backlog = 9, .mark = now}, now), 0);
	}
	/* What was idle for long has its patience from when it has something to do. */
	assert_int_equal(watchdog_look(&idle, &(WatchdogView){.backlog = 1, .mark = 1}, 1000 * MINUTE), 0);
	assert_int_equal(watchdog_look(&failing, &(WatchdogView){.backlog = 9, .mark = 1}, 1000 * MINUTE), 0);
}

static void shown_in_health(void **state)
{
	health_ok(HEALTH_CLEANER);
	health_stalled(HEALTH_CLEANER, 700 * CLOCK_SECOND);
	assert_string_equal(health_get(HEALTH_CLEANER).error, "no progress for 700 seconds, and no error explains it");
	health_ok(HEALTH_CLEANER); /* a success of something else does not hide it */
	assert_string_equal(health_get(HEALTH_CLEANER).error, "no progress for 700 seconds, and no error explains it");
	assert_false(health_get(HEALTH_CLEANER).failing); /* the watchdog's own word explains nothing */
	health_error(HEALTH_CLEANER, "disk");
	assert_true(health_get(HEALTH_CLEANER).failing);
	assert_string_equal(health_get(HEALTH_CLEANER).error, "disk");
	health_stalled(HEALTH_CLEANER, 0);
	health_ok(HEALTH_CLEANER);
	assert_string_equal(health_get(HEALTH_CLEANER).error, "");
}

static int pipes[2][2]; /* the thread tells, the thread is told */

/* Gives one sign of life, which lasts for *argument, and is silent until it is told to end. */
static void run(void *argument)
{
	char byte = 'x';

	worker_beat(*(const int64_t *) argument);
	(void) !write(pipes[0][1], &byte, 1);
	(void) !read(pipes[1][0], &byte, 1);
}

static int64_t silence_of(int64_t promise)
{
	Worker worker;
	int64_t silence;
	char byte;

	assert_int_equal(worker_start(&worker, "silent", run, &promise), TMS_OK);
	assert_int_equal(read(pipes[0][0], &byte, 1), 1);
	usleep(2000);
	silence = worker_silence("silent");
	assert_int_equal(write(pipes[1][1], &byte, 1), 1);
	worker_stop(&worker);
	return silence;
}

static void signs_of_life(void **state)
{
	assert_int_equal(pipe(pipes[0]), 0);
	assert_int_equal(pipe(pipes[1]), 0);
	assert_true(silence_of(0) >= 2000);
	assert_int_equal(silence_of(3600 * CLOCK_SECOND), 0);
	assert_int_equal(worker_silence("silent"), 0); /* it has ended */
	worker_beat(0); /* not from a worker: nothing */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_after_the_patience),
		cmocka_unit_test(nothing_to_tell),
		cmocka_unit_test(shown_in_health),
		cmocka_unit_test(signs_of_life),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
