/*
 * What rubbish tells of itself: texts that are printable and times that there are.
 */
#include <string.h>

#include "common/jpeg_info.h"
#include "decode.h"

static void check_text(const char text[TMS_EXIF_TEXT_MAX + 1])
{
	if (memchr(text, '\0', TMS_EXIF_TEXT_MAX + 1) == NULL)
		abort();
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	TmsJpegDescription told = tms_jpeg_describe(data, size);
	TmsExif exif;

	if (told.quality < 0 || told.quality > 100 || told.exif.orientation < 0 || told.exif.orientation > 8 ||
		told.exif.taken.year < 0 || told.exif.taken.year > 9999 || told.exif.taken.month > 12 ||
		told.exif.taken.day > 31)
		abort();
	check_text(told.exif.make);
	check_text(told.exif.model);
	/* Also as the content of a segment, without a file around it. */
	tms_exif_read(data, size, &exif);
	return 0;
}
