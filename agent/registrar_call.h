/*
 * One call of tms.ingest made from the ledger: what is to be said of one ledger, and its next rows.
 */
#ifndef AGENT_REGISTRAR_CALL_H
#define AGENT_REGISTRAR_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/status.h"
#include "ingest_call.h"
#include "ledger.h"
#include "service.h"

#define REGISTRAR_READ_COUNT 32

/* Keeps its memory from call to call. */
typedef struct RegistrarCall
{
	IngestCall ingest; /* ready to be sent after registrar_call_make */
	int64_t first_seq;
	int64_t last_seq; /* of the last row; first_seq - 1 without rows */
	LedgerEntry entries[REGISTRAR_READ_COUNT];
} RegistrarCall;

/* What goes into a call, besides what the ledger says. */
typedef struct RegistrarCallPlan
{
	int rows_max;
	/* The server could not take a call with these values: rows have their identity alone, and there is no status. */
	bool bare;
	const char *bare_reason; /* an SQLSTATE, kept in the row's attributes */
	const char *status; /* JSON object, or NULL */
} RegistrarCallPlan;

extern void registrar_call_init(RegistrarCall *call);
extern void registrar_call_free(RegistrarCall *call);

/*
 * Makes the next call for a ledger: from the first seq that is not confirmed on. A seq that the ledger has no entry
 * for goes as "no longer held" if a later one is there or the ledger is sealed; the end of the active ledger may only
 * look so.
 */
extern TMS_CHECKED TmsStatus registrar_call_make(RegistrarCall *call, const ServiceContext *context,
												 const LedgerInfo *info, const RegistrarCallPlan *plan);

#endif
