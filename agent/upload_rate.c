/*
 * The rate limit of the link to the image center; see upload_rate.h.
 */
#include <pthread.h>

#include "clock.h"
#include "rate_bucket.h"
#include "upload_rate.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static RateBucket bucket; /* by lock */

/* The bucket as it is now, locked. The timetable is looked at each time, so that a change of rate holds at once. */
static RateBucket *lock_bucket(const RateSchedule *schedule)
{
	pthread_mutex_lock(&lock);
	rate_bucket_fill(&bucket, rate_schedule_now(schedule, clock_now()), clock_steady());
	return &bucket;
}

int64_t upload_rate_take(const RateSchedule *schedule, int64_t want)
{
	int64_t given = rate_bucket_take(lock_bucket(schedule), want);

	pthread_mutex_unlock(&lock);
	return given;
}

void upload_rate_owe(const RateSchedule *schedule, int64_t bytes)
{
	rate_bucket_owe(lock_bucket(schedule), bytes);
	pthread_mutex_unlock(&lock);
}

int64_t upload_rate_wait(const RateSchedule *schedule)
{
	int64_t wait = rate_bucket_wait(lock_bucket(schedule));

	pthread_mutex_unlock(&lock);
	return wait;
}
