/*
 * Figures as people read them: see status_text.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "status_text.h"

const char *status_text_span(int64_t micros, char out[STATUS_TEXT_SIZE])
{
	static const struct
	{
		int64_t seconds;
		const char *name;
	} units[] = {{86400, "days"}, {3600, "h"}, {60, "min"}, {1, "s"}};
	int64_t span = micros > 0 ? micros / CLOCK_SECOND : 0;
	int i = 0;

	while (i < 3 && span < 2 * units[i].seconds)
		i++;
	snprintf(out, STATUS_TEXT_SIZE, "%" PRId64 " %s", span / units[i].seconds, units[i].name);
	return out;
}

const char *status_text_size(int64_t bytes, char out[STATUS_TEXT_SIZE])
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
	double value = (double) bytes;
	int unit = 0;

	for (; value >= 1000 && unit < 5; unit++)
		value /= 1024;
	snprintf(out, STATUS_TEXT_SIZE, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
	return out;
}

const char *status_text_count(int64_t count, char out[STATUS_TEXT_SIZE])
{
	char digits[STATUS_TEXT_SIZE];
	int len = snprintf(digits, sizeof digits, "%" PRId64, count), at = 0;

	for (int i = 0; i < len; i++)
	{
		if (i > 0 && digits[i - 1] != '-' && (len - i) % 3 == 0)
			out[at++] = ',';
		out[at++] = digits[i];
	}
	out[at] = '\0';
	return out;
}

const char *status_text_time(int64_t at, char out[STATUS_TEXT_SIZE])
{
	time_t seconds = at / CLOCK_SECOND;
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || strftime(out, STATUS_TEXT_SIZE, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
		strcpy(out, "?");
	return out;
}
