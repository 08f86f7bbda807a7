/*
 * What the planner's callbacks know about one foreign table of a query, and the ways to scan it that they weigh.
 */
#ifndef TMS_PLAN_REL_H
#define TMS_PLAN_REL_H

#include "postgres.h"

#include "nodes/pathnodes.h"

#include "tms_fdw/path_query.h"
#include "tms_fdw/relation.h"

/* What a scan costs, in the planner's units. */
typedef struct TmsEstimate
{
	double path_rows; /* of the path query */
	double rows; /* after the conditions that stay */
	Cost startup_cost;
	Cost total_cost;
} TmsEstimate;

/* RelOptInfo.fdw_private. */
typedef struct TmsRelPlan
{
	TmsRelation *relation;
	Oid check_as_user;
	List *shipped; /* RestrictInfos of the table alone that the path query checks */
	List *local; /* the others */
	Bitmapset *attrs; /* attribute numbers the query uses, whole rows resolved; without those only `shipped` uses */
	bool has_images; /* is an attribute among them that needs requests? */
	bool
		ships_limit; /* can the path query do the whole query with its order and limit? Then nothing else is offered. */
	TmsEstimate estimate; /* of a scan without more conditions */
} TmsRelPlan;

/* One way to scan: what the path query takes on. */
typedef struct TmsScanVariant
{
	List *shipped; /* RestrictInfos */
	List *local;
	List *pathkeys; /* its order; shippable */
	Node *limit_count; /* shippable, or NULL */
	Node *limit_offset;
	bool fast_start; /* the query above may stop reading early */
	double rows_max; /* at most so many rows, by statistics over all of the relation; 0: not known */
} TmsScanVariant;

/* --- plan.c --- */

/* What was found out about a table; NULL when it is not ours or was not looked at yet. */
extern TmsRelPlan *tms_rel_plan(const RelOptInfo *rel);

/* --- plan_conditions.c --- */

/* Divides RestrictInfos between the path query and the executor, adding to both lists. */
extern void tms_divide_clauses(RelOptInfo *rel, const TmsRelation *relation, List *clauses, List **shipped,
							   List **local);

/*
 * Divides what stays behind into conditions to check before images are asked for, and those that need an image, as
 * expressions. The order given is by security level; nothing that may leak is moved before a condition of a lower level.
 */
extern void tms_divide_local(RelOptInfo *rel, const TmsRelation *relation, List *local, List **before, List **after);

/*
 * The attributes that the scan must give: for the query's output, for conditions that stay, and, when rows are rechecked
 * after concurrent updates, for the shipped conditions.
 */
extern Bitmapset *tms_wanted_attributes(PlannerInfo *root, RelOptInfo *rel, const TmsRelation *relation, List *shipped,
										List *local);

/* Is there one among these attributes that needs requests? */
extern bool tms_needs_images(const TmsRelation *relation, const Bitmapset *attrs);

/* --- plan_estimate.c --- */

/* Starting the path query's executor at all: what a nested loop pays for every outer row. */
#define TMS_RUN_COST 1.0

/* The path query of a variant, with these attributes. */
extern TmsPathQuery *tms_variant_query(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan,
									   const Bitmapset *attrs, const TmsScanVariant *variant);

/* Rows and cost of a variant. Plans its path query, which reads catalogs and nothing else, but takes its time. */
extern TmsEstimate tms_variant_estimate(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan,
										const TmsScanVariant *variant);

/* --- plan_order.c --- */

/* The orders worth offering: a list of lists of pathkeys, all of them shippable. */
extern List *tms_useful_orders(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan);

/* Can the path query give all of this order? */
extern bool tms_order_is_shippable(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan, List *pathkeys);

/* Shippable pathkeys as TmsPathOrder. */
extern List *tms_order_of_pathkeys(RelOptInfo *rel, const TmsRelPlan *plan, List *pathkeys);

/* --- plan_join.c --- */

/*
 * Sets of other tables whose rows may give the path query values to look for, if there are few enough of them: a list of
 * Relids.
 */
extern List *tms_join_parameters(PlannerInfo *root, RelOptInfo *rel, const TmsRelPlan *plan);

#endif
