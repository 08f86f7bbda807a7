/*
 * Executing a scan of a foreign table.
 */
#ifndef TMS_SCAN_H
#define TMS_SCAN_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"

#include "tms_fdw/image_fetch.h"

/* Prepares a scan and plans its path query; with EXEC_FLAG_EXPLAIN_ONLY only what tms_scan_report needs. Asks for nothing. */
extern void tms_scan_begin(ForeignScanState *node, int eflags);
/* The next row, whose image, if wanted, is there: in the scan's slot, valid until the next call; empty after the last. */
extern TupleTableSlot *tms_scan_iterate(ForeignScanState *node);
/* Starts anew, from what is in memory where nothing has changed and all of it is there. */
extern void tms_scan_rescan(ForeignScanState *node);
/* Ends what runs; also after a scan that was only begun. */
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
