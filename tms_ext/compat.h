/*
 * Differences between PostgreSQL 13 and 18, all of them: everything else is written for the newest.
 */
#ifndef TMS_COMPAT_H
#define TMS_COMPAT_H

#include "postgres.h"

#include "utils/guc.h"

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
static inline uint32 tms_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("TmsImages");
	return wait_event;
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

#endif
