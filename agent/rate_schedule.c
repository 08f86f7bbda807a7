/*
 * How fast at which time of day; see rate_schedule.h.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "rate_schedule.h"

#define DAY_MINUTES  (24 * 60)
#define PART_MAX     80 /* characters of a rate or of a span with its rate */
#define HIGHEST_RATE (INT64_C(1) << 40)

static bool refuse(char why[CONFIG_WHY_SIZE], const char *part, const char *reason)
{
	snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" %s", part, reason);
	return false;
}

static bool parse_rate(const char *text, int64_t *out, char why[CONFIG_WHY_SIZE])
{
	if (!config_units_parse(text, config_rate_units, out, why))
		return false;
	if (*out != 0 && (*out < RATE_LEAST || *out > HIGHEST_RATE))
		return refuse(why, text, "is neither 0, which is no limit, nor between 1kB/s and 1024GB/s");
	return true;
}

/* Reads "H:MM" or "HH:MM" up to 24:00; returns what is behind it, or NULL. */
static const char *parse_minute(const char *text, int *minute)
{
	int hours, minutes, used = 0;

	if (sscanf(text, "%2d:%2d%n", &hours, &minutes, &used) != 2 || used < 4 ||
		strspn(text, "0123456789:") < (size_t) used || text[used - 3] != ':' || hours > 24 || minutes > 59 ||
		(hours == 24 && minutes > 0))
		return NULL;
	*minute = hours * 60 + minutes;
	return text + used;
}

/* Reads "HH:MM-HH:MM", spaces around the dash allowed; returns what is behind it, or NULL. */
static const char *parse_times(const char *text, RateSpan *span)
{
	text = parse_minute(text, &span->begin);
	if (text == NULL)
		return NULL;
	text += strspn(text, " \t");
	if (*text++ != '-')
		return NULL;
	return parse_minute(text + strspn(text, " \t"), &span->end);
}

bool rate_schedule_is_span(const char *text)
{
	RateSpan span;

	return parse_times(text + strspn(text, " \t"), &span) != NULL;
}

static bool span_holds(const RateSpan *span, int minute)
{
	if (span->begin < span->end)
		return minute >= span->begin && minute < span->end;
	return minute >= span->begin || minute < span->end;
}

static bool parse_span(const char *part, RateSchedule *schedule, char why[CONFIG_WHY_SIZE])
{
	RateSpan span;
	const char *rate = parse_times(part, &span);

	if (rate == NULL || (*rate != ' ' && *rate != '\t'))
		return refuse(why, part, "is not a span of the day and its rate, such as 22:00-06:00 0");
	if (span.begin == DAY_MINUTES)
		span.begin = 0;
	if (span.begin == span.end || (span.begin == 0 && span.end == DAY_MINUTES))
		return refuse(why, part, "is not a part of the day");
	if (span.end == 0)
		span.end = DAY_MINUTES;
	if (schedule->span_count == RATE_SPANS_MAX)
		return refuse(why, part, "is one span too many: 16 at most");
	for (int i = 0; i < schedule->span_count; i++)
		if (span_holds(&schedule->spans[i], span.begin) || span_holds(&span, schedule->spans[i].begin))
			return refuse(why, part, "overlaps a span before it");
	if (!parse_rate(rate + strspn(rate, " \t"), &span.rate, why))
		return false;
	schedule->spans[schedule->span_count++] = span;
	return true;
}

bool rate_schedule_parse(const char *text, RateSchedule *out, char why[CONFIG_WHY_SIZE])
{
	RateSchedule schedule = {0};

	for (int number = 0;; number++)
	{
		size_t len = strcspn(text, ";"), kept = len;
		char part[PART_MAX + 1];

		while (kept > 0 && (*text == ' ' || *text == '\t'))
		{
			text++;
			len--;
			kept--;
		}
		while (kept > 0 && (text[kept - 1] == ' ' || text[kept - 1] == '\t'))
			kept--;
		if (kept > PART_MAX)
			return refuse(why, text, "is too long");
		memcpy(part, text, kept);
		part[kept] = '\0';
		if (!(number == 0 ? parse_rate(part, &schedule.rate, why) : parse_span(part, &schedule, why)))
			return false;
		if (text[len] == '\0')
			break;
		text += len + 1;
	}
	*out = schedule;
	return true;
}

static size_t show_rate(int64_t rate, char *out, size_t size)
{
	if (rate == 0)
		snprintf(out, size, "0");
	else
		config_units_show(rate, config_rate_units, out, size);
	return strlen(out);
}

void rate_schedule_show(const RateSchedule *schedule, char *out, size_t size)
{
	size_t len = show_rate(schedule->rate, out, size);

	for (int i = 0; i < schedule->span_count && len + 1 < size; i++)
	{
		const RateSpan *span = &schedule->spans[i];

		snprintf(out + len, size - len, "; %02d:%02d-%02d:%02d ", span->begin / 60, span->begin % 60, span->end / 60,
				 span->end % 60);
		len += strlen(out + len);
		len += show_rate(span->rate, out + len, size - len);
	}
}

int64_t rate_schedule_at(const RateSchedule *schedule, int minute)
{
	for (int i = 0; i < schedule->span_count; i++)
		if (span_holds(&schedule->spans[i], minute))
			return schedule->spans[i].rate;
	return schedule->rate;
}

int64_t rate_schedule_now(const RateSchedule *schedule, int64_t clock)
{
	time_t seconds = (time_t) (clock / CLOCK_SECOND);
	struct tm local;

	if (schedule->span_count == 0)
		return schedule->rate;
	localtime_r(&seconds, &local);
	return rate_schedule_at(schedule, local.tm_hour * 60 + local.tm_min);
}
