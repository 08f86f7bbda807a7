/*
 * Cleaning, as the ledger sees it: the journal of deletions, and the cleaning period.
 *
 * Invariants: a row with cleaning = 1 has the receipt of the deletion that is about to happen, and its file may be there or
 * not; a row with held = 0 has no file, and the receipt tells why. Between the two is the unlink.
 */
#include <string.h>

#include "clock.h"
#include "ledger_db.h"
#include "ledger_sql.h"

/* --- the journal --- */

typedef struct Journal
{
	LedgerCleaning *list;
	int count;
} Journal;

static TmsStatus run_cleaning(Ledger *ledger, LedgerJob *job)
{
	const Journal *journal = job->argument;
	LedgerDb *db = &ledger->write;
	TmsStatus status = TMS_OK;

	for (int i = 0; i < journal->count && status == TMS_OK; i++)
	{
		LedgerCleaning *one = &journal->list[i];

		status = ledger_db_run(
			db, ledger_db_bind(db, SQL_CAPTURE_CLEANING, "iit", one->id, (int64_t) one->early, one->receipt));
		one->allowed = status == TMS_OK && sqlite3_changes(db->handle) > 0;
	}
	return status;
}

TmsStatus ledger_cleaning(Ledger *ledger, LedgerCleaning *list, int count)
{
	Journal journal = {list, count};

	return ledger_write(ledger, run_cleaning, &journal);
}

static TmsStatus run_cleaned(Ledger *ledger, LedgerJob *job)
{
	const Journal *journal = job->argument;
	LedgerDb *db = &ledger->write;
	int64_t now = clock_now();
	TmsStatus status = TMS_OK;

	for (int i = 0; i < journal->count && status == TMS_OK; i++)
	{
		const LedgerCleaning *one = &journal->list[i];

		if (one->allowed)
			status = ledger_db_run(db, one->gone ? ledger_db_bind(db, SQL_CAPTURE_CLEANED, "ii", one->id, now)
												 : ledger_db_bind(db, SQL_CAPTURE_NOT_CLEANING, "i", one->id));
	}
	return status;
}

TmsStatus ledger_cleaned(Ledger *ledger, const LedgerCleaning *list, int count)
{
	Journal journal = {(LedgerCleaning *) list, count};

	return ledger_write(ledger, run_cleaned, &journal);
}

/* --- the cleaning period --- */

#define IN_FORCE   "cleaning_period"
#define OFFERED    "cleaning_period_offered"
#define OFFERED_AT "cleaning_period_offered_at" /* by elapsed time */

typedef struct Offer
{
	int64_t period;
	int64_t wait;
	LedgerPeriod answer;
} Offer;

static TmsStatus put_offered(LedgerDb *db, int64_t period, int64_t at)
{
	TmsStatus status = ledger_meta_put(db, OFFERED, period);

	return status == TMS_OK ? ledger_meta_put(db, OFFERED_AT, at) : status;
}

static TmsStatus run_offer(Ledger *ledger, LedgerJob *job)
{
	Offer *offer = job->argument;
	LedgerDb *db = &ledger->write;
	int64_t in_force = 0, offered = 0, offered_at = 0, now = ledger_elapsed(ledger);
	TmsStatus status = ledger_meta_get(db, IN_FORCE, &in_force);

	if (status == TMS_OK)
		status = ledger_meta_get(db, OFFERED, &offered);
	if (status == TMS_OK)
		status = ledger_meta_get(db, OFFERED_AT, &offered_at);
	if (status != TMS_OK)
		return status;
	offer->answer = LEDGER_PERIOD_TAKEN;
	if (offer->period == in_force)
		offer->answer = LEDGER_PERIOD_SAME;
	else if (in_force == 0 || offer->period < in_force)
	{
		if (offer->period != offered)
		{
			offer->answer = LEDGER_PERIOD_OFFERED;
			return put_offered(db, offer->period, now);
		}
		/* A count of elapsed time that is behind belongs to a ledger.db that was lost. */
		if (now - offered_at < offer->wait && now >= offered_at)
		{
			offer->answer = LEDGER_PERIOD_WAITS;
			return TMS_OK;
		}
	}
	status = put_offered(db, 0, 0);
	return status == TMS_OK ? ledger_meta_put(db, IN_FORCE, offer->period) : status;
}

TmsStatus ledger_offer_period(Ledger *ledger, int64_t period, int64_t wait, LedgerPeriod *out)
{
	Offer offer = {.period = period, .wait = wait};
	TmsStatus status;

	*out = LEDGER_PERIOD_SAME;
	/* What nearly every answer says costs no write. */
	if (period == ledger_cleaning_period(ledger) && ledger_offered_period(ledger) == 0)
		return TMS_OK;
	status = ledger_write(ledger, run_offer, &offer);
	*out = offer.answer;
	return status;
}
