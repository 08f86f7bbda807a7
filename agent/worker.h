/*
 * A thread that can be asked to stop: its stop descriptor becomes readable, and stays so, once worker_stop is called.
 * Whoever waits in the thread waits on that descriptor too, so that nothing keeps it from ending within a second.
 *
 * The thread has all signals blocked; they are the main thread's.
 */
#ifndef AGENT_WORKER_H
#define AGENT_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../common/status.h"

typedef struct Worker
{
	pthread_t thread;
	const char *name;
	_Atomic int64_t alive_until; /* by the steady clock: the next sign of life comes before, if all is well */
	int stop_fd; /* an eventfd, written once */
	void (*run)(void *argument);
	void *argument;
} Worker;

/* Starts a thread that runs run(argument); logs a failure. The Worker is the caller's, in place until worker_stop. */
extern TMS_CHECKED TmsStatus worker_start(Worker *worker, const char *name, void (*run)(void *), void *argument);

/* Asks the thread to stop and waits until it has ended. */
extern void worker_stop(Worker *worker);

/*
 * A sign of life of the thread that calls: the next one comes within so many microseconds. The functions below give one each,
 * for as long as they wait. From a thread that is no worker: nothing.
 */
extern void worker_beat(int64_t micros);

/* For how long, microseconds, the worker of that name has owed a sign of life; 0: it has not, or there is none. */
extern int64_t worker_silence(const char *name);

/* Is the descriptor's worker asked to stop? */
extern bool worker_stopping(int stop_fd);

/* Waits so many microseconds (less than zero: none), or until asked to stop. */
extern void worker_pause(int stop_fd, int64_t micros);

/* Milliseconds for poll(2), which is called at once, rounded up so that a wait does not end just before its time; at least 0. */
extern int worker_poll_timeout(int64_t micros);

#endif
