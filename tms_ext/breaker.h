/*
 * Circuit breakers: a source that keeps failing is left alone for a while instead of costing every image a timeout.
 *
 * There is one for every endpoint (scheme, host and port) of either source of every server of tms_fdw: users of one server share what they
 * learn, while another server's timeouts and thresholds say nothing about it, and a server that is altered to another address
 * starts afresh. Cluster-wide when the library is preloaded, else of this session alone.
 *
 *   closed --failures in a row--> open --cooldown over, one request is let through--> half-open
 *     ^  ^                         ^ |                                                   |
 *     |  +----- success of any ----+-+------------------- success ----------------------+
 *     |                            +--------------------- failure, or no word from it --+
 */
#ifndef TMS_BREAKER_H
#define TMS_BREAKER_H

#include "postgres.h"

#include "tms_ext/fetch_stats.h"

#define TMS_ENDPOINT_SIZE       128 /* longer ones are cut off */
#define TMS_BREAKER_REASON_SIZE 128

/* Which breaker, and its server's rules; times in milliseconds. */
typedef struct TmsBreaker
{
	Oid serverid;
	TmsOrigin origin;
	char endpoint[TMS_ENDPOINT_SIZE];
	int failures; /* in a row that open it; 0: there is no breaker */
	int cooldown;
	int probe_limit; /* a probe that was not heard of for so long is given up */
} TmsBreaker;

/* What a breaker says to a request. */
typedef enum TmsBreakerAnswer
{
	TMS_BREAKER_CLOSED,
	TMS_BREAKER_SUSPECT, /* closed, but the last request there failed: better to hear from one before sending many */
	TMS_BREAKER_PROBE, /* this request is the one that tries */
	TMS_BREAKER_OPEN, /* not to be sent */
} TmsBreakerAnswer;

/* What a request says of the endpoint. */
typedef enum TmsBreakerSign
{
	TMS_SIGN_ALIVE,
	TMS_SIGN_DOWN,
	TMS_SIGN_SILENT, /* it was canceled before a word came back: no failure, but a probe has shown nothing */
	TMS_SIGN_NONE, /* nothing: it was not sent after all, or failed for reasons of our own */
} TmsBreakerSign;

/* Called once by _PG_init. */
extern void tms_breaker_init(void);

/*
 * May a request be sent? When it is a probe, *probe gets its number, else 0; when not, `reason` gets what the last failure
 * was. A probe must be reported whatever comes of it.
 */
extern TmsBreakerAnswer tms_breaker_ask(const TmsBreaker *breaker, uint64 *probe, char reason[TMS_BREAKER_REASON_SIZE]);

/* Is it open for everybody now? For those who choose without sending; never makes the caller the one who tries. */
extern bool tms_breaker_is_open(const TmsBreaker *breaker);

/* What became of a request that was let through. `reason` of a failure has neither URL nor secret. Raises no error. */
extern void tms_breaker_report(const TmsBreaker *breaker, uint64 probe, TmsBreakerSign sign, const char *reason);

/* The worst state of all breakers of a source, as "closed", "half-open" or "open"; static memory. */
extern const char *tms_breaker_worst(TmsOrigin origin);

#endif
