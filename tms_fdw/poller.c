/*
 * Many sockets and one alarm behind one descriptor: an epoll descriptor that holds the sockets and a timerfd.
 */
#include "postgres.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"

#include "tms_ext/compat.h"
#include "tms_fdw/poller.h"

#define MAX_EVENTS 64

int64 tms_poller_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000;
}

void tms_poller_open(TmsPoller *poller)
{
	ReserveExternalFD();
	ReserveExternalFD();
	poller->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	poller->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (poller->epoll_fd < 0 || poller->timer_fd < 0 || !tms_poller_watch(poller, poller->timer_fd, true, false))
	{
		int saved_errno = errno;

		tms_poller_close(poller);
		errno = saved_errno;
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("could not open a descriptor to wait on: %m")));
	}
}

void tms_poller_close(TmsPoller *poller)
{
	if (poller->epoll_fd >= 0)
		close(poller->epoll_fd);
	if (poller->timer_fd >= 0)
		close(poller->timer_fd);
	poller->epoll_fd = poller->timer_fd = -1;
	ReleaseExternalFD();
	ReleaseExternalFD();
}

bool tms_poller_watch(TmsPoller *poller, int fd, bool readable, bool writable)
{
	struct epoll_event event = {0};

	if (!readable && !writable)
		return epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, fd, NULL) == 0;
	event.events = (readable ? EPOLLIN : 0) | (writable ? EPOLLOUT : 0);
	event.data.fd = fd;
	return epoll_ctl(poller->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0 ||
		   (errno == ENOENT && epoll_ctl(poller->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0);
}

void tms_poller_set_alarm(TmsPoller *poller, int64 due)
{
	struct itimerspec alarm = {{0, 0}, {0, 0}};

	if (due >= 0)
	{
		/* All zero would disarm it; a time that has passed fires at once. */
		alarm.it_value.tv_sec = due / INT64CONST(1000000);
		alarm.it_value.tv_nsec = due % INT64CONST(1000000) * 1000 + 1;
	}
	timerfd_settime(poller->timer_fd, TFD_TIMER_ABSTIME, &alarm, NULL);
}

/* What is ready now, without waiting. The alarm is taken off; *woken tells that it or anything else was ready. */
static int take_ready(TmsPoller *poller, TmsPollEvent *events, int max, bool *woken)
{
	struct epoll_event ready[MAX_EVENTS];
	int n_ready = epoll_wait(poller->epoll_fd, ready, Min(max, MAX_EVENTS), 0);
	int n = 0;
	int i;

	*woken = n_ready > 0;
	for (i = 0; i < n_ready; i++)
	{
		if (ready[i].data.fd == poller->timer_fd)
		{
			uint64 expirations;

			(void) !read(poller->timer_fd, &expirations, sizeof(expirations));
			continue;
		}
		events[n].fd = ready[i].data.fd;
		events[n].readable = (ready[i].events & EPOLLIN) != 0;
		events[n].writable = (ready[i].events & EPOLLOUT) != 0;
		events[n].broken = (ready[i].events & (EPOLLERR | EPOLLHUP)) != 0;
		n++;
	}
	return n;
}

int tms_poller_wait(TmsPoller *poller, TmsPollEvent *events, int max, uint32 wait_event)
{
	bool woken;
	int n;

	CHECK_FOR_INTERRUPTS();
	n = take_ready(poller, events, max, &woken);
	if (wait_event != 0 && !woken)
	{
		int reason = WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH,
									   poller->epoll_fd, 0, wait_event);

		if (reason & WL_LATCH_SET)
			ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		n = take_ready(poller, events, max, &woken);
	}
	return n;
}
