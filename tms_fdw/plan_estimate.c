/*
 * What a scan costs. Estimates come from planning the path query in this process, which reads catalogs and nothing else;
 * images are charged by the wait for them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"

#include "tms_fdw/option.h"
#include "tms_fdw/plan_rel.h"

/*
 * The wait for one image, in the planner's unit of cost, where a page read in sequence counts 1. Low enough that the default
 * of tms.max_images, fetched 16 at a time, stays below jit_above_cost: compiling costs more than it could save.
 */
#define REQUEST_COST 100.0

/* Starting the path query's executor, and each relation in its plan: what a nested loop pays for every outer row. */
#define RUN_COST          1.0
#define RUN_RELATION_COST 0.2

TmsPathQuery *tms_variant_query(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan, const Bitmapset *attrs,
								const TmsScanVariant *variant)
{
	TmsPathQuerySpec spec = {0};
	int attnum = -1;

	spec.relation = plan->relation;
	spec.relid = rel->relid;
	spec.check_as_user = plan->check_as_user;
	spec.quals = extract_actual_clauses(variant->shipped, false);
	spec.order = tms_order_of_pathkeys(rel, plan, variant->pathkeys);
	spec.limit_count = variant->limit_count;
	spec.limit_offset = variant->limit_offset;
	while ((attnum = bms_next_member(attrs, attnum)) >= 0)
	{
		TmsColumnKind kind = tms_relation_column(plan->relation, attnum)->kind;

		spec.attrs = bms_add_member(spec.attrs, attnum);
		if (kind >= TMS_COLUMN_IMAGE)
			memset(spec.keys, true, sizeof(spec.keys));
		else if (kind == TMS_COLUMN_EXPECTED_SOURCE)
			spec.keys[TMS_KEY_CAPTURE_ID] = true;
	}
	return tms_path_query_build(&spec);
}

/* Adds the wait for the images of those rows that pass the conditions checked before. */
static void charge_images(TmsEstimate *estimate, PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan,
						  List *local)
{
	Oid userid = OidIsValid(plan->check_as_user) ? plan->check_as_user : GetUserId();
	TmsServerOptions *options = tms_server_options(rel->serverid, userid);
	double images;
	List *before = NIL;
	List *after = NIL;

	tms_divide_local(rel, plan->relation, local, &before, &after);
	images = estimate->path_rows * clauselist_selectivity(root, before, rel->relid, JOIN_INNER, NULL);

	/* The first image is waited for in full, the others arrive meanwhile. */
	estimate->startup_cost += REQUEST_COST;
	estimate->total_cost += REQUEST_COST + images * REQUEST_COST / options->concurrency;
}

TmsEstimate tms_variant_estimate(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan,
								 const TmsScanVariant *variant)
{
	TmsPathQuery *path_query = tms_variant_query(root, rel, plan, plan->attrs, variant);
	PlannedStmt *statement = tms_path_query_plan(path_query->query, plan->check_as_user, NULL, variant->fast_start);
	Plan *path_plan = statement->planTree;
	Selectivity selectivity = clauselist_selectivity(root, variant->local, rel->relid, JOIN_INNER, NULL);
	Cost run_cost = TMS_RUN_COST + RUN_RELATION_COST * list_length(statement->relationOids);
	QualCost qual_cost;
	TmsEstimate estimate;

	cost_qual_eval(&qual_cost, variant->local, root);
	estimate.path_rows = path_plan->plan_rows;
	estimate.rows = clamp_row_est(path_plan->plan_rows * selectivity);

	/*
	 * Looking for an id, each partition expects a row of its own, although it is in one of them alone. Statistics over all
	 * partitions know better.
	 */
	if (variant->rows_max > 0 && variant->rows_max < estimate.rows)
	{
		estimate.path_rows *= variant->rows_max / estimate.rows;
		estimate.rows = clamp_row_est(variant->rows_max);
	}
	estimate.startup_cost = path_plan->startup_cost + run_cost + qual_cost.startup;
	estimate.total_cost = path_plan->total_cost + run_cost + qual_cost.startup +
						  (cpu_tuple_cost + qual_cost.per_tuple) * path_plan->plan_rows;
	if (plan->has_images)
		charge_images(&estimate, root, rel, plan, variant->local);
	return estimate;
}
