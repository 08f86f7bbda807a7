/*
 * When to try again after a failure; see backoff.h.
 */
#include <sys/random.h>

#include "backoff.h"
#include "clock.h"

const BackoffSchedule backoff_away = {CLOCK_SECOND / 2, 60 * CLOCK_SECOND};
const BackoffSchedule backoff_refused = {5 * CLOCK_SECOND, 600 * CLOCK_SECOND};

int64_t backoff_delay(const BackoffSchedule *schedule, int failures, uint32_t random)
{
	int64_t delay = schedule->first;

	for (int i = 1; i < failures && delay < schedule->most; i++)
		delay *= 2;
	if (delay > schedule->most)
		delay = schedule->most;
	return delay - delay / 2 * (int64_t) random / UINT32_MAX;
}

/* Without randomness the wait is the longest one, which is right too. */
static uint32_t random_number(void)
{
	uint32_t random = 0;

	return getrandom(&random, sizeof(random), GRND_NONBLOCK) == sizeof(random) ? random : 0;
}

void backoff_fail(Backoff *backoff, const BackoffSchedule *schedule, int64_t now)
{
	if (backoff->failures < INT32_MAX)
		backoff->failures++;
	backoff->retry_at = now + backoff_delay(schedule, backoff->failures, random_number());
}

void backoff_at_least(Backoff *backoff, int64_t wait, int64_t now)
{
	int64_t until = now + wait + wait / 8 * (int64_t) random_number() / UINT32_MAX;

	if (wait > 0 && backoff->retry_at < until)
		backoff->retry_at = until;
}

void backoff_reset(Backoff *backoff)
{
	backoff->failures = 0;
	backoff->retry_at = 0;
}
