/*
 * The manifests in the image center of the simulation: every capture that was uploaded, under the ledger and seq it had then.
 */
#ifndef SIMULATE_MANIFESTS_H
#define SIMULATE_MANIFESTS_H

#include "common/capture_id.h"
#include "common/sha256.h"

/* A capture was uploaded. */
extern void manifests_note(const TmsUuid *ledger, int seq, int capture, const char hex[TMS_SHA256_HEX_SIZE]);

/* The image center was emptied. */
extern void manifests_clear(void);

/*
 * Makes the statement that loads some of the lines there are for one ledger, each with an even chance of below(2), all of them
 * with `whole`; NULL when there is no ledger of that number, counted from 0. The caller frees it.
 */
extern char *manifests_load_sql(int number, int whole, unsigned (*below)(unsigned n));

#endif
