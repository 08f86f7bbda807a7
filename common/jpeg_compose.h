/*
 * Several photographs on one sheet.
 */
#ifndef TMS_JPEG_COMPOSE_H
#define TMS_JPEG_COMPOSE_H

#include "jpeg_job.h"

typedef struct TmsJpegPart
{
	const uint8_t *data; /* NULL: there is none; its place stays gray */
	size_t len;
} TmsJpegPart;

/*
 * Composes photographs (at least one that is there) row by row in so many columns. All places are equal: as large as the largest
 * photograph, and all smaller by the same factor if the sheet's longer side would be more than max_side pixels. Each photograph is
 * upright, in the middle of its place, not enlarged. *failed is the index of the one that could not be decoded, -1 when it is not
 * about one. Statuses: see jpeg_job.h.
 */
extern TmsStatus tms_jpeg_compose(TmsJpegJob *job, const TmsJpegPart *parts, int count, int columns, int max_side,
								  int quality, int *failed);

#endif
