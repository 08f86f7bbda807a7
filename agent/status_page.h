/*
 * GET / on the intake port: one HTML page for a technician with a telephone. It needs nothing but itself and the photographs of
 * this agent; no script; every text in it is escaped.
 */
#ifndef AGENT_STATUS_PAGE_H
#define AGENT_STATUS_PAGE_H

#include "service.h"

#define STATUS_PAGE_PHOTOGRAPHS "/v1/photographs/" /* a storage path behind it: that photograph */
#define STATUS_PAGE_POLICY_SIZE 256

/* The page, which the caller frees; without photographs for slow links. NULL: the ledger cannot be read, or out of memory. */
extern char *status_page(const ServiceContext *context, bool photographs);

/* Its Content-Security-Policy: the page's own style (by its digest) and photographs, nothing else. False when OpenSSL fails. */
extern bool status_page_policy(char out[STATUS_PAGE_POLICY_SIZE]);

#endif
