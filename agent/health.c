/*
 * The board of the services' health: a report a part, all behind `lock`.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "clock.h"
#include "health.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static HealthReport reports[HEALTH_PART_COUNT]; /* by lock */

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
	pthread_mutex_unlock(&lock);
}

HealthReport health_get(HealthPart part)
{
	HealthReport copy;

	pthread_mutex_lock(&lock);
	copy = reports[part];
	pthread_mutex_unlock(&lock);
	return copy;
}

const char *health_part_name(HealthPart part)
{
	return part_names[part];
}
