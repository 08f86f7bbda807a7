/*
 * Description of a JPEG: see jpeg_info.h.
 */
#include "jpeg_info.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_SIZE 64

/* What the segments tell. */
typedef struct Gathered
{
	TmsJpegDescription *description;
	bool has_table[4];
	uint16_t table[4][TABLE_SIZE]; /* in the order of the file, zigzag */
} Gathered;

/* The luminance table of the IJG at quality 50, in zigzag order. */
static const uint8_t standard_table[TABLE_SIZE] = {
	16, 11,  12, 14, 12, 10, 16,  14,  13,  14, 18, 17,  16,  19,  24,  40,  26, 24,  22,  22, 24, 49,
	35, 37,  29, 40, 58, 51, 61,  60,  57,  51, 56, 55,  64,  72,  92,  78,  64, 68,  87,  69, 55, 56,
	80, 109, 81, 87, 95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
};

/* A DQT segment holds tables one after the other: precision and number in a byte, then 64 values of one or two bytes. */
static void take_tables(Gathered *gathered, const uint8_t *content, size_t len)
{
	size_t at = 0;

	while (at < len)
	{
		int slot = content[at] & 15, bytes = (content[at] >> 4) + 1;

		at++;
		if (slot > 3 || bytes > 2 || len - at < (size_t) (TABLE_SIZE * bytes))
			return;
		for (int i = 0; i < TABLE_SIZE; i++, at += (size_t) bytes)
			gathered->table[slot][i] = (uint16_t) (bytes == 1 ? content[at] : content[at] << 8 | content[at + 1]);
		gathered->has_table[slot] = true;
	}
}

static void take_segment(void *context, int marker, const uint8_t *content, size_t len)
{
	Gathered *gathered = context;
	TmsJpegDescription *description = gathered->description;

	if (marker == TMS_JPEG_DQT)
		take_tables(gathered, content, len);
	else if (marker == TMS_JPEG_APP1 && !description->has_exif)
		description->has_exif = tms_exif_read(content, len, &description->exif);
}

/* The quality whose table, scaled from the standard one as the IJG's library does it, differs least from this one. */
static int nearest_quality(const uint16_t table[TABLE_SIZE])
{
	int best = 0, best_difference = INT_MAX;

	for (int quality = 100; quality >= 1; quality--)
	{
		int scale = quality < 50 ? 5000 / quality : 200 - 2 * quality, difference = 0;

		for (int i = 0; i < TABLE_SIZE; i++)
		{
			int value = (standard_table[i] * scale + 50) / 100;

			difference += abs((value < 1 ? 1 : value > 255 ? 255 : value) - table[i]);
		}
		if (difference < best_difference)
		{
			best = quality;
			best_difference = difference;
		}
	}
	return best;
}

/* How much coarser color is than brightness, in the usual notation where there is one. */
static void name_subsampling(const TmsJpegInfo *info, char out[TMS_JPEG_SUBSAMPLING_SIZE])
{
	static const struct
	{
		uint8_t sampling;
		const char *name;
	} usual[] = {{0x11, "4:4:4"}, {0x21, "4:2:2"}, {0x22, "4:2:0"}, {0x12, "4:4:0"}, {0x41, "4:1:1"}, {0x42, "4:1:0"}};
	int components = info->components < TMS_JPEG_COMPONENTS_MAX ? info->components : TMS_JPEG_COMPONENTS_MAX, at = 0;

	out[0] = '\0';
	if (components < 2)
		return;
	for (size_t i = 0; components == 3 && i < sizeof(usual) / sizeof(usual[0]); i++)
		if (info->sampling[0] == usual[i].sampling && info->sampling[1] == 0x11 && info->sampling[2] == 0x11)
		{
			strcpy(out, usual[i].name);
			return;
		}
	for (int i = 0; i < components; i++)
		at += snprintf(out + at, (size_t) (TMS_JPEG_SUBSAMPLING_SIZE - at), "%s%dx%d", i > 0 ? "," : "",
					   info->sampling[i] >> 4, info->sampling[i] & 15);
}

TmsJpegDescription tms_jpeg_describe(const uint8_t *data, size_t len)
{
	TmsJpegDescription description = {.has_exif = false};
	Gathered gathered = {.description = &description};
	uint8_t table;

	description.info = tms_jpeg_walk(data, len, take_segment, &gathered);
	table = description.info.first_table;
	name_subsampling(&description.info, description.subsampling);
	if (description.info.components > 0 && table < 4 && gathered.has_table[table])
		description.quality = nearest_quality(gathered.table[table]);
	return description;
}
