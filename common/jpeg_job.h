/*
 * One piece of work on JPEGs: what bounds it, what stops it, and what came of it. Each function that works on photographs
 * (jpeg_thumbnail.h, jpeg_crop.h, jpeg_compose.h) takes one.
 *
 * The caller fills in the limits and leaves the rest zero. The functions return
 *   TMS_OK          result has the image
 *   TMS_INVALID     an argument is outside of what makes sense
 *   TMS_DAMAGED     this is no JPEG, damaged beyond decoding, or of more than TMS_JPEG_SCANS_MAX scans
 *   TMS_UNSUPPORTED a JPEG of a form that is not read: 12 bits a sample, lossless, hierarchical
 *   TMS_TOO_LARGE   more pixels than allowed
 *   TMS_MEMORY      out of memory
 *   TMS_STOPPED     stop() said so
 * and a reason in error unless TMS_OK or TMS_STOPPED. An image whose data are damaged is decoded as far as it goes, the rest is
 * gray, and damage says what was wrong.
 */
#ifndef TMS_JPEG_JOB_H
#define TMS_JPEG_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

#define TMS_JPEG_TEXT_SIZE 256

/* More scans than any encoder makes; a small file of thousands would keep the decoder busy for minutes. */
#define TMS_JPEG_SCANS_MAX 100

typedef struct TmsJpegJob
{
	int64_t max_pixels; /* an image, or a result, of more is refused before memory is taken for it */
	bool (*stop)(void); /* asked at every row of blocks or pixels; true ends the work. NULL: never */
	char error[TMS_JPEG_TEXT_SIZE];
	char damage[TMS_JPEG_TEXT_SIZE]; /* empty: nothing was wrong */
	uint8_t *result; /* the caller's, to be given to free(); NULL unless TMS_OK */
	size_t result_len;
} TmsJpegJob;

#endif
