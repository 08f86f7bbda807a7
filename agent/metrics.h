/*
 * What the agent counts and times while it runs; metrics_text.h makes the text of it that Prometheus reads.
 *
 * Counters begin at 0 when the process starts. Counting is an atomic addition: it may be done anywhere, and costs nothing that
 * anybody would notice.
 */
#ifndef AGENT_METRICS_H
#define AGENT_METRICS_H

#include <stdint.h>

typedef enum MetricCounter
{
	METRIC_CAPTURES_TAKEN, /* acknowledged, by HTTP or spool */
	METRIC_BYTES_TAKEN,
	METRIC_CAPTURES_UPLOADED, /* verified in the image center */
	METRIC_BYTES_UPLOADED,
	METRIC_COUNTER_COUNT
} MetricCounter;

typedef enum MetricTimer
{
	METRIC_INTAKE, /* of one capture: from its last byte to durable */
	METRIC_FSYNC, /* of one photograph's file */
	METRIC_UPLOAD, /* of one capture: sent and verified */
	METRIC_INGEST, /* one call to the path center */
	METRIC_TIMER_COUNT
} MetricTimer;

extern void metrics_add(MetricCounter counter, int64_t amount);
extern int64_t metrics_get(MetricCounter counter);

/* Something took so many microseconds. */
extern void metrics_time(MetricTimer timer, int64_t micros);

/* The intake port answered a request with this HTTP status. */
extern void metrics_count_answer(unsigned status);

/* Upper bounds of a timer's buckets, microseconds; what is longer is in one more. */
#define METRIC_BOUNDS 13
extern const int64_t metric_bounds[METRIC_BOUNDS];

typedef struct MetricTimes
{
	int64_t buckets[METRIC_BOUNDS + 1]; /* each what is within its bounds alone */
	int64_t sum; /* microseconds */
} MetricTimes;

extern MetricTimes metrics_times(MetricTimer timer);

/* The HTTP statuses that are counted each for itself, and how often each was; the last one, 0, stands for all others. */
#define METRIC_ANSWERS 13
extern const unsigned metric_answers[METRIC_ANSWERS];
extern int64_t metrics_answers(int index);

#endif
