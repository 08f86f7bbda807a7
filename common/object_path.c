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

bool tms_storage_path_make(int64_t captured_at, int64_t seq, int32_t ledger_no, const uint8_t sha256[TMS_SHA256_SIZE],
						   char out[TMS_STORAGE_PATH_SIZE])
{
	char time[TMS_TIME_TEXT_SIZE];

	if (seq < 1 || seq > TMS_SEQ_MAX || ledger_no < 0 || !tms_time_format(captured_at, time))
		return false;
	/* The folders are the parts of "2026-11-22T06:03:05.250000Z". */
	snprintf(out, TMS_STORAGE_PATH_SIZE, "%.4s/%.2s/%.2s/%.2s/%" PRId64 "-%08" PRIx32 "-%02x%02x%02x%02x.jpg", time,
			 time + 5, time + 8, time + 11, seq, (uint32_t) ledger_no, sha256[0], sha256[1], sha256[2], sha256[3]);
	return true;
}

/* Reads exactly eight lower-case hexadecimal digits; NULL when there are none, else what follows them. */
static const char *parse_hex32(const char *text, uint32_t *value)
{
	int i;

	*value = 0;
	for (i = 0; i < 8; i++)
	{
		char c = text[i];

		if (c >= '0' && c <= '9')
			*value = *value << 4 | (uint32_t) (c - '0');
		else if (c >= 'a' && c <= 'f')
			*value = *value << 4 | (uint32_t) (c - 'a' + 10);
		else
			return NULL;
	}
	return text + 8;
}

/* Reads a seq without leading zeros; NULL when there is none, else what follows it. */
static const char *parse_seq(const char *text, int64_t *seq)
{
	if (*text < '1' || *text > '9')
		return NULL;
	for (*seq = 0; *text >= '0' && *text <= '9'; text++)
	{
		*seq = *seq * 10 + (*text - '0');
		if (*seq > TMS_SEQ_MAX)
			return NULL;
	}
	return text;
}

bool tms_storage_path_parse(const char *path, TmsStoragePathParts *parts)
{
	const char *slash = strrchr(path, '/');
	const char *at;
	int64_t seq;
	uint32_t ledger_no;
	uint32_t head;
	int i;

	at = parse_seq(slash == NULL ? path : slash + 1, &seq);
	if (at == NULL || *at != '-')
		return false;
	at = parse_hex32(at + 1, &ledger_no);
	if (at == NULL || *at != '-' || ledger_no > TMS_LEDGER_NO_MAX)
		return false;
	at = parse_hex32(at + 1, &head);
	if (at == NULL || strcmp(at, ".jpg") != 0)
		return false;

	parts->seq = seq;
	parts->ledger_no = (int32_t) ledger_no;
	for (i = 0; i < 4; i++)
		parts->sha256_head[i] = (uint8_t) (head >> (24 - 8 * i));
	return true;
}
