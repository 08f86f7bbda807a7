/*
 * Tells systemd how the program is doing (sd_notify's protocol, without its library). Without systemd nothing happens.
 */
#ifndef AGENT_NOTIFY_H
#define AGENT_NOTIFY_H

#include <stdint.h>

/* Sends a state, such as "READY=1", "STOPPING=1", "WATCHDOG=1"; lines are parted by "\n". */
extern void notify_send(const char *state);

/* How long systemd waits for a sign of life before it restarts the program, microseconds; 0: it does not. */
extern int64_t notify_watchdog(void);

#endif
