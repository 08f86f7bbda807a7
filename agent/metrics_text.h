/*
 * GET /metrics: what the agent counts, its status and the process, as Prometheus reads it.
 */
#ifndef AGENT_METRICS_TEXT_H
#define AGENT_METRICS_TEXT_H

#include "service.h"

/* All metrics in Prometheus's text format 0.0.4; the caller frees it. NULL: the ledger cannot be read (logged), or out of memory. */
extern char *metrics_text(const ServiceContext *context);

#endif
