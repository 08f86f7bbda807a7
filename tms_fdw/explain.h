/*
 * What EXPLAIN shows of a scan.
 */
#ifndef TMS_EXPLAIN_H
#define TMS_EXPLAIN_H

#include "postgres.h"

#include "nodes/execnodes.h"

struct ExplainState;

/* Adds properties of the scan to EXPLAIN's output, in any format. */
extern void tms_explain_scan(ForeignScanState *node, struct ExplainState *es);

#endif
