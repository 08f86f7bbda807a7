/*
 * Atomic counters. They are independent of each other: a reader may see a sum without its count, which the next reading mends.
 */
#include <stdatomic.h>

#include "metrics.h"

/* The steps Prometheus's own libraries have by default, and two finer ones. */
const int64_t metric_bounds[METRIC_BOUNDS] = {1000,   2500,   5000,    10000,   25000,   50000,   100000,
											  250000, 500000, 1000000, 2500000, 5000000, 10000000};
const unsigned metric_answers[METRIC_ANSWERS] = {200, 201, 400, 401, 403, 404, 405, 413, 422, 500, 503, 507, 0};

static atomic_int_fast64_t counters[METRIC_COUNTER_COUNT];
static atomic_int_fast64_t answers[METRIC_ANSWERS];
static struct
{
	atomic_int_fast64_t buckets[METRIC_BOUNDS + 1];
	atomic_int_fast64_t sum;
} timers[METRIC_TIMER_COUNT];

void metrics_add(MetricCounter counter, int64_t amount)
{
	atomic_fetch_add_explicit(&counters[counter], amount, memory_order_relaxed);
}

int64_t metrics_get(MetricCounter counter)
{
	return atomic_load_explicit(&counters[counter], memory_order_relaxed);
}

void metrics_time(MetricTimer timer, int64_t micros)
{
	int bucket = 0;

	while (bucket < METRIC_BOUNDS && micros > metric_bounds[bucket])
		bucket++;
	atomic_fetch_add_explicit(&timers[timer].sum, micros, memory_order_relaxed);
	atomic_fetch_add_explicit(&timers[timer].buckets[bucket], 1, memory_order_relaxed);
}

MetricTimes metrics_times(MetricTimer timer)
{
	MetricTimes times = {.sum = atomic_load(&timers[timer].sum)};

	for (int i = 0; i <= METRIC_BOUNDS; i++)
		times.buckets[i] = atomic_load(&timers[timer].buckets[i]);
	return times;
}

void metrics_count_answer(unsigned status)
{
	int i = 0;

	while (metric_answers[i] != 0 && metric_answers[i] != status)
		i++;
	atomic_fetch_add_explicit(&answers[i], 1, memory_order_relaxed);
}

int64_t metrics_answers(int index)
{
	return atomic_load(&answers[index]);
}
