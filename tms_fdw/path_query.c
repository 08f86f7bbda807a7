/*
 * The path query. Its FROM and its columns are parsed from text, which leaves range tables, joins and privileges to the
 * parser; conditions are added as trees.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/analyze.h"
#include "parser/parse_clause.h"
#include "parser/parse_node.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "tms_ext/compat.h"
#include "tms_fdw/path_query.h"
#include "tms_fdw/option.h"
#include "tms_fdw/pushdown.h"

/* The select list under construction: qualified names, each once. */
typedef struct SelectList
{
	List *names;
	bool uses_device;
} SelectList;

/* The number of a column in the select list, from 1, added when it is not there yet. */
static int select_column(SelectList *list, const char *table, const char *name)
{
	char *column = psprintf("%s.%s", table, quote_identifier(name));
	ListCell *lc;
	int number = 1;

	foreach (lc, list->names)
	{
		if (strcmp(lfirst(lc), column) == 0)
			return number;
		number++;
	}
	list->names = lappend(list->names, column);
	if (table[0] == 'd')
		list->uses_device = true;
	return number;
}

/* The same for an attribute of the foreign table; 0 for one that is not of the path query. */
static int select_attribute(SelectList *list, const TmsRelation *relation, AttrNumber attnum)
{
	const TmsColumn *column = tms_relation_column(relation, attnum);

	switch (column->kind)
	{
		case TMS_COLUMN_RELATION:
			return select_column(list, "c", column->name);
		case TMS_COLUMN_DEVICE:
			return select_column(list, "d", "code");
		case TMS_COLUMN_SITE:
			return select_column(list, "d", "site");
		default:
			return 0;
	}
}

static char *select_text(const TmsRelation *relation, const SelectList *list)
{
	StringInfoData sql;
	ListCell *lc;
	const char *separator = " ";

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT");
	foreach (lc, list->names)
	{
		appendStringInfo(&sql, "%s%s", separator, (char *) lfirst(lc));
		separator = ", ";
	}
	appendStringInfo(&sql, " FROM %s c%s", quote_qualified_identifier(relation->schema, relation->name),
					 list->uses_device ? TMS_DEVICE_JOIN : "");
	return sql.data;
}

/*
 * Parses as the user whose rights count: it is this user who must be allowed to look into the schemas. Nothing is evaluated
 * meanwhile. An error on the way gives the (sub)transaction its old user back.
 */
static Query *parse_as(const char *sql, Oid check_as_user)
{
	RawStmt *raw = linitial_node(RawStmt, pg_parse_query(sql));
	ParseState *pstate = make_parsestate(NULL);
	Oid save_userid;
	int save_security;
	Query *query;

	pstate->p_sourcetext = sql;
	GetUserIdAndSecContext(&save_userid, &save_security);
	if (OidIsValid(check_as_user))
		SetUserIdAndSecContext(check_as_user, save_security | SECURITY_LOCAL_USERID_CHANGE);
	query = transformTopLevelStmt(pstate, raw);
	SetUserIdAndSecContext(save_userid, save_security);
	free_parsestate(pstate);
	return query;
}

/* Attribute numbers of the foreign table that conditions and order use. */
static Bitmapset *used_attributes(const TmsPathQuerySpec *spec)
{
	Bitmapset *shifted = NULL;
	Bitmapset *attrs = NULL;
	int member = -1;
	ListCell *lc;

	pull_varattnos((Node *) spec->quals, spec->relid, &shifted);
	foreach (lc, spec->order)
		pull_varattnos((Node *) ((TmsPathOrder *) lfirst(lc))->expr, spec->relid, &shifted);
	while ((member = bms_next_member(shifted, member)) >= 0)
		attrs = bms_add_member(attrs, member + FirstLowInvalidHeapAttributeNumber);
	return attrs;
}

/* The entry of the select list with this expression, added as one that is not shown when there is none. */
static TargetEntry *entry_of(Query *query, Expr *expr)
{
	TargetEntry *entry = tlist_member(expr, query->targetList);

	if (entry == NULL)
	{
		entry = makeTargetEntry(expr, list_length(query->targetList) + 1, NULL, true);
		query->targetList = lappend(query->targetList, entry);
	}
	return entry;
}

static void add_order(Query *query, List *order, TmsShipment *shipment)
{
	ListCell *lc;

	foreach (lc, order)
	{
		TmsPathOrder *key = lfirst(lc);
		TargetEntry *entry = entry_of(query, (Expr *) tms_ship((Node *) key->expr, shipment));
		SortGroupClause *clause = makeNode(SortGroupClause);

		clause->tleSortGroupRef = assignSortGroupRef(entry, query->targetList);
		tms_sort_clause_set_operator(clause, key->sort_operator);
		clause->nulls_first = key->nulls_first;
		query->sortClause = lappend(query->sortClause, clause);
	}
}

TmsPathQuery *tms_path_query_build(const TmsPathQuerySpec *spec)
{
	const TmsRelation *relation = spec->relation;
	TmsPathQuery *path_query = palloc0(sizeof(TmsPathQuery));
	SelectList list = {NIL, false};
	TmsShipment shipment = {spec->relid, palloc0(relation->ncolumns * sizeof(Expr *)), NIL};
	Bitmapset *inner_attrs = used_attributes(spec);
	int *inner_columns = palloc0(relation->ncolumns * sizeof(int));
	int results;
	Query *query;
	List *quals;
	int key;
	int i;

	for (i = 0; i < relation->ncolumns; i++)
		path_query->columns = lappend_int(
			path_query->columns, bms_is_member(i + 1, spec->attrs) ? select_attribute(&list, relation, i + 1) : 0);
	for (key = 0; key < TMS_KEY_COUNT; key++)
		path_query->keys =
			lappend_int(path_query->keys, spec->keys[key] ? select_column(&list, "c", tms_key_names[key]) : 0);
	results = list_length(list.names);

	/* What only conditions and order use is parsed with the rest and then leaves the select list. */
	for (i = 0; i < relation->ncolumns; i++)
	{
		if (bms_is_member(i + 1, inner_attrs))
			inner_columns[i] = select_attribute(&list, relation, i + 1);
	}
	query = parse_as(select_text(relation, &list), spec->check_as_user);
	for (i = 0; i < relation->ncolumns; i++)
	{
		if (inner_columns[i] > 0)
			shipment.columns[i] = list_nth_node(TargetEntry, query->targetList, inner_columns[i] - 1)->expr;
	}
	quals = (List *) tms_ship((Node *) spec->quals, &shipment);
	query->targetList = list_truncate(query->targetList, results);
	query->jointree->quals = quals == NIL ? NULL : (Node *) make_ands_explicit(quals);
	add_order(query, spec->order, &shipment);
	query->limitCount = tms_ship(spec->limit_count, &shipment);
	query->limitOffset = tms_ship(spec->limit_offset, &shipment);

	path_query->query = query;
	path_query->params = shipment.params;
	return path_query;
}

/* Finds a foreign table of ours among what a rewritten query reads. */
static bool reads_tms_table(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		return rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_FOREIGN_TABLE &&
			   tms_server_is_ours(GetForeignServerIdByRelId(rte->relid));
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reads_tms_table, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, reads_tms_table, context);
}

PlannedStmt *tms_path_query_plan(const Query *query, Oid check_as_user, ParamListInfo params, bool fast_start)
{
	Query *copy = (Query *) copyObjectImpl(query);
	List *rewritten;

	tms_query_check_as_user(copy, check_as_user);
	AcquireRewriteLocks(copy, true, false);
	rewritten = QueryRewrite(copy);
	if (list_length(rewritten) != 1)
		elog(ERROR, "unexpected rewrite of a path query");
	copy = linitial_node(Query, rewritten);
	if (reads_tms_table((Node *) copy, NULL))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("relation \"%s\" reads a foreign table of tms_fdw itself",
							   get_rel_name(rt_fetch(1, query->rtable)->relid)),
						errhint("Captures come from tms.capture or from views over it.")));
	return pg_plan_query(copy, "", fast_start ? CURSOR_OPT_FAST_PLAN : 0, params);
}
