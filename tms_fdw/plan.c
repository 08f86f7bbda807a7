/*
 * Planning. Estimates come from planning the path query in this process, which reads catalogs and nothing else; images are
 * charged by the wait for them.
 */
#include "postgres.h"

#include <limits.h>

#include "access/sysattr.h"
#include "foreign/fdwapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/planmain.h"
#include "optimizer/prep.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "tms_ext/compat.h"
#include "tms_fdw/option.h"
#include "tms_fdw/path_query.h"
#include "tms_fdw/plan.h"
#include "tms_fdw/pushdown.h"

/*
 * The wait for one image, in the planner's unit of cost, where a page read in sequence counts 1. Low enough that the default
 * of tms.max_images, fetched 16 at a time, stays below jit_above_cost: compiling costs more than it could save.
 */
#define REQUEST_COST 100.0

/* What the planner takes an image's width for, in bytes. */
#define IMAGE_WIDTH (250 * 1024)

typedef struct Estimate
{
	double path_rows; /* of the path query */
	double rows; /* after the conditions that stay */
	Cost startup_cost;
	Cost total_cost;
} Estimate;

/* RelOptInfo.fdw_private. */
typedef struct RelPlan
{
	TmsRelation *relation;
	Oid check_as_user;
	List *shipped; /* RestrictInfos of the table alone that the path query checks */
	List *local; /* the others */
	Bitmapset *attrs; /* attribute numbers the query uses, whole rows resolved; without those only `shipped` uses */
	bool has_images; /* is an attribute among them that needs requests? */
	Estimate estimate; /* of a scan without more conditions */
} RelPlan;

/* --- what the query uses ------------------------------------------------------------------------------------------- */

typedef struct WholeRowContext
{
	Index relid;
	char mark_name[32]; /* of the target entry to pass over */
} WholeRowContext;

static bool has_whole_row(Node *node, WholeRowContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varno == context->relid && ((Var *) node)->varattno == 0 &&
			   ((Var *) node)->varlevelsup == 0;
	if (IsA(node, TargetEntry))
	{
		TargetEntry *entry = (TargetEntry *) node;

		if (entry->resjunk && entry->resname != NULL && strcmp(entry->resname, context->mark_name) == 0)
			return false;
	}
	return expression_tree_walker(node, has_whole_row, (void *) context);
}

/*
 * Does the query itself use whole rows, and not only the planner, which asks for one to recheck it after a concurrent
 * update of another table? The latter must not fetch images: a recheck only looks at attributes used otherwise, too.
 */
static bool whole_row_used(PlannerInfo *root, RelOptInfo *rel)
{
	PlanRowMark *mark = get_plan_rowmark(root->rowMarks, rel->relid);
	WholeRowContext context = {rel->relid};

	if (mark == NULL || rel->reloptkind != RELOPT_BASEREL)
		return true;
	snprintf(context.mark_name, sizeof(context.mark_name), "wholerow%u", mark->rowmarkId);
	return query_tree_walker(root->parse, has_whole_row, (void *) &context, QTW_IGNORE_RANGE_TABLE);
}

/* Adds the attributes an expression uses; true when it uses a whole row. */
static bool add_attributes(Node *expr, Index relid, Bitmapset **attrs)
{
	Bitmapset *shifted = NULL;
	bool whole_row = false;
	int member = -1;

	pull_varattnos(expr, relid, &shifted);
	while ((member = bms_next_member(shifted, member)) >= 0)
	{
		AttrNumber attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum == 0)
			whole_row = true;
		else if (attnum > 0)
			*attrs = bms_add_member(*attrs, attnum);
	}
	return whole_row;
}

static bool needs_images(const TmsRelation *relation, const Bitmapset *attrs)
{
	int attnum = -1;

	while ((attnum = bms_next_member(attrs, attnum)) >= 0)
	{
		if (tms_relation_column_kind(relation, attnum) >= TMS_COLUMN_IMAGE)
			return true;
	}
	return false;
}

/*
 * The attributes that the scan must give: for the query's output, for conditions that stay, and, when rows are rechecked
 * after concurrent updates, for the shipped conditions.
 */
static Bitmapset *wanted_attributes(PlannerInfo *root, RelOptInfo *rel, const TmsRelation *relation, List *shipped,
									List *local)
{
	Bitmapset *attrs = NULL;
	bool whole_row = add_attributes((Node *) rel->reltarget->exprs, rel->relid, &attrs);
	bool whole_row_local = add_attributes((Node *) extract_actual_clauses(local, false), rel->relid, &attrs);
	int attnum;

	if (whole_row_local || (whole_row && whole_row_used(root, rel)))
	{
		for (attnum = 1; attnum <= relation->ncolumns; attnum++)
		{
			if (tms_relation_column_kind(relation, attnum) != TMS_COLUMN_NONE)
				attrs = bms_add_member(attrs, attnum);
		}
	}
	else if (whole_row)
		(void) add_attributes((Node *) extract_actual_clauses(shipped, false), rel->relid, &attrs);
	return attrs;
}

/* --- conditions ---------------------------------------------------------------------------------------------------- */

/* Divides conditions between the path query and the executor. */
static void divide_clauses(RelOptInfo *rel, const TmsRelation *relation, List *clauses, List **shipped, List **local)
{
	ListCell *lc;

	foreach (lc, clauses)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);

		if (rinfo->pseudoconstant)
			continue; /* a Result node above takes care of it */
		if (tms_is_shippable((Node *) rinfo->clause, rel->relid, relation) &&
			restriction_is_securely_promotable(rinfo, rel))
			*shipped = lappend(*shipped, rinfo);
		else
			*local = lappend(*local, rinfo);
	}
}

/*
 * Divides what stays behind into conditions to check before images are asked for, and those that need an image. The order
 * given is by security level; nothing that may leak is moved before a condition of a lower level.
 */
static void divide_local(RelOptInfo *rel, const TmsRelation *relation, List *local, List **before, List **after)
{
	Index barrier = (Index) -1;
	ListCell *lc;

	foreach (lc, local)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
		Bitmapset *attrs = NULL;
		bool whole_row = add_attributes((Node *) rinfo->clause, rel->relid, &attrs);

		if (whole_row || needs_images(relation, attrs))
		{
			*after = lappend(*after, rinfo->clause);
			barrier = Min(barrier, rinfo->security_level);
		}
		else if (rinfo->security_level > barrier && !rinfo->leakproof)
			*after = lappend(*after, rinfo->clause);
		else
			*before = lappend(*before, rinfo->clause);
	}
}

/* --- the path query and its estimate ------------------------------------------------------------------------------- */

static TmsPathQuery *build_path_query(RelOptInfo *rel, const RelPlan *plan, const Bitmapset *attrs, List *shipped)
{
	TmsPathQuerySpec spec = {0};
	int attnum = -1;

	spec.relation = plan->relation;
	spec.relid = rel->relid;
	spec.check_as_user = plan->check_as_user;
	spec.quals = extract_actual_clauses(shipped, false);
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

/* Rows and cost of the path query with these conditions, and of what is done to its rows here. */
static Estimate estimate_scan(PlannerInfo *root, RelOptInfo *rel, const RelPlan *plan, List *shipped, List *local)
{
	TmsPathQuery *path_query = build_path_query(rel, plan, plan->attrs, shipped);
	Plan *path_plan = tms_path_query_plan(path_query->query, NULL)->planTree;
	Selectivity selectivity = clauselist_selectivity(root, local, rel->relid, JOIN_INNER, NULL);
	QualCost qual_cost;
	Estimate estimate;

	cost_qual_eval(&qual_cost, local, root);
	estimate.path_rows = path_plan->plan_rows;
	estimate.rows = clamp_row_est(path_plan->plan_rows * selectivity);
	estimate.startup_cost = path_plan->startup_cost + qual_cost.startup;
	estimate.total_cost =
		path_plan->total_cost + qual_cost.startup + (cpu_tuple_cost + qual_cost.per_tuple) * path_plan->plan_rows;
	if (plan->has_images)
	{
		Oid userid = OidIsValid(plan->check_as_user) ? plan->check_as_user : GetUserId();
		TmsServerOptions *options = tms_server_options(rel->serverid, userid);
		double images;
		List *before = NIL;
		List *after = NIL;

		divide_local(rel, plan->relation, local, &before, &after);
		images = path_plan->plan_rows * clauselist_selectivity(root, before, rel->relid, JOIN_INNER, NULL);

		/* The first image is waited for in full, the others arrive meanwhile. */
		estimate.startup_cost += REQUEST_COST;
		estimate.total_cost += REQUEST_COST + images * REQUEST_COST / options->concurrency;
	}
	return estimate;
}

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

/* --- callbacks ----------------------------------------------------------------------------------------------------- */

void tms_plan_rel_size(PlannerInfo *root, RelOptInfo *rel, Oid foreigntableid)
{
	RelPlan *plan = palloc0(sizeof(RelPlan));

	rel->fdw_private = plan;
	plan->relation = tms_relation_resolve(foreigntableid);
	plan->check_as_user = tms_rel_check_as_user(root, rel);
	divide_clauses(rel, plan->relation, rel->baserestrictinfo, &plan->shipped, &plan->local);
	plan->attrs = wanted_attributes(root, rel, plan->relation, plan->shipped, plan->local);
	plan->has_images = needs_images(plan->relation, plan->attrs);

	plan->estimate = estimate_scan(root, rel, plan, plan->shipped, plan->local);
	rel->rows = plan->estimate.rows;
	rel->tuples = Max(rel->tuples, plan->estimate.path_rows);
	widen_images(rel, plan->relation);
}

void tms_plan_paths(PlannerInfo *root, RelOptInfo *rel, Oid foreigntableid)
{
	RelPlan *plan = rel->fdw_private;
	Estimate *estimate = &plan->estimate;

	add_path(rel, (Path *) tms_create_foreignscan_path(root, rel, estimate->rows, estimate->startup_cost,
													   estimate->total_cost, NIL, rel->lateral_relids));
}

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

/* TMS_PLAN_EXPECTED: a LIMIT that others apply, EXISTS and its like stop early. (Cursors do too, but say so at run time.) */
static int rows_expected(PlannerInfo *root, RelOptInfo *rel)
{
	ListCell *lc;

	foreach (lc, root->join_info_list)
	{
		SpecialJoinInfo *join = lfirst_node(SpecialJoinInfo, lc);

		if ((join->jointype == JOIN_SEMI || join->jointype == JOIN_ANTI) &&
			bms_is_member(rel->relid, join->syn_righthand))
			return 1;
	}
	return root->tuple_fraction < 1 ? 0 : (int) Min(root->tuple_fraction, INT_MAX);
}

ForeignScan *tms_plan_scan(PlannerInfo *root, RelOptInfo *rel, Oid foreigntableid, ForeignPath *best_path, List *tlist,
						   List *scan_clauses, Plan *outer_plan)
{
	RelPlan *plan = rel->fdw_private;
	List *shipped = NIL;
	List *local = NIL;
	List *before = NIL;
	List *after = NIL;
	TmsPathQuery *path_query;
	Bitmapset *attrs;
	List *items;

	divide_clauses(rel, plan->relation, scan_clauses, &shipped, &local);
	attrs = wanted_attributes(root, rel, plan->relation, shipped, local);
	if (needs_images(plan->relation, attrs))
		divide_local(rel, plan->relation, local, &before, &after);
	else
		after = extract_actual_clauses(local, false);

	path_query = build_path_query(rel, plan, attrs, shipped);
	depend_on_path_query(root, path_query);

	items = list_make4(path_query->query, attribute_sources(plan->relation, path_query, attrs), path_query->keys,
					   makeInteger(list_length(path_query->params)));
	items = lappend(items, makeInteger(rows_expected(root, rel)));
	return make_foreignscan(tlist, after, rel->relid, list_concat_copy(path_query->params, before), items, NIL,
							list_concat_copy(extract_actual_clauses(shipped, false), before), outer_plan);
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
