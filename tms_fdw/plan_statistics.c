/*
 * Statistics of a foreign table's columns. ANALYZE of the relation behind it, which upkeep and autovacuum run, serves both,
 * so that joins and conditions that stay here are estimated as they would be over the relation itself.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "foreign/fdwapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"

#include "tms_fdw/plan_rel.h"
#include "tms_fdw/plan_statistics.h"

static get_relation_stats_hook_type previous_hook;

/* What we know about a table of this query; NULL when it is not ours or was not looked at yet. */
static const TmsRelPlan *find_plan(PlannerInfo *root, const RangeTblEntry *rte)
{
	int i;

	for (i = 1; i < root->simple_rel_array_size; i++)
	{
		RelOptInfo *rel = root->simple_rel_array[i];

		if (rel != NULL && root->simple_rte_array[i] == rte)
			return tms_rel_plan(rel);
	}
	return NULL;
}

/* May operators that leak see values from these statistics? Only if the user may read all rows of the column. */
static bool may_see_values(const TmsRelPlan *plan, AttrNumber attnum)
{
	Oid relid = plan->relation->relid;
	Oid userid = OidIsValid(plan->check_as_user) ? plan->check_as_user : GetUserId();

	return check_enable_rls(relid, userid, true) != RLS_ENABLED &&
		   (pg_class_aclcheck(relid, userid, ACL_SELECT) == ACLCHECK_OK ||
			pg_attribute_aclcheck(relid, attnum, userid, ACL_SELECT) == ACLCHECK_OK);
}

static bool find_statistics(PlannerInfo *root, RangeTblEntry *rte, AttrNumber attnum, VariableStatData *vardata)
{
	const TmsRelPlan *plan;
	AttrNumber theirs;
	bool with_children;

	if (previous_hook != NULL && previous_hook(root, rte, attnum, vardata))
		return true;
	if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_FOREIGN_TABLE || attnum <= 0)
		return false;
	plan = find_plan(root, rte);
	if (plan == NULL || tms_relation_column_kind(plan->relation, attnum) != TMS_COLUMN_RELATION)
		return false;

	theirs = get_attnum(plan->relation->relid, tms_relation_column(plan->relation, attnum)->name);
	with_children = get_rel_relkind(plan->relation->relid) == RELKIND_PARTITIONED_TABLE;
	vardata->statsTuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(plan->relation->relid), Int16GetDatum(theirs),
										  BoolGetDatum(with_children));
	if (!HeapTupleIsValid(vardata->statsTuple))
		return false; /* as with a view: statistics of the foreign table itself, if there are any */
	vardata->freefunc = ReleaseSysCache;
	vardata->acl_ok = rte->securityQuals == NIL && may_see_values(plan, theirs);
	return true;
}

void tms_plan_statistics_init(void)
{
	previous_hook = get_relation_stats_hook;
	get_relation_stats_hook = find_statistics;
}

double tms_relation_tuples(const TmsRelation *relation)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation->relid));
	double tuples = 0;

	if (HeapTupleIsValid(tuple))
	{
		tuples = ((Form_pg_class) GETSTRUCT(tuple))->reltuples;
		ReleaseSysCache(tuple);
	}
	return Max(tuples, 0);
}

/* Takes no sample: what the planner needs is that of the relation. */
static int sample_nothing(Relation foreign, int elevel, HeapTuple *rows, int targrows, double *totalrows,
						  double *totaldeadrows)
{
	TmsRelation *relation = tms_relation_resolve(RelationGetRelid(foreign));

	ereport(elevel, (errmsg("\"%s\" has the statistics of relation %s", RelationGetRelationName(foreign),
							quote_qualified_identifier(relation->schema, relation->name))));
	*totalrows = tms_relation_tuples(relation);
	*totaldeadrows = 0;
	return 0;
}

bool tms_analyze(Relation foreign, AcquireSampleRowsFunc *sample, BlockNumber *pages)
{
	*sample = sample_nothing;
	*pages = 1;
	return true;
}
