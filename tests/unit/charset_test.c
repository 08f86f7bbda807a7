/*
 * Tests of agent/charset.c: records in GBK, and bytes that are no text of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/charset.h"

/* "粤B12345" */
#define PLATE_UTF8 \
	"\xe7\xb2\xa4" \
	"B12345"
#define PLATE_GBK \
	"\xd4\xc1"    \
	"B12345"

static void known(void **state)
{
	assert_true(charset_known("UTF-8"));
	assert_true(charset_known("GBK"));
	assert_true(charset_known("GB18030"));
	assert_true(charset_known("BIG5"));
	assert_false(charset_known("Klingon"));
	assert_false(charset_known("GBK//IGNORE"));
}

static void converts(void **state)
{
	char *text;
	size_t len;

	assert_int_equal(charset_convert("GBK", CHARSET_UTF8, PLATE_GBK, 8, &text, &len), TMS_OK);
	assert_int_equal(len, 9);
	assert_string_equal(text, PLATE_UTF8);
	free(text);
	assert_int_equal(charset_convert(CHARSET_UTF8, "GBK", PLATE_UTF8, 9, &text, &len), TMS_OK);
	assert_string_equal(text, PLATE_GBK);
	free(text);
	assert_int_equal(charset_convert("GBK", CHARSET_UTF8, "", 0, &text, &len), TMS_OK);
	assert_int_equal(len, 0);
	assert_string_equal(text, "");
	free(text);
	assert_int_equal(charset_convert("GBK", CHARSET_UTF8, "a\0b", 3, &text, &len), TMS_OK);
	assert_int_equal(len, 3);
	assert_memory_equal(text, "a\0b", 4);
	free(text);
}

static void no_text(void **state)
{
	static const char *const texts[] = {"\xff", "\xd4", "abc\xd4", "\xd4\x20", "\x80\xff"};
	char *text;
	size_t len;

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
	{
		assert_int_equal(charset_convert("GBK", CHARSET_UTF8, texts[i], strlen(texts[i]), &text, &len), TMS_INVALID);
		assert_null(text);
	}
	/* No such character in the other set. */
	assert_int_equal(charset_convert(CHARSET_UTF8, "GBK", "\xf0\x9f\x9a\x97", 4, &text, &len), TMS_INVALID);
	assert_int_equal(charset_convert(CHARSET_UTF8, "ISO-8859-1", PLATE_UTF8, 9, &text, &len), TMS_INVALID);
}

static void fields(void **state)
{
	Record record;
	char error[RECORD_ERROR_SIZE];

	record_init(&record);
	assert_int_equal(charset_record_set("GBK", &record, "plate", PLATE_GBK, 8, error), TMS_OK);
	assert_string_equal(record.plate, PLATE_UTF8);
	/* An attribute whose name is in GBK as well: "颜色" = "蓝" */
	assert_int_equal(charset_record_set("GBK", &record, "\xd1\xd5\xc9\xab", "\xc0\xb6", 2, error), TMS_OK);
	assert_string_equal(record.attributes, "{\"\xe9\xa2\x9c\xe8\x89\xb2\":\"\xe8\x93\x9d\"}");
	assert_int_equal(charset_record_set("GBK", &record, "direction", "\xd4", 1, error), TMS_INVALID);
	assert_string_equal(error, "direction: not valid GBK");
	assert_int_equal(charset_record_set("GBK", &record, "\xff", "x", 1, error), TMS_INVALID);
	assert_string_equal(error, "?: not valid GBK");
	/* The record's own rules hold for what comes out: 11 characters are 33 bytes. */
	assert_int_equal(charset_record_set("GBK", &record, "direction",
										"\xc0\xb6\xc0\xb6\xc0\xb6\xc0\xb6\xc0\xb6\xc0\xb6"
										"\xc0\xb6\xc0\xb6\xc0\xb6\xc0\xb6\xc0\xb6",
										22, error),
					 TMS_INVALID);
	assert_string_equal(error, "direction: longer than 32 bytes");
	/* UTF-8 is strict. */
	assert_int_equal(charset_record_set(CHARSET_UTF8, &record, "direction", "\xc0\xb6", 2, error), TMS_INVALID);
	assert_string_equal(error, "direction: not valid UTF-8");
}

/* Second bytes that are a backslash, as of "臷" (C5 5C), do not end a text early. */
static void side_files(void **state)
{
	static const char json[] = "{\"plate\":\"" PLATE_GBK "\",\"note\":\"\xc5\x5c\",\"lane\":2}";
	Record record;
	char error[RECORD_ERROR_SIZE];

	assert_int_equal(charset_record_from_json("GBK", &record, json, strlen(json), error), TMS_OK);
	assert_string_equal(record.plate, PLATE_UTF8);
	assert_int_equal(record.lane, 2);
	assert_non_null(strstr(record.attributes, "\"note\":\""));
	assert_int_equal(charset_record_from_json(CHARSET_UTF8, &record, json, strlen(json), error), TMS_INVALID);
	assert_int_equal(charset_record_from_json("GBK", &record, "{\"plate\":\"\xff\"}", 13, error), TMS_INVALID);
	assert_string_equal(error, "record: not valid GBK");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known),  cmocka_unit_test(converts),   cmocka_unit_test(no_text),
		cmocka_unit_test(fields), cmocka_unit_test(side_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
