/*
 * Differences between PostgreSQL 13 and 18, all of them: everything else is written for the newest.
 */
#ifndef TMS_COMPAT_H
#define TMS_COMPAT_H

#include "postgres.h"

#include "utils/guc.h"

#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
/* 15 made a name's prefix ours instead of only warning of unknown settings. */
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* 14 has to be told what to do about partitions that are being detached: they are no longer there. */
#if PG_VERSION_NUM >= 140000
#define tms_partition_desc(relation)    RelationGetPartitionDesc(relation, true)
#define tms_partition_parent(partition) get_partition_parent(partition, true)
#else
#define tms_partition_desc(relation)    RelationGetPartitionDesc(relation)
#define tms_partition_parent(partition) get_partition_parent(partition)
#endif

#if PG_VERSION_NUM >= 140000
#include "utils/wait_event.h"
#else
#include "pgstat.h"
#endif

/* 17 lets extensions name what they wait for. */
typedef enum TmsWaitEvent
{
	TMS_WAIT_IMAGES, /* for bytes */
	TMS_WAIT_FRONT_END, /* until other sessions have fewer requests under way to a front end */
} TmsWaitEvent;

static inline uint32 tms_wait_event(TmsWaitEvent event)
{
#if PG_VERSION_NUM >= 170000
	static const char *const names[] = {[TMS_WAIT_IMAGES] = "TmsImages", [TMS_WAIT_FRONT_END] = "TmsFrontEndBusy"};
	static uint32 numbers[lengthof(names)];

	if (numbers[event] == 0)
		numbers[event] = WaitEventExtensionNew(names[event]);
	return numbers[event];
#else
	return PG_WAIT_EXTENSION;
#endif
}

#include "catalog/pg_foreign_server.h"
#include "utils/acl.h"

#if PG_VERSION_NUM >= 160000
/* 16 made one function of the privilege checks of all kinds of objects. */
#define tms_server_aclcheck(serverid, userid, mode) object_aclcheck(ForeignServerRelationId, serverid, userid, mode)
#else
#define tms_server_aclcheck(serverid, userid, mode) pg_foreign_server_aclcheck(serverid, userid, mode)
#endif

/* 16 moved whose rights count from range table entries to objects of their own. */
#include "executor/executor.h"
#include "nodes/pathnodes.h"
#include "optimizer/pathnode.h"
#include "parser/parsetree.h"

/* Lets this user's rights count for everything a parsed, not yet rewritten query reads; InvalidOid: the current user's. */
static inline void tms_query_check_as_user(Query *query, Oid userid)
{
	ListCell *lc;

#if PG_VERSION_NUM >= 160000
	foreach (lc, query->rteperminfos)
		lfirst_node(RTEPermissionInfo, lc)->checkAsUser = userid;
#else
	foreach (lc, query->rtable)
		lfirst_node(RangeTblEntry, lc)->checkAsUser = userid;
#endif
}

/* The user whose rights count for a base relation, while planning; InvalidOid: the current one. */
static inline Oid tms_rel_check_as_user(PlannerInfo *root, RelOptInfo *rel)
{
#if PG_VERSION_NUM >= 160000
	return rel->userid;
#else
	return planner_rt_fetch(rel->relid, root)->checkAsUser;
#endif
}

/* The same while executing a scan of it. */
static inline Oid tms_scan_check_as_user(ForeignScan *scan, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	return scan->checkAsUser;
#else
	return exec_rt_fetch(scan->scan.scanrelid, estate)->checkAsUser;
#endif
}

/* 17 added the argument fdw_restrictinfo, 18 disabled_nodes. */
static inline ForeignPath *tms_create_foreignscan_path(PlannerInfo *root, RelOptInfo *rel, double rows,
													   Cost startup_cost, Cost total_cost, List *pathkeys,
													   Relids required_outer, List *fdw_private)
{
#if PG_VERSION_NUM >= 180000
	return create_foreignscan_path(root, rel, NULL, rows, 0, startup_cost, total_cost, pathkeys, required_outer, NULL,
								   NIL, fdw_private);
#elif PG_VERSION_NUM >= 170000
	return create_foreignscan_path(root, rel, NULL, rows, startup_cost, total_cost, pathkeys, required_outer, NULL, NIL,
								   fdw_private);
#else
	return create_foreignscan_path(root, rel, NULL, rows, startup_cost, total_cost, pathkeys, required_outer, NULL,
								   fdw_private);
#endif
}

#include "optimizer/paths.h"
#include "utils/lsyscache.h"

/* The members of an equivalence class, those of this relation if it is a child among them; 18 moved them apart. */
static inline List *tms_eclass_members(EquivalenceClass *ec, RelOptInfo *rel)
{
#if PG_VERSION_NUM >= 180000
	EquivalenceMemberIterator iterator;
	EquivalenceMember *member;
	List *members = NIL;

	setup_eclass_member_iterator(&iterator, ec, rel->relids);
	while ((member = eclass_member_iterator_next(&iterator)) != NULL)
		members = lappend(members, member);
	return members;
#else
	return ec->ec_members;
#endif
}

/* 18 speaks of comparisons where operators of B-trees had numbers. */
#if PG_VERSION_NUM >= 180000
#define tms_pathkey_operator(pathkey, type) \
	get_opfamily_member_for_cmptype((pathkey)->pk_opfamily, (type), (type), (pathkey)->pk_cmptype)
#define TMS_PATHKEY_ASCENDING COMPARE_LT
#else
#include "access/stratnum.h"
#define tms_pathkey_operator(pathkey, type) \
	get_opfamily_member((pathkey)->pk_opfamily, (type), (type), (pathkey)->pk_strategy)
#define TMS_PATHKEY_ASCENDING BTLessStrategyNumber
#endif

/* Makes an operator the order of a sort clause; 18 does not look up any more in which direction it sorts. */
static inline void tms_sort_clause_set_operator(SortGroupClause *clause, Oid operator)
{
	bool reverse;

	clause->sortop = operator;
	clause->eqop = get_equality_op_for_ordering_op(operator, & reverse);
#if PG_VERSION_NUM >= 180000
	clause->reverse_sort = reverse;
#endif
}

/* 18 dropped the argument execute_once. */
static inline void tms_executor_run(QueryDesc *desc, uint64 rows)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(desc, ForwardScanDirection, rows);
#else
	ExecutorRun(desc, ForwardScanDirection, rows, false);
#endif
}

/* The same for a hook that is called instead. */
#if PG_VERSION_NUM >= 180000
#define TMS_EXECUTOR_RUN_PARAMETERS QueryDesc *desc, ScanDirection direction, uint64 count
#define TMS_EXECUTOR_RUN_ARGUMENTS  desc, direction, count
#else
#define TMS_EXECUTOR_RUN_PARAMETERS QueryDesc *desc, ScanDirection direction, uint64 count, bool execute_once
#define TMS_EXECUTOR_RUN_ARGUMENTS  desc, direction, count, execute_once
#endif

/* 18 gave EXPLAIN's output functions headers of their own. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#else
#include "commands/explain.h"
#endif

/* 15 moved requests for shared memory into a hook; before, they were made while the library was loaded. */
#if PG_VERSION_NUM >= 150000
#define tms_on_shmem_request(function, previous) ((previous) = shmem_request_hook, shmem_request_hook = (function))
#else
typedef void (*shmem_request_hook_type)(void);
#define tms_on_shmem_request(function, previous) ((previous) = NULL, (function) ())
#endif

#endif
