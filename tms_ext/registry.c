/*
 * Devices: new tokens, and reading what devices say of themselves.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/capture_record.h"
#include "tms_ext/compat.h"

#define TOKEN_BYTES 32
#define TOKEN_CHARS 43 /* six bits each */

/* Microseconds from 1970 to 2000, where PostgreSQL's time begins. */
#define EPOCH_SHIFT ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(tms_registry_new_token);
PG_FUNCTION_INFO_V1(tms_registry_time);

/* tms.new_token() returns text */
Datum tms_registry_new_token(PG_FUNCTION_ARGS)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint8 bytes[TOKEN_BYTES + 1] = {0}; /* one more to read over the end of the last character */
	char token[TOKEN_CHARS];
	int i;

	if (!pg_strong_random(bytes, TOKEN_BYTES))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("the system has no random bytes for a token")));
	for (i = 0; i < TOKEN_CHARS; i++)
	{
		int bit = i * 6;
		int pair = bytes[bit / 8] << 8 | bytes[bit / 8 + 1];

		token[i] = alphabet[pair >> (10 - bit % 8) & 63];
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(token, TOKEN_CHARS));
}

/* tms.time_or_null(value text) returns timestamptz */
Datum tms_registry_time(PG_FUNCTION_ARGS)
{
	text *value = PG_GETARG_TEXT_PP(0);
	int64_t micros;

	if (!tms_time_parse(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value), &micros))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ((TimestampTz) micros - EPOCH_SHIFT);
}
