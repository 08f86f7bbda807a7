/*
 * How the agent is doing, as one JSON object: for `tms-agent status`, GET /v1/status, and the heartbeat's header.
 */
#ifndef AGENT_STATUS_H
#define AGENT_STATUS_H

#include "service.h"

/* What is read at one moment, and what follows from it. Times in microseconds since 1970. */
typedef struct StatusFigures
{
	int64_t at;
	LedgerCounts counts;
	int64_t free_bytes; /* -1, as total_bytes: not known */
	int64_t total_bytes;
	double per_hour; /* captures taken in, over the last hour; -1: not known */
	int64_t safe_until; /* 0: not known, or more than ten years ahead */
} StatusFigures;

/* Reads the figures; false when the ledger cannot be read (logged). */
extern bool status_read(const ServiceContext *context, StatusFigures *out);

/*
 * The status as compact JSON text, which the caller frees; NULL when the ledger cannot be read (logged).
 *   {"version","at","clock","upload":{"backlog","oldest_at","error","requested"},"register":{"backlog","oldest_at","error"},
 *    "cached","cached_bytes","free_bytes","total_bytes","safe_until","set_aside","intake_per_hour","error","cleaning"}
 * Times are RFC 3339 texts: at is when the figures were read, clock the agent's clock when the text was made, from which the
 * path center tells how far it is off; error is the present one of what is no destination: intake, cache server, cleaner. What is
 * not known is null: free_bytes without a cache in the context; intake_per_hour until it was measured for a minute; safe_until
 * without that, or when it is more than ten years ahead. local adds what only a technician wants: "device", "clock_state" (see
 * below), "parts" (the services' health), "errors" (the last ones), "ledgers" and "history".
 */
extern char *status_json(const ServiceContext *context, bool local);

/* Keeps a sample of the figures for rate and history; to be called every few seconds. False when the ledger cannot be read. */
extern bool status_sample(const ServiceContext *context);

/* "synchronized", "unsynchronized" or "unknown", as the kernel says of its clock. */
extern const char *status_clock_state(void);

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
