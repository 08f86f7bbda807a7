/*
 * One call of tms.ingest made from the ledger; see registrar_call.h.
 */
#include <stdio.h>
#include <string.h>

#include "registrar_call.h"

/* A call grows to this and no further, however many rows it may have. */
#define CALL_BYTES_MAX (4 * 1024 * 1024)

void registrar_call_init(RegistrarCall *call)
{
	memset(call, 0, sizeof(*call));
	ingest_call_init(&call->ingest);
}

void registrar_call_free(RegistrarCall *call)
{
	ingest_call_free(&call->ingest);
}

static void add_missing(RegistrarCall *call)
{
	const IngestRow row = {.path = NULL};

	ingest_call_add(&call->ingest, &row);
	call->last_seq++;
}

static void add_entry(RegistrarCall *call, const LedgerEntry *entry, const RegistrarCallPlan *plan)
{
	IngestRow row = {.path = entry->path, .image_bytes = entry->bytes, .sha256 = entry->sha256};
	Record bare;

	row.record = &entry->record;
	if (plan->bare)
	{
		record_init(&bare);
		bare.captured_at = entry->record.captured_at;
		bare.has_captured_at = true;
		snprintf(bare.attributes, sizeof(bare.attributes), "{\"rejected\":{\"record\":\"%.5s\"}}", plan->bare_reason);
		row.record = &bare;
	}
	ingest_call_add(&call->ingest, &row);
	call->last_seq++;
}

/* Adds rows first_seq .. end. */
static TmsStatus add_rows(RegistrarCall *call, Ledger *ledger, const LedgerInfo *info, const RegistrarCallPlan *plan,
						  int64_t end)
{
	int count = REGISTRAR_READ_COUNT;

	while (call->last_seq < end && count == REGISTRAR_READ_COUNT && call->ingest.bytes < CALL_BYTES_MAX)
	{
		TmsStatus status =
			ledger_read(ledger, &info->ledger, call->last_seq + 1, call->entries, REGISTRAR_READ_COUNT, &count);

		if (status != TMS_OK)
			return status;
		for (int i = 0; i < count && call->last_seq < end; i++)
		{
			while (call->last_seq < end && call->last_seq + 1 < call->entries[i].seq)
				add_missing(call);
			if (call->last_seq + 1 == call->entries[i].seq && call->last_seq < end)
				add_entry(call, &call->entries[i], plan);
		}
	}
	while (info->sealed && count < REGISTRAR_READ_COUNT && call->last_seq < end)
		add_missing(call);
	return TMS_OK;
}

TmsStatus registrar_call_make(RegistrarCall *call, const ServiceContext *context, const LedgerInfo *info,
							  const RegistrarCallPlan *plan)
{
	Ledger *ledger = context->ledger;
	LedgerEntry *before = &call->entries[0];
	uint8_t prev_sha256[TMS_SHA256_SIZE];
	IngestHeader header = {
		.device = context->config->device,
		.token = context->config->token,
		.ledger = info->ledger,
		.oldest_seq = info->oldest_seq,
		.last_seq = info->last_seq,
		.uploaded_seq = info->uploaded_seq,
		.uploaded_max = info->uploaded_max,
		.cleaned_seq = info->cleaned_seq,
		.request_seen = ledger_request_seen(ledger),
		.status = plan->bare ? NULL : plan->status,
	};
	int64_t end;
	TmsStatus status;

	ingest_call_begin(&call->ingest);
	/* What was trimmed away is not sent as single rows: oldest_seq says it all. */
	call->first_seq = info->confirmed + 1 > info->oldest_seq ? info->confirmed + 1 : info->oldest_seq;
	call->last_seq = call->first_seq - 1;
	end = call->first_seq - 1 + plan->rows_max;
	if (end > info->last_seq)
		end = info->last_seq;
	header.first_seq = call->first_seq;

	status = ledger_get(ledger, &info->ledger, call->first_seq - 1, before);
	if (status == TMS_OK)
	{
		memcpy(prev_sha256, before->sha256, sizeof(prev_sha256));
		header.prev_sha256 = prev_sha256;
	}
	else if (status != TMS_NOT_FOUND)
		return status;
	status = add_rows(call, ledger, info, plan, end);
	if (status == TMS_OK)
		status = ledger_next_report(ledger, &header.report_no);
	if (status == TMS_OK)
		status = ingest_call_finish(&call->ingest, &header);
	return status;
}
