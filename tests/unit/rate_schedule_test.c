/*
 * Tests of agent/rate_schedule.c: what is read, what is refused and why, and which rate holds when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "agent/clock.h"
#include "agent/rate_schedule.h"

#define AT(hours, minutes) ((hours) *60 + (minutes))

static RateSchedule parsed(const char *text)
{
	RateSchedule schedule = {.rate = -1};
	char why[CONFIG_WHY_SIZE];

	if (!rate_schedule_parse(text, &schedule, why))
		fail_msg("%s: %s", text, why);
	return schedule;
}

static void one_rate(void **state)
{
	static const struct
	{
		const char *text;
		int64_t rate;
	} rates[] = {
		{"0", 0}, {"0 MB/s", 0}, {"2MB/s", 2 << 20}, {"64 kB/s", 65536}, {"10Mbit/s", 1250000}, {"2048B/s", 2048},
	};

	for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
	{
		RateSchedule schedule = parsed(rates[i].text);

		assert_int_equal(schedule.span_count, 0);
		for (int minute = 0; minute < 1440; minute++)
			assert_int_equal(rate_schedule_at(&schedule, minute), rates[i].rate);
	}
}

static void spans(void **state)
{
	RateSchedule schedule = parsed("2MB/s; 22:00-06:00 0;  12:00 - 13:30   64kB/s ;6:00-7:00 1MB/s; 21:00-22:00 1kB/s");

	assert_int_equal(schedule.span_count, 4);
	assert_int_equal(rate_schedule_at(&schedule, AT(21, 59)), 1024);
	assert_int_equal(rate_schedule_at(&schedule, AT(22, 0)), 0);
	assert_int_equal(rate_schedule_at(&schedule, AT(23, 59)), 0);
	assert_int_equal(rate_schedule_at(&schedule, AT(0, 0)), 0);
	assert_int_equal(rate_schedule_at(&schedule, AT(5, 59)), 0);
	assert_int_equal(rate_schedule_at(&schedule, AT(6, 0)), 1 << 20);
	assert_int_equal(rate_schedule_at(&schedule, AT(7, 0)), 2 << 20);
	assert_int_equal(rate_schedule_at(&schedule, AT(11, 59)), 2 << 20);
	assert_int_equal(rate_schedule_at(&schedule, AT(12, 0)), 65536);
	assert_int_equal(rate_schedule_at(&schedule, AT(13, 29)), 65536);
	assert_int_equal(rate_schedule_at(&schedule, AT(13, 30)), 2 << 20);

	schedule = parsed("1MB/s; 18:00-24:00 2MB/s; 24:00-06:00 3MB/s");
	assert_int_equal(rate_schedule_at(&schedule, AT(23, 59)), 2 << 20);
	assert_int_equal(rate_schedule_at(&schedule, 0), 3 << 20);
	schedule = parsed("1MB/s; 18:00-00:00 2MB/s");
	assert_int_equal(rate_schedule_at(&schedule, AT(23, 59)), 2 << 20);
	assert_int_equal(rate_schedule_at(&schedule, 0), 1 << 20);
}

static void refused(void **state)
{
	static const struct
	{
		const char *text;
		const char *why;
	} mistakes[] = {
		{"", "\"\" is not a whole number with a unit"},
		{"fast", "\"fast\" is not a whole number with a unit"},
		{"2000", "\"2000\" has no unit; units are B/s kbit/s kB/s Mbit/s MB/s Gbit/s GB/s"},
		{"2MB", "\"2MB\" has an unknown unit or is too large; units are"},
		{"-1kB/s", "\"-1kB/s\" is not a whole number"},
		{"100B/s", "\"100B/s\" is neither 0, which is no limit, nor between"},
		{"2000GB/s", "\"2000GB/s\" is neither 0"},
		{"2MB/s;", "\"\" is not a span of the day and its rate, such as 22:00-06:00 0"},
		{"2MB/s; 22-6 0", "\"22-6 0\" is not a span"},
		{"2MB/s; 22:00-06:00", "\"22:00-06:00\" is not a span"},
		{"2MB/s; 22:00-06:000", "\"22:00-06:000\" is not a span"},
		{"2MB/s; 22:00-25:00 0", "is not a span"},
		{"2MB/s; 22:60-23:00 0", "is not a span"},
		{"2MB/s; 22:0-23:00 0", "is not a span"},
		{"2MB/s; +2:00-23:00 0", "is not a span"},
		{"2MB/s; 24:01-23:00 0", "is not a span"},
		{"2MB/s; 22:00-06:00 much", "\"much\" is not a whole number with a unit"},
		{"2MB/s; 06:00-06:00 0", "\"06:00-06:00 0\" is not a part of the day"},
		{"2MB/s; 0:00-24:00 0", "\"0:00-24:00 0\" is not a part of the day"},
		{"2MB/s; 24:00-00:00 0", "is not a part of the day"},
		{"2MB/s; 22:00-06:00 0; 05:59-07:00 1MB/s", "\"05:59-07:00 1MB/s\" overlaps a span before it"},
		{"2MB/s; 05:00-07:00 0; 22:00-05:01 0", "overlaps a span before it"},
		{"2MB/s; 05:00-07:00 0; 04:00-08:00 0", "overlaps a span before it"},
		{"1MB/s;0:00-0:01 0;0:01-0:02 0;0:02-0:03 0;0:03-0:04 0;0:04-0:05 0;0:05-0:06 0;0:06-0:07 0;0:07-0:08 0;"
		 "0:08-0:09 0;0:09-0:10 0;0:10-0:11 0;0:11-0:12 0;0:12-0:13 0;0:13-0:14 0;0:14-0:15 0;0:15-0:16 0;0:16-0:17 0",
		 "\"0:16-0:17 0\" is one span too many: 16 at most"},
		{"2MB/s; 22:00-06:00                                                                                   0",
		 "is too long"},
	};

	for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++)
	{
		RateSchedule schedule = {.rate = 7};
		char why[CONFIG_WHY_SIZE] = "";

		if (rate_schedule_parse(mistakes[i].text, &schedule, why) || !strstr(why, mistakes[i].why))
			fail_msg("%s: %s", mistakes[i].text, why);
		assert_int_equal(schedule.rate, 7);
		assert_int_equal(schedule.span_count, 0);
	}
}

static void shown_as_read(void **state)
{
	static const char *const texts[] = {"0", "2MB/s", "2MB/s; 22:00-06:00 0",
										"10Mbit/s; 06:00-24:00 64kB/s; 00:00-01:30 1501B/s"};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
	{
		RateSchedule schedule = parsed(texts[i]);
		char shown[1000];

		rate_schedule_show(&schedule, shown, sizeof shown);
		assert_string_equal(shown, texts[i]);
	}
}

/* Local time, whatever the zone. */
static void zone(void **state)
{
	RateSchedule schedule = parsed("2MB/s; 22:00-06:00 0");
	const int64_t noon_utc = INT64_C(1790078400) * CLOCK_SECOND; /* 2026-09-22T12:00Z */

	setenv("TZ", "UTC0", 1);
	tzset();
	assert_int_equal(rate_schedule_now(&schedule, noon_utc), 2 << 20);
	setenv("TZ", "CST-8", 1);
	tzset();
	assert_int_equal(rate_schedule_now(&schedule, noon_utc), 2 << 20); /* 20:00 */
	assert_int_equal(rate_schedule_now(&schedule, noon_utc + 2 * 3600 * CLOCK_SECOND), 0); /* 22:00 */
	assert_int_equal(rate_schedule_now(&schedule, noon_utc + 10 * 3600 * CLOCK_SECOND), 2 << 20); /* 06:00 */
}

static void spans_in_comments(void **state)
{
	assert_true(rate_schedule_is_span(" 22:00-06:00 0"));
	assert_true(rate_schedule_is_span("6:00 - 7:00"));
	assert_false(rate_schedule_is_span(" bytes per second, 0: none"));
	assert_false(rate_schedule_is_span(" 22:00 is late"));
	assert_false(rate_schedule_is_span(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_rate),      cmocka_unit_test(spans), cmocka_unit_test(refused),
		cmocka_unit_test(shown_as_read), cmocka_unit_test(zone),  cmocka_unit_test(spans_in_comments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
