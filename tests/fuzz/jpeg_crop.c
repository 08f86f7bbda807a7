/*
 * Parts of rubbish: an error with a reason, or a whole JPEG.
 */
#include "common/jpeg_crop.h"
#include "decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	TmsJpegJob job = {.max_pixels = FUZZ_PIXELS};
	TmsJpegBox box = {.x = take_number(data, &size, 300) - 20, .y = take_number(data, &size, 300) - 20};
	bool exact = take_number(data, &size, 2) == 1;
	int grid = exact ? 0 : 2 * 31; /* the largest blocks have 32 pixels */

	box.width = 1 + take_number(data, &size, 300);
	box.height = 1 + take_number(data, &size, 300);
	check_result(&job, tms_jpeg_crop(&job, data, size, &box, exact), box.width + grid, box.height + grid);
	return 0;
}
