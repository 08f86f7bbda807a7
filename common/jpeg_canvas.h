/*
 * A canvas of pixels: photographs are drawn on it, scaled and upright, and it is encoded.
 */
#ifndef TMS_JPEG_CANVAS_H
#define TMS_JPEG_CANVAS_H

#include "jpeg_job.h"

typedef enum TmsCanvasColor
{
	TMS_CANVAS_GRAY, /* one sample a pixel */
	TMS_CANVAS_YCC, /* three: what most JPEGs hold, so that nothing is converted */
	TMS_CANVAS_RGB, /* three */
} TmsCanvasColor;

typedef struct TmsCanvas
{
	TmsCanvasColor color;
	int width, height;
	uint8_t *samples; /* rows of width pixels */
} TmsCanvas;

/* What a photograph is, from its header. */
typedef struct TmsJpegShape
{
	int width, height; /* upright: as its EXIF orientation says */
	int orientation; /* 1 to 8 */
	TmsCanvasColor color; /* what it can be drawn as without conversion; every one can be drawn as RGB */
} TmsJpegShape;

/* A photograph's place on a canvas: within it, and not larger than the photograph. */
typedef struct TmsCanvasPlace
{
	int x, y, width, height;
} TmsCanvasPlace;

/* Reads a photograph's header. */
extern TmsStatus tms_jpeg_measure(TmsJpegJob *job, const uint8_t *data, size_t len, TmsJpegShape *shape);

/* Width and height scaled by the same factor, at most 1, so that they fit; at least one pixel each. */
extern void tms_jpeg_fit(const TmsJpegShape *shape, double width, double height, TmsCanvasPlace *place);

/*
 * Makes a canvas, gray all over. Its samples are the caller's, to be given to free(). TMS_TOO_LARGE when it has more pixels
 * than the job allows, or a side that no JPEG can have.
 */
extern TmsStatus tms_canvas_create(TmsJpegJob *job, TmsCanvasColor color, int width, int height, TmsCanvas *canvas);

/* Draws a photograph. */
extern TmsStatus tms_canvas_draw(TmsJpegJob *job, TmsCanvas *canvas, const TmsCanvasPlace *place, const uint8_t *data,
								 size_t len, const TmsJpegShape *shape);

/* Encodes the canvas as the job's result: JFIF without metadata, color subsampled 4:2:0, optimized Huffman tables. */
extern TmsStatus tms_canvas_encode(TmsJpegJob *job, const TmsCanvas *canvas, int quality);

#endif
