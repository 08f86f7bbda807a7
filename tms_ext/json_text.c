/*
 * JSON from outside: the server's own parser, inside a subtransaction that takes back its error.
 */
#include "postgres.h"

#include <errno.h>

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/resowner.h"

#include "tms_ext/json_text.h"

/* Is this an error of the text, and not one of the session? */
static bool is_of_the_text(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TO_CATEGORY(ERRCODE_DATA_EXCEPTION):
		case ERRCODE_TO_CATEGORY(ERRCODE_PROGRAM_LIMIT_EXCEEDED):
			return true;
		default:
			/* The nesting of the text. */
			return sqlstate == ERRCODE_UNTRANSLATABLE_CHARACTER || sqlstate == ERRCODE_STATEMENT_TOO_COMPLEX;
	}
}

Jsonb *tms_json_text_read(const char *text, size_t len)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Jsonb *volatile result = NULL;
	ErrorData *error;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		char *copy = pnstrdup(text, len);

		if (strlen(copy) == len)
			result =
				DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(pg_any_to_server(copy, len, PG_UTF8))));
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (!is_of_the_text(error->sqlerrcode))
			ReThrowError(error);
		FreeErrorData(error);
		result = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return result;
}

bool tms_json_member(Jsonb *object, const char *name, enum jbvType type, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&object->root, name, strlen(name), value) != NULL && value->type == type;
}

bool tms_json_whole_number(const JsonbValue *value, int64 min, int64 max, int64 *out)
{
	const char *text;
	char *end;

	if (value->type != jbvNumeric)
		return false;
	text = numeric_normalize(value->val.numeric);
	errno = 0;
	*out = strtoll(text, &end, 10);
	return errno == 0 && *end == '\0' && *out >= min && *out <= max;
}
