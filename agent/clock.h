/*
 * The clocks of the agent, all in microseconds.
 */
#ifndef AGENT_CLOCK_H
#define AGENT_CLOCK_H

#include <stdint.h>

#define CLOCK_SECOND INT64_C(1000000)

/* Time of day since 1970; may be wrong and may jump. For what is written down. */
extern int64_t clock_now(void);

/* Time since the machine was started, suspends included; nobody can set it. */
extern int64_t clock_boot(void);

/* Time since some start; never jumps. For waits, intervals and time limits. */
extern int64_t clock_steady(void);

#endif
