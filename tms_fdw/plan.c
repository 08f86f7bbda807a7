/*
 * Planning: the server's callbacks. Whatever way the planner chooses becomes one plan node with one path query.
 */
#include "postgres.h"

#include <limits.h>

#include "foreign/fdwapi.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/planner.h"
#include "optimizer/restrictinfo.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "tms_ext/compat.h"
#include "tms_fdw/option.h"
#include "tms_fdw/path_query.h"
#include "tms_fdw/plan.h"
#include "tms_fdw/plan_rel.h"
#include "tms_fdw/plan_statistics.h"
#include "tms_fdw/pushdown.h"

/* What the planner takes an image's width for, in bytes. */
#define IMAGE_WIDTH (250 * 1024)

/* ForeignPath.fdw_private: an integer, these flags. The rest of a variant is in the path itself. */
#define PATH_FAST_START 1
#define PATH_WITH_LIMIT 2

TmsRelPlan *tms_rel_plan(const RelOptInfo *rel)
{
	return rel->fdwroutine != NULL && rel->fdwroutine->GetForeignRelSize == tms_plan_rel_size ? rel->fdw_private : NULL;
}

/* --- LIMIT and OFFSET ---------------------------------------------------------------------------------------------- */

/* Is the query a SELECT of rows of one table, in which LIMIT counts the very rows that the scan gives? */
static bool limit_counts_scanned_rows(PlannerInfo *root)
{
	Query *parse = root->parse;

	return parse->commandType == CMD_SELECT && limit_needed(parse) && parse->limitOption == LIMIT_OPTION_COUNT &&
		   parse->rowMarks == NIL && parse->setOperations == NULL && !parse->hasTargetSRFs && !parse->hasAggs &&
		   parse->groupClause == NIL && parse->groupingSets == NIL && parse->distinctClause == NIL &&
		   !parse->hasWindowFuncs && !root->hasHavingQual && bms_membership(root->all_baserels) == BMS_SINGLETON;
}

/* Can the path query do the query's order and limit, with nothing left to check here? */
static bool limit_is_shippable(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan)
{
	Query *parse = root->parse;

	return rel->reloptkind == RELOPT_BASEREL && limit_counts_scanned_rows(root) && plan->local == NIL &&
		   bms_is_empty(rel->lateral_relids) && tms_order_is_shippable(root, rel, plan, root->sort_pathkeys) &&
		   tms_is_shippable(parse->limitCount, rel->relid, plan->relation) &&
		   tms_is_shippable(parse->limitOffset, rel->relid, plan->relation);
}

/* --- size ---------------------------------------------------------------------------------------------------------- */

/* Lets sorts and hashes above know what an image weighs. */
static void widen_images(RelOptInfo *rel, const TmsRelation *relation)
{
	AttrNumber attnum;

	for (attnum = 1; attnum <= relation->ncolumns; attnum++)
	{
		if (tms_relation_column_kind(relation, attnum) == TMS_COLUMN_IMAGE &&
			!bms_is_empty(rel->attr_needed[attnum - rel->min_attr]))
		{
			rel->reltarget->width += IMAGE_WIDTH - rel->attr_widths[attnum - rel->min_attr];
			rel->attr_widths[attnum - rel->min_attr] = IMAGE_WIDTH;
		}
	}
}

/* A scan of the table alone: in no order, or, where it can do the whole query, in the query's order up to its limit. */
static TmsScanVariant plain_variant(PlannerInfo *root, const TmsRelPlan *plan)
{
	TmsScanVariant variant = {plan->shipped, plan->local};

	variant.fast_start = root->tuple_fraction > 0;
	if (plan->ships_limit)
	{
		variant.pathkeys = root->sort_pathkeys;
		variant.limit_count = root->parse->limitCount;
		variant.limit_offset = root->parse->limitOffset;
	}
	return variant;
}

/* Is this "column = value", or one of several values? */
static bool is_equality(const Expr *clause)
{
	if (IsA(clause, OpExpr))
		return get_oprrest(((const OpExpr *) clause)->opno) == F_EQSEL;
	return IsA(clause, ScalarArrayOpExpr) && ((const ScalarArrayOpExpr *) clause)->useOr &&
		   get_oprrest(((const ScalarArrayOpExpr *) clause)->opno) == F_EQSEL;
}

/*
 * The most rows that equalities leave, by statistics over all of the relation; 0 when there are none. Ranges do not count:
 * statistics lag behind the newest rows, which partitions know better.
 */
static double rows_of_equalities(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan)
{
	List *equalities = NIL;
	ListCell *lc;

	foreach (lc, plan->shipped)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);

		if (is_equality(rinfo->clause))
			equalities = lappend(equalities, rinfo);
	}
	if (equalities == NIL)
		return 0;
	return clamp_row_est(rel->tuples * clauselist_selectivity(root, equalities, rel->relid, JOIN_INNER, NULL));
}

void tms_plan_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid foreigntableid)
{
	TmsRelPlan *plan = palloc0(sizeof(TmsRelPlan));
	TmsScanVariant variant;

	rel->fdw_private = plan;
	plan->relation = tms_relation_resolve(foreigntableid);
	plan->check_as_user = tms_rel_check_as_user(root, rel);
	tms_divide_clauses(rel, plan->relation, rel->baserestrictinfo, &plan->shipped, &plan->local);
	plan->attrs = tms_wanted_attributes(root, rel, plan->relation, plan->shipped, plan->local);
	plan->has_images = tms_needs_images(plan->relation, plan->attrs);

	plan->ships_limit = limit_is_shippable(root, rel, plan);

	rel->tuples = tms_relation_tuples(plan->relation);
	variant = plain_variant(root, plan);
	variant.rows_max = rel->tuples > 0 ? rows_of_equalities(root, rel, plan) : 0;
	plan->estimate = tms_variant_estimate(root, rel, plan, &variant);
	rel->rows = plan->estimate.rows;
	rel->tuples = Max(rel->tuples, plan->estimate.path_rows);
	widen_images(rel, plan->relation);
}

/* --- paths --------------------------------------------------------------------------------------------------------- */

static List *path_flags(const TmsScanVariant *variant, bool with_limit)
{
	return list_make1(makeInteger((variant->fast_start ? PATH_FAST_START : 0) | (with_limit ? PATH_WITH_LIMIT : 0)));
}

static void add_scan_path(PlannerInfo *root, RelOptInfo *rel, const TmsScanVariant *variant,
						  const TmsEstimate *estimate, Relids required_outer)
{
	add_path(rel, (Path *) tms_create_foreignscan_path(root, rel, estimate->rows, estimate->startup_cost,
													   estimate->total_cost, variant->pathkeys, required_outer,
													   path_flags(variant, false)));
}

/* A scan that takes values of other tables, one row of them at a time. */
static void add_join_path(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan, Relids required_outer)
{
	ParamPathInfo *param_info = get_baserel_parampathinfo(root, rel, required_outer);
	TmsScanVariant variant = {list_copy(plan->shipped), list_copy(plan->local)};
	TmsEstimate estimate;

	tms_divide_clauses(rel, plan->relation, param_info->ppi_clauses, &variant.shipped, &variant.local);
	variant.rows_max =
		plan->estimate.rows * clauselist_selectivity(root, param_info->ppi_clauses, rel->relid, JOIN_INNER, NULL);
	estimate = tms_variant_estimate(root, rel, plan, &variant);
	param_info->ppi_rows = estimate.rows;
	add_scan_path(root, rel, &variant, &estimate, required_outer);
}

void tms_plan_paths(PlannerInfo *root, RelOptInfo *rel, Oid foreigntableid)
{
	TmsRelPlan *plan = rel->fdw_private;
	TmsScanVariant variant = plain_variant(root, plan);
	ListCell *lc;

	if (!bms_is_empty(rel->lateral_relids))
		add_join_path(root, rel, plan, rel->lateral_relids);
	else
	{
		add_scan_path(root, rel, &variant, &plan->estimate, NULL);
		foreach (lc, plan->ships_limit ? NIL : tms_useful_orders(root, rel, plan))
		{
			TmsEstimate estimate;

			variant.pathkeys = lfirst(lc);
			estimate = tms_variant_estimate(root, rel, plan, &variant);
			add_scan_path(root, rel, &variant, &estimate, NULL);
		}
	}
	foreach (lc, tms_join_parameters(root, rel, plan))
		add_join_path(root, rel, plan, lfirst(lc));
}

/* Just below the cheapest of these paths. */
static Cost undercut(List *paths, Cost cost, bool startup)
{
	ListCell *lc;

	foreach (lc, paths)
	{
		Path *path = lfirst(lc);

		cost = Min(cost, 0.9 * (startup ? path->startup_cost : path->total_cost));
	}
	return cost;
}

/*
 * Offers the whole query, with its order and its limit, as one scan. The path stays one of the table itself, which becomes a
 * plan node like any other. Nothing else was weighed for the table: the path query's planner has all choices that there are
 * above a scan, and knows the limit, and no image is asked for ahead in vain. Estimates are too close to show it.
 */
void tms_plan_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input_rel, RelOptInfo *output_rel,
						  void *extra)
{
	RelOptInfo *rel;
	TmsRelPlan *plan;
	TmsScanVariant variant;
	Path *path;

	if (stage != UPPERREL_FINAL || bms_membership(root->all_baserels) != BMS_SINGLETON)
		return;
	rel = find_base_rel(root, bms_singleton_member(root->all_baserels));
	plan = tms_rel_plan(rel);
	if (plan == NULL || !plan->ships_limit)
		return;

	variant = plain_variant(root, plan);
	path = (Path *) tms_create_foreignscan_path(root, rel, plan->estimate.rows, plan->estimate.startup_cost,
												plan->estimate.total_cost, variant.pathkeys, NULL,
												path_flags(&variant, true));
	path = apply_projection_to_path(root, output_rel, path, root->upper_targets[UPPERREL_FINAL]);
	/* The others have the costs of the select list in theirs. */
	path->startup_cost = undercut(output_rel->pathlist, path->startup_cost, true);
	path->total_cost = undercut(output_rel->pathlist, path->total_cost, false);
	add_path(output_rel, path);
}

/* --- plan ---------------------------------------------------------------------------------------------------------- */

/* Where the value of each attribute comes from, as TMS_PLAN_SOURCES. */
static List *attribute_sources(const TmsRelation *relation, const TmsPathQuery *path_query, const Bitmapset *attrs)
{
	List *sources = NIL;
	AttrNumber attnum;

	for (attnum = 1; attnum <= relation->ncolumns; attnum++)
	{
		int source = list_nth_int(path_query->columns, attnum - 1);

		if (source == 0 && bms_is_member(attnum, attrs))
			source = -(int) tms_relation_column_kind(relation, attnum);
		sources = lappend_int(sources, source);
	}
	return sources;
}

/* Lets a change of what the path query reads end cached plans of the outer query. */
static void depend_on_path_query(PlannerInfo *root, const TmsPathQuery *path_query)
{
	ListCell *lc;

	foreach (lc, path_query->query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION)
			root->glob->relationOids = lappend_oid(root->glob->relationOids, rte->relid);
	}
}

/*
 * TMS_PLAN_EXPECTED: a LIMIT that others apply, EXISTS and its like stop early, unless a sort takes all rows first. (Cursors
 * do too, but say so at run time.)
 */
static int rows_expected(PlannerInfo *root, RelOptInfo *rel, const ForeignPath *path)
{
	int presorted;
	ListCell *lc;

	foreach (lc, root->join_info_list)
	{
		SpecialJoinInfo *join = lfirst_node(SpecialJoinInfo, lc);

		if ((join->jointype == JOIN_SEMI || join->jointype == JOIN_ANTI) &&
			bms_is_member(rel->relid, join->syn_righthand))
			return 1;
	}
	if (root->query_pathkeys != NIL &&
		!pathkeys_count_contained_in(root->query_pathkeys, path->path.pathkeys, &presorted) && presorted == 0)
		return 0;
	return root->tuple_fraction < 1 ? 0 : (int) Min(root->tuple_fraction, INT_MAX);
}

/* The variant behind a path, but for its conditions. */
static TmsScanVariant path_variant(PlannerInfo *root, const ForeignPath *path)
{
	int flags = intVal(linitial(path->fdw_private));
	TmsScanVariant variant = {0};

	variant.pathkeys = path->path.pathkeys;
	variant.fast_start = (flags & PATH_FAST_START) != 0;
	if (flags & PATH_WITH_LIMIT)
	{
		variant.limit_count = root->parse->limitCount;
		variant.limit_offset = root->parse->limitOffset;
	}
	return variant;
}

/*
 * TMS_PLAN_AT_MOST: where a LIMIT counts the rows that the scan gives after conditions that needed no image, the last of them
 * is the last to look ahead for.
 */
static int rows_at_most(PlannerInfo *root, const ForeignPath *path)
{
	if (root->limit_tuples < 1 || root->limit_tuples > INT_MAX || !limit_counts_scanned_rows(root) ||
		!pathkeys_contained_in(root->sort_pathkeys, path->path.pathkeys))
		return 0;
	return (int) root->limit_tuples;
}

ForeignScan *tms_plan_scan(PlannerInfo *root, RelOptInfo *rel, Oid foreigntableid, ForeignPath *best_path, List *tlist,
						   List *scan_clauses, Plan *outer_plan)
{
	TmsRelPlan *plan = rel->fdw_private;
	TmsScanVariant variant = path_variant(root, best_path);
	List *before = NIL;
	List *after = NIL;
	TmsPathQuery *path_query;
	Bitmapset *attrs;
	List *items;

	tms_divide_clauses(rel, plan->relation, scan_clauses, &variant.shipped, &variant.local);
	attrs = tms_wanted_attributes(root, rel, plan->relation, variant.shipped, variant.local);
	if (tms_needs_images(plan->relation, attrs))
		tms_divide_local(rel, plan->relation, variant.local, &before, &after);
	else
		after = extract_actual_clauses(variant.local, false);

	path_query = tms_variant_query(root, rel, plan, attrs, &variant);
	depend_on_path_query(root, path_query);

	items = list_make4(path_query->query, attribute_sources(plan->relation, path_query, attrs), path_query->keys,
					   makeInteger(list_length(path_query->params)));
	items = lappend(items, makeInteger(variant.limit_count != NULL || variant.limit_offset != NULL
										   ? 0
										   : rows_expected(root, rel, best_path)));
	items = lappend(items, makeInteger(after == NIL ? rows_at_most(root, best_path) : 0));
	items = lappend(items, makeInteger(variant.fast_start));
	return make_foreignscan(tlist, after, rel->relid, list_concat_copy(path_query->params, before), items, NIL,
							list_concat_copy(extract_actual_clauses(variant.shipped, false), before), outer_plan);
}

List *tms_plan_modify(PlannerInfo *root, ModifyTable *plan, Index result_relation, int subplan_index)
{
	Oid foreigntableid = planner_rt_fetch(result_relation, root)->relid;
	char *schema;
	char *name;

	tms_table_relation(GetForeignTable(foreigntableid), &schema, &name);
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot change foreign table \"%s\"", get_rel_name(foreigntableid)),
					errdetail("Foreign tables of tms_fdw are read-only."),
					errhint("Captures are written by agents through tms.ingest(); change other things in %s.",
							quote_qualified_identifier(schema, name))));
	return NIL;
}
