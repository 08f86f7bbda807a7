/*
 * The few values of a photograph's EXIF segment that we use.
 */
#ifndef TMS_JPEG_EXIF_H
#define TMS_JPEG_EXIF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TMS_EXIF_TEXT_MAX 63

typedef struct TmsExif
{
	int orientation; /* 1 to 8; 0 when it is not told */
	char make[TMS_EXIF_TEXT_MAX + 1]; /* printable ASCII without spaces at the ends, cut to fit; empty when not told */
	char model[TMS_EXIF_TEXT_MAX + 1];
	struct
	{
		int year, month, day, hour, minute, second; /* the camera's local time; year 0 when not told */
	} taken;
} TmsExif;

/*
 * Reads the content of an APP1 segment into *exif, which it clears. False when it is no EXIF. Never reads outside
 * content[0 .. len-1]; values that are damaged or absurd are as if not told. Thumbnails in it are not looked at.
 */
extern bool tms_exif_read(const uint8_t *content, size_t len, TmsExif *exif);

/*
 * The content of an APP1 segment that tells nothing but an orientation (1 to 8): its length, TMS_EXIF_ORIENTATION_SIZE.
 */
#define TMS_EXIF_ORIENTATION_SIZE 32
extern void tms_exif_write_orientation(int orientation, uint8_t out[TMS_EXIF_ORIENTATION_SIZE]);

#endif
