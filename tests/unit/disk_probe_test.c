/*
 * Tests of agent/disk_probe.c: what is read of mounts, and which disks are believed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/disk_probe.h"

static const char mounts[] = "21 28 0:19 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n"
							 "28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n"
							 "35 28 0:30 / /tmp rw,nosuid,nodev shared:5 master:3 - tmpfs tmpfs rw,size=100k\n"
							 "36 28 8:2 /sub /var/lib/tms rw,noatime - ext4 /dev/sda2 rw,nobarrier,data=writeback\n"
							 "37 28 8:1 / /mnt/same ro,relatime - ext4 /dev/sda1 rw,errors=remount-ro\n"
							 "40 28 8:17 / /data rw,relatime - xfs /dev/sdb1 rw,attr2\n"
							 "garbage\n";

static void mount_lines(void **state)
{
	DiskFacts facts;

	assert_true(disk_parse_mount(mounts, 28, &facts));
	assert_string_equal(facts.file_system, "ext4");
	assert_string_equal(facts.options, "rw,relatime,rw,errors=remount-ro"); /* not those of a bind mount of it */
	assert_true(disk_parse_mount(mounts, 37, &facts));
	assert_string_equal(facts.options, "ro,relatime,rw,errors=remount-ro");
	assert_true(disk_parse_mount(mounts, 35, &facts));
	assert_string_equal(facts.file_system, "tmpfs");
	assert_true(disk_parse_mount(mounts, 40, &facts));
	assert_string_equal(facts.file_system, "xfs");
	assert_false(disk_parse_mount(mounts, 8, &facts));
	assert_false(disk_parse_mount("", 28, &facts));
}

static void facts_are_judged(void **state)
{
	static const struct
	{
		const char *file_system, *options;
		DiskVerdict verdict;
		const char *why;
	} cases[] = {
		{"ext4", "rw,relatime,rw,errors=remount-ro", DISK_GOOD, ""},
		{"xfs", "rw,rw,noquota", DISK_GOOD, ""},
		{"tmpfs", "rw,rw", DISK_UNFIT, "tmpfs: it is memory"},
		{"overlay", "rw,rw", DISK_DOUBTFUL, "overlay: it is a container's own layer"},
		{"nfs4", "rw,rw", DISK_DOUBTFUL, "nfs4: what is synced is the server's"},
		{"ext4", "rw,rw,nobarrier", DISK_UNFIT, "mounted with nobarrier: "},
		{"ext4", "rw,rw,barrier=0,x", DISK_UNFIT, "mounted with barrier=0: "},
		{"ext4", "rw,rw,data=writeback", DISK_DOUBTFUL, "mounted with data=writeback: "},
		{"ext4", "ro,relatime,rw", DISK_UNFIT, "mounted with ro: "},
		{"ext4", "rw,errors=remount-ro,pro,ros", DISK_GOOD, ""},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
	{
		DiskFacts facts = {.rotational = -1};
		char why[300];

		strcpy(facts.file_system, cases[i].file_system);
		strcpy(facts.options, cases[i].options);
		assert_int_equal(disk_judge_facts(&facts, why, sizeof why), cases[i].verdict);
		assert_int_equal(strncmp(why, cases[i].why, strlen(cases[i].why)), 0);
		assert_int_equal(*why == '\0', cases[i].verdict == DISK_GOOD);
	}
}

static void times_are_judged(void **state)
{
	static const struct
	{
		int rotational;
		int64_t sync_median, sync_p99, write_median;
		DiskVerdict verdict;
	} cases[] = {
		{1, 8300, 20000, 4, DISK_GOOD}, /* a turn */
		{1, 300, 20000, 4, DISK_DOUBTFUL}, /* its cache answered */
		{0, 300, 2000, 4, DISK_GOOD},         {0, 5, 10, 4, DISK_DOUBTFUL}, /* no more than a write */
		{-1, 5, 10, 4, DISK_DOUBTFUL},        {0, 60, 100, 50, DISK_DOUBTFUL}, {0, 30, 100, 3, DISK_DOUBTFUL},
		{0, 5000, 3000000, 4, DISK_DOUBTFUL}, /* one in a hundred takes three seconds */
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
	{
		DiskFacts facts = {.rotational = cases[i].rotational};
		DiskTimes times = {.syncs = 400,
						   .sync_median = cases[i].sync_median,
						   .sync_p99 = cases[i].sync_p99,
						   .write_median = cases[i].write_median};
		char why[300];

		assert_int_equal(disk_judge_times(&facts, &times, why, sizeof why), cases[i].verdict);
		assert_int_equal(*why == '\0', cases[i].verdict == DISK_GOOD);
	}
}

static void measured_and_gone(void **state)
{
	char folder[] = "/tmp/tms_disk_XXXXXX";
	DiskFacts facts;
	DiskTimes times;
	struct dirent *item;
	DIR *listing;

	assert_non_null(mkdtemp(folder));
	assert_int_equal(disk_facts(folder, &facts), TMS_OK);
	assert_true(facts.file_system[0] != '\0');
	assert_int_equal(disk_measure(folder, 1024 * 1024, &times), TMS_OK);
	assert_true(times.syncs >= 20);
	assert_true(times.sync_median <= times.sync_p99 && times.sync_p99 <= times.sync_longest);
	assert_int_equal(times.bytes, 1024 * 1024);
	assert_true(times.bytes_micros > 0);
	(void) disk_has_attributes(folder);
	assert_true(disk_has_noreplace(folder));
	listing = opendir(folder);
	while ((item = readdir(listing)) != NULL)
		assert_true(strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0);
	closedir(listing);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(disk_facts(folder, &facts), TMS_IO);
	assert_int_equal(disk_measure(folder, 0, &times), TMS_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mount_lines),
		cmocka_unit_test(facts_are_judged),
		cmocka_unit_test(times_are_judged),
		cmocka_unit_test(measured_and_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
