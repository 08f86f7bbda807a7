/*
 * The path query: what the wrapper asks this database for, before it asks anybody for images.
 *
 * It is a parse tree over the relation behind the foreign table, "c", left-joined to tms.device, "d", when a column of that
 * is used. Planner and executor plan it anew whenever they need it, so that views, row security and partitions are what
 * they are at that moment, for the user whose rights count.
 */
#ifndef TMS_PATH_QUERY_H
#define TMS_PATH_QUERY_H

#include "postgres.h"

#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

#include "tms_fdw/relation.h"

/* How a device's row is found for a capture's. */
#define TMS_DEVICE_JOIN " LEFT JOIN tms.device d ON (d.device_id OPERATOR(pg_catalog.=) c.device_id)"

/* One key of the path query's order; nodes of the outer query. */
typedef struct TmsPathOrder
{
	Expr *expr; /* shippable */
	Oid sort_operator; /* what sorts before: < or > of a B-tree family */
	bool nulls_first;
} TmsPathOrder;

/* What a path query shall have. */
typedef struct TmsPathQuerySpec
{
	const TmsRelation *relation;
	Index relid; /* the foreign table in the outer query's range table */
	Oid check_as_user; /* whose rights count; InvalidOid: the current user's */
	Bitmapset *attrs; /* attribute numbers of the foreign table that are wanted, of those the path query can give */
	bool keys[TMS_KEY_COUNT]; /* columns wanted for ourselves */
	List *quals; /* shippable conditions of the outer query, without RestrictInfo */
	List *order; /* of TmsPathOrder */
	Node *limit_count; /* shippable expressions of the outer query, or NULL */
	Node *limit_offset;
} TmsPathQuerySpec;

typedef struct TmsPathQuery
{
	Query *query;
	List *params; /* expressions of the outer query; the n-th is $n */
	List *columns; /* per attribute of the foreign table: its column in the result, from 1; 0: not there */
	List *keys; /* the same per TmsKey */
} TmsPathQuery;

/* Builds it, in the current memory context; an error when a wanted column cannot be read. */
extern TmsPathQuery *tms_path_query_build(const TmsPathQuerySpec *spec);

/*
 * Plans a copy of the query for execution or estimation; no I/O beyond catalogs. The rights and policies are those of
 * check_as_user, whoever runs the plan; of the user who runs it if that is InvalidOid. Parameters marked constant are taken as
 * such. With fast_start a plan is preferred that gives its first rows soon. An error when the query reads a foreign table of
 * tms_fdw itself.
 */
extern PlannedStmt *tms_path_query_plan(const Query *query, Oid check_as_user, ParamListInfo params, bool fast_start);

/* The query as SQL, palloc'd; names are qualified, parameters are $1, $2 ... */
extern char *tms_path_query_text(const Query *query);

#endif
