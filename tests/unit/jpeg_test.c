/*
 * common/jpeg: what files are, and that no bytes whatever lead the walk astray (run with AddressSanitizer by tests/run).
 */
#include "vectors.h"

#include "common/jpeg.h"

static bool check_jpeg(char **field)
{
	size_t len;
	uint8_t *data = vector_hex(field[7], &len);
	TmsJpegInfo info = tms_jpeg_check(data, len);

	free(data);
	return strcmp(tms_jpeg_state_name(info.state), field[1]) == 0 && info.width == atoi(field[2]) &&
		   info.height == atoi(field[3]) && info.components == atoi(field[4]) && info.bits == atoi(field[5]) &&
		   info.progressive == (strcmp(field[6], "yes") == 0);
}

static void test_files(void **state)
{
	vectors_check("jpeg.tsv", 8, check_jpeg);
}

/* Values are there exactly when a frame header was, and within what its fields can hold. */
static bool is_sane(TmsJpegInfo info)
{
	if (info.state == TMS_JPEG_NOT)
		return info.width == 0 && info.height == 0 && info.components == 0 && info.bits == 0 && !info.progressive;
	return (info.state == TMS_JPEG_COMPLETE || info.state == TMS_JPEG_TRUNCATED) && info.width > 0 &&
		   info.width <= 65535 && info.height > 0 && info.height <= 65535 && info.components > 0 &&
		   info.components <= 255 && info.bits > 0 && info.bits <= 255;
}

/* The check of a copy that ends where its memory ends. */
static TmsJpegInfo check_copy(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len);
	TmsJpegInfo info;

	memcpy(copy, data, len);
	info = tms_jpeg_check(copy, len);
	free(copy);
	return info;
}

/* Every head of a file: never more than the whole is, and what it says of the picture the whole says too. */
static bool check_truncations(char **field)
{
	size_t len;
	uint8_t *data = vector_hex(field[7], &len);
	TmsJpegInfo whole = tms_jpeg_check(data, len);
	bool sane = true;

	for (size_t head = 0; head < len; head++)
	{
		TmsJpegInfo info = check_copy(data, head);

		sane = sane && is_sane(info) && info.state >= whole.state;
		if (info.state != TMS_JPEG_NOT)
			sane = sane && info.width == whole.width && info.height == whole.height &&
				   info.components == whole.components && info.bits == whole.bits &&
				   info.progressive == whole.progressive;
	}
	free(data);
	return sane;
}

static void test_truncations(void **state)
{
	vectors_check("jpeg.tsv", 8, check_truncations);
}

/* Every bit of a file turned over, and every byte replaced by FF and by 0. */
static bool check_flips(char **field)
{
	size_t len;
	uint8_t *data = vector_hex(field[7], &len);
	bool sane = true;

	for (size_t i = 0; i < len; i++)
	{
		uint8_t byte = data[i];

		for (int bit = 0; bit < 8; bit++)
		{
			data[i] = (uint8_t) (byte ^ 1 << bit);
			sane = sane && is_sane(tms_jpeg_check(data, len));
		}
		data[i] = 0xFF;
		sane = sane && is_sane(tms_jpeg_check(data, len));
		data[i] = 0;
		sane = sane && is_sane(tms_jpeg_check(data, len));
		data[i] = byte;
	}
	free(data);
	return sane;
}

static void test_flips(void **state)
{
	vectors_check("jpeg.tsv", 8, check_flips);
}

/* Several bytes at once replaced by markers and lengths, from a generator that always starts alike; then cut anywhere. */
static bool check_mutations(char **field)
{
	static const uint8_t likely[] = {0xFF, 0xD8, 0xD9, 0xDA, 0xC0, 0xC2, 0xC4, 0xE1, 0xD0, 0x00, 0x01, 0x02, 0x7F};
	uint32_t random = 1;
	size_t len;
	uint8_t *data = vector_hex(field[7], &len);
	uint8_t *mutant = malloc(len);
	bool sane = true;

	for (int round = 0; round < 1000 && len > 0; round++)
	{
		memcpy(mutant, data, len);
		for (int change = 0; change <= round % 8; change++)
		{
			random = random * 1664525 + 1013904223;
			mutant[(random >> 8) % len] = likely[(random >> 4) % sizeof(likely)];
		}
		random = random * 1664525 + 1013904223;
		sane = sane && is_sane(check_copy(mutant, (random >> 8) % (len + 1)));
	}
	free(mutant);
	free(data);
	return sane;
}

static void test_mutations(void **state)
{
	vectors_check("jpeg.tsv", 8, check_mutations);
}

/* Forty megabytes that never end are walked once, not again and again. */
static void test_large(void **state)
{
	static const uint8_t head[] = {0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8, 0, 1, 0, 1,  1, 1,
								   0x11, 0,    0xFF, 0xDA, 0, 8,  1, 1, 0, 0, 63, 0};
	size_t len = 40 * 1024 * 1024;
	uint8_t *data = malloc(len);

	memset(data, 0xFF, len);
	memcpy(data, head, sizeof(head));
	assert_int_equal(tms_jpeg_check(data, len).state, TMS_JPEG_TRUNCATED);
	data[len - 1] = 0xD9;
	assert_int_equal(tms_jpeg_check(data, len).state, TMS_JPEG_COMPLETE);
	memset(data + sizeof(head), 0, len - sizeof(head));
	assert_int_equal(tms_jpeg_check(data, len).state, TMS_JPEG_TRUNCATED);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files),     cmocka_unit_test(test_truncations), cmocka_unit_test(test_flips),
		cmocka_unit_test(test_mutations), cmocka_unit_test(test_large),
	};

	return cmocka_run_group_tests_name("jpeg", tests, NULL, NULL);
}
