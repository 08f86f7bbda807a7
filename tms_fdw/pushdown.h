/*
 * Moving expressions from the outer query into the path query: which may go, and what they become there.
 */
#ifndef TMS_PUSHDOWN_H
#define TMS_PUSHDOWN_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

#include "tms_fdw/relation.h"

/*
 * May this expression over the foreign table `relid` (its range table index) be evaluated in the path query? That runs in
 * the same session, transaction and snapshot, so all but volatile functions may; what it cannot have is the image, what the
 * watermarks tell, whole rows, system columns and subplans. Columns of other tables become parameters.
 */
extern bool tms_is_shippable(Node *expr, Index relid, const TmsRelation *relation);

/* How the foreign table's columns look in the path query, and what has become a parameter of it so far. */
typedef struct TmsShipment
{
	Index relid;
	Expr **columns; /* from attribute number 1 on; NULL: not there */
	List *params; /* expressions of the outer query; the n-th is $n of the path query */
} TmsShipment;

/* The path query's form of a shippable expression; new parameters are added to the shipment. */
extern Node *tms_ship(Node *expr, TmsShipment *shipment);

#endif
