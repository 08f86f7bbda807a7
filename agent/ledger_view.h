/*
 * Looking at a ledger.db beside the agent, or without one: what happened to single captures. Changes nothing.
 */
#ifndef AGENT_LEDGER_VIEW_H
#define AGENT_LEDGER_VIEW_H

#include "ledger.h"

typedef struct LedgerView LedgerView;

#define LEDGER_REASON_SIZE 200

/* All that the ledger knows of one capture. Times are microseconds since 1970, 0: not, or not known. */
typedef struct LedgerStory
{
	LedgerEntry entry;
	bool sealed; /* its ledger takes no more captures */
	bool building; /* its ledger is being made again from the cache: nothing of it is cleaned */
	int64_t confirmed; /* its ledger is confirmed up to this seq */
	int64_t confirmed_at; /* when the capture was, if it is */
	int64_t report_no; /* in answer to this report */
	LedgerVerified verified; /* the last time */
	int64_t missing_at; /* when the image center last turned out not to hold it, */
	char missing[LEDGER_REASON_SIZE]; /* and what it said */
	char aside[LEDGER_REASON_SIZE]; /* why it can never be uploaded, or "" */
	bool cleaning; /* its deletion was journalled, and not ended */
	int64_t cleaned_at;
	bool early; /* the rule of the deletion: not expired, the disk was low */
	char receipt[LEDGER_RECEIPT_SIZE]; /* of the deletion, a JSON object, or "" */
	int64_t age; /* elapsed time since it was taken in, at least; -1: not known yet */
} LedgerStory;

/* Which captures: seq in every ledger, or in those that number, UUID or path say. */
typedef struct LedgerQuestion
{
	int64_t seq;
	bool has_number;
	int32_t number; /* of tms_ledger_number */
	bool has_uuid;
	TmsUuid uuid;
	const char *path; /* instead of all that, or NULL */
} LedgerQuestion;

/*
 * Opens data_dir/ledger.db; logs. TMS_INVALID: of a version that this program does not know, or that the agent has to bring up
 * to date first. The caller closes.
 */
extern TMS_CHECKED TmsStatus ledger_view_open(const char *data_dir, LedgerView **out);
extern void ledger_view_close(LedgerView *view);

/* The captures asked for, oldest ledger first, at most max. */
extern TMS_CHECKED TmsStatus ledger_view_find(LedgerView *view, const LedgerQuestion *question, LedgerStory *out,
											  int max, int *count);

/* The cleaning period in force, microseconds; 0: none is known. */
extern int64_t ledger_view_period(LedgerView *view);

#endif
