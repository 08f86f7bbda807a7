/*
 * The samples: a ring behind `lock`.
 */
#include <pthread.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "status_history.h"

#define HOUR     (3600 * CLOCK_SECOND)
#define DAY      (24 * HOUR)
#define SHORTEST (60 * CLOCK_SECOND) /* a rate over less than this says nothing */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static StatusSample samples[STATUS_HISTORY_COUNT]; /* by lock; a ring, oldest first from `first`, as all below */
static int first, count;
static int64_t taken_before; /* captures up to the restart */

static StatusSample *sample_at(int i)
{
	return &samples[(first + i) % STATUS_HISTORY_COUNT];
}

static void append(const StatusSample *sample)
{
	if (count == STATUS_HISTORY_COUNT)
	{
		first = (first + 1) % STATUS_HISTORY_COUNT;
		count--;
	}
	*sample_at(count++) = *sample;
}

int64_t status_history_taken(void)
{
	int64_t before;

	pthread_mutex_lock(&lock);
	before = taken_before;
	pthread_mutex_unlock(&lock);
	return before + metrics_get(METRIC_CAPTURES_TAKEN);
}

void status_history_add(const StatusSample *sample)
{
	pthread_mutex_lock(&lock);
	if (count == 0 || sample->at - sample_at(count - 1)->at >= STATUS_HISTORY_STEP)
		append(sample);
	pthread_mutex_unlock(&lock);
}

double status_history_rate(int64_t taken, int64_t micros)
{
	int64_t now = clock_steady();
	double rate = -1;
	int i = 0;

	pthread_mutex_lock(&lock);
	while (i + 1 < count && now - sample_at(i + 1)->at >= micros)
		i++;
	if (count > 0 && now - sample_at(i)->at >= SHORTEST)
		rate = (double) (taken - sample_at(i)->taken) * (double) HOUR / (double) (now - sample_at(i)->at);
	pthread_mutex_unlock(&lock);
	return rate;
}

int status_history_read(StatusSample out[STATUS_HISTORY_COUNT])
{
	int copied;

	pthread_mutex_lock(&lock);
	for (copied = 0; copied < count; copied++)
		out[copied] = *sample_at(copied);
	pthread_mutex_unlock(&lock);
	return copied;
}

static json_t *sample_json(const StatusSample *sample, int64_t offset)
{
	return json_pack("[I, I, I, I, I]", (json_int_t) ((sample->at + offset) / CLOCK_SECOND), (json_int_t) sample->taken,
					 (json_int_t) sample->upload_backlog, (json_int_t) sample->register_backlog,
					 (json_int_t) sample->free_bytes);
}

json_t *status_history_json(const StatusSample *last)
{
	json_t *array = json_array();
	int64_t offset = clock_now() - clock_steady();
	StatusSample copy[STATUS_HISTORY_COUNT];
	int copied = status_history_read(copy);

	for (int i = 0; i < copied; i++)
		json_array_append_new(array, sample_json(&copy[i], offset));
	json_array_append_new(array, sample_json(last, offset));
	return json_pack("{s:[s, s, s, s, s], s:o}", "names", "at", "taken", "upload_backlog", "register_backlog",
					 "free_bytes", "samples", array);
}

void status_history_restore(const json_t *history)
{
	int64_t offset = clock_now() - clock_steady(), now = clock_steady();
	size_t i;
	json_t *row;

	pthread_mutex_lock(&lock);
	json_array_foreach (json_object_get(history, "samples"), i, row)
	{
		json_int_t at, taken, upload, registering, free_bytes;
		StatusSample sample;

		if (json_unpack(row, "[I, I, I, I, I]", &at, &taken, &upload, &registering, &free_bytes) != 0 || at < 0 ||
			at > INT64_MAX / CLOCK_SECOND || taken < taken_before || taken > INT64_MAX / 2)
			continue;
		sample = (StatusSample){at * CLOCK_SECOND - offset, taken, upload, registering, free_bytes};
		if (sample.at > now || now - sample.at > DAY)
			continue;
		taken_before = taken;
		/* The newest one was kept for its figures, not because it was time for it: many restarts do not push out the day. */
		if (count == 0 || sample.at - sample_at(count - 1)->at >= STATUS_HISTORY_STEP / 2)
			append(&sample);
	}
	pthread_mutex_unlock(&lock);
}
