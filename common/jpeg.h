/*
 * What a JPEG file is, told from its markers alone: nothing is decoded.
 */
#ifndef TMS_JPEG_H
#define TMS_JPEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum TmsJpegState
{
	TMS_JPEG_COMPLETE, /* markers from SOI to EOI, with a frame and a scan; bytes after EOI are allowed */
	TMS_JPEG_TRUNCATED, /* starts like a JPEG, but ends before EOI: a damaged tail */
	TMS_JPEG_NOT, /* not a JPEG, or broken before its frame header */
} TmsJpegState;

typedef struct TmsJpegInfo
{
	TmsJpegState state;
	int width; /* pixels; 0 when there is no frame header */
	int height;
	int components;
	int bits; /* per sample */
	bool progressive;
} TmsJpegInfo;

/*
 * Walks the markers of a JPEG in memory. Never fails, never reads outside data[0 .. len-1]; embedded thumbnails are
 * skipped with the segment they are in.
 */
extern TmsJpegInfo tms_jpeg_check(const uint8_t *data, size_t len);

/* Name of a state: "complete", "truncated" or "not a JPEG"; static memory. */
extern const char *tms_jpeg_state_name(TmsJpegState state);

#endif
