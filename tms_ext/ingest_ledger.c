/*
 * Devices, ledgers, days and gaps, as ingest reads and writes them.
 *
 * The lock on a ledger's row is what puts the calls for one ledger in order. It is not the device's row that is locked: a
 * ledger may be reported by two devices (a copied disk), and nothing that ingest decides depends on another ledger.
 */
#include "postgres.h"

#include <openssl/crypto.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "common/object_path.h"
#include "tms_ext/ingest_ledger.h"
#include "tms_ext/ingest_statement.h"

static TmsIngestStatement find_device = {
	"SELECT d.device_id, d.enabled, d.cleaning_period, s.token_hash, r.id, r.since, r.until"
	" FROM tms.device d JOIN tms.device_secret s ON s.device_id = d.device_id"
	" LEFT JOIN LATERAL (SELECT u.id, u.since, u.until FROM tms.upload_request u"
	" WHERE u.id > $2 AND (u.device_id = d.device_id OR u.device_id IS NULL) ORDER BY u.id LIMIT 1) r ON true"
	" WHERE d.code = $1",
	2,
	{TEXTOID, INT8OID}};

static TmsIngestStatement lock_ledger = {
	"SELECT ledger_no, accepted_seq, accepted_sha256, last_seq, uploaded_seq, uploaded_max, cleaned_seq, report_no,"
	" request_seen, settled_seq, device_id FROM tms.ledger WHERE ledger = $1 FOR NO KEY UPDATE",
	1,
	{UUIDOID}};

static TmsIngestStatement insert_ledger = {
	"INSERT INTO tms.ledger (ledger_no, device_id, ledger) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
	3,
	{INT4OID, INT4OID, UUIDOID}};

static TmsIngestStatement update_ledger = {
	"UPDATE tms.ledger SET device_id = $2, accepted_seq = $3, accepted_sha256 = $4, last_seq = $5, uploaded_seq = $6,"
	" uploaded_max = $7, cleaned_seq = $8, report_no = $9, request_seen = $10, settled_seq = $11, last_seen_at = now()"
	" WHERE ledger_no = $1",
	11,
	{INT4OID, INT4OID, INT8OID, BYTEAOID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID}};

static TmsIngestStatement put_status = {
	"INSERT INTO tms.device_status (device_id, at, status) VALUES ($1, now(), $2)"
	" ON CONFLICT (device_id) DO UPDATE SET at = excluded.at, status = excluded.status",
	2,
	{INT4OID, JSONBOID}};

static TmsIngestStatement put_day = {
	"INSERT INTO tms.ledger_day AS d (ledger_no, day, first_seq, last_seq) VALUES ($1, $2, $3, $4)"
	" ON CONFLICT (ledger_no, day) DO UPDATE SET first_seq = least(d.first_seq, excluded.first_seq),"
	" last_seq = greatest(d.last_seq, excluded.last_seq)"
	" WHERE d.first_seq > excluded.first_seq OR d.last_seq < excluded.last_seq",
	4,
	{INT4OID, DATEOID, INT8OID, INT8OID}};

static TmsIngestStatement find_days = {
	"SELECT day FROM tms.ledger_day WHERE ledger_no = $1 AND first_seq <= $3 AND last_seq >= $2 ORDER BY day",
	3,
	{INT4OID, INT8OID, INT8OID}};

/* The conflict comes up only after somebody set accepted_seq back by hand. */
static TmsIngestStatement declare_gap = {
	"INSERT INTO tms.declared_gap AS g (ledger_no, from_seq, to_seq, reason) VALUES ($1, $2, $3, $4)"
	" ON CONFLICT (ledger_no, from_seq) DO UPDATE SET to_seq = greatest(g.to_seq, excluded.to_seq)",
	4,
	{INT4OID, INT8OID, INT8OID, TEXTOID}};

static TmsIngestStatement fill_gap = {
	"WITH hit AS (DELETE FROM tms.declared_gap WHERE ledger_no = $1 AND from_seq <= $3 AND to_seq >= $2 RETURNING *)"
	" INSERT INTO tms.declared_gap (ledger_no, from_seq, to_seq, reason, declared_at)"
	" SELECT ledger_no, from_seq, $2 - 1, reason, declared_at FROM hit WHERE from_seq < $2"
	" UNION ALL SELECT ledger_no, $3 + 1, to_seq, reason, declared_at FROM hit WHERE to_seq > $3",
	3,
	{INT4OID, INT8OID, INT8OID}};

static TmsIngestStatement find_gaps = {
	"SELECT from_seq, to_seq FROM tms.declared_gap WHERE ledger_no = $1 AND from_seq <= $3 AND to_seq >= $2"
	" ORDER BY from_seq",
	3,
	{INT4OID, INT8OID, INT8OID}};

static TmsIngestStatement find_gap_above = {
	"SELECT greatest(from_seq, $2 + 1) FROM tms.declared_gap WHERE ledger_no = $1 AND to_seq > $2"
	" ORDER BY from_seq LIMIT 1",
	2,
	{INT4OID, INT8OID}};

/* Is this the token's digest? Takes the same time for every wrong token; without a digest, for every token. */
static bool token_matches(const char *token, bytea *token_hash)
{
	static const uint8 none[TMS_SHA256_SIZE] = {0};
	const void *expected = token_hash == NULL ? (const void *) none : VARDATA_ANY(token_hash);
	uint8 digest[TMS_SHA256_SIZE];

	if (!tms_sha256(token, strlen(token), digest))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("OpenSSL could not compute a digest")));
	return CRYPTO_memcmp(digest, expected, TMS_SHA256_SIZE) == 0 && token_hash != NULL;
}

void tms_ingest_authenticate(const TmsIngestHeader *header, TmsIngestDevice *device)
{
	Datum values[] = {CStringGetTextDatum(header->device), Int64GetDatum(header->request_seen)};
	bool found = tms_ingest_execute(&find_device, values, NULL) == 1;
	bytea *token_hash = NULL;
	Datum period;
	bool is_null;

	if (found)
		token_hash = DatumGetByteaPP(tms_ingest_result(0, 4, &is_null));
	if (!token_matches(header->token, token_hash))
		ereport(ERROR, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION), errmsg("unknown device or wrong token"),
						tms_device_code_valid(header->device, strlen(header->device))
							? errdetail_log("The call names device \"%s\".", header->device)
							: 0,
						errhint("tms.register_device() and tms.rotate_token() give a device its token.")));
	if (!DatumGetBool(tms_ingest_result(0, 2, &is_null)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
						errmsg("device \"%s\" is disabled", header->device),
						errhint("UPDATE tms.device SET enabled = true WHERE code = '%s';", header->device)));
	device->device_id = DatumGetInt32(tms_ingest_result(0, 1, &is_null));
	period = tms_ingest_result(0, 3, &is_null);
	device->has_cleaning_period = !is_null;
	if (!is_null)
		device->cleaning_period = *DatumGetIntervalP(period);
	device->request_id = DatumGetInt64(tms_ingest_result(0, 5, &is_null));
	device->request_since = DatumGetTimestampTz(tms_ingest_result(0, 6, &is_null));
	device->request_until = DatumGetTimestampTz(tms_ingest_result(0, 7, &is_null));
	if (is_null)
		device->request_id = 0;
}

/* --- ledgers --- */

static bool ledger_find(const TmsUuid *uuid, TmsIngestLedger *out)
{
	Datum values[] = {UUIDPGetDatum((pg_uuid_t *) uuid)};
	Datum digest;
	bool is_null;

	if (tms_ingest_execute(&lock_ledger, values, NULL) == 0)
		return false;
	out->ledger_no = DatumGetInt32(tms_ingest_result(0, 1, &is_null));
	out->accepted_seq = DatumGetInt64(tms_ingest_result(0, 2, &is_null));
	digest = tms_ingest_result(0, 3, &is_null);
	out->has_accepted_sha256 = !is_null;
	if (!is_null)
		memcpy(out->accepted_sha256, VARDATA_ANY(DatumGetByteaPP(digest)), TMS_SHA256_SIZE);
	out->last_seq = DatumGetInt64(tms_ingest_result(0, 4, &is_null));
	out->uploaded_seq = DatumGetInt64(tms_ingest_result(0, 5, &is_null));
	out->uploaded_max = DatumGetInt64(tms_ingest_result(0, 6, &is_null));
	out->cleaned_seq = DatumGetInt64(tms_ingest_result(0, 7, &is_null));
	out->report_no = DatumGetInt64(tms_ingest_result(0, 8, &is_null));
	out->request_seen = DatumGetInt64(tms_ingest_result(0, 9, &is_null));
	out->settled_seq = DatumGetInt64(tms_ingest_result(0, 10, &is_null));
	if (is_null)
		out->settled_seq = TMS_ALL_SETTLED;
	out->device_id = DatumGetInt32(tms_ingest_result(0, 11, &is_null));
	return true;
}

void tms_ingest_ledger_lock(const TmsUuid *uuid, int32 device_id, TmsIngestLedger *out)
{
	int32 ledger_no = tms_ledger_number(uuid);

	/* A number that is taken, or the same ledger made by another session: look again, then try the next number. */
	while (!ledger_find(uuid, out))
	{
		Datum values[] = {Int32GetDatum(ledger_no), Int32GetDatum(device_id), UUIDPGetDatum((pg_uuid_t *) uuid)};

		CHECK_FOR_INTERRUPTS();
		tms_ingest_execute(&insert_ledger, values, NULL);
		ledger_no = ledger_no == TMS_LEDGER_NO_MAX ? 0 : ledger_no + 1;
	}
}

static Datum digest_datum(const uint8 *digest)
{
	bytea *bytes = palloc(VARHDRSZ + TMS_SHA256_SIZE);

	SET_VARSIZE(bytes, VARHDRSZ + TMS_SHA256_SIZE);
	memcpy(VARDATA(bytes), digest, TMS_SHA256_SIZE);
	return PointerGetDatum(bytes);
}

void tms_ingest_ledger_update(const TmsIngestLedger *ledger)
{
	Datum values[] = {
		Int32GetDatum(ledger->ledger_no),      Int32GetDatum(ledger->device_id),   Int64GetDatum(ledger->accepted_seq),
		digest_datum(ledger->accepted_sha256), Int64GetDatum(ledger->last_seq),    Int64GetDatum(ledger->uploaded_seq),
		Int64GetDatum(ledger->uploaded_max),   Int64GetDatum(ledger->cleaned_seq), Int64GetDatum(ledger->report_no),
		Int64GetDatum(ledger->request_seen),   Int64GetDatum(ledger->settled_seq),
	};
	char nulls[] = "           ";

	if (!ledger->has_accepted_sha256)
		nulls[3] = 'n';
	if (ledger->settled_seq == TMS_ALL_SETTLED)
		nulls[10] = 'n';
	tms_ingest_execute(&update_ledger, values, nulls);
}

void tms_ingest_status_put(int32 device_id, Jsonb *status)
{
	Datum values[] = {Int32GetDatum(device_id), JsonbPGetDatum(status)};

	tms_ingest_execute(&put_status, values, NULL);
}

/* --- days and gaps --- */

void tms_ingest_day_put(int32 ledger_no, DateADT day, TmsSeqRange seqs)
{
	Datum values[] = {Int32GetDatum(ledger_no), DateADTGetDatum(day), Int64GetDatum(seqs.from), Int64GetDatum(seqs.to)};

	tms_ingest_execute(&put_day, values, NULL);
}

int tms_ingest_days(int32 ledger_no, TmsSeqRange seqs, DateADT **days)
{
	Datum values[] = {Int32GetDatum(ledger_no), Int64GetDatum(seqs.from), Int64GetDatum(seqs.to)};
	int count = (int) tms_ingest_execute(&find_days, values, NULL);
	bool is_null;
	int i;

	*days = palloc(sizeof(DateADT) * (count + 1));
	for (i = 0; i < count; i++)
		(*days)[i] = DatumGetDateADT(tms_ingest_result(i, 1, &is_null));
	return count;
}

void tms_ingest_gap_declare(int32 ledger_no, TmsSeqRange seqs, const char *reason)
{
	Datum values[] = {Int32GetDatum(ledger_no), Int64GetDatum(seqs.from), Int64GetDatum(seqs.to),
					  CStringGetTextDatum(reason)};

	tms_ingest_execute(&declare_gap, values, NULL);
}

void tms_ingest_gap_fill(int32 ledger_no, TmsSeqRange seqs)
{
	Datum values[] = {Int32GetDatum(ledger_no), Int64GetDatum(seqs.from), Int64GetDatum(seqs.to)};

	tms_ingest_execute(&fill_gap, values, NULL);
}

int tms_ingest_gaps(int32 ledger_no, TmsSeqRange seqs, TmsSeqRange **gaps)
{
	Datum values[] = {Int32GetDatum(ledger_no), Int64GetDatum(seqs.from), Int64GetDatum(seqs.to)};
	int count = (int) tms_ingest_execute(&find_gaps, values, NULL);
	bool is_null;
	int i;

	*gaps = palloc(sizeof(TmsSeqRange) * (count + 1));
	for (i = 0; i < count; i++)
	{
		(*gaps)[i].from = DatumGetInt64(tms_ingest_result(i, 1, &is_null));
		(*gaps)[i].to = DatumGetInt64(tms_ingest_result(i, 2, &is_null));
	}
	return count;
}

int64 tms_ingest_gap_above(int32 ledger_no, int64 seq)
{
	Datum values[] = {Int32GetDatum(ledger_no), Int64GetDatum(seq)};
	bool is_null;

	if (tms_ingest_execute(&find_gap_above, values, NULL) == 0)
		return 0;
	return DatumGetInt64(tms_ingest_result(0, 1, &is_null));
}
