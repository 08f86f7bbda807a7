/*
 * What a JPEG tells of itself, from header and markers alone; nothing is decoded.
 */
#ifndef TMS_JPEG_INFO_H
#define TMS_JPEG_INFO_H

#include "jpeg.h"
#include "jpeg_exif.h"

#define TMS_JPEG_SUBSAMPLING_SIZE 24

typedef struct TmsJpegDescription
{
	TmsJpegInfo info;
	char subsampling
		[TMS_JPEG_SUBSAMPLING_SIZE]; /* "4:2:0" and the like, "2x1,1x2,..." for odd ones; empty: one component */
	int quality; /* 1 to 100: that of the IJG's tables whose table is nearest; 0 when there is no table */
	bool has_exif;
	TmsExif exif;
} TmsJpegDescription;

/* Describes a JPEG in memory. Never fails, never reads outside data[0 .. len-1]. */
extern TmsJpegDescription tms_jpeg_describe(const uint8_t *data, size_t len);

#endif
