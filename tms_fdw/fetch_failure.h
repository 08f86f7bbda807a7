/*
 * Why a request failed: what libcurl, the system and the TLS library say, as an outcome and a short reason. A part of the
 * fetch engine (fetch.h); raises no error.
 */
#ifndef TMS_FETCH_FAILURE_H
#define TMS_FETCH_FAILURE_H

#include "postgres.h"

#include <curl/curl.h>

#include "tms_fdw/fetch_answer.h"

/* Notes why libcurl gave up on a request with this code, unless its answer has failed already. connect_timeout: milliseconds. */
extern void tms_fetch_fail(CURL *easy, CURLcode code, TmsAnswer *answer, int connect_timeout);

/* "2 s", "250 ms" or "1.5 s"; static memory, until the next call. */
extern const char *tms_fetch_duration(int milliseconds);

#endif
