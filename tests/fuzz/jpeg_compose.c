/*
 * Sheets of rubbish, and of rubbish beside nothing and its own half: an error that names one of them, or a whole JPEG.
 */
#include "common/jpeg_compose.h"
#include "decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	TmsJpegJob job = {.max_pixels = FUZZ_PIXELS};
	int columns = 1 + take_number(data, &size, 4), count = 1 + take_number(data, &size, 3), failed;
	TmsJpegPart parts[3] = {{.data = data, .len = size}, {.data = NULL}, {.data = data, .len = size / 2}};
	TmsStatus status = tms_jpeg_compose(&job, parts, count, columns, 200, 80, &failed);

	if (failed < -1 || failed >= count || failed == 1 || (status == TMS_OK && failed != -1))
		abort();
	check_result(&job, status, 200, 200);
	return 0;
}
