/*
 * The clocks of the agent; see clock.h.
 */
#include <time.h>

#include "clock.h"

static int64_t clock_read(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return now.tv_sec * CLOCK_SECOND + now.tv_nsec / 1000;
}

int64_t clock_now(void)
{
	return clock_read(CLOCK_REALTIME);
}

int64_t clock_steady(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

int64_t clock_boot(void)
{
	return clock_read(CLOCK_BOOTTIME);
}
