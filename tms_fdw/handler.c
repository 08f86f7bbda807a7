/*
 * The foreign-data wrapper's entry points.
 */
#include "postgres.h"

#include "fmgr.h"
#include "foreign/fdwapi.h"

#include "tms_fdw/explain.h"
#include "tms_fdw/import.h"
#include "tms_fdw/plan.h"
#include "tms_fdw/plan_statistics.h"
#include "tms_fdw/scan.h"

PG_FUNCTION_INFO_V1(tms_fdw_handler);

/* Without IsForeignScanParallelSafe scans stay in the leader. */
Datum tms_fdw_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = tms_plan_rel_size;
	routine->GetForeignPaths = tms_plan_paths;
	routine->GetForeignUpperPaths = tms_plan_upper_paths;
	routine->GetForeignPlan = tms_plan_scan;
	routine->PlanForeignModify = tms_plan_modify;
	routine->BeginForeignScan = tms_scan_begin;
	routine->IterateForeignScan = tms_scan_iterate;
	routine->ReScanForeignScan = tms_scan_rescan;
	routine->EndForeignScan = tms_scan_end;
	routine->ExplainForeignScan = tms_explain_scan;
	routine->AnalyzeForeignTable = tms_analyze;
	routine->ImportForeignSchema = tms_import_schema;
	PG_RETURN_POINTER(routine);
}
