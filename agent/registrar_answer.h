/*
 * What the path center answered to a call of tms.ingest: reading it, and what it means for the ledger (DESIGN 6a).
 */
#ifndef AGENT_REGISTRAR_ANSWER_H
#define AGENT_REGISTRAR_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/status.h"
#include "registrar_link.h"

/* A cleaning period outside of this is a mistake: from a second to a hundred years, in microseconds. */
#define CLEANING_PERIOD_MIN INT64_C(1000000)
#define CLEANING_PERIOD_MAX INT64_C(3155760000000000)

typedef struct RegistrarAnswer
{
	int64_t accepted; /* every seq up to it is in the path center */
	int64_t fork_from; /* the path center holds other captures from here on; 0: it does not */
	int64_t cleaning_period; /* microseconds; 0: none that makes sense was told, the last good one holds */
	bool has_request; /* an upload request: */
	int64_t request_id;
	int64_t request_since; /* microseconds since 1970 */
	int64_t request_until;
} RegistrarAnswer;

/* Reads the texts of an answer. False when it is not one that tms.ingest gives. */
extern bool registrar_answer_read(const char *const fields[REGISTRAR_ANSWER_FIELDS], RegistrarAnswer *answer);

/*
 * Up to which seq a ledger is confirmed by the answer to a call that ended with last_of_call: only what this call
 * showed the path center, never what it says to have from others, and nothing from a fork on.
 */
extern int64_t registrar_answer_confirmed(const RegistrarAnswer *answer, int64_t last_of_call);

#endif
