/*
 * Resampling: rows of one size go in, rows of a smaller size come out, with a Lanczos filter of three lobes in fixed point.
 *
 * Memory is a few rows, however large the image. The scaler lives in one block that the caller provides, and cannot fail.
 */
#ifndef TMS_JPEG_SCALE_H
#define TMS_JPEG_SCALE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct TmsScaler TmsScaler;

typedef struct TmsScaling
{
	int channels; /* samples a pixel, 1 or 3 */
	int from_width, from_height; /* pixels; at least those of the target */
	int to_width, to_height;
	double exact_width,
		exact_height; /* the source's extent when its last column or row is a fraction; at most from_... */
} TmsScaling;

/* Bytes that a scaler takes. */
extern size_t tms_scaler_size(const TmsScaling *scaling);

/* Sets a scaler up in memory of that size, aligned as malloc does. */
extern TmsScaler *tms_scaler_begin(void *memory, const TmsScaling *scaling);

/* Where the next row of the source goes: from_width * channels samples. */
extern uint8_t *tms_scaler_next(TmsScaler *scaler);

/* The row is there. */
extern void tms_scaler_push(TmsScaler *scaler);

/* Writes the next row of the target, to_width * channels samples, if all it needs was pushed; else false. */
extern bool tms_scaler_pull(TmsScaler *scaler, uint8_t *row);

#endif
