/*
 * What of the outer query concerns a foreign table: the attributes it uses, and its conditions, divided between path query,
 * scan and plan node.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/prep.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"

#include "tms_fdw/plan_rel.h"
#include "tms_fdw/pushdown.h"

/* --- what the query uses ------------------------------------------------------------------------------------------- */

typedef struct WholeRowContext
{
	Index relid;
	Index levels_up; /* from the query looked at now, which may be a LATERAL one, to that of the table */
	char mark_name[32]; /* of the target entry to pass over */
} WholeRowContext;

static bool has_whole_row(Node *node, WholeRowContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varno == context->relid && ((Var *) node)->varattno == 0 &&
			   ((Var *) node)->varlevelsup == context->levels_up;
	if (IsA(node, Query))
	{
		bool found;

		context->levels_up++;
		found = query_tree_walker((Query *) node, has_whole_row, (void *) context, QTW_IGNORE_JOINALIASES);
		context->levels_up--;
		return found;
	}
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
	int parent;

	/* The query names the partitioned table that this one is part of; of a UNION ALL it says nothing here. */
	if (bms_get_singleton_member(rel->top_parent_relids, &parent))
		context.relid = parent;
	if (mark == NULL || planner_rt_fetch(context.relid, root)->rtekind != RTE_RELATION)
		return true;
	snprintf(context.mark_name, sizeof(context.mark_name), "wholerow%u", mark->rowmarkId);
	return query_tree_walker(root->parse, has_whole_row, (void *) &context, QTW_IGNORE_JOINALIASES);
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

bool tms_needs_images(const TmsRelation *relation, const Bitmapset *attrs)
{
	int attnum = -1;

	while ((attnum = bms_next_member(attrs, attnum)) >= 0)
	{
		if (tms_relation_column_kind(relation, attnum) >= TMS_COLUMN_IMAGE)
			return true;
	}
	return false;
}

Bitmapset *tms_wanted_attributes(PlannerInfo *root, RelOptInfo *rel, const TmsRelation *relation, List *shipped,
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

void tms_divide_clauses(RelOptInfo *rel, const TmsRelation *relation, List *clauses, List **shipped, List **local)
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

void tms_divide_local(RelOptInfo *rel, const TmsRelation *relation, List *local, List **before, List **after)
{
	Index barrier = (Index) -1;
	ListCell *lc;

	foreach (lc, local)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);
		Bitmapset *attrs = NULL;
		bool whole_row = add_attributes((Node *) rinfo->clause, rel->relid, &attrs);

		if (whole_row || tms_needs_images(relation, attrs))
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
