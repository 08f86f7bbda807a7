/*
 * The server log's word on sources that delivered other bytes than the path center holds the digest of.
 */
#ifndef TMS_DIGEST_LOG_H
#define TMS_DIGEST_LOG_H

#include "postgres.h"

#include "tms_ext/fetch_stats.h"

/* Called once by _PG_init. */
extern void tms_digest_log_init(void);

/* Logs that this object of a source had a wrong digest, at most once an hour for each. */
extern void tms_digest_log(TmsOrigin origin, int64 capture_id, const char *device, const char *path);

#endif
