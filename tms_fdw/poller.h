/*
 * Many sockets and one alarm behind one descriptor that PostgreSQL can wait on.
 *
 * A WaitEventSet cannot let go of a socket, so the sockets of a library live in a private epoll descriptor; the backend
 * waits on that one together with its latch, and so obeys cancels and timeouts while it waits for any number of peers.
 */
#ifndef TMS_POLLER_H
#define TMS_POLLER_H

#include "postgres.h"

typedef struct TmsPoller
{
	int epoll_fd;
	int timer_fd;
} TmsPoller;

typedef struct TmsPollEvent
{
	int fd;
	bool readable;
	bool writable;
	bool broken; /* error or hang-up */
} TmsPollEvent;

/* Microseconds on a clock that never goes back; for differences only. */
extern int64 tms_poller_clock(void);

/* Opens both descriptors; error 53000 when there are none left. Close with tms_poller_close. */
extern void tms_poller_open(TmsPoller *poller);
extern void tms_poller_close(TmsPoller *poller);

/* Watches a socket for reading and writing, or with neither lets go of it. Never raises an error; false: it failed. */
extern bool tms_poller_watch(TmsPoller *poller, int fd, bool readable, bool writable);

/* Ends the next wait at `due` (tms_poller_clock) at the latest; -1: no alarm. */
extern void tms_poller_set_alarm(TmsPoller *poller, int64 due);

/*
 * Fills in what is ready: at most `max` events. With a `wait_event`, which the session shows meanwhile, waits for a socket, the
 * alarm or the latch first; 0 then means that only the alarm or the latch ended the wait. With 0 does not wait. Raises the error of a cancel, timeout or shutdown that is pending, so it
 * must not be called with a library's functions on the stack.
 */
extern int tms_poller_wait(TmsPoller *poller, TmsPollEvent *events, int max, uint32 wait_event);

#endif
