/*
 * The JSON file beside a photograph in the spool, in UTF-8 and in GBK. What is taken as a record can be written and comes out the same.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/charset.h"
#include "agent/record.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_in(const char *charset, const char *text, size_t len)
{
	static Record record, again;
	static char json[RECORD_JSON_SIZE], twice[RECORD_JSON_SIZE];
	char error[RECORD_ERROR_SIZE] = "";

	if (charset_record_from_json(charset, &record, text, len, error) != TMS_OK)
	{
		/* The reason goes into a log line and a .reason file. */
		for (const char *c = error; *c || c == error; c++)
			if (*c < ' ' || *c > '~')
				abort();
		return;
	}
	if (record_to_json(&record, json, sizeof json) != TMS_OK ||
		record_from_stored(&again, json, strlen(json), error) != TMS_OK ||
		record_to_json(&again, twice, sizeof twice) != TMS_OK || strcmp(json, twice) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_in("UTF-8", (const char *) data, size);
	read_in("GBK", (const char *) data, size);
	return 0;
}
