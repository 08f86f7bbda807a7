/*
 * A JPEG's markers, walked by hand.
 *
 * A file is SOI, segments (FF, code, two bytes of length, content), and after each SOS segment entropy-coded data, in which
 * FF 00 is a stuffed byte and FF D0 to FF D7 are restart markers; any other marker ends the data. Any number of FF may
 * stand before a code as filling. Where the walk meets something else, what came before decides: with a frame header it is
 * a JPEG with a damaged tail, without one it is none.
 */
#include "jpeg.h"

#include <string.h>

typedef enum Marker
{
	MARKER_STUFFED = 0x00, /* FF 00: a data byte FF, no marker */
	MARKER_TEM = 0x01,
	MARKER_SOF0 = 0xC0, /* SOF0 .. SOF15 but for DHT, JPG and DAC: frame headers */
	MARKER_DHT = 0xC4,
	MARKER_JPG = 0xC8,
	MARKER_DAC = 0xCC,
	MARKER_SOF15 = 0xCF,
	MARKER_RST0 = 0xD0,
	MARKER_RST7 = 0xD7,
	MARKER_SOI = 0xD8,
	MARKER_EOI = 0xD9,
	MARKER_SOS = 0xDA,
	MARKER_NONE = -1, /* the data ends, or no marker stands here */
} Marker;

typedef struct Walk
{
	const uint8_t *at;
	const uint8_t *end;
	TmsJpegInfo info; /* the frame header's values once it was met */
	bool has_scan;
	TmsJpegVisitor *visit; /* NULL: nobody looks at the segments */
	void *context;
} Walk;

static int read16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static bool is_frame_header(int marker)
{
	return marker >= MARKER_SOF0 && marker <= MARKER_SOF15 && marker != MARKER_DHT && marker != MARKER_JPG &&
		   marker != MARKER_DAC;
}

/* Huffman and arithmetic, plain and differential, come in fours: sequential, extended, progressive, lossless. */
static bool is_progressive(int marker)
{
	return marker % 4 == 2;
}

/* Takes the marker at this place and the filling before it. */
static int take_marker(Walk *walk)
{
	if (walk->at == walk->end || *walk->at != 0xFF)
		return MARKER_NONE;
	while (walk->at < walk->end && *walk->at == 0xFF)
		walk->at++;
	return walk->at == walk->end ? MARKER_NONE : *walk->at++;
}

/* Takes a segment; its content and the content's length. False when its length is absurd or the data ends within it. */
static bool take_segment(Walk *walk, int marker, const uint8_t **content, size_t *len)
{
	size_t left = (size_t) (walk->end - walk->at);

	if (left < 2 || read16(walk->at) < 2 || (size_t) read16(walk->at) > left)
		return false;
	*content = walk->at + 2;
	*len = (size_t) read16(walk->at) - 2;
	walk->at = *content + *len;
	if (walk->visit)
		walk->visit(walk->context, marker, *content, *len);
	return true;
}

/* Takes the one frame header: bits, height, width, number of components, and three bytes for each of them. */
static bool take_frame_header(Walk *walk, int marker)
{
	const uint8_t *content;
	size_t len;

	if (walk->info.components > 0 || !take_segment(walk, marker, &content, &len))
		return false;
	if (len < 6 || content[5] == 0 || len != 6 + 3 * (size_t) content[5])
		return false;
	if (content[0] == 0 || read16(content + 1) == 0 || read16(content + 3) == 0)
		return false;
	walk->info.bits = content[0];
	walk->info.height = read16(content + 1);
	walk->info.width = read16(content + 3);
	walk->info.components = content[5];
	walk->info.progressive = is_progressive(marker);
	for (int i = 0; i < content[5] && i < TMS_JPEG_COMPONENTS_MAX; i++)
		walk->info.sampling[i] = content[7 + 3 * i];
	walk->info.first_table = content[8];
	return true;
}

/* Takes entropy-coded data; the walk then stands on the FF of the marker that ended it. False when the data ends first. */
static bool take_entropy_coded(Walk *walk)
{
	while ((walk->at = memchr(walk->at, 0xFF, (size_t) (walk->end - walk->at))) != NULL)
	{
		if (walk->end - walk->at < 2)
			return false;
		if (walk->at[1] == 0xFF)
			walk->at++;
		else if (walk->at[1] == MARKER_STUFFED || (walk->at[1] >= MARKER_RST0 && walk->at[1] <= MARKER_RST7))
			walk->at += 2;
		else
			return true;
	}
	return false;
}

/* Takes a scan: the header names one to four components, and the data that follows it belongs to it. */
static bool take_scan(Walk *walk)
{
	const uint8_t *content;
	size_t len;

	if (walk->info.components == 0 || !take_segment(walk, MARKER_SOS, &content, &len))
		return false;
	if (len < 1 || content[0] < 1 || content[0] > 4 || len != 4 + 2 * (size_t) content[0])
		return false;
	walk->has_scan = true;
	return take_entropy_coded(walk);
}

/* Takes everything after SOI. True when it ended with EOI after a frame and a scan. */
static bool take_image(Walk *walk)
{
	for (;;)
	{
		int marker = take_marker(walk);
		const uint8_t *content;
		size_t len;
		bool taken;

		if (marker == MARKER_EOI)
			return walk->has_scan;
		if (marker == MARKER_SOS)
			taken = take_scan(walk);
		else if (is_frame_header(marker))
			taken = take_frame_header(walk, marker);
		else if (marker == MARKER_TEM)
			taken = true;
		else if (marker < MARKER_SOF0 || (marker >= MARKER_RST0 && marker <= MARKER_SOI))
			taken = false;
		else
			taken = take_segment(walk, marker, &content, &len);
		if (!taken)
			return false;
	}
}

TmsJpegInfo tms_jpeg_walk(const uint8_t *data, size_t len, TmsJpegVisitor *visit, void *context)
{
	Walk walk = {.at = data, .info = {.state = TMS_JPEG_NOT}, .visit = visit, .context = context};

	if (len < 2 || data[0] != 0xFF || data[1] != MARKER_SOI)
		return walk.info;
	walk.at = data + 2;
	walk.end = data + len;
	if (take_image(&walk))
		walk.info.state = TMS_JPEG_COMPLETE;
	else if (walk.info.components > 0)
		walk.info.state = TMS_JPEG_TRUNCATED;
	return walk.info;
}

TmsJpegInfo tms_jpeg_check(const uint8_t *data, size_t len)
{
	return tms_jpeg_walk(data, len, NULL, NULL);
}

const char *tms_jpeg_state_name(TmsJpegState state)
{
	static const char *const names[] = {
		[TMS_JPEG_COMPLETE] = "complete",
		[TMS_JPEG_TRUNCATED] = "truncated",
		[TMS_JPEG_NOT] = "not a JPEG",
	};

	return names[state];
}
