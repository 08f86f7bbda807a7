/*
 * Running a path query: an executor of its own inside the outer query's, with that query's snapshot. It is neither a cursor
 * nor an SPI connection, so that it lives exactly as long as the scan it belongs to, whatever becomes of savepoints.
 */
#ifndef TMS_PATH_RUN_H
#define TMS_PATH_RUN_H

#include "postgres.h"

#include "access/htup.h"
#include "access/tupdesc.h"
#include "nodes/params.h"
#include "nodes/plannodes.h"
#include "utils/snapshot.h"

typedef struct TmsPathRun TmsPathRun;

/* Takes each row: a copy in the memory context current when tms_path_run_read is called; now the receiver's to free. */
typedef void (*TmsPathRowReceiver)(void *owner, MinimalTuple row);

/*
 * Starts it in a child of `parent`. The plan and the parameters must live as long as it does. An error anywhere leaves
 * nothing to do: what it holds goes with the (sub)transaction and the memory context, as in any executor.
 */
extern TmsPathRun *tms_path_run_start(MemoryContext parent, PlannedStmt *plan, ParamListInfo params, Snapshot snapshot,
									  TmsPathRowReceiver receiver, void *owner);

/* Reads up to `limit` more rows; false when there are no more after them. */
extern bool tms_path_run_read(TmsPathRun *run, uint64 limit);

/* What the rows look like; lives until the run is stopped. */
extern TupleDesc tms_path_run_descriptor(TmsPathRun *run);

/* Ends it and frees everything. */
extern void tms_path_run_stop(TmsPathRun *run);

#endif
