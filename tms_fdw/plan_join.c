/*
 * Joins by a nested loop that looks for one outer row's captures at a time: which tables can give the path query values.
 */
#include "postgres.h"

#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"

#include "tms_fdw/plan_rel.h"
#include "tms_fdw/pushdown.h"

/* Each set costs one planning of the path query; a query with more ways than these has good ones among them. */
#define SETS_MAX 4

/* Would asking once for each row of one other table alone cost more than asking once for all rows of ours? */
static bool too_many_rows(PlannerInfo *root, const TmsRelPlan *plan, Relids outer)
{
	int relid;
	RelOptInfo *other;

	if (!bms_get_singleton_member(outer, &relid))
		return false;
	other = find_base_rel(root, relid);
	return other->rows * TMS_RUN_COST > plan->estimate.total_cost;
}

/* Adds the tables that a clause needs besides ours, if the path query can check it. */
static List *add_clause(List *sets, PlannerInfo *root, RestrictInfo *rinfo, RelOptInfo *rel, const TmsRelPlan *plan)
{
	Relids outer;
	ListCell *lc;

	if (list_length(sets) >= SETS_MAX || !join_clause_is_movable_to(rinfo, rel) ||
		!tms_is_shippable((Node *) rinfo->clause, rel->relid, plan->relation))
		return sets;
	outer = bms_union(rinfo->clause_relids, rel->lateral_relids);
	outer = bms_del_member(outer, rel->relid);
	if (bms_is_empty(outer) || bms_equal(outer, rel->lateral_relids) || too_many_rows(root, plan, outer))
		return sets;
	foreach (lc, sets)
	{
		if (bms_equal(lfirst(lc), outer))
			return sets;
	}
	return lappend(sets, outer);
}

/* The search for our expressions in equivalence classes: one after the other. */
typedef struct MemberSearch
{
	Expr *current; /* the one whose classes are searched now */
	List *done;
} MemberSearch;

static bool is_current_member(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec, EquivalenceMember *member,
							  void *context)
{
	MemberSearch *search = context;

	if (search->current == NULL && !list_member(search->done, member->em_expr))
		search->current = member->em_expr;
	return search->current != NULL && equal(member->em_expr, search->current);
}

static List *add_equalities(List *sets, PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan)
{
	MemberSearch search = {NULL, NIL};

	for (;;)
	{
		List *clauses;
		ListCell *lc;

		search.current = NULL;
		clauses =
			generate_implied_equalities_for_column(root, rel, is_current_member, &search, rel->lateral_referencers);
		if (search.current == NULL)
			return sets;
		foreach (lc, clauses)
			sets = add_clause(sets, root, lfirst_node(RestrictInfo, lc), rel, plan);
		search.done = lappend(search.done, search.current);
	}
}

List *tms_join_parameters(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan)
{
	List *sets = NIL;
	ListCell *lc;

	if (rel->has_eclass_joins)
		sets = add_equalities(sets, root, rel, plan);
	foreach (lc, rel->joininfo)
		sets = add_clause(sets, root, lfirst_node(RestrictInfo, lc), rel, plan);
	return sets;
}
