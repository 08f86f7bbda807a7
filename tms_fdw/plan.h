/*
 * Planning scans of a foreign table: what of the query the path query does, what stays behind, and what it costs.
 */
#ifndef TMS_PLAN_H
#define TMS_PLAN_H

#include "postgres.h"

#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"

/*
 * What the planner hands the executor in ForeignScan.fdw_private, one list item each.
 *
 * ForeignScan.fdw_exprs has the parameters of the path query, then the conditions to check before images are asked for;
 * the plan's own conditions are the ones that need an image.
 */
typedef enum TmsPlanItem
{
	TMS_PLAN_QUERY, /* the path query, a Query */
	TMS_PLAN_SOURCES, /* integer list: per attribute, where its value comes from, see below */
	TMS_PLAN_KEYS, /* integer list: per TmsKey, its column in the path query's result; 0: not there */
	TMS_PLAN_PARAMS, /* integer: how many parameters */
	TMS_PLAN_EXPECTED, /* integer: after how many rows the plan may stop asking for more; 0: not before the last */
	TMS_PLAN_AT_MOST, /* integer: after how many rows it certainly stops; 0: not known */
	TMS_PLAN_FAST_START, /* integer: 1 when the path query's first rows matter more than its last */
} TmsPlanItem;

/* A source greater than 0 is a column of the path query's result, less than 0 a negated TmsColumnKind, 0 not wanted. */

/* Resolves the relation, divides the conditions and estimates rows and cost of the scan. */
extern void tms_plan_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid foreigntableid);
/* Offers the planner ways to scan: as it comes, in orders that the query can use, and for one row of other tables at a time. */
extern void tms_plan_paths(PlannerInfo *root, RelOptInfo *rel, Oid foreigntableid);
/* Offers a scan that does the query's LIMIT and OFFSET, where nothing between them and the scan changes the rows. */
extern void tms_plan_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input_rel,
								 RelOptInfo *output_rel, void *extra);
/* Makes the plan node of the chosen path, as described above. */
extern ForeignScan *tms_plan_scan(PlannerInfo *root, RelOptInfo *rel, Oid foreigntableid, ForeignPath *best_path,
								  List *tlist, List *scan_clauses, Plan *outer_plan);

/* Refuses every change of a foreign table, with a hint where changes go. */
extern List *tms_plan_modify(PlannerInfo *root, ModifyTable *plan, Index result_relation, int subplan_index);

#endif
