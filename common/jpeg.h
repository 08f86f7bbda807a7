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

#define TMS_JPEG_COMPONENTS_MAX 4 /* more can be announced, but no scan holds them */

typedef struct TmsJpegInfo
{
	TmsJpegState state;
	int width; /* pixels; 0 when there is no frame header */
	int height;
	int components;
	int bits; /* per sample */
	bool progressive;
	uint8_t sampling[TMS_JPEG_COMPONENTS_MAX]; /* of each component: horizontal factor << 4 | vertical factor */
	uint8_t first_table; /* number of the first component's quantization table */
} TmsJpegInfo;

/* Second bytes of markers that visitors look for. */
#define TMS_JPEG_DQT  0xDB
#define TMS_JPEG_APP1 0xE1

/* Sees a segment: its marker's second byte, and its content without the two bytes of length. */
typedef void TmsJpegVisitor(void *context, int marker, const uint8_t *content, size_t len);

/*
 * Walks the markers of a JPEG in memory. Never fails, never reads outside data[0 .. len-1]; embedded thumbnails are
 * skipped with the segment they are in.
 */
extern TmsJpegInfo tms_jpeg_check(const uint8_t *data, size_t len);

/* The same, and shows every segment on the way to the visitor (which may be NULL). */
extern TmsJpegInfo tms_jpeg_walk(const uint8_t *data, size_t len, TmsJpegVisitor *visit, void *context);

/* Name of a state: "complete", "truncated" or "not a JPEG"; static memory. */
extern const char *tms_jpeg_state_name(TmsJpegState state);

#endif
