/*
 * Running a path query.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "executor/tuptable.h"
#include "tcop/dest.h"
#include "utils/memutils.h"

#include "tms_ext/compat.h"
#include "tms_fdw/path_run.h"

/* For those who list statements within statements, such as auto_explain. */
#define SOURCE_TEXT "path query of a foreign table of tms_fdw"

struct TmsPathRun
{
	DestReceiver dest; /* first, so that the executor's pointer is ours */
	MemoryContext context;
	QueryDesc *desc;
	TmsPathRowReceiver receiver;
	void *owner;
	MemoryContext row_context; /* of the read under way */
	uint64 received; /* by the read under way */
	bool ended;
};

static bool receive_row(TupleTableSlot *slot, DestReceiver *self)
{
	TmsPathRun *run = (TmsPathRun *) self;
	MemoryContext old = MemoryContextSwitchTo(run->row_context);

	run->receiver(run->owner, ExecCopySlotMinimalTuple(slot));
	MemoryContextSwitchTo(old);
	run->received++;
	return true;
}

static void receive_nothing(DestReceiver *self)
{
}

static void receive_startup(DestReceiver *self, int operation, TupleDesc descriptor)
{
}

TmsPathRun *tms_path_run_start(MemoryContext parent, PlannedStmt *plan, ParamListInfo params, Snapshot snapshot,
							   TmsPathRowReceiver receiver, void *owner)
{
	MemoryContext context = AllocSetContextCreate(parent, "tms path query", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	TmsPathRun *run = palloc0(sizeof(TmsPathRun));

	run->dest.receiveSlot = receive_row;
	run->dest.rStartup = receive_startup;
	run->dest.rShutdown = receive_nothing;
	run->dest.rDestroy = receive_nothing;
	run->dest.mydest = DestNone;
	run->context = context;
	run->receiver = receiver;
	run->owner = owner;
	run->desc = CreateQueryDesc(plan, SOURCE_TEXT, snapshot, InvalidSnapshot, &run->dest, params, NULL, 0);
	ExecutorStart(run->desc, EXEC_FLAG_SKIP_TRIGGERS);
	MemoryContextSwitchTo(old);
	return run;
}

bool tms_path_run_read(TmsPathRun *run, uint64 limit)
{
	if (run->ended)
		return false;
	run->row_context = CurrentMemoryContext;
	run->received = 0;
	tms_executor_run(run->desc, limit);
	run->ended = run->received < limit;
	return !run->ended;
}

TupleDesc tms_path_run_descriptor(TmsPathRun *run)
{
	return run->desc->tupDesc;
}

void tms_path_run_stop(TmsPathRun *run)
{
	MemoryContext context = run->context;

	ExecutorFinish(run->desc);
	ExecutorEnd(run->desc);
	FreeQueryDesc(run->desc);
	MemoryContextDelete(context);
}
