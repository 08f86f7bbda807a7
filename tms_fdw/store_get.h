/*
 * Objects of an image center that are no images, asked for with patience: a store that is busy or away for a moment is asked
 * again. Neither breaker nor front ends have a part in it.
 */
#ifndef TMS_STORE_GET_H
#define TMS_STORE_GET_H

#include "postgres.h"

#include "tms_fdw/fetch.h"
#include "tms_fdw/option.h"

/* One request and what came of it. */
typedef struct TmsStoreGet
{
	TmsFetchRequest request; /* as tms_source_store_request fills it in */
	bytea *body; /* NULL: `problem` tells why */
	char *problem;
	bool is_absent; /* the store says that there is no such object */
	bool is_away; /* the store was busy or away, to the last */
} TmsStoreGet;

/*
 * Asks for all of them, at most the server's `concurrency` at once, with bodies of up to max_bytes; results are in the current
 * context. Cancellable.
 */
extern void tms_store_get(const TmsServerOptions *options, TmsStoreGet *gets, int count, int64 max_bytes);

#endif
