/*
 * common/capture_record: the table of rules, texts, numbers and times.
 */
#include "vectors.h"

#include "common/capture_record.h"

static void test_table(void **state)
{
	for (int field = 0; field < TMS_FIELD_COUNT; field++)
	{
		const TmsFieldRule *rule = &tms_field_rules[field];

		assert_non_null(rule->name);
		assert_int_equal(tms_field_by_name(rule->name), field);
		assert_true(rule->min <= rule->max);
		assert_int_equal(rule->too_long != NULL, rule->kind == TMS_KIND_TEXT || rule->kind == TMS_KIND_OBJECT);
	}
	assert_int_equal(tms_field_by_name(""), TMS_FIELD_COUNT);
	assert_int_equal(tms_field_by_name("plate_"), TMS_FIELD_COUNT);
	assert_int_equal(tms_field_by_name("PLATE"), TMS_FIELD_COUNT);
}

static bool check_text(char **field)
{
	TmsField name = tms_field_by_name(field[0]);
	const char *why = "ok";
	size_t len;
	char *text = vector_text(field[1], &len);
	bool valid = tms_field_text_valid(name, text, len, &why);
	bool agreed = strcmp(field[2], why) == 0 && valid == (strcmp(why, "ok") == 0) &&
				  valid == tms_field_text_valid(name, text, len, NULL);

	/* Where length and control characters are no matter, only the coding is. */
	if (strncmp(why, "longer", 6) != 0)
		agreed = agreed && tms_utf8_valid(text, len) == (strcmp(why, "not valid UTF-8") != 0);
	free(text);
	return agreed;
}

static void test_texts(void **state)
{
	vectors_check("record_text.tsv", 3, check_text);
}

/* Every code point, encoded by hand, is valid but for the surrogates and what is beyond the last one. */
static void test_every_character(void **state)
{
	for (uint32_t c = 0x800; c < 0x120000; c++)
	{
		char wide[] = {(char) (0xF0 | c >> 18), (char) (0x80 | (c >> 12 & 63)), (char) (0x80 | (c >> 6 & 63)),
					   (char) (0x80 | (c & 63))};
		char narrow[] = {(char) (0xE0 | c >> 12), wide[2], wide[3]};
		bool valid = c < 0x10000 ? tms_utf8_valid(narrow, sizeof(narrow)) : tms_utf8_valid(wide, sizeof(wide));

		if (valid != (c < 0x110000 && (c < 0xD800 || c > 0xDFFF)))
			fail_msg("U+%04X is taken for %s", c, valid ? "valid" : "invalid");
		if (c < 0x10000 && tms_utf8_valid(wide, sizeof(wide)))
			fail_msg("the overlong form of U+%04X is taken for valid", c);
	}
}

/* Every text of two bytes, against the two forms that RFC 3629 has for them. */
static void test_every_pair(void **state)
{
	for (int first = 0; first < 256; first++)
		for (int second = 0; second < 256; second++)
		{
			char text[] = {(char) first, (char) second};
			bool valid =
				(first < 0x80 && second < 0x80) || (first >= 0xC2 && first < 0xE0 && second >= 0x80 && second < 0xC0);

			if (tms_utf8_valid(text, 2) != valid)
				fail_msg("%02x %02x is taken for %s", first, second, valid ? "invalid" : "valid");
		}
}

static bool check_number(char **field)
{
	return tms_field_int_valid(tms_field_by_name(field[0]), atoll(field[1])) == (strcmp(field[2], "ok") == 0);
}

static void test_numbers(void **state)
{
	vectors_check("record_number.tsv", 3, check_number);
}

static bool check_time(char **field)
{
	size_t len;
	char *text = vector_text(field[0], &len);
	int64_t micros = 42;
	bool read = tms_time_parse(text, len, &micros);

	free(text);
	if (!read)
		return strcmp(field[1], "bad") == 0 && micros == 42;
	return strcmp(field[1], "bad") != 0 && micros == atoll(field[1]);
}

static void test_times(void **state)
{
	vectors_check("time.tsv", 2, check_time);
}

static bool check_time_text(char **field)
{
	char text[TMS_TIME_TEXT_SIZE];
	int64_t micros = atoll(field[0]);
	int64_t again;

	if (!tms_time_format(micros, text))
		return strcmp(field[1], "bad") == 0;
	return strcmp(text, field[1]) == 0 && tms_time_parse(text, strlen(text), &again) && again == micros;
}

static void test_time_texts(void **state)
{
	vectors_check("time_text.tsv", 2, check_time_text);
}

/* Noon of every day of the years 0001 to 9999 is read back as it was written. */
static void test_every_day(void **state)
{
	static const int64_t day = INT64_C(86400000000);

	for (int64_t micros = -719162 * day + day / 2; micros < 2932897 * day; micros += day)
	{
		char text[TMS_TIME_TEXT_SIZE];
		int64_t again = 0;

		if (!tms_time_format(micros, text) || !tms_time_parse(text, strlen(text), &again) || again != micros)
			fail_msg("%s became %lld instead of %lld", text, (long long) again, (long long) micros);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),      cmocka_unit_test(test_texts),     cmocka_unit_test(test_every_character),
		cmocka_unit_test(test_every_pair), cmocka_unit_test(test_numbers),   cmocka_unit_test(test_times),
		cmocka_unit_test(test_time_texts), cmocka_unit_test(test_every_day),
	};

	return cmocka_run_group_tests_name("capture_record", tests, NULL, NULL);
}
