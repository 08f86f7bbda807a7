/*
 * How the agent is doing, as one JSON object: for `tms-agent status`, GET /v1/status, and the heartbeat's header.
 */
#ifndef AGENT_STATUS_H
#define AGENT_STATUS_H

#include "service.h"

/*
 * Writes the status as compact JSON, which the caller frees; NULL when the ledger cannot be read (logged).
 *   {"version","at","clock","upload":{"backlog","oldest_at","error"},"register":{"backlog","oldest_at","error"},"cached",
 *    "cached_bytes","free_bytes","total_bytes","safe_until","set_aside","intake_per_hour"}
 * Times are RFC 3339 texts: at is when the figures were read, clock the agent's clock when the text was made, from which the
 * path center tells how far it is off. What is not known is null: free_bytes without a cache in the context; intake_per_hour
 * until it was measured for a minute; safe_until without that, or when it is more than ten years ahead. local adds what only
 * a technician wants: "device", "clock_state" ("synchronized", "unsynchronized" or "unknown", as the kernel says), "parts"
 * (the services' health) and "ledgers".
 */
extern char *status_json(const ServiceContext *context, bool local);

/*
 * Measures the rate of intake; the run loop calls it about once a minute, more often does no harm. False when the ledger
 * does not answer.
 */
extern bool status_sample(Ledger *ledger);

/* Until when captures fit on the disk, if none may be cleaned any more that is not safe now; 0: not known. All in bytes or
 * microseconds; exposed for its test. */
typedef struct StatusSpace
{
	int64_t now;
	int64_t free_bytes;
	int64_t reserve_bytes; /* not to be filled */
	int64_t cached;
	int64_t cached_bytes;
	int64_t unsafe; /* captures that are not in both centers */
	double per_hour; /* captures; < 0: not known */
} StatusSpace;
extern int64_t status_safe_until(const StatusSpace *space);

#endif
