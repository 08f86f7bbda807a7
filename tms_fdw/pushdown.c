/*
 * Moving expressions into the path query. They move as trees, never as text, so that operators, collations and constants
 * mean there exactly what they mean in the outer query.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "catalog/pg_collation.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"

#include "tms_fdw/pushdown.h"

typedef struct ShippableContext
{
	Index relid;
	const TmsRelation *relation;
} ShippableContext;

/* True at the first node that must stay behind. */
static bool must_stay(Node *node, ShippableContext *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
		{
			Var *var = (Var *) node;

			if (var->varlevelsup != 0)
				return true;
			if (var->varno != context->relid)
				return false;
			return var->varattno <= 0 ||
				   tms_relation_column_kind(context->relation, var->varattno) >= TMS_COLUMN_EXPECTED_SOURCE;
		}
		case T_Param:
			return ((Param *) node)->paramkind != PARAM_EXTERN && ((Param *) node)->paramkind != PARAM_EXEC;
		case T_SubPlan:
		case T_AlternativeSubPlan:
		case T_SubLink:
		case T_PlaceHolderVar:
		case T_CurrentOfExpr:
		case T_Aggref:
		case T_GroupingFunc:
		case T_WindowFunc:
			return true;
		default:
			return expression_tree_walker(node, must_stay, (void *) context);
	}
}

bool tms_is_shippable(Node *expr, Index relid, const TmsRelation *relation)
{
	ShippableContext context = {relid, relation};

	return !must_stay(expr, &context) && !contain_volatile_functions(expr);
}

/* The parameter that stands for an expression of the outer query. */
static Node *ship_as_param(Node *expr, TmsShipment *shipment)
{
	Param *param = makeNode(Param);
	ListCell *lc;

	param->paramkind = PARAM_EXTERN;
	param->paramid = 1;
	foreach (lc, shipment->params)
	{
		if (equal(lfirst(lc), expr))
			break;
		param->paramid++;
	}
	if (lc == NULL)
		shipment->params = lappend(shipment->params, copyObject(expr));
	param->paramtype = exprType(expr);
	param->paramtypmod = exprTypmod(expr);
	param->paramcollid = exprCollation(expr);
	param->location = -1;
	return (Node *) param;
}

/* The column in the path query, with the type and collation that the foreign table declares for it. */
static Node *ship_column(Var *var, TmsShipment *shipment)
{
	Expr *column = copyObject(shipment->columns[var->varattno - 1]);
	Oid collation;

	if (exprType((Node *) column) != var->vartype)
		column =
			(Expr *) makeRelabelType(column, var->vartype, -1, exprCollation((Node *) column), COERCE_EXPLICIT_CAST);
	collation = exprCollation((Node *) column);
	if (OidIsValid(var->varcollid) && collation != var->varcollid)
	{
		CollateExpr *collate = makeNode(CollateExpr);

		collate->arg = column;
		collate->collOid = var->varcollid;
		collate->location = -1;
		column = (Expr *) collate;
	}
	return (Node *) column;
}

/*
 * Equality is the same under every deterministic collation. A foreign table made by hand rarely repeats COLLATE "C"; its
 * equality conditions take the relation's own collation, so that they can use its indexes.
 */
static void take_own_collation(Oid opno, List *args, Oid *inputcollid)
{
	ListCell *lc;

	if (!OidIsValid(*inputcollid) || !op_mergejoinable(opno, exprType(linitial(args))))
		return;
	foreach (lc, args)
	{
		CollateExpr *collate = lfirst(lc);
		Oid own;

		if (!IsA(collate, CollateExpr) || collate->collOid != *inputcollid)
			continue;
		own = exprCollation((Node *) collate->arg);
		if (!get_collation_isdeterministic(own) || !get_collation_isdeterministic(*inputcollid))
			return;
		lfirst(lc) = collate->arg;
		*inputcollid = own;
		return;
	}
}

static Node *ship_mutator(Node *node, TmsShipment *shipment)
{
	Node *shipped;

	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varno == shipment->relid)
		return ship_column((Var *) node, shipment);
	if (IsA(node, Var) || IsA(node, Param))
		return ship_as_param(node, shipment);

	shipped = expression_tree_mutator(node, ship_mutator, (void *) shipment);
	if (IsA(shipped, OpExpr))
	{
		OpExpr *op = (OpExpr *) shipped;

		take_own_collation(op->opno, op->args, &op->inputcollid);
	}
	else if (IsA(shipped, ScalarArrayOpExpr))
	{
		ScalarArrayOpExpr *op = (ScalarArrayOpExpr *) shipped;

		take_own_collation(op->opno, op->args, &op->inputcollid);
	}
	return shipped;
}

Node *tms_ship(Node *expr, TmsShipment *shipment)
{
	return ship_mutator(expr, shipment);
}
