/*
 * Where the cleaner stands on the ladder of a full disk, for status and heartbeat. One per process, safe from any thread.
 */
#ifndef AGENT_CLEANER_STATE_H
#define AGENT_CLEANER_STATE_H

#include <stdint.h>

typedef enum CleanerState
{
	CLEANER_NORMAL, /* enough room: what is expired and safe leaves */
	CLEANER_DISK_LOW, /* less than min_free: what is expired and safe makes room */
	CLEANER_DISK_LOW_EARLY, /* that was not enough: safe ones leave before they are expired, oldest first */
	CLEANER_DISK_LOW_STUCK, /* nothing safe is left, or it cannot be asked for: intake refuses once the disk is full */
	CLEANER_STATE_COUNT
} CleanerState;

/* Only the cleaner sets it; a change is logged, with the bytes that are free and wanted. */
extern void cleaner_state_set(CleanerState state, int64_t free_bytes, int64_t min_free_bytes);

/* "normal", "disk_low", "disk_low_early", "disk_low_stuck". */
extern const char *cleaner_state_name(void);

#endif
