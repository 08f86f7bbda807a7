/*
 * Resampling: see jpeg_scale.h.
 *
 * Each axis has, for every place of the target, the same number of taps: a first place of the source and that many weights
 * of 14 bits, whose sum is exactly one. Rows are combined first, straight from the ring of the source's rows, so that only
 * as many rows are resampled across as the target has. In between values have six more bits (and room for the filter's
 * overshoot); color is taken apart, so that the compiler can make vector instructions of every inner loop.
 */
#include "jpeg_scale.h"

#include <math.h>
#include <string.h>

#define LOBES        3.0
#define WEIGHT_BITS  14
#define BETWEEN_BITS 6
#define VECTOR       8 /* taps across are a multiple of it */
#define BLOCK        32 /* samples */

typedef struct Axis
{
	int from, to;
	int taps; /* that are used; at most `from` */
	int stride; /* weights stored for each place: taps, and zeros up to the multiple */
	int *first;
	int16_t *weights;
} Axis;

struct TmsScaler
{
	int channels;
	Axis across, down;
	int pushed, pulled; /* rows */
	uint8_t *ring; /* as many rows of the source as there are taps down; row n at n % taps */
	double *weight; /* of one place, while the axes are filled */
	const uint8_t **rows; /* of the ring, that are combined */
	int16_t *combined; /* a row of the source's width, and room to fill the last block */
	int16_t *between; /* the same for each color, and zeros behind */
	int between_stride;
};

/* sinc(x) sinc(x / 3); sin(3 t) = 3 sin t - 4 sin^3 t spares the second sine. */
static double filter(double x)
{
	double s;

	if (fabs(x) < 1e-9)
		return 1;
	if (fabs(x) >= LOBES)
		return 0;
	s = sin(M_PI * x / LOBES);
	return LOBES * s * s * (3 - 4 * s * s) / (M_PI * M_PI * x * x);
}

static int round_up(int n, int multiple)
{
	return (n + multiple - 1) / multiple * multiple;
}

/* Taps that reach over the filter's width from any center. */
static int count_taps(int from, int to, double extent)
{
	int taps = from == to ? 1 : (int) ceil(2 * LOBES * extent / to) + 1;

	return taps < from ? taps : from;
}

static Axis plan_axis(int from, int to, double extent, int multiple)
{
	Axis axis = {.from = from, .to = to, .taps = count_taps(from, to, extent)};

	axis.stride = round_up(axis.taps, multiple);
	return axis;
}

/* Weights of one place, from weight[], which has room for as many as there are taps: normalized, in fixed point; what
 * rounding leaves goes to the largest. */
static void fill_weights(Axis *axis, int place, double scale, double *weight)
{
	double center = (place + 0.5) * scale, sum = 0;
	int first = (int) floor(center - axis->taps / 2.0 + 0.5), largest = 0, left = 1 << WEIGHT_BITS;
	int16_t *weights = axis->weights + (size_t) place * (size_t) axis->stride;

	first = first + axis->taps > axis->from ? axis->from - axis->taps : first;
	first = first < 0 ? 0 : first;
	axis->first[place] = first;
	for (int i = 0; i < axis->taps; i++)
		sum += weight[i] = axis->taps == 1 ? 1 : filter((first + i + 0.5 - center) / (scale > 1 ? scale : 1));
	memset(weights, 0, sizeof(int16_t) * (size_t) axis->stride);
	for (int i = 0; i < axis->taps; i++)
	{
		weights[i] = (int16_t) lround(weight[i] / sum * (1 << WEIGHT_BITS));
		left -= weights[i];
		if (weights[i] > weights[largest])
			largest = i;
	}
	weights[largest] = (int16_t) (weights[largest] + left);
}

static void fill_axis(Axis *axis, double extent, double *weight)
{
	for (int place = 0; place < axis->to; place++)
		fill_weights(axis, place, axis->from == axis->to ? 1 : extent / axis->to, weight);
}

/* The block's parts, one after the other, each aligned; with memory NULL only their size. */
static size_t lay_out(TmsScaler *scaler, const TmsScaling *scaling, uint8_t *memory)
{
	size_t at = sizeof(TmsScaler), row = (size_t) scaling->from_width * (size_t) scaling->channels;
	struct
	{
		void **part;
		size_t size;
	} parts[] = {
		{(void **) &scaler->across.first, sizeof(int) * (size_t) scaler->across.to},
		{(void **) &scaler->across.weights,
		 sizeof(int16_t) * (size_t) scaler->across.to * (size_t) scaler->across.stride},
		{(void **) &scaler->down.first, sizeof(int) * (size_t) scaler->down.to},
		{(void **) &scaler->down.weights, sizeof(int16_t) * (size_t) scaler->down.to * (size_t) scaler->down.stride},
		{(void **) &scaler->ring, row * (size_t) scaler->down.taps + BLOCK},
		{(void **) &scaler->weight, sizeof(double) * (size_t) (scaler->across.taps + scaler->down.taps)},
		{(void **) &scaler->rows, sizeof(uint8_t *) * (size_t) scaler->down.taps},
		{(void **) &scaler->combined, sizeof(int16_t) * (row + BLOCK)},
		{(void **) &scaler->between, sizeof(int16_t) * (size_t) scaler->between_stride * (size_t) scaling->channels},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
	{
		at = (at + 63) / 64 * 64;
		if (memory != NULL)
			*parts[i].part = memory + at;
		at += parts[i].size;
	}
	return at;
}

static TmsScaler plan_scaler(const TmsScaling *scaling)
{
	TmsScaler scaler = {.channels = scaling->channels};

	scaler.across = plan_axis(scaling->from_width, scaling->to_width, scaling->exact_width, VECTOR);
	scaler.down = plan_axis(scaling->from_height, scaling->to_height, scaling->exact_height, 1);
	scaler.between_stride = round_up(scaling->from_width + scaler.across.stride, VECTOR);
	return scaler;
}

size_t tms_scaler_size(const TmsScaling *scaling)
{
	TmsScaler scaler = plan_scaler(scaling);

	return lay_out(&scaler, scaling, NULL);
}

TmsScaler *tms_scaler_begin(void *memory, const TmsScaling *scaling)
{
	TmsScaler *scaler = memory;

	*scaler = plan_scaler(scaling);
	lay_out(scaler, scaling, memory);
	memset(scaler->between, 0, sizeof(int16_t) * (size_t) scaler->between_stride * (size_t) scaler->channels);
	fill_axis(&scaler->across, scaling->exact_width, scaler->weight);
	fill_axis(&scaler->down, scaling->exact_height, scaler->weight);
	return scaler;
}

static uint8_t *ring_row(const TmsScaler *scaler, int row)
{
	return scaler->ring + (size_t) (row % scaler->down.taps) * (size_t) scaler->across.from * (size_t) scaler->channels;
}

uint8_t *tms_scaler_next(TmsScaler *scaler)
{
	return ring_row(scaler, scaler->pushed);
}

void tms_scaler_push(TmsScaler *scaler)
{
	scaler->pushed++;
}

/* A block of samples of rows, weighted and added; its sums stay in registers. */
static void combine_block(const uint8_t *const *rows, const int16_t *weights, int taps, int x, int16_t *combined)
{
	int32_t sums[BLOCK];

	for (int i = 0; i < BLOCK; i++)
		sums[i] = 1 << (WEIGHT_BITS - BETWEEN_BITS - 1);
	for (int tap = 0; tap < taps; tap++)
	{
		const uint8_t *row = rows[tap] + x;
		int16_t weight = weights[tap];

		for (int i = 0; i < BLOCK; i++)
			sums[i] += (int16_t) row[i] * weight;
	}
	for (int i = 0; i < BLOCK; i++)
		combined[i] = (int16_t) (sums[i] >> (WEIGHT_BITS - BETWEEN_BITS));
}

/* The rows that make up the next one of the target, as one row, color after color in each pixel. */
static void combine_rows(TmsScaler *scaler)
{
	const int16_t *weights = scaler->down.weights + (size_t) scaler->pulled * (size_t) scaler->down.stride;
	int samples = scaler->across.from * scaler->channels, first = scaler->down.first[scaler->pulled];

	for (int tap = 0; tap < scaler->down.taps; tap++)
		scaler->rows[tap] = ring_row(scaler, first + tap);
	for (int x = 0; x < samples; x += BLOCK)
		combine_block(scaler->rows, weights, scaler->down.taps, x, scaler->combined + x);
}

/* The combined row, color by color. */
static void take_apart(TmsScaler *scaler)
{
	int width = scaler->across.from;

	for (int x = 0; scaler->channels == 3 && x < width; x++)
		for (int channel = 0; channel < 3; channel++)
			scaler->between[channel * scaler->between_stride + x] = scaler->combined[3 * x + channel];
	if (scaler->channels == 1)
		memcpy(scaler->between, scaler->combined, sizeof(int16_t) * (size_t) width);
}

static uint8_t clamp(int32_t value)
{
	return (uint8_t) (value < 0 ? 0 : value > 255 ? 255 : value);
}

/* The sum of so many products, a multiple of VECTOR. */
static int32_t dot_product(const int16_t *a, const int16_t *b, int count)
{
	int32_t sum = 0;

	for (int block = 0; block < count; block += VECTOR)
		for (int i = 0; i < VECTOR; i++)
			sum += a[block + i] * b[block + i];
	return sum;
}

static void resample_across(const TmsScaler *scaler, uint8_t *row)
{
	const Axis *axis = &scaler->across;

	for (int channel = 0; channel < scaler->channels; channel++)
	{
		const int16_t *from = scaler->between + (size_t) channel * (size_t) scaler->between_stride;

		for (int x = 0; x < axis->to; x++)
		{
			int32_t sum =
				dot_product(from + axis->first[x], axis->weights + (size_t) x * (size_t) axis->stride, axis->stride);

			sum += 1 << (WEIGHT_BITS + BETWEEN_BITS - 1);
			row[x * scaler->channels + channel] = clamp(sum >> (WEIGHT_BITS + BETWEEN_BITS));
		}
	}
}

bool tms_scaler_pull(TmsScaler *scaler, uint8_t *row)
{
	if (scaler->pulled == scaler->down.to || scaler->pushed < scaler->down.first[scaler->pulled] + scaler->down.taps)
		return false;
	if (scaler->across.from == scaler->across.to && scaler->down.from == scaler->down.to)
		memcpy(row, ring_row(scaler, scaler->pulled), (size_t) scaler->across.to * (size_t) scaler->channels);
	else
	{
		combine_rows(scaler);
		take_apart(scaler);
		resample_across(scaler, row);
	}
	scaler->pulled++;
	return true;
}
