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

#include "log.h"
#include "worker.h"

static void *worker_main(void *argument)
{
	Worker *worker = argument;

	worker->run(worker->argument);
	return NULL;
}

TmsStatus worker_start(Worker *worker, const char *name, void (*run)(void *), void *argument)
{
	sigset_t all;
	sigset_t before;
	int error;

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
	return TMS_OK;
}

void worker_stop(Worker *worker)
{
	eventfd_write(worker->stop_fd, 1);
	pthread_join(worker->thread, NULL);
	close(worker->stop_fd);
}

bool worker_stopping(int stop_fd)
{
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};

	return poll(&stop, 1, 0) > 0;
}

void worker_pause(int stop_fd, int64_t micros)
{
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};

	poll(&stop, 1, worker_poll_timeout(micros));
}

int worker_poll_timeout(int64_t micros)
{
	if (micros <= 0)
		return 0;
	if (micros > INT_MAX)
		return INT_MAX / 1000;
	return (int) ((micros + 999) / 1000);
}
