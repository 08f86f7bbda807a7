/*
 * EXIF, as far as we need it: see jpeg_exif.h.
 *
 * After "Exif\0\0" stands a TIFF file: byte order, 42, offset of the first directory. A directory is a number of entries and
 * that many entries of 12 bytes: tag, type, count, and the value or, when it has more than four bytes, its offset. Offsets
 * count from the byte order on. Two directories are read, each once, so that no chain of offsets can lead in circles.
 */
#include "jpeg_exif.h"

#include <stdio.h>
#include <string.h>

#define TAG_MAKE          0x010F
#define TAG_MODEL         0x0110
#define TAG_ORIENTATION   0x0112
#define TAG_DATE_TIME     0x0132
#define TAG_EXIF          0x8769 /* offset of the second directory */
#define TAG_DATE_ORIGINAL 0x9003

#define TYPE_ASCII 2
#define TYPE_SHORT 3
#define TYPE_LONG  4

static const uint8_t exif_head[6] = {'E', 'x', 'i', 'f', 0, 0};

typedef struct Tiff
{
	const uint8_t *data;
	size_t len;
	bool little; /* byte order */
	size_t exif_at; /* offset of the second directory; 0: none */
	bool has_original; /* the time is that of the exposure, better than that of the file's last change */
	TmsExif *exif;
} Tiff;

/* The number of so many bytes at a place; 0 outside of the data. */
static uint32_t number(const Tiff *tiff, size_t at, int bytes)
{
	uint32_t value = 0;

	if (at > tiff->len || tiff->len - at < (size_t) bytes)
		return 0;
	for (int i = 0; i < bytes; i++)
		value = value << 8 | tiff->data[at + (size_t) (tiff->little ? bytes - 1 - i : i)];
	return value;
}

/* The text of the entry at a place; its length, 0 when it is none or lies outside. */
static size_t text_of(const Tiff *tiff, size_t entry, const char **text)
{
	size_t count = number(tiff, entry + 4, 4);
	size_t at = count > 4 ? number(tiff, entry + 8, 4) : entry + 8;

	if (number(tiff, entry + 2, 2) != TYPE_ASCII || at > tiff->len || tiff->len - at < count)
		return 0;
	*text = (const char *) tiff->data + at;
	return strnlen(*text, count);
}

static void read_text(const Tiff *tiff, size_t entry, char out[TMS_EXIF_TEXT_MAX + 1])
{
	const char *text = NULL;
	size_t len = text_of(tiff, entry, &text);

	while (len > 0 && text[len - 1] == ' ')
		len--;
	while (len > 0 && *text == ' ')
	{
		text++;
		len--;
	}
	if (len > TMS_EXIF_TEXT_MAX)
		len = TMS_EXIF_TEXT_MAX;
	for (size_t i = 0; i < len; i++)
		out[i] = text[i];
	for (size_t i = 0; i < len; i++)
		if (out[i] < ' ' || out[i] > '~')
			out[i] = '?';
	out[len] = '\0';
}

/* "YYYY:MM:DD HH:MM:SS"; a camera that does not know the time writes zeros or spaces. */
static bool read_time(const Tiff *tiff, size_t entry)
{
	static const int month_days[12] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	static const char form[] = "dddd:dd:dd dd:dd:dd";
	TmsExif *exif = tiff->exif;
	const char *text = NULL;
	int part[6] = {0}, at = 0;

	if (text_of(tiff, entry, &text) != sizeof(form) - 1)
		return false;
	for (size_t i = 0; i < sizeof(form) - 1; i++)
	{
		if (form[i] != 'd' && text[i] == form[i])
			at++;
		else if (form[i] == 'd' && text[i] >= '0' && text[i] <= '9')
			part[at] = part[at] * 10 + text[i] - '0';
		else
			return false;
	}
	if (part[0] < 1 || part[1] < 1 || part[1] > 12 || part[2] < 1 || part[2] > month_days[part[1] - 1])
		return false;
	if (part[1] == 2 && part[2] == 29 && (part[0] % 4 != 0 || (part[0] % 100 == 0 && part[0] % 400 != 0)))
		return false;
	if (part[3] > 23 || part[4] > 59 || part[5] > 59)
		return false;
	exif->taken.year = part[0];
	exif->taken.month = part[1];
	exif->taken.day = part[2];
	exif->taken.hour = part[3];
	exif->taken.minute = part[4];
	exif->taken.second = part[5];
	return true;
}

static void read_entry(Tiff *tiff, size_t entry)
{
	uint32_t type = number(tiff, entry + 2, 2), value;

	switch (number(tiff, entry, 2))
	{
		case TAG_MAKE:
			read_text(tiff, entry, tiff->exif->make);
			break;
		case TAG_MODEL:
			read_text(tiff, entry, tiff->exif->model);
			break;
		case TAG_ORIENTATION:
			value = number(tiff, entry + 8, 2);
			if (type == TYPE_SHORT && value >= 1 && value <= 8)
				tiff->exif->orientation = (int) value;
			break;
		case TAG_DATE_TIME:
			if (!tiff->has_original)
				read_time(tiff, entry);
			break;
		case TAG_DATE_ORIGINAL:
			tiff->has_original = read_time(tiff, entry) || tiff->has_original;
			break;
		case TAG_EXIF:
			if (type == TYPE_LONG)
				tiff->exif_at = number(tiff, entry + 8, 4);
			break;
	}
}

static void read_directory(Tiff *tiff, size_t at)
{
	uint32_t count = number(tiff, at, 2);

	for (uint32_t i = 0; i < count && at + 2 + 12 * (size_t) (i + 1) <= tiff->len; i++)
		read_entry(tiff, at + 2 + 12 * (size_t) i);
}

bool tms_exif_read(const uint8_t *content, size_t len, TmsExif *exif)
{
	Tiff tiff = {.exif = exif};

	memset(exif, 0, sizeof(*exif));
	if (len < sizeof(exif_head) + 8 || memcmp(content, exif_head, sizeof(exif_head)) != 0)
		return false;
	tiff.data = content + sizeof(exif_head);
	tiff.len = len - sizeof(exif_head);
	tiff.little = tiff.data[0] == 'I';
	if (tiff.data[0] != tiff.data[1] || (tiff.data[0] != 'I' && tiff.data[0] != 'M') || number(&tiff, 2, 2) != 42)
		return false;
	read_directory(&tiff, number(&tiff, 4, 4));
	if (tiff.exif_at != 0)
		read_directory(&tiff, tiff.exif_at);
	return true;
}

void tms_exif_write_orientation(int orientation, uint8_t out[TMS_EXIF_ORIENTATION_SIZE])
{
	/* Big endian; one directory at offset 8 with one entry, no further directory. */
	static const uint8_t form[TMS_EXIF_ORIENTATION_SIZE] = {
		'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, TYPE_SHORT, 0, 0, 0, 1};

	memcpy(out, form, sizeof(form));
	out[25] = (uint8_t) orientation;
}
