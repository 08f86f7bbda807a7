/*
 * Thumbnails of rubbish: an error with a reason, or a whole JPEG of at most the size wanted.
 */
#include "common/jpeg_thumbnail.h"
#include "decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	TmsJpegJob job = {.max_pixels = FUZZ_PIXELS};
	int side = 1 + take_number(data, &size, 400), quality = 1 + take_number(data, &size, 100);

	check_result(&job, tms_jpeg_thumbnail(&job, data, size, side, quality), side, side);
	return 0;
}
