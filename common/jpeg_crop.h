/*
 * A part of a photograph.
 */
#ifndef TMS_JPEG_CROP_H
#define TMS_JPEG_CROP_H

#include "jpeg_job.h"

/* Pixels of the photograph as it is stored, from its upper left corner; what lies outside is left out. */
typedef struct TmsJpegBox
{
	int x, y, width, height;
} TmsJpegBox;

/*
 * Cuts the box out. Lossless (exact false): the box is widened to the grid of its blocks, whose coefficients are copied. Exact:
 * decoded and encoded again with the tables of the photograph. An orientation other than 1 is told in the result's EXIF, other
 * metadata are left out. TMS_INVALID when nothing of the photograph is in the box. Other statuses: see jpeg_job.h.
 */
extern TmsStatus tms_jpeg_crop(TmsJpegJob *job, const uint8_t *data, size_t len, const TmsJpegBox *box, bool exact);

#endif
