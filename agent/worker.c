/*
 * A thread that can be asked to stop; see worker.h.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "worker.h"

#define WORKERS_MAX 16

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Worker *workers[WORKERS_MAX]; /* by lock: those between start and stop */
static _Thread_local Worker *self;

/* Puts `with` in the place of `old` in the list. A worker that has no place there is not watched. */
static void list_replace(Worker *old, Worker *with)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < WORKERS_MAX; i++)
		if (workers[i] == old)
		{
			workers[i] = with;
			break;
		}
	pthread_mutex_unlock(&lock);
}

void worker_beat(int64_t micros)
{
	if (self != NULL)
		self->alive_until = clock_steady() + (micros > 0 ? micros : 0);
}

int64_t worker_silence(const char *name)
{
	int64_t silence = 0;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < WORKERS_MAX; i++)
		if (workers[i] != NULL && strcmp(workers[i]->name, name) == 0)
			silence = clock_steady() - workers[i]->alive_until;
	pthread_mutex_unlock(&lock);
	return silence > 0 ? silence : 0;
}

static void *worker_main(void *argument)
{
	Worker *worker = argument;

	self = worker;
	worker->run(worker->argument);
	return NULL;
}

TmsStatus worker_start(Worker *worker, const char *name, void (*run)(void *), void *argument)
{
	sigset_t all;
	sigset_t before;
	int error;

	worker->name = name;
	worker->alive_until = clock_steady();
	worker->run = run;
	worker->argument = argument;
	worker->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (worker->stop_fd < 0)
	{
		log_event(LOG_LEVEL_ERROR, "thread_not_started", "name=%s error=%s", name, strerrorname_np(errno));
		return TMS_IO;
	}
	/* A thread inherits its mask from its maker. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&worker->thread, NULL, worker_main, worker);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error != 0)
	{
		log_event(LOG_LEVEL_ERROR, "thread_not_started", "name=%s error=%s", name, strerrorname_np(error));
		close(worker->stop_fd);
		return TMS_MEMORY;
	}
	pthread_setname_np(worker->thread, name);
	list_replace(NULL, worker);
	return TMS_OK;
}

void worker_stop(Worker *worker)
{
	eventfd_write(worker->stop_fd, 1);
	pthread_join(worker->thread, NULL);
	list_replace(worker, NULL);
	close(worker->stop_fd);
}

bool worker_stopping(int stop_fd)
{
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};

	worker_beat(0);
	return poll(&stop, 1, 0) > 0;
}

void worker_pause(int stop_fd, int64_t micros)
{
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};

	poll(&stop, 1, worker_poll_timeout(micros));
}

int worker_poll_timeout(int64_t micros)
{
	worker_beat(micros);
	if (micros <= 0)
		return 0;
	if (micros > INT_MAX)
		return INT_MAX / 1000;
	return (int) ((micros + 999) / 1000);
}
