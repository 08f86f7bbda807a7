/*
 * Storage paths and object keys: checked, made and read.
 */
#include "object_path.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "capture_id.h"
#include "capture_record.h"

/* May this byte be part of a name? Spelled out, since isalnum() depends on the locale. */
static bool is_name_char(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
		   c == '-';
}

static bool is_name(const char *text, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (!is_name_char(text[i]))
			return false;
	return len > 0;
}

/* A name that stands for no other folder than itself. */
static bool is_path_part(const char *text, size_t len)
{
	if ((len == 1 || len == 2) && memcmp(text, "..", len) == 0)
		return false;
	return is_name(text, len);
}

bool tms_storage_path_valid(const char *path, size_t len)
{
	if (len > TMS_STORAGE_PATH_MAX)
		return false;
	for (;;)
	{
		const char *slash = memchr(path, '/', len);
		size_t part = slash == NULL ? len : (size_t) (slash - path);

		if (!is_path_part(path, part))
			return false;
		if (slash == NULL)
			return true;
		path += part + 1;
		len -= part + 1;
	}
}

bool tms_device_code_valid(const char *code, size_t len)
{
	if (len > TMS_DEVICE_CODE_MAX || !is_name(code, len))
		return false;
	return code[0] != '.' && code[0] != '_' && code[0] != '-';
}

bool tms_object_key(const char *device_code, const char *path, char out[TMS_OBJECT_KEY_SIZE])
{
	if (!tms_device_code_valid(device_code, strlen(device_code)) || !tms_storage_path_valid(path, strlen(path)))
		return false;
	snprintf(out, TMS_OBJECT_KEY_SIZE, "%s/%s", device_code, path);
	return true;
}

/* Writes the file name of a capture. */
static void name_format(const TmsStoragePathParts *parts, char *out, size_t size)
{
	char head[2 * sizeof(parts->sha256_head) + 1];

	tms_hex_format(parts->sha256_head, sizeof(parts->sha256_head), head);
	snprintf(out, size, "%" PRId64 "-%08" PRIx32 "-%s.jpg", parts->seq, (uint32_t) parts->ledger_no, head);
}

bool tms_storage_path_make(int64_t captured_at, int64_t seq, int32_t ledger_no, const uint8_t sha256[TMS_SHA256_SIZE],
						   char out[TMS_STORAGE_PATH_SIZE])
{
	TmsStoragePathParts parts = {.seq = seq, .ledger_no = ledger_no};
	char time[TMS_TIME_TEXT_SIZE];
	int folders;

	if (seq < 1 || seq > TMS_SEQ_MAX || ledger_no < 0 || !tms_time_format(captured_at, time))
		return false;
	/* The folders are the parts of "2026-11-22T06:03:05.250000Z". */
	folders = snprintf(out, TMS_STORAGE_PATH_SIZE, "%.4s/%.2s/%.2s/%.2s/", time, time + 5, time + 8, time + 11);
	memcpy(parts.sha256_head, sha256, sizeof(parts.sha256_head));
	name_format(&parts, out + folders, TMS_STORAGE_PATH_SIZE - (size_t) folders);
	return true;
}

bool tms_storage_path_parse(const char *path, TmsStoragePathParts *parts)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;
	TmsStoragePathParts read;
	uint32_t ledger_no;
	char head[2 * sizeof(read.sha256_head) + 1];
	char again[64];

	if (sscanf(name, "%10" SCNd64 "-%8" SCNx32 "-%8[0-9a-f].jpg", &read.seq, &ledger_no, head) != 3 ||
		strlen(head) != sizeof(head) - 1 || !tms_hex_parse(head, sizeof(read.sha256_head), read.sha256_head))
		return false;
	if (read.seq < 1 || read.seq > TMS_SEQ_MAX || ledger_no > TMS_LEDGER_NO_MAX)
		return false;

	/* sscanf also takes spaces, signs and other zeros: only the one form that we write counts. */
	read.ledger_no = (int32_t) ledger_no;
	name_format(&read, again, sizeof(again));
	if (strcmp(name, again) != 0)
		return false;
	*parts = read;
	return true;
}
