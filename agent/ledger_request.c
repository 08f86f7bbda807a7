/*
 * Upload requests, as the ledger sees them: which captures they put into the second queue, and when that is empty again.
 *
 * Invariants: an entry of the second queue has requested = 1; being verified takes it out, being set aside keeps it from it.
 * A request has its row in upload_request, and meta's request_seen its id, from the transaction on that ends its last piece: what
 * a crash cuts short is asked again, and carried out from the beginning. Its row has done_at from the transaction on that
 * finds the second queue empty.
 */
#include "clock.h"
#include "ledger_db.h"
#include "ledger_sql.h"
#include "worker.h"

#define REQUEST_PIECE 5000 /* rows looked at in one job */

typedef struct Request
{
	int64_t id;
	int64_t since;
	int64_t until;
	int64_t after; /* rows up to this id are done */
	int64_t last; /* greatest id when the request came */
	int64_t held;
	int64_t not_held;
} Request;

TmsStatus ledger_request_look(Ledger *ledger)
{
	return ledger_db_run(&ledger->write, ledger_db_bind(&ledger->write, SQL_REQUEST_DONE, "i", clock_now()));
}

static TmsStatus run_request_begin(Ledger *ledger, LedgerJob *job)
{
	Request *request = job->argument;
	LedgerDb *db = &ledger->write;
	TmsStatus status = ledger_db_int(db, ledger_db_bind(db, SQL_CAPTURE_MIN_ID, ""), &request->after);

	request->after--;
	return status == TMS_OK ? ledger_db_int(db, ledger_db_bind(db, SQL_CAPTURE_MAX_ID, ""), &request->last) : status;
}

static TmsStatus run_request_piece(Ledger *ledger, LedgerJob *job)
{
	Request *request = job->argument;
	LedgerDb *db = &ledger->write;
	int64_t to = request->after + REQUEST_PIECE;
	int64_t not_held;
	TmsStatus status = ledger_db_run(
		db, ledger_db_bind(db, SQL_CAPTURE_REQUEST, "iiii", request->after, to, request->since, request->until));

	if (status != TMS_OK)
		return status;
	request->held += sqlite3_changes(db->handle);
	status = ledger_db_int(
		db, ledger_db_bind(db, SQL_CAPTURE_NOT_HELD, "iiii", request->after, to, request->since, request->until),
		&not_held);
	request->not_held += status == TMS_OK ? not_held : 0;
	return status;
}

static TmsStatus run_request_end(Ledger *ledger, LedgerJob *job)
{
	const Request *request = job->argument;
	LedgerDb *db = &ledger->write;
	TmsStatus status = ledger_meta_put(db, "request_seen", request->id);

	if (status == TMS_OK)
		status = ledger_db_run(db, ledger_db_bind(db, SQL_REQUEST_PUT, "iiii", request->id, clock_now(), request->held,
												  request->not_held));
	if (status == TMS_OK)
		status = ledger_request_look(ledger);
	return status == TMS_OK
			   ? ledger_db_run(db, ledger_db_bind(db, SQL_REQUEST_DROP, "i", (int64_t) LEDGER_REQUESTS - 1))
			   : status;
}

TmsStatus ledger_request_upload(Ledger *ledger, int64_t request_id, int64_t since, int64_t until)
{
	Request request = {.id = request_id, .since = since, .until = until};
	TmsStatus status = ledger_write(ledger, run_request_begin, &request);

	for (; status == TMS_OK && request.after < request.last; request.after += REQUEST_PIECE)
	{
		worker_beat(0); /* all of them may take long */
		status = ledger_write(ledger, run_request_piece, &request);
	}
	return status == TMS_OK ? ledger_write(ledger, run_request_end, &request) : status;
}
