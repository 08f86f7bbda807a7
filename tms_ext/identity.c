/*
 * Identity of captures in SQL: storage paths, device codes, ids, object keys and signed URLs.
 *
 * Thin covers of common/, so that path center and agents cannot disagree; tests/vectors/ is read by the tests of both.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "common/capture_id.h"
#include "common/object_path.h"
#include "common/url_sign.h"
#include "tms_ext/compat.h"

PG_FUNCTION_INFO_V1(tms_identity_is_storage_path);
PG_FUNCTION_INFO_V1(tms_identity_is_device_code);
PG_FUNCTION_INFO_V1(tms_identity_capture_id);
PG_FUNCTION_INFO_V1(tms_identity_capture_ledger_no);
PG_FUNCTION_INFO_V1(tms_identity_capture_seq);
PG_FUNCTION_INFO_V1(tms_identity_ledger_number);
PG_FUNCTION_INFO_V1(tms_identity_object_key);
PG_FUNCTION_INFO_V1(tms_identity_url_key);
PG_FUNCTION_INFO_V1(tms_identity_url_signature);

Datum tms_identity_is_storage_path(PG_FUNCTION_ARGS)
{
	text *path = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(tms_storage_path_valid(VARDATA_ANY(path), VARSIZE_ANY_EXHDR(path)));
}

Datum tms_identity_is_device_code(PG_FUNCTION_ARGS)
{
	text *code = PG_GETARG_TEXT_PP(0);

	PG_RETURN_BOOL(tms_device_code_valid(VARDATA_ANY(code), VARSIZE_ANY_EXHDR(code)));
}

Datum tms_identity_capture_id(PG_FUNCTION_ARGS)
{
	int32 ledger_no = PG_GETARG_INT32(0);
	int64 seq = PG_GETARG_INT64(1);
	int64 capture_id = tms_capture_id(ledger_no, seq);

	if (capture_id == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("no capture has ledger number %d and seq " INT64_FORMAT, ledger_no, seq),
				 errdetail("A ledger number is at least 0, a seq from 1 to " INT64_FORMAT ".", (int64) TMS_SEQ_MAX)));
	PG_RETURN_INT64(capture_id);
}

Datum tms_identity_capture_ledger_no(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(tms_capture_ledger_no(PG_GETARG_INT64(0)));
}

Datum tms_identity_capture_seq(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(tms_capture_seq(PG_GETARG_INT64(0)));
}

Datum tms_identity_ledger_number(PG_FUNCTION_ARGS)
{
	pg_uuid_t *uuid = PG_GETARG_UUID_P(0);
	TmsUuid ledger;

	StaticAssertStmt(UUID_LEN == TMS_UUID_SIZE, "both kinds of UUID have 16 bytes");
	memcpy(ledger.bytes, uuid->data, TMS_UUID_SIZE);
	PG_RETURN_INT32(tms_ledger_number(&ledger));
}

Datum tms_identity_object_key(PG_FUNCTION_ARGS)
{
	char *device = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *path = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char key[TMS_OBJECT_KEY_SIZE];

	if (!tms_object_key(device, path, key))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("device code or storage path is not valid"),
						errhint("See tms.is_device_code(text) and tms.is_storage_path(text).")));
	PG_RETURN_TEXT_P(cstring_to_text(key));
}

Datum tms_identity_url_key(PG_FUNCTION_ARGS)
{
	text *token = PG_GETARG_TEXT_PP(0);
	bytea *key = palloc(VARHDRSZ + TMS_URL_KEY_SIZE);

	if (!tms_url_key(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token), (uint8_t *) VARDATA(key)))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("OpenSSL could not compute an HMAC")));
	SET_VARSIZE(key, VARHDRSZ + TMS_URL_KEY_SIZE);
	PG_RETURN_BYTEA_P(key);
}

Datum tms_identity_url_signature(PG_FUNCTION_ARGS)
{
	bytea *key = PG_GETARG_BYTEA_PP(0);
	char *path = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int64 expires = PG_GETARG_INT64(2);
	char signature[TMS_URL_SIGNATURE_SIZE];

	if (VARSIZE_ANY_EXHDR(key) != TMS_URL_KEY_SIZE)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a URL key has %d bytes", TMS_URL_KEY_SIZE),
						errhint("Make it with tms.url_key(token).")));
	if (!tms_url_signature((const uint8_t *) VARDATA_ANY(key), path, expires, signature))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the path to sign is too long")));
	PG_RETURN_TEXT_P(cstring_to_text(signature));
}
