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

/* What a path query shall have. */
typedef struct TmsPathQuerySpec
{
	const TmsRelation *relation;
	Index relid; /* the foreign table in the outer query's range table */
	Oid check_as_user; /* whose rights count; InvalidOid: the current user's */
	Bitmapset *attrs; /* attribute numbers of the foreign table that are wanted, of those the path query can give */
	bool keys[TMS_KEY_COUNT]; /* columns wanted for ourselves */
	List *quals; /* shippable conditions of the outer query, without RestrictInfo */
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
 * Plans a copy of the query for execution or estimation; no I/O beyond catalogs. Parameters marked constant are taken as
 * such. An error when the query reads a foreign table of tms_fdw itself.
 */
extern PlannedStmt *tms_path_query_plan(const Query *query, ParamListInfo params);

/* The query as SQL, palloc'd; names are qualified, parameters are $1, $2 ... */
extern char *tms_path_query_text(const Query *query);

#endif
