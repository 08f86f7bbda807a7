/*
 * Statistics of a foreign table's columns: those of the relation's columns that they show.
 */
#ifndef TMS_PLAN_STATISTICS_H
#define TMS_PLAN_STATISTICS_H

#include "postgres.h"

#include "foreign/fdwapi.h"

#include "tms_fdw/relation.h"

/* Lets the planner find them; called once, when the library is loaded. */
extern void tms_plan_statistics_init(void);

/* How many rows the relation has, as ANALYZE found; 0 when that is not known, as for a view. */
extern double tms_relation_tuples(const TmsRelation *relation);

/* ANALYZE of a foreign table: reads no rows and fetches nothing; notes how many rows the relation has. */
extern bool tms_analyze(Relation foreign, AcquireSampleRowsFunc *sample, BlockNumber *pages);

#endif
