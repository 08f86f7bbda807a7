/*
 * Drawing and encoding: see jpeg_canvas.h.
 *
 * The decoder gives the smallest of its sizes (1/8 to 8/8 of the full one, computed from as many coefficients) that leaves
 * enough for the scaler, which makes the exact size of it, row by row; each row is put where it belongs upright.
 */
#include "jpeg_canvas.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "jpeg_codec.h"
#include "jpeg_scale.h"

#define SCALE_STEPS 8
#define HEADROOM    2 /* the decoder gives twice the wanted size if it can: its own small sizes are sharp, but ring */
#define GRAY        128

/* Does this orientation exchange rows and columns? */
static bool is_turned(int orientation)
{
	return orientation >= 5;
}

static int channels_of(TmsCanvasColor color)
{
	return color == TMS_CANVAS_GRAY ? 1 : 3;
}

/* --- header --- */

typedef struct Measuring
{
	const uint8_t *data;
	size_t len;
	TmsJpegShape *shape;
} Measuring;

static void measure(TmsJpegCodec *codec, void *context)
{
	Measuring *measuring = context;
	TmsJpegShape *shape = measuring->shape;
	bool turned;

	tms_jpeg_begin(codec, measuring->data, measuring->len);
	shape->orientation = tms_jpeg_orientation(codec);
	turned = is_turned(shape->orientation);
	shape->width = (int) (turned ? codec->in.image_height : codec->in.image_width);
	shape->height = (int) (turned ? codec->in.image_width : codec->in.image_height);
	shape->color = codec->in.jpeg_color_space == JCS_GRAYSCALE ? TMS_CANVAS_GRAY
				   : codec->in.jpeg_color_space == JCS_YCbCr   ? TMS_CANVAS_YCC
															   : TMS_CANVAS_RGB;
}

TmsStatus tms_jpeg_measure(TmsJpegJob *job, const uint8_t *data, size_t len, TmsJpegShape *shape)
{
	Measuring measuring = {.data = data, .len = len, .shape = shape};

	return tms_jpeg_run(job, measure, &measuring);
}

void tms_jpeg_fit(const TmsJpegShape *shape, double width, double height, TmsCanvasPlace *place)
{
	double factor = fmin(1, fmin(width / shape->width, height / shape->height));

	place->width = (int) fmax(1, round(shape->width * factor));
	place->height = (int) fmax(1, round(shape->height * factor));
}

/* --- drawing --- */

typedef struct Drawing
{
	TmsCanvas *canvas;
	const TmsCanvasPlace *place;
	const TmsJpegShape *shape;
	const uint8_t *data;
	size_t len;
	int width, height; /* of the place, as the photograph is stored */
} Drawing;

/* Puts a stored row, scaled, where it belongs. */
static void put_row(const Drawing *drawing, int row, const uint8_t *samples)
{
	int orientation = drawing->shape->orientation, channels = channels_of(drawing->canvas->color);
	const TmsCanvasPlace *place = drawing->place;
	/* Upright, the stored row runs along x or y, forward or backward, at a distance from the near or the far edge. */
	bool turned = is_turned(orientation);
	bool backward = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
	bool far = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
	int last = drawing->width - 1, at = far ? drawing->height - 1 - row : row, along = backward ? last : 0;
	ptrdiff_t step = turned ? drawing->canvas->width : 1;
	ptrdiff_t x = place->x + (turned ? at : along), y = place->y + (turned ? along : at);
	uint8_t *to = drawing->canvas->samples + (y * drawing->canvas->width + x) * channels;

	if (orientation == 1)
	{
		memcpy(to, samples, (size_t) drawing->width * (size_t) channels);
		return;
	}
	step *= backward ? -channels : channels;
	for (int i = 0; i <= last; i++, to += step, samples += channels)
		memcpy(to, samples, (size_t) channels);
}

/* Inks to light. Adobe's files, all there are, hold inks inverted; others would hold them plainly. */
static void cmyk_to_rgb(const uint8_t *cmyk, bool inverted, int width, uint8_t *rgb)
{
	for (int x = 0; x < width; x++, cmyk += 4, rgb += 3)
		for (int channel = 0; channel < 3; channel++)
		{
			int light = inverted ? cmyk[channel] : 255 - cmyk[channel], white = inverted ? cmyk[3] : 255 - cmyk[3];

			rgb[channel] = (uint8_t) ((light * white + 127) / 255);
		}
}

/* Chooses the decoder's output: color, and the smallest size that is large enough. */
static void choose_output(TmsJpegCodec *codec, const Drawing *drawing)
{
	struct jpeg_decompress_struct *in = &codec->in;
	bool inks = in->jpeg_color_space == JCS_CMYK || in->jpeg_color_space == JCS_YCCK;

	in->out_color_space = inks                                        ? JCS_CMYK
						  : drawing->canvas->color == TMS_CANVAS_GRAY ? JCS_GRAYSCALE
						  : drawing->canvas->color == TMS_CANVAS_YCC  ? JCS_YCbCr
																	  : JCS_RGB;
	in->scale_denom = SCALE_STEPS;
	for (in->scale_num = 1; in->scale_num < SCALE_STEPS; in->scale_num++)
	{
		jpeg_calc_output_dimensions(in);
		if ((int) in->output_width >= HEADROOM * drawing->width &&
			(int) in->output_height >= HEADROOM * drawing->height)
			break;
	}
}

static TmsScaler *begin_scaler(TmsJpegCodec *codec, const Drawing *drawing)
{
	struct jpeg_decompress_struct *in = &codec->in;
	TmsScaling scaling = {
		.channels = channels_of(drawing->canvas->color),
		.from_width = (int) in->output_width,
		.from_height = (int) in->output_height,
		.to_width = drawing->width,
		.to_height = drawing->height,
		.exact_width = in->image_width * (double) in->scale_num / SCALE_STEPS,
		.exact_height = in->image_height * (double) in->scale_num / SCALE_STEPS,
	};

	return tms_scaler_begin(tms_jpeg_alloc(codec, tms_scaler_size(&scaling)), &scaling);
}

static void draw(TmsJpegCodec *codec, void *context)
{
	Drawing *drawing = context;
	struct jpeg_decompress_struct *in = &codec->in;
	uint8_t *inks = NULL, *scaled;
	TmsScaler *scaler;
	int row = 0;

	tms_jpeg_begin(codec, drawing->data, drawing->len);
	choose_output(codec, drawing);
	jpeg_start_decompress(in);
	scaler = begin_scaler(codec, drawing);
	scaled = tms_jpeg_alloc(codec, (size_t) drawing->width * 3);
	if (in->out_color_space == JCS_CMYK)
		inks = tms_jpeg_alloc(codec, (size_t) in->output_width * 4);
	while (in->output_scanline < in->output_height)
	{
		uint8_t *to = tms_scaler_next(scaler), *read = inks != NULL ? inks : to;

		jpeg_read_scanlines(in, &read, 1);
		if (inks != NULL)
			cmyk_to_rgb(inks, in->saw_Adobe_marker, (int) in->output_width, to);
		tms_scaler_push(scaler);
		while (tms_scaler_pull(scaler, scaled))
			put_row(drawing, row++, scaled);
	}
	jpeg_finish_decompress(in);
}

TmsStatus tms_canvas_create(TmsJpegJob *job, TmsCanvasColor color, int width, int height, TmsCanvas *canvas)
{
	size_t size = (size_t) width * (size_t) height * (size_t) channels_of(color);

	*canvas = (TmsCanvas){.color = color, .width = width, .height = height};
	if ((int64_t) width * height > job->max_pixels || width > JPEG_MAX_DIMENSION || height > JPEG_MAX_DIMENSION)
	{
		snprintf(job->error, TMS_JPEG_TEXT_SIZE, "a result of %d x %d pixels, more than %lld or %ld on a side", width,
				 height, (long long) job->max_pixels, (long) JPEG_MAX_DIMENSION);
		return TMS_TOO_LARGE;
	}
	canvas->samples = malloc(size);
	if (canvas->samples == NULL)
	{
		snprintf(job->error, TMS_JPEG_TEXT_SIZE, "out of memory");
		return TMS_MEMORY;
	}
	memset(canvas->samples, GRAY, size);
	return TMS_OK;
}

TmsStatus tms_canvas_draw(TmsJpegJob *job, TmsCanvas *canvas, const TmsCanvasPlace *place, const uint8_t *data,
						  size_t len, const TmsJpegShape *shape)
{
	Drawing drawing = {.canvas = canvas, .place = place, .shape = shape, .data = data, .len = len};

	drawing.width = is_turned(shape->orientation) ? place->height : place->width;
	drawing.height = is_turned(shape->orientation) ? place->width : place->height;
	return tms_jpeg_run(job, draw, &drawing);
}

/* --- encoding --- */

typedef struct Encoding
{
	const TmsCanvas *canvas;
	int quality;
} Encoding;

static void encode(TmsJpegCodec *codec, void *context)
{
	const Encoding *encoding = context;
	const TmsCanvas *canvas = encoding->canvas;
	struct jpeg_compress_struct *out = &codec->out;

	out->image_width = (JDIMENSION) canvas->width;
	out->image_height = (JDIMENSION) canvas->height;
	out->input_components = channels_of(canvas->color);
	out->in_color_space = canvas->color == TMS_CANVAS_GRAY  ? JCS_GRAYSCALE
						  : canvas->color == TMS_CANVAS_YCC ? JCS_YCbCr
															: JCS_RGB;
	jpeg_set_defaults(out);
	jpeg_set_quality(out, encoding->quality, TRUE);
	out->optimize_coding = TRUE;
	jpeg_start_compress(out, TRUE);
	while (out->next_scanline < out->image_height)
	{
		JSAMPROW row =
			canvas->samples + (size_t) out->next_scanline * out->image_width * (size_t) out->input_components;

		jpeg_write_scanlines(out, &row, 1);
	}
	jpeg_finish_compress(out);
}

TmsStatus tms_canvas_encode(TmsJpegJob *job, const TmsCanvas *canvas, int quality)
{
	Encoding encoding = {.canvas = canvas, .quality = quality};

	return tms_jpeg_run(job, encode, &encoding);
}
