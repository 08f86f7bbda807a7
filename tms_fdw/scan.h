/*
 * Executing a scan of a foreign table.
 */
#ifndef TMS_SCAN_H
#define TMS_SCAN_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"

#include "tms_fdw/image_fetch.h"

extern void tms_scan_begin(ForeignScanState *node, int eflags);
extern TupleTableSlot *tms_scan_iterate(ForeignScanState *node);
extern void tms_scan_rescan(ForeignScanState *node);
extern void tms_scan_end(ForeignScanState *node);

/* What EXPLAIN shows of a scan that was begun, be it only for EXPLAIN. */
typedef struct TmsScanReport
{
	const Query *query; /* the path query */
	List *before; /* conditions checked before images are asked for */
	bool fetches; /* does it ask for images? */
	TmsFetchCounters counters;
} TmsScanReport;

extern TmsScanReport tms_scan_report(ForeignScanState *node);

#endif
