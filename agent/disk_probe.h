/*
 * Measures the disk under a folder, and finds out what the system knows of it: whether what it calls synced can be believed.
 *
 * Everything happens in files that have no name any more, so that nothing is left behind, however it ends.
 */
#ifndef AGENT_DISK_PROBE_H
#define AGENT_DISK_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/status.h"

/* What the system knows. */
typedef struct DiskFacts
{
	char file_system[32]; /* as in /proc/self/mountinfo: "ext4", "tmpfs" ... */
	char options[512]; /* of mount and file system, separated by commas */
	char device[64]; /* of /sys/class/block; "": there is no block device */
	int rotational; /* 1, 0; -1: not known */
	char write_cache[32]; /* "write back", "write through"; "": not known */
} DiskFacts;

/* What was measured; times in microseconds. */
typedef struct DiskTimes
{
	int syncs;
	int64_t sync_median; /* of 4 KB and fdatasync */
	int64_t sync_p99;
	int64_t sync_longest;
	int64_t write_median; /* of 4 KB without it */
	int64_t bytes; /* written in one go, and one fdatasync */
	int64_t bytes_micros;
} DiskTimes;

typedef enum DiskVerdict
{
	DISK_GOOD,
	DISK_DOUBTFUL, /* works, but a power cut may take more than it should, or it is slow */
	DISK_UNFIT /* does not keep what it says it has kept */
} DiskVerdict;

/* Reads mountinfo and sysfs. TMS_IO when the folder cannot be looked at. */
extern TMS_CHECKED TmsStatus disk_facts(const char *folder, DiskFacts *out);

/* The line of a mountinfo that is about this mount; false when there is none. */
extern bool disk_parse_mount(const char *mountinfo, uint64_t mount_id, DiskFacts *out);

/* Measures for a few seconds, writing `bytes` at most. TMS_FULL, TMS_IO. */
extern TMS_CHECKED TmsStatus disk_measure(const char *folder, int64_t bytes, DiskTimes *out);

/* Can the file system keep an extended attribute user.tms, and rename without replacing? */
extern bool disk_has_attributes(const char *folder);
extern bool disk_has_noreplace(const char *folder);

/* Can it be believed? With the reason in `why`, "" for DISK_GOOD. */
extern DiskVerdict disk_judge_facts(const DiskFacts *facts, char *why, unsigned long size);
extern DiskVerdict disk_judge_times(const DiskFacts *facts, const DiskTimes *times, char *why, unsigned long size);

#endif
