/*
 * Measures a disk; see disk_probe.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "clock.h"
#include "disk_probe.h"

#define BLOCK     4096
#define SYNCS_MAX 400
#define SYNCS_MIN 20
#define PATIENCE  (3 * CLOCK_SECOND) /* for each of the measurements */
#define PIECE     (256 * 1024)
#define MOUNTS    "/proc/self/mountinfo"

/* Half a turn of a disk with 15,000 turns a minute: no platter has written anything sooner. */
#define HALF_A_TURN 2000
/* Sooner than this nothing reaches even a flash chip; only memory that outlives a power cut answers so. */
#define HARDLY_A_WRITE 40

/* --- what the system knows --- */

bool disk_parse_mount(const char *mountinfo, uint64_t mount_id, DiskFacts *out)
{
	for (const char *line = mountinfo; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
	{
		char mount_options[200], super_options[300];
		uint64_t id;
		const char *dash = strstr(line, " - "), *end = strchr(line, '\n');

		if (!dash || (end && dash > end) ||
			sscanf(line, "%" SCNu64 " %*d %*s %*s %*s %199s", &id, mount_options) != 2 || id != mount_id ||
			sscanf(dash, " - %31s %*s %299s", out->file_system, super_options) != 2)
			continue;
		snprintf(out->options, sizeof out->options, "%s,%s", mount_options, super_options);
		return true;
	}
	return false;
}

static char *read_text(const char *name)
{
	enum
	{
		MOST = 1024 * 1024
	};
	char *text = malloc(MOST + 1);
	FILE *file = text ? fopen(name, "re") : NULL;
	size_t len;

	if (!file)
	{
		free(text);
		return NULL;
	}
	len = fread(text, 1, MOST, file);
	fclose(file);
	while (len > 0 && text[len - 1] == '\n')
		len--;
	text[len] = '\0';
	return text;
}

/* A file of the device's queue in sysfs; a partition's is its disk's. */
static char *read_queue(const char *device, const char *what)
{
	char name[PATH_MAX + 100];
	char *text;

	snprintf(name, sizeof name, "%s/queue/%s", device, what);
	text = read_text(name);
	if (text)
		return text;
	snprintf(name, sizeof name, "%s/../queue/%s", device, what);
	return read_text(name);
}

static void read_device(unsigned major, unsigned minor, DiskFacts *out)
{
	char link[64], device[PATH_MAX];
	char *text;

	snprintf(link, sizeof link, "/sys/dev/block/%u:%u", major, minor);
	if (!realpath(link, device))
		return;
	snprintf(out->device, sizeof out->device, "%.60s", strrchr(device, '/') + 1);
	text = read_queue(device, "rotational");
	if (text)
		out->rotational = *text == '1';
	free(text);
	text = read_queue(device, "write_cache");
	if (text)
		snprintf(out->write_cache, sizeof out->write_cache, "%.30s", text);
	free(text);
}

TmsStatus disk_facts(const char *folder, DiskFacts *out)
{
	struct statx about;
	char *mounts;

	memset(out, 0, sizeof *out);
	out->rotational = -1;
	if (statx(AT_FDCWD, folder, 0, STATX_MNT_ID, &about) != 0)
		return TMS_IO;
	mounts = read_text(MOUNTS);
	/* By the mount, not the device: another mount of the same file system has options of its own. */
	if (!mounts || !(about.stx_mask & STATX_MNT_ID) || !disk_parse_mount(mounts, about.stx_mnt_id, out))
		snprintf(out->file_system, sizeof out->file_system, "unknown");
	free(mounts);
	read_device(about.stx_dev_major, about.stx_dev_minor, out);
	return TMS_OK;
}

/* --- measuring --- */

/* A file without a name, in a folder. */
static int nameless(const char *folder)
{
	char name[PATH_MAX];
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	snprintf(name, sizeof name, "%s/.selftest-XXXXXX", folder);
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

static TmsStatus failure(void)
{
	return errno == ENOSPC || errno == EDQUOT ? TMS_FULL : TMS_IO;
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* Appends blocks, each synced or none, and sorts their times. */
static TmsStatus time_blocks(int fd, bool sync, int64_t times[SYNCS_MAX], int *count)
{
	static const char block[BLOCK];
	int64_t end = clock_steady() + PATIENCE;

	for (*count = 0; *count < SYNCS_MAX && (*count < SYNCS_MIN || clock_steady() < end); ++*count)
	{
		int64_t begin = clock_steady();

		if (write(fd, block, BLOCK) != BLOCK || (sync && fdatasync(fd) != 0))
			return failure();
		times[*count] = clock_steady() - begin;
	}
	qsort(times, (size_t) *count, sizeof *times, by_size);
	return TMS_OK;
}

static TmsStatus time_stream(int fd, int64_t bytes, DiskTimes *out)
{
	char *piece = malloc(PIECE);
	int64_t begin = clock_steady();
	TmsStatus status = piece ? TMS_OK : TMS_MEMORY;

	/* Bytes that no disk finds a pattern in. */
	for (size_t i = 0; piece && i < PIECE; i++)
		piece[i] = (char) ((i * 2654435761u) >> 13);
	for (out->bytes = 0; status == TMS_OK && out->bytes + PIECE <= bytes && clock_steady() - begin < PATIENCE;)
		if (write(fd, piece, PIECE) == PIECE)
			out->bytes += PIECE;
		else
			status = failure();
	if (status == TMS_OK && fdatasync(fd) != 0)
		status = failure();
	out->bytes_micros = clock_steady() - begin;
	free(piece);
	return status;
}

TmsStatus disk_measure(const char *folder, int64_t bytes, DiskTimes *out)
{
	int64_t times[SYNCS_MAX];
	int fd = nameless(folder), writes;
	TmsStatus status;

	memset(out, 0, sizeof *out);
	if (fd < 0)
		return failure();
	status = time_blocks(fd, true, times, &out->syncs);
	if (status == TMS_OK)
	{
		out->sync_median = times[out->syncs / 2];
		out->sync_p99 = times[out->syncs - 1 - out->syncs / 100];
		out->sync_longest = times[out->syncs - 1];
		status = time_blocks(fd, false, times, &writes);
	}
	if (status == TMS_OK)
	{
		out->write_median = times[writes / 2];
		status = time_stream(fd, bytes, out);
	}
	close(fd);
	return status;
}

bool disk_has_attributes(const char *folder)
{
	int fd = nameless(folder);
	bool has = fd >= 0 && fsetxattr(fd, "user.tms", "{}", 2, 0) == 0;

	if (fd >= 0)
		close(fd);
	return has;
}

bool disk_has_noreplace(const char *folder)
{
	char from[PATH_MAX], to[PATH_MAX + 8];
	int fd;
	bool has;

	snprintf(from, sizeof from, "%s/.selftest-XXXXXX", folder);
	fd = mkostemp(from, O_CLOEXEC);
	if (fd < 0)
		return false;
	close(fd);
	snprintf(to, sizeof to, "%s-to", from);
	has = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0;
	unlink(has ? to : from);
	return has;
}

/* --- judging --- */

/* File systems whose syncs mean less than those of a disk. */
static const struct FileSystemRule
{
	const char *name;
	DiskVerdict verdict;
	const char *why;
} file_systems[] = {
	{"tmpfs", DISK_UNFIT, "it is memory: a power cut takes everything"},
	{"ramfs", DISK_UNFIT, "it is memory: a power cut takes everything"},
	{"overlay", DISK_DOUBTFUL, "it is a container's own layer: gone with the container; use a volume"},
	{"nfs", DISK_DOUBTFUL, "what is synced is the server's to keep, and without the server intake stops"},
	{"nfs4", DISK_DOUBTFUL, "what is synced is the server's to keep, and without the server intake stops"},
	{"cifs", DISK_DOUBTFUL, "what is synced is the server's to keep, and without the server intake stops"},
	{"fuseblk", DISK_DOUBTFUL, "a program stands between: what a sync means is up to it"},
	{"vfat", DISK_DOUBTFUL, "it has no journal: a power cut may damage the folder"},
	{"exfat", DISK_DOUBTFUL, "it has no journal: a power cut may damage the folder"},
	{"ext2", DISK_DOUBTFUL, "it has no journal: a power cut may damage the folder"},
};

static const struct OptionRule
{
	const char *name;
	DiskVerdict verdict;
	const char *why;
} options[] = {
	{"nobarrier", DISK_UNFIT, "the disk is not told to write its cache out"},
	{"barrier=0", DISK_UNFIT, "the disk is not told to write its cache out"},
	{"data=writeback", DISK_DOUBTFUL, "after a power cut files may hold old blocks"},
	{"ro", DISK_UNFIT, "nothing can be written"},
};

static bool has_option(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; (at = strstr(at, name)) != NULL; at += len)
		if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
			return true;
	return false;
}

DiskVerdict disk_judge_facts(const DiskFacts *facts, char *why, unsigned long size)
{
	*why = '\0';
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		if (has_option(facts->options, options[i].name))
		{
			snprintf(why, size, "mounted with %s: %s", options[i].name, options[i].why);
			return options[i].verdict;
		}
	for (size_t i = 0; i < sizeof file_systems / sizeof *file_systems; i++)
		if (strcmp(facts->file_system, file_systems[i].name) == 0)
		{
			snprintf(why, size, "%s: %s", facts->file_system, file_systems[i].why);
			return file_systems[i].verdict;
		}
	return DISK_GOOD;
}

DiskVerdict disk_judge_times(const DiskFacts *facts, const DiskTimes *times, char *why, unsigned long size)
{
	*why = '\0';
	/* A platter that has been on its way for less than half a turn cannot have written: its cache answers. */
	if (facts->rotational == 1 && times->sync_median < HALF_A_TURN)
		snprintf(why, size,
				 "a rotating disk cannot sync in %lld us: it lies (hdparm -W0 switches its cache off), unless it is "
				 "virtual or a "
				 "controller with a battery stands before it",
				 (long long) times->sync_median);
	else if (times->sync_median < HARDLY_A_WRITE || times->sync_median < 2 * times->write_median)
		snprintf(
			why, size,
			"a sync takes %lld us, a write without one %lld us: nothing is written out, unless the disk is protected "
			"against power cuts",
			(long long) times->sync_median, (long long) times->write_median);
	else if (times->sync_p99 > CLOCK_SECOND)
		snprintf(why, size, "one sync in a hundred takes more than a second: the disk is overloaded or failing");
	return *why ? DISK_DOUBTFUL : DISK_GOOD;
}
