/*
 * A photograph's markers. What is told of it is within what a frame header can hold, and a head of a file is never more of a
 * JPEG than the whole.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/jpeg.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool sane(const TmsJpegInfo *info)
{
	if (info->state == TMS_JPEG_NOT)
		return info->width == 0 && info->height == 0 && info->components == 0 && info->bits == 0 && !info->progressive;
	return info->width > 0 && info->width <= 65535 && info->height > 0 && info->height <= 65535 &&
		   info->components > 0 && info->components <= 255 && info->bits > 0 && info->bits <= 255;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	TmsJpegInfo whole = tms_jpeg_check(data, size), half;
	uint8_t *copy = malloc(size / 2); /* just as long, so that reading behind it is seen */

	if (size / 2 > 0)
		memcpy(copy, data, size / 2);
	half = tms_jpeg_check(copy, size / 2);
	if (!sane(&whole) || !sane(&half) || (whole.state == TMS_JPEG_NOT && half.state != TMS_JPEG_NOT) ||
		(whole.state == TMS_JPEG_TRUNCATED && half.state == TMS_JPEG_COMPLETE))
		abort();
	free(copy);
	return 0;
}
