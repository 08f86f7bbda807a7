/*
 * The path query as SQL, for people who read EXPLAIN: what they paste into psql asks the same.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_operator.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "tms_fdw/path_query.h"

/* A context in which columns of "c" and "d" are printed. */
static List *deparse_context(const Query *query)
{
	PlannedStmt *statement = makeNode(PlannedStmt);
	List *names = list_make1("c");
	int i;

	statement->rtable = query->rtable;
	for (i = 1; i < list_length(query->rtable); i++)
		names = lappend(names, "d");
	return deparse_context_for_plan_tree(statement, names);
}

/*
 * Writes collations out where the planner has made a mere relabelling of them, which would not be printed.
 */
static Node *show_collations(Node *node, void *context)
{
	if (node != NULL && IsA(node, RelabelType))
	{
		RelabelType *relabel = (RelabelType *) node;

		if (OidIsValid(relabel->resultcollid) && relabel->resultcollid != exprCollation((Node *) relabel->arg))
		{
			CollateExpr *collate = makeNode(CollateExpr);

			collate->arg = (Expr *) show_collations((Node *) relabel->arg, context);
			collate->collOid = relabel->resultcollid;
			collate->location = -1;
			return (Node *) collate;
		}
	}
	return expression_tree_mutator(node, show_collations, context);
}

static char *expression_text(Node *expr, List *context)
{
	return deparse_expression(show_collations(expr, NULL), context, true, false);
}

/* An operator as OPERATOR(schema.name). */
static void append_operator(StringInfo sql, Oid operator)
{
	HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	appendStringInfo(sql, "OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					 NameStr(form->oprname));
	ReleaseSysCache(tuple);
}

/* One key of ORDER BY, as the server prints it in views. */
static void append_order_key(StringInfo sql, SortGroupClause *clause, const Query *query, List *context)
{
	Node *expr = get_sortgroupclause_expr(clause, query->targetList);
	TypeCacheEntry *type = lookup_type_cache(exprType(expr), TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
	bool descending;

	(void) get_equality_op_for_ordering_op(clause->sortop, &descending);
	appendStringInfoString(sql, expression_text(expr, context));
	if (clause->sortop == type->gt_opr)
		appendStringInfoString(sql, " DESC");
	else if (clause->sortop != type->lt_opr)
	{
		appendStringInfoString(sql, " USING ");
		append_operator(sql, clause->sortop);
	}
	if (clause->nulls_first != descending)
		appendStringInfoString(sql, clause->nulls_first ? " NULLS FIRST" : " NULLS LAST");
}

/* What follows the conditions. */
static void append_order_and_limit(StringInfo sql, const Query *query, List *context)
{
	const char *separator = " ORDER BY ";
	ListCell *lc;

	foreach (lc, query->sortClause)
	{
		appendStringInfoString(sql, separator);
		append_order_key(sql, lfirst_node(SortGroupClause, lc), query, context);
		separator = ", ";
	}
	if (query->limitOffset != NULL)
		appendStringInfo(sql, " OFFSET %s", expression_text(query->limitOffset, context));
	if (query->limitCount != NULL)
		appendStringInfo(sql, " LIMIT %s", expression_text(query->limitCount, context));
}

char *tms_path_query_text(const Query *query)
{
	RangeTblEntry *rte = rt_fetch(1, query->rtable);
	List *context;
	StringInfoData sql;
	ListCell *lc;
	const char *separator = " ";
	int guc_level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	context = deparse_context(query);
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT");
	foreach (lc, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);

		if (entry->resjunk)
			continue;
		appendStringInfo(&sql, "%s%s", separator, expression_text((Node *) entry->expr, context));
		separator = ", ";
	}
	appendStringInfo(
		&sql, " FROM %s c%s",
		quote_qualified_identifier(get_namespace_name(get_rel_namespace(rte->relid)), get_rel_name(rte->relid)),
		list_length(query->rtable) > 1 ? TMS_DEVICE_JOIN : "");
	if (query->jointree->quals != NULL)
		appendStringInfo(&sql, " WHERE %s", expression_text(query->jointree->quals, context));
	append_order_and_limit(&sql, query, context);
	AtEOXact_GUC(true, guc_level);
	return sql.data;
}
