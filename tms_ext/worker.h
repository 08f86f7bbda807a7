/*
 * The background worker that runs tms.upkeep().
 */
#ifndef TMS_WORKER_H
#define TMS_WORKER_H

/* Defines tms.database and tms.upkeep_interval and, in the postmaster, registers the launcher; _PG_init calls it. */
extern void tms_worker_init(void);

#endif
