/*
 * The library's entry: settings and hooks of every module, in one place.
 */
#include "postgres.h"

#include "fmgr.h"

#include "tms_ext/breaker.h"
#include "tms_ext/compat.h"
#include "tms_ext/device_slots.h"
#include "tms_ext/digest_log.h"
#include "tms_ext/fetch_stats.h"
#include "tms_ext/jpeg.h"
#include "tms_ext/partition.h"
#include "tms_ext/shared_state.h"
#include "tms_ext/worker.h"
#include "tms_fdw/look_ahead.h"
#include "tms_fdw/option.h"
#include "tms_fdw/plan_statistics.h"

PG_MODULE_MAGIC;

void _PG_init(void);

/* Each module that has settings, shared memory or a worker adds the call of its init function here. */
void _PG_init(void)
{
	tms_partition_init();
	tms_worker_init();
	tms_fetch_stats_init();
	tms_breaker_init();
	tms_device_slots_init();
	tms_digest_log_init();
	tms_shared_state_init();
	tms_option_define_settings();
	tms_look_ahead_init();
	tms_jpeg_init();
	tms_plan_statistics_init();
	MarkGUCPrefixReserved("tms");
}
