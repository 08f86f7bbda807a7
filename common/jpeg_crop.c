/*
 * Cutting: see jpeg_crop.h.
 *
 * What stands before the box in the file has to be read, for its codes depend on each other; what stands behind it has not. Of a
 * file with one scan the coefficients of the box's last row of blocks end the reading (codec->rows_wanted), and exact cutting
 * computes the pixels of the wanted rows and columns alone. A progressive file is read in full.
 */
#include "jpeg_crop.h"

#include <string.h>

#include "jpeg_codec.h"
#include "jpeg_exif.h"

#define BLOCK        DCTSIZE
#define SKIP_AT_ONCE 256 /* rows: as many as pass unseen by stop() */
#define EDGE         2 /* pixels beyond an edge that smooth color reaches for */

typedef struct Cutting
{
	const uint8_t *data;
	size_t len;
	TmsJpegBox box;
	bool exact;
} Cutting;

/* One dimension of the box, without what lies outside. */
static bool clip(int *from, int *size, JDIMENSION limit)
{
	int64_t to = (int64_t) *from + *size;

	*from = *from < 0 ? 0 : *from;
	to = to > (int64_t) limit ? (int64_t) limit : to;
	if (to <= *from)
		return false;
	*size = (int) (to - *from);
	return true;
}

/* One dimension of the box, widened to a grid that begins at 0 and ends at the limit. */
static void widen(int *from, int *size, int grid, JDIMENSION limit)
{
	int64_t to = ((int64_t) *from + *size + grid - 1) / grid * grid;

	*from -= *from % grid;
	to = to > (int64_t) limit ? (int64_t) limit : to;
	*size = (int) (to - *from);
}

/* Blocks of a component in one MCU. A component that is alone in its scan has MCUs of one block, whatever its factors. */
static int blocks_across(const TmsJpegCodec *codec, int component)
{
	return codec->in.num_components == 1 ? 1 : codec->in.comp_info[component].h_samp_factor;
}

static int blocks_down(const TmsJpegCodec *codec, int component)
{
	return codec->in.num_components == 1 ? 1 : codec->in.comp_info[component].v_samp_factor;
}

static int largest(const TmsJpegCodec *codec, int (*blocks)(const TmsJpegCodec *, int))
{
	int most = 1;

	for (int i = 0; i < codec->in.num_components; i++)
		most = blocks(codec, i) > most ? blocks(codec, i) : most;
	return most;
}

/* A table with a zero can be decoded with, but the encoder divides by it. */
static void check_tables(TmsJpegCodec *codec)
{
	for (int table = 0; table < NUM_QUANT_TBLS; table++)
		for (int i = 0; codec->in.quant_tbl_ptrs[table] != NULL && i < DCTSIZE2; i++)
			if (codec->in.quant_tbl_ptrs[table]->quantval[i] == 0)
				tms_jpeg_fail(codec, TMS_DAMAGED, "quantization table %d has a zero", table);
}

/* Sets up the output like the input, of the box's size. */
static void copy_parameters(TmsJpegCodec *codec, const TmsJpegBox *box)
{
	jpeg_copy_critical_parameters(&codec->in, &codec->out);
	codec->out.image_width = (JDIMENSION) box->width;
	codec->out.image_height = (JDIMENSION) box->height;
	if (codec->in.num_components == 1)
		codec->out.comp_info[0].h_samp_factor = codec->out.comp_info[0].v_samp_factor = 1;
	codec->out.optimize_coding = TRUE;
}

static void write_orientation(TmsJpegCodec *codec)
{
	int orientation = tms_jpeg_orientation(codec);
	uint8_t exif[TMS_EXIF_ORIENTATION_SIZE];

	if (orientation == 1)
		return;
	tms_exif_write_orientation(orientation, exif);
	jpeg_write_marker(&codec->out, JPEG_APP0 + 1, exif, sizeof(exif));
}

/* --- lossless --- */

/* The output's coefficients: as many blocks as its MCUs have. */
static jvirt_barray_ptr *request_blocks(TmsJpegCodec *codec, JDIMENSION mcus_across, JDIMENSION mcus_down)
{
	j_common_ptr out = (j_common_ptr) &codec->out;
	jvirt_barray_ptr *arrays = out->mem->alloc_small(out, JPOOL_IMAGE, sizeof(jvirt_barray_ptr) * MAX_COMPONENTS);

	for (int i = 0; i < codec->in.num_components; i++)
		arrays[i] = out->mem->request_virt_barray(
			out, JPOOL_IMAGE, FALSE, mcus_across * (JDIMENSION) blocks_across(codec, i),
			mcus_down * (JDIMENSION) blocks_down(codec, i), (JDIMENSION) blocks_down(codec, i));
	return arrays;
}

/* Copies the blocks of one component, MCU row by MCU row, from where the box begins. */
static void copy_blocks(TmsJpegCodec *codec, int component, jvirt_barray_ptr from, jvirt_barray_ptr to,
						JDIMENSION first_across, JDIMENSION first_down, JDIMENSION mcus_across, JDIMENSION mcus_down)
{
	j_common_ptr in = (j_common_ptr) &codec->in, out = (j_common_ptr) &codec->out;
	JDIMENSION across = (JDIMENSION) blocks_across(codec, component), down = (JDIMENSION) blocks_down(codec, component);

	for (JDIMENSION mcu = 0; mcu < mcus_down; mcu++)
	{
		JBLOCKARRAY source = in->mem->access_virt_barray(in, from, (first_down + mcu) * down, down, FALSE);
		JBLOCKARRAY target = out->mem->access_virt_barray(out, to, mcu * down, down, TRUE);

		for (JDIMENSION row = 0; row < down; row++)
			memcpy(target[row], source[row] + first_across * across, sizeof(JBLOCK) * mcus_across * across);
	}
}

static void cut_blocks(TmsJpegCodec *codec, TmsJpegBox *box)
{
	int grid_across = BLOCK * largest(codec, blocks_across), grid_down = BLOCK * largest(codec, blocks_down);
	jvirt_barray_ptr *from, *to;
	JDIMENSION mcus_across, mcus_down;

	widen(&box->x, &box->width, grid_across, codec->in.image_width);
	widen(&box->y, &box->height, grid_down, codec->in.image_height);
	mcus_across = (JDIMENSION) ((box->width + grid_across - 1) / grid_across);
	mcus_down = (JDIMENSION) ((box->height + grid_down - 1) / grid_down);
	codec->rows_wanted =
		(box->y + box->height + codec->in.max_v_samp_factor * BLOCK - 1) / (codec->in.max_v_samp_factor * BLOCK);
	from = jpeg_read_coefficients(&codec->in);
	copy_parameters(codec, box);
	to = request_blocks(codec, mcus_across, mcus_down);
	jpeg_write_coefficients(&codec->out, to);
	write_orientation(codec);
	for (int i = 0; i < codec->in.num_components; i++)
		copy_blocks(codec, i, from[i], to[i], (JDIMENSION) (box->x / grid_across), (JDIMENSION) (box->y / grid_down),
					mcus_across, mcus_down);
	jpeg_finish_compress(&codec->out);
}

/* --- exact --- */

static void cut_pixels(TmsJpegCodec *codec, const TmsJpegBox *box)
{
	struct jpeg_decompress_struct *in = &codec->in;
	JDIMENSION x = (JDIMENSION) (box->x > EDGE ? box->x - EDGE : 0), end = (JDIMENSION) (box->x + box->width + EDGE);
	JDIMENSION width = (end < in->image_width ? end : in->image_width) - x;
	JSAMPROW row, cut;

	check_tables(codec);
	in->out_color_space = in->jpeg_color_space;
	/* It would look at rows that are skipped. */
	in->do_block_smoothing = FALSE;
	copy_parameters(codec, box);
	jpeg_start_decompress(in);
	jpeg_crop_scanline(in, &x, &width);
	row = tms_jpeg_alloc(codec, (size_t) in->output_width * (size_t) in->output_components);
	cut = row + (size_t) (box->x - (int) x) * (size_t) in->output_components;
	jpeg_start_compress(&codec->out, TRUE);
	write_orientation(codec);
	while ((int) in->output_scanline < box->y)
	{
		int left = box->y - (int) in->output_scanline;

		in->progress->progress_monitor((j_common_ptr) in);
		jpeg_skip_scanlines(in, (JDIMENSION) (left < SKIP_AT_ONCE ? left : SKIP_AT_ONCE));
	}
	while (codec->out.next_scanline < codec->out.image_height)
	{
		jpeg_read_scanlines(in, &row, 1);
		jpeg_write_scanlines(&codec->out, &cut, 1);
	}
	jpeg_finish_compress(&codec->out);
}

static void cut(TmsJpegCodec *codec, void *context)
{
	Cutting *cutting = context;
	TmsJpegBox *box = &cutting->box;

	tms_jpeg_begin(codec, cutting->data, cutting->len);
	if (!clip(&box->x, &box->width, codec->in.image_width) || !clip(&box->y, &box->height, codec->in.image_height))
		tms_jpeg_fail(codec, TMS_INVALID, "nothing of its %u x %u pixels is in the box", codec->in.image_width,
					  codec->in.image_height);
	if (cutting->exact)
		cut_pixels(codec, box);
	else
		cut_blocks(codec, box);
}

TmsStatus tms_jpeg_crop(TmsJpegJob *job, const uint8_t *data, size_t len, const TmsJpegBox *box, bool exact)
{
	Cutting cutting = {.data = data, .len = len, .box = *box, .exact = exact};

	return tms_jpeg_run(job, cut, &cutting);
}
