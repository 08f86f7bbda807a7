/*
 * Thumbnails.
 */
#ifndef TMS_JPEG_THUMBNAIL_H
#define TMS_JPEG_THUMBNAIL_H

#include "jpeg_job.h"

/*
 * Makes a thumbnail whose longer side is max_side pixels (at least 1), or the photograph's own if that is less: upright as its
 * EXIF orientation says, without metadata, of this quality (1 to 100). Statuses: see jpeg_job.h.
 */
extern TmsStatus tms_jpeg_thumbnail(TmsJpegJob *job, const uint8_t *data, size_t len, int max_side, int quality);

#endif
