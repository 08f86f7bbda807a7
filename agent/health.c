/*
 * The board of the services' health: a report a part and the last errors of all, behind `lock`.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../common/capture_record.h"
#include "clock.h"
#include "health.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static HealthReport reports[HEALTH_PART_COUNT]; /* by lock, as the errors: the one that came last first */
static HealthError errors[HEALTH_ERRORS];
static int error_count;

static const char *const part_names[HEALTH_PART_COUNT] = {
	[HEALTH_INTAKE] = "intake",           [HEALTH_IMAGE_CENTER] = "image_center",
	[HEALTH_PATH_CENTER] = "path_center", [HEALTH_CACHE_SERVER] = "cache_server",
	[HEALTH_CLEANER] = "cleaner",
};

void health_ok(HealthPart part)
{
	pthread_mutex_lock(&lock);
	reports[part].ok_count++;
	reports[part].last_ok = clock_now();
	reports[part].error[0] = '\0';
	pthread_mutex_unlock(&lock);
}

/* The same but for numbers in them: times, ports, sizes that come out differently each time? */
static bool alike(const char *a, const char *b)
{
	static const char digits[] = "0123456789";

	while (*a && *b)
	{
		size_t a_digits = strspn(a, digits), b_digits = strspn(b, digits);

		if ((a_digits > 0) != (b_digits > 0) || (a_digits == 0 && *a != *b))
			return false;
		a += a_digits ? a_digits : 1;
		b += b_digits ? b_digits : 1;
	}
	return *a == *b;
}

/* Brings an error to the front: counted again, or in the place of the one that is longest ago. */
static void remember(HealthPart part, const HealthReport *report)
{
	HealthError error = {.part = part, .first_at = report->last_error};
	int i = 0;

	while (i < error_count && (errors[i].part != part || !alike(errors[i].error, report->error)))
		i++;
	if (i < error_count)
		error = errors[i];
	else
	{
		if (error_count < HEALTH_ERRORS)
			error_count++;
		i = error_count - 1;
	}
	memcpy(error.error, report->error, sizeof error.error);
	error.count++;
	error.last_at = report->last_error;
	memmove(&errors[1], &errors[0], sizeof errors[0] * (size_t) i);
	errors[0] = error;
}

/*
 * What others said may be in any encoding, cut in the middle of a character, or hold escape sequences for the technician's
 * terminal: makes it one line of valid UTF-8.
 */
static void clean(char *text)
{
	size_t left = strlen(text);

	while (left > 0)
	{
		size_t len = 1;

		while (len < 4 && len < left && !tms_utf8_valid(text, len))
			len++;
		if (!tms_utf8_valid(text, len))
		{
			*text = '?';
			len = 1;
		}
		else if ((len == 1 && ((uint8_t) *text < ' ' || *text == 0x7f)) ||
				 (len == 2 && (uint8_t) text[0] == 0xc2 && (uint8_t) text[1] < 0xa0))
			memset(text, ' ', len);
		text += len;
		left -= len;
	}
}

void health_error(HealthPart part, const char *format, ...)
{
	HealthReport *report = &reports[part];
	va_list args;

	pthread_mutex_lock(&lock);
	report->error_count++;
	report->last_error = clock_now();
	va_start(args, format);
	vsnprintf(report->error, sizeof report->error, format, args);
	va_end(args);
	clean(report->error);
	remember(part, report);
	pthread_mutex_unlock(&lock);
}

void health_moved(HealthPart part)
{
	pthread_mutex_lock(&lock);
	reports[part].moves++;
	pthread_mutex_unlock(&lock);
}

void health_stalled(HealthPart part, int64_t micros)
{
	pthread_mutex_lock(&lock);
	reports[part].stalled = micros;
	pthread_mutex_unlock(&lock);
}

HealthReport health_get(HealthPart part)
{
	HealthReport copy;

	pthread_mutex_lock(&lock);
	copy = reports[part];
	pthread_mutex_unlock(&lock);
	copy.failing = copy.error[0] != '\0';
	if (copy.stalled > 0 && copy.error[0] == '\0')
		snprintf(copy.error, sizeof copy.error, "no progress for %" PRId64 " seconds, and no error explains it",
				 copy.stalled / CLOCK_SECOND);
	return copy;
}

int health_errors(HealthError out[HEALTH_ERRORS])
{
	int count;

	pthread_mutex_lock(&lock);
	count = error_count;
	memcpy(out, errors, sizeof errors);
	pthread_mutex_unlock(&lock);
	return count;
}

const char *health_part_name(HealthPart part)
{
	return part_names[part];
}
