/*
 * Texts in other character sets; see charset.h.
 */
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "charset.h"

#define GROWTH 4 /* bytes that one byte may become, in UTF-8 */

static bool is_utf8(const char *charset)
{
	return strcmp(charset, CHARSET_UTF8) == 0;
}

bool charset_known(const char *charset)
{
	iconv_t conversion;

	if (strchr(charset, '/')) /* iconv's way to ask for texts that are not quite the same */
		return false;
	conversion = iconv_open(CHARSET_UTF8, charset);
	if (conversion == (iconv_t) -1)
		return false;
	iconv_close(conversion);
	return true;
}

TmsStatus charset_convert(const char *from, const char *to, const char *text, size_t len, char **out, size_t *out_len)
{
	iconv_t conversion = iconv_open(to, from);
	size_t room = len * GROWTH + 16, left = room;
	char *source = (char *) text, *target;
	bool done;

	*out = NULL;
	if (conversion == (iconv_t) -1)
		return TMS_INVALID;
	target = malloc(room + 1);
	if (!target)
	{
		iconv_close(conversion);
		return TMS_MEMORY;
	}
	*out = target;
	/* A positive answer counts characters that were replaced by similar ones: not the same text either. */
	done = iconv(conversion, &source, &len, &target, &left) == 0 && len == 0 &&
		   iconv(conversion, NULL, NULL, &target, &left) == 0;
	iconv_close(conversion);
	if (!done)
	{
		free(*out);
		*out = NULL;
		return TMS_INVALID;
	}
	*target = '\0';
	*out_len = room - left;
	return TMS_OK;
}

/* What is wrong with a text of the sender's, under the name of its field. */
static TmsStatus refuse(TmsStatus status, const char *charset, const char *name, char error[RECORD_ERROR_SIZE])
{
	snprintf(error, RECORD_ERROR_SIZE, "%.60s: %s%.40s", name, status == TMS_MEMORY ? "out of memory" : "not valid ",
			 status == TMS_MEMORY ? "" : charset);
	for (char *c = error; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	return status;
}

TmsStatus charset_record_set(const char *charset, Record *record, const char *name, const char *value, size_t len,
							 char error[RECORD_ERROR_SIZE])
{
	char *utf8_name, *utf8_value = NULL;
	size_t name_len, value_len;
	TmsStatus status;

	if (is_utf8(charset))
		return record_set(record, name, value, len, error);
	status = charset_convert(charset, CHARSET_UTF8, name, strlen(name), &utf8_name, &name_len);
	if (status == TMS_OK)
		status = charset_convert(charset, CHARSET_UTF8, value, len, &utf8_value, &value_len);
	if (status == TMS_OK)
		status = record_set(record, utf8_name, utf8_value, value_len, error);
	else
		status = refuse(status, charset, name, error);
	free(utf8_name);
	free(utf8_value);
	return status;
}

TmsStatus charset_record_from_json(const char *charset, Record *record, const char *json, size_t len,
								   char error[RECORD_ERROR_SIZE])
{
	char *utf8;
	size_t utf8_len;
	TmsStatus status;

	if (is_utf8(charset))
		return record_from_json(record, json, len, error);
	/* The whole of it: the second byte of a character may be a quote or a backslash. */
	status = charset_convert(charset, CHARSET_UTF8, json, len, &utf8, &utf8_len);
	if (status == TMS_OK)
		status = record_from_json(record, utf8, utf8_len, error);
	else
		status = refuse(status, charset, "record", error);
	free(utf8);
	return status;
}
