/*
 * libjpeg behind one door, for the files of common/jpeg* that decode or encode; nobody else includes this header.
 *
 * Work is a function that gets a codec. Whatever goes wrong in it, in libjpeg or by tms_jpeg_fail, ends it by a jump back into
 * tms_jpeg_run, which then frees what libjpeg took; so memory that the work needs comes from tms_jpeg_alloc. Nothing jumps out
 * of tms_jpeg_run, and no work calls anything of PostgreSQL's or the agent's but stop().
 */
#ifndef TMS_JPEG_CODEC_H
#define TMS_JPEG_CODEC_H

#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include "jpeg_job.h"

typedef struct TmsJpegCodec
{
	struct jpeg_decompress_struct in;
	struct jpeg_compress_struct out;
	struct jpeg_error_mgr errors; /* of both */
	struct jpeg_progress_mgr progress; /* of both; libjpeg calls it at every row, it asks stop() */
	struct jpeg_destination_mgr destination;
	TmsJpegJob *job;
	TmsStatus status;
	int rows_wanted; /* read no iMCU rows from this one on; 0: all */
	bool enough; /* they have been read: what libjpeg says of an early end is our doing */
	uint8_t *written; /* the output buffer, malloc'd */
	size_t written_size;
	jmp_buf failed;
} TmsJpegCodec;

typedef void TmsJpegWork(TmsJpegCodec *codec, void *context);

/* Runs the work. What it has written to codec->out becomes the job's result. */
extern TmsStatus tms_jpeg_run(TmsJpegJob *job, TmsJpegWork *work, void *context);

/* Ends the work with a reason. */
extern void tms_jpeg_fail(TmsJpegCodec *codec, TmsStatus status, const char *format, ...)
	__attribute__((format(printf, 3, 4), noreturn));

/* Memory until the end of the work; never NULL. */
extern void *tms_jpeg_alloc(TmsJpegCodec *codec, size_t size);

/* Reads the header of a JPEG in memory into codec->in; what is not decoded, or has too many pixels, fails. */
extern void tms_jpeg_begin(TmsJpegCodec *codec, const uint8_t *data, size_t len);

/* The orientation that its EXIF tells, 1 when there is none; after tms_jpeg_begin. */
extern int tms_jpeg_orientation(TmsJpegCodec *codec);

#endif
