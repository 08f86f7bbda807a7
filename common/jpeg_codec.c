/*
 * libjpeg's hooks: errors, progress, output; see jpeg_codec.h.
 */
#include "jpeg_codec.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <jerror.h>

#include "jpeg.h"
#include "jpeg_exif.h"

/* Coefficients of all components take at most 8 bytes a pixel; blocks at the edges, tables and rows come on top. */
#define BYTES_PER_PIXEL 8
#define BYTES_BESIDES   (64 << 20)

#define WRITE_FIRST 16384

void tms_jpeg_fail(TmsJpegCodec *codec, TmsStatus status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(codec->job->error, TMS_JPEG_TEXT_SIZE, format, arguments);
	va_end(arguments);
	codec->status = status;
	longjmp(codec->failed, 1);
}

static TmsStatus status_of_error(int code)
{
	switch (code)
	{
		case JERR_OUT_OF_MEMORY:
		case JERR_NO_BACKING_STORE:
			return TMS_MEMORY;
		case JERR_IMAGE_TOO_BIG:
			return TMS_TOO_LARGE;
		case JERR_BAD_PRECISION:
		case JERR_SOF_UNSUPPORTED:
		case JERR_CONVERSION_NOTIMPL:
		case JERR_CCIR601_NOTIMPL:
		case JERR_FRACT_SAMPLE_NOTIMPL:
		case JERR_COMPONENT_COUNT:
			return TMS_UNSUPPORTED;
		default:
			return TMS_DAMAGED;
	}
}

/* libjpeg's error_exit: never returns. */
static void on_error(j_common_ptr cinfo)
{
	TmsJpegCodec *codec = cinfo->client_data;
	char text[JMSG_LENGTH_MAX];

	codec->errors.format_message(cinfo, text);
	tms_jpeg_fail(codec, status_of_error(codec->errors.msg_code), "%s", text);
}

/* Is it a warning that says nothing of the pixels? */
static bool is_harmless(int code)
{
	return code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM ||
		   code == JWRN_TOO_MUCH_DATA;
}

/* libjpeg's emit_message; level -1 is a warning, others are traces. The first warning is kept. */
static void on_message(j_common_ptr cinfo, int level)
{
	TmsJpegCodec *codec = cinfo->client_data;
	char text[JMSG_LENGTH_MAX];

	if (level >= 0 || codec->enough || codec->job->damage[0] != '\0' || is_harmless(codec->errors.msg_code))
		return;
	codec->errors.format_message(cinfo, text);
	snprintf(codec->job->damage, TMS_JPEG_TEXT_SIZE, "%s", text);
}

/* Once the wanted rows of the only scan are read the source has nothing more: the rest becomes gray, unread. */
static void read_no_further(TmsJpegCodec *codec)
{
	struct jpeg_decompress_struct *in = &codec->in;

	if (codec->rows_wanted == 0 || codec->enough || jpeg_has_multiple_scans(in) || in->input_scan_number != 1 ||
		(int) in->input_iMCU_row < codec->rows_wanted)
		return;
	codec->enough = true;
	in->src->bytes_in_buffer = 0;
}

/* libjpeg's progress_monitor, called at every row of pixels or of iMCUs, in every scan. */
static void on_progress(j_common_ptr cinfo)
{
	TmsJpegCodec *codec = cinfo->client_data;

	if (codec->job->stop != NULL && codec->job->stop())
	{
		codec->status = TMS_STOPPED;
		longjmp(codec->failed, 1);
	}
	if (!cinfo->is_decompressor)
		return;
	read_no_further(codec);
	if (codec->in.input_scan_number > TMS_JPEG_SCANS_MAX)
		tms_jpeg_fail(codec, TMS_DAMAGED, "more than %d scans", TMS_JPEG_SCANS_MAX);
}

/* --- output: a buffer that doubles --- */

static boolean write_more(j_compress_ptr cinfo)
{
	TmsJpegCodec *codec = cinfo->client_data;
	size_t size = codec->written_size == 0 ? WRITE_FIRST : codec->written_size * 2;
	uint8_t *larger = realloc(codec->written, size);

	if (larger == NULL)
		tms_jpeg_fail(codec, TMS_MEMORY, "out of memory");
	codec->destination.next_output_byte = larger + codec->written_size;
	codec->destination.free_in_buffer = size - codec->written_size;
	codec->written = larger;
	codec->written_size = size;
	return TRUE;
}

/* libjpeg writes a byte before it asks for room. */
static void write_begin(j_compress_ptr cinfo)
{
	write_more(cinfo);
}

static void write_end(j_compress_ptr cinfo)
{
	TmsJpegCodec *codec = cinfo->client_data;

	codec->job->result = codec->written;
	codec->job->result_len = codec->written_size - codec->destination.free_in_buffer;
	codec->written = NULL;
}

/* --- work --- */

static void set_up(TmsJpegCodec *codec)
{
	jpeg_std_error(&codec->errors);
	codec->errors.error_exit = on_error;
	codec->errors.emit_message = on_message;
	codec->in.err = codec->out.err = &codec->errors;
	codec->in.client_data = codec->out.client_data = codec;
	jpeg_create_decompress(&codec->in);
	jpeg_create_compress(&codec->out);
	codec->in.mem->max_memory_to_use = (long) (codec->job->max_pixels * BYTES_PER_PIXEL + BYTES_BESIDES);
	codec->out.mem->max_memory_to_use = codec->in.mem->max_memory_to_use;
	codec->progress.progress_monitor = on_progress;
	codec->in.progress = codec->out.progress = &codec->progress;
	codec->destination.init_destination = write_begin;
	codec->destination.empty_output_buffer = write_more;
	codec->destination.term_destination = write_end;
	codec->out.dest = &codec->destination;
}

TmsStatus tms_jpeg_run(TmsJpegJob *job, TmsJpegWork *work, void *context)
{
	TmsJpegCodec *codec = calloc(1, sizeof(TmsJpegCodec));
	TmsStatus status;

	if (codec == NULL)
	{
		snprintf(job->error, TMS_JPEG_TEXT_SIZE, "out of memory");
		return TMS_MEMORY;
	}
	codec->job = job;
	if (setjmp(codec->failed) == 0)
	{
		set_up(codec);
		work(codec, context);
	}
	jpeg_destroy_decompress(&codec->in);
	jpeg_destroy_compress(&codec->out);
	status = codec->status;
	free(codec->written);
	free(codec);
	return status;
}

void *tms_jpeg_alloc(TmsJpegCodec *codec, size_t size)
{
	return codec->in.mem->alloc_large((j_common_ptr) &codec->in, JPOOL_PERMANENT, size);
}

void tms_jpeg_begin(TmsJpegCodec *codec, const uint8_t *data, size_t len)
{
	int64_t pixels;

	if (len < 2 || data[0] != 0xFF || data[1] != 0xD8)
		tms_jpeg_fail(codec, TMS_DAMAGED, "not a JPEG: it does not begin with FF D8");
	jpeg_mem_src(&codec->in, data, len);
	jpeg_save_markers(&codec->in, JPEG_APP0 + 1, 65535);
	jpeg_read_header(&codec->in, TRUE);
	/* Newer libraries take more bits, but in functions of their own. */
	if (codec->in.data_precision != BITS_IN_JSAMPLE)
		tms_jpeg_fail(codec, TMS_UNSUPPORTED, "Unsupported JPEG data precision %d", codec->in.data_precision);
	pixels = (int64_t) codec->in.image_width * codec->in.image_height;
	if (pixels > codec->job->max_pixels)
		tms_jpeg_fail(codec, TMS_TOO_LARGE, "%u x %u pixels, more than %lld", codec->in.image_width,
					  codec->in.image_height, (long long) codec->job->max_pixels);
}

int tms_jpeg_orientation(TmsJpegCodec *codec)
{
	TmsExif exif;

	for (jpeg_saved_marker_ptr marker = codec->in.marker_list; marker != NULL; marker = marker->next)
		if (tms_exif_read(marker->data, marker->data_length, &exif))
			return exif.orientation != 0 ? exif.orientation : 1;
	return 1;
}
