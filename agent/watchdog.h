/*
 * Notices that nothing goes on although nothing is known to be wrong.
 *
 * Two things are told apart. A thread that gives no sign of life is stuck: it is logged, shown in the status, and systemd
 * gets no sign of life either, so that it starts the agent anew. A part that has a backlog and does not get on with it, with
 * no error that explains it, is only logged and shown: a new start would not help a center that is away.
 *
 * Belongs to the main thread.
 */
#ifndef AGENT_WATCHDOG_H
#define AGENT_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

#include "service.h"

/* How long a part may have a backlog and get nowhere before it is told. */
#define WATCHDOG_PATIENCE (10 * INT64_C(60000000))

/* What one look at a part shows. */
typedef struct WatchdogView
{
	int64_t backlog;
	int64_t mark; /* another number whenever something got done */
	bool explained; /* an error is known, or a limit holds it back */
} WatchdogView;

/* What is remembered of a part from look to look; all zero at first. */
typedef struct WatchdogPart
{
	int64_t mark;
	int64_t since; /* steady clock: nothing got done since; 0: not looked at yet */
	bool told;
} WatchdogPart;

/* Looks at a part at `now` (steady clock): microseconds for which it has got nowhere without a reason, 0 below the patience. */
extern int64_t watchdog_look(WatchdogPart *part, const WatchdogView *view, int64_t now);

/*
 * Looks at everything, logs what began or ended and writes it to the board of health. False when a thread has given no sign
 * of life for `silence` microseconds.
 */
extern bool watchdog_check(const ServiceContext *context, int64_t silence);

#endif
