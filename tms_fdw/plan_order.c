/*
 * Orders that the path query can give: by an index of the relation, by merging partitions, or by a sort that sees no images.
 */
#include "postgres.h"

#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"

#include "tms_ext/compat.h"
#include "tms_fdw/plan_rel.h"
#include "tms_fdw/pushdown.h"

/* Merge joins pay between tables of more rows than this: fewer are hashed or sorted at less than planning a path query costs. */
#define FEW_ROWS 1000

/*
 * The member of a sort key that the path query can evaluate, or NULL. It sees rows before the conditions that stay here have
 * removed any, so where there are such conditions, it must not be able to tell what it saw.
 */
static EquivalenceMember *shippable_member(RelOptInfo *rel, const TmsRelPlan *plan, EquivalenceClass *ec)
{
	ListCell *lc;

	if (ec->ec_has_volatile)
		return NULL;
	foreach (lc, tms_eclass_members(ec, rel))
	{
		EquivalenceMember *member = lfirst(lc);

		if (!member->em_is_const && bms_equal(member->em_relids, rel->relids) &&
			tms_is_shippable((Node *) member->em_expr, rel->relid, plan->relation) &&
			(plan->local == NIL || !contain_leaked_vars((Node *) member->em_expr)))
			return member;
	}
	return NULL;
}

/* As many of the pathkeys, from the first, as can be shipped. */
static List *shippable_prefix(RelOptInfo *rel, const TmsRelPlan *plan, List *pathkeys)
{
	List *prefix = NIL;
	ListCell *lc;

	foreach (lc, pathkeys)
	{
		PathKey *pathkey = lfirst_node(PathKey, lc);

		if (shippable_member(rel, plan, pathkey->pk_eclass) == NULL)
			break;
		prefix = lappend(prefix, pathkey);
	}
	return prefix;
}

bool tms_order_is_shippable(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan, List *pathkeys)
{
	return list_length(shippable_prefix(rel, plan, pathkeys)) == list_length(pathkeys);
}

List *tms_order_of_pathkeys(RelOptInfo *rel, const TmsRelPlan *plan, List *pathkeys)
{
	List *order = NIL;
	ListCell *lc;

	foreach (lc, pathkeys)
	{
		PathKey *pathkey = lfirst_node(PathKey, lc);
		EquivalenceMember *member = shippable_member(rel, plan, pathkey->pk_eclass);
		TmsPathOrder *key = palloc0(sizeof(TmsPathOrder));

		if (member == NULL)
			elog(ERROR, "order of a path query cannot be shipped");
		key->expr = member->em_expr;
		key->sort_operator = tms_pathkey_operator(pathkey, member->em_datatype);
		if (!OidIsValid(key->sort_operator))
			elog(ERROR, "missing operator for type %u in operator family %u", member->em_datatype,
				 pathkey->pk_opfamily);
		key->nulls_first = pathkey->pk_nulls_first;
		order = lappend(order, key);
	}
	return order;
}

/* Adds an order unless one already there begins with it. */
static List *add_order(List *orders, List *pathkeys)
{
	ListCell *lc;

	foreach (lc, orders)
	{
		if (pathkeys_contained_in(pathkeys, lfirst(lc)))
			return orders;
	}
	return lappend(orders, pathkeys);
}

/* Is there a large table to merge with, in this class? */
static bool has_large_member(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec)
{
	int relid = -1;

	while ((relid = bms_next_member(ec->ec_relids, relid)) >= 0)
	{
		RelOptInfo *other = relid < root->simple_rel_array_size ? root->simple_rel_array[relid] : NULL;

		if (other != NULL && other != rel && other->rows >= FEW_ROWS)
			return true;
	}
	return false;
}

/*
 * What the query itself wants sorted (ORDER BY, GROUP BY, DISTINCT, windows: whichever comes first), and for larger scans
 * what merge joins want. Where only the first keys can be shipped, the server sorts the rest incrementally.
 */
List *tms_useful_orders(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan)
{
	List *orders = NIL;
	List *wanted = shippable_prefix(rel, plan, root->query_pathkeys);
	ListCell *lc;

	if (wanted != NIL)
		orders = list_make1(wanted);
	if (!enable_mergejoin || !rel->has_eclass_joins || plan->estimate.path_rows < FEW_ROWS)
		return orders;
	foreach (lc, root->eq_classes)
	{
		EquivalenceClass *ec = lfirst(lc);

		if (eclass_useful_for_merging(root, ec, rel) && has_large_member(root, rel, ec) &&
			shippable_member(rel, plan, ec) != NULL)
			orders = add_order(orders, list_make1(make_canonical_pathkey(root, ec, linitial_oid(ec->ec_opfamilies),
																		 TMS_PATHKEY_ASCENDING, false)));
	}
	return orders;
}
