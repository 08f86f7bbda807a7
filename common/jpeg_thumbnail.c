/*
 * Thumbnails: see jpeg_thumbnail.h.
 */
#include "jpeg_thumbnail.h"

#include <stdlib.h>

#include "jpeg_canvas.h"

TmsStatus tms_jpeg_thumbnail(TmsJpegJob *job, const uint8_t *data, size_t len, int max_side, int quality)
{
	TmsJpegShape shape;
	TmsCanvasPlace place = {0};
	TmsCanvas canvas = {0};
	TmsStatus status = tms_jpeg_measure(job, data, len, &shape);

	if (status != TMS_OK)
		return status;
	tms_jpeg_fit(&shape, max_side, max_side, &place);
	status = tms_canvas_create(job, shape.color, place.width, place.height, &canvas);
	if (status == TMS_OK)
		status = tms_canvas_draw(job, &canvas, &place, data, len, &shape);
	if (status == TMS_OK)
		status = tms_canvas_encode(job, &canvas, quality);
	free(canvas.samples);
	return status;
}
