/*
 * The cleaner's state; see cleaner_state.h.
 */
#include <inttypes.h>
#include <stdatomic.h>

#include "cleaner_state.h"
#include "log.h"

static atomic_int current = CLEANER_NORMAL;

static const struct
{
	const char *name;
	LogLevel level;
} states[CLEANER_STATE_COUNT] = {
	[CLEANER_NORMAL] = {"normal", LOG_LEVEL_INFO},
	[CLEANER_DISK_LOW] = {"disk_low", LOG_LEVEL_WARNING},
	[CLEANER_DISK_LOW_EARLY] = {"disk_low_early", LOG_LEVEL_WARNING},
	[CLEANER_DISK_LOW_STUCK] = {"disk_low_stuck", LOG_LEVEL_ERROR},
};

void cleaner_state_set(CleanerState state, int64_t free_bytes, int64_t min_free_bytes)
{
	int before = atomic_exchange(&current, (int) state);

	if (before != (int) state)
		log_event(states[state].level, "disk", "state=%s before=%s free_bytes=%" PRId64 " min_free_bytes=%" PRId64,
				  states[state].name, states[before].name, free_bytes, min_free_bytes);
}

const char *cleaner_state_name(void)
{
	return states[atomic_load(&current)].name;
}
