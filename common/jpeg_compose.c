/*
 * Sheets: see jpeg_compose.h.
 */
#include "jpeg_compose.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "jpeg_canvas.h"

#define GAP 4 /* pixels between places */

typedef struct Sheet
{
	int columns, rows;
	int place_width, place_height;
} Sheet;

/* Sizes of all photographs, and of the largest. */
static TmsStatus measure_parts(TmsJpegJob *job, const TmsJpegPart *parts, int count, TmsJpegShape *shapes, Sheet *sheet,
							   int *failed)
{
	for (int i = 0; i < count; i++)
	{
		TmsStatus status;

		if (parts[i].data == NULL)
			continue;
		*failed = i;
		status = tms_jpeg_measure(job, parts[i].data, parts[i].len, &shapes[i]);
		if (status != TMS_OK)
			return status;
		sheet->place_width = shapes[i].width > sheet->place_width ? shapes[i].width : sheet->place_width;
		sheet->place_height = shapes[i].height > sheet->place_height ? shapes[i].height : sheet->place_height;
	}
	*failed = -1;
	return TMS_OK;
}

/* Makes the places smaller until the sheet is within max_side. */
static void shrink_places(Sheet *sheet, int max_side)
{
	double across = (max_side - GAP * (sheet->columns - 1.0)) / ((double) sheet->columns * sheet->place_width);
	double down = (max_side - GAP * (sheet->rows - 1.0)) / ((double) sheet->rows * sheet->place_height);
	double factor = fmin(1, fmin(across, down));

	sheet->place_width = (int) fmax(1, floor(sheet->place_width * factor));
	sheet->place_height = (int) fmax(1, floor(sheet->place_height * factor));
}

static TmsStatus draw_parts(TmsJpegJob *job, const TmsJpegPart *parts, int count, const TmsJpegShape *shapes,
							const Sheet *sheet, TmsCanvas *canvas, int *failed)
{
	for (int i = 0; i < count; i++)
	{
		TmsCanvasPlace place;
		TmsStatus status;

		if (parts[i].data == NULL)
			continue;
		*failed = i;
		tms_jpeg_fit(&shapes[i], sheet->place_width, sheet->place_height, &place);
		place.x = i % sheet->columns * (sheet->place_width + GAP) + (sheet->place_width - place.width) / 2;
		place.y = i / sheet->columns * (sheet->place_height + GAP) + (sheet->place_height - place.height) / 2;
		status = tms_canvas_draw(job, canvas, &place, parts[i].data, parts[i].len, &shapes[i]);
		if (status != TMS_OK)
			return status;
	}
	*failed = -1;
	return TMS_OK;
}

TmsStatus tms_jpeg_compose(TmsJpegJob *job, const TmsJpegPart *parts, int count, int columns, int max_side, int quality,
						   int *failed)
{
	Sheet sheet = {.columns = columns < count ? columns : count};
	TmsJpegShape *shapes = calloc((size_t) count, sizeof(TmsJpegShape));
	TmsCanvas canvas = {0};
	TmsStatus status;

	*failed = -1;
	sheet.rows = (count + sheet.columns - 1) / sheet.columns;
	if (shapes == NULL)
	{
		snprintf(job->error, TMS_JPEG_TEXT_SIZE, "out of memory");
		return TMS_MEMORY;
	}
	status = measure_parts(job, parts, count, shapes, &sheet, failed);
	if (status == TMS_OK)
	{
		double across, down;

		shrink_places(&sheet, max_side);
		across = sheet.columns * (sheet.place_width + (double) GAP) - GAP;
		down = sheet.rows * (sheet.place_height + (double) GAP) - GAP;
		status =
			tms_canvas_create(job, TMS_CANVAS_RGB, (int) fmin(across, INT32_MAX), (int) fmin(down, INT32_MAX), &canvas);
	}
	if (status == TMS_OK)
		status = draw_parts(job, parts, count, shapes, &sheet, &canvas, failed);
	if (status == TMS_OK)
		status = tms_canvas_encode(job, &canvas, quality);
	free(canvas.samples);
	free(shapes);
	return status;
}
