/*
 * Encodes one call of tms.ingest; see ingest_call.h.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ingest_call.h"

/* An array in PostgreSQL's binary format: dimensions, has NULLs, element type, length, lower bound; then the elements. */
#define ARRAY_HEADER_SIZE 20

/* PostgreSQL counts microseconds from 2000-01-01. */
#define EPOCH_2000 (INT64_C(946684800) * 1000000)

#define JSONB_VERSION 1

/* Columns in the order of tms.ingest's arguments. */
enum
{
	COLUMN_CAPTURED_AT,
	COLUMN_PATH,
	COLUMN_IMAGE_BYTES,
	COLUMN_SHA256,
	COLUMN_PLATE,
	COLUMN_PLATE_CLASS,
	COLUMN_PLATE_COLOR,
	COLUMN_DIRECTION,
	COLUMN_LANE,
	COLUMN_SPEED_KMH,
	COLUMN_VIOLATION_CODE,
	COLUMN_EVENT_ID,
	COLUMN_ATTRIBUTES,
};

/* Object ids of the element types; these of PostgreSQL's own types never change. */
enum
{
	TYPE_BYTEA = 17,
	TYPE_INT2 = 21,
	TYPE_INT4 = 23,
	TYPE_TEXT = 25,
	TYPE_TIMESTAMPTZ = 1184,
	TYPE_UUID = 2950,
	TYPE_JSONB = 3802,
};

static const uint32_t column_types[INGEST_CALL_COLUMNS] = {
	[COLUMN_CAPTURED_AT] = TYPE_TIMESTAMPTZ,
	[COLUMN_PATH] = TYPE_TEXT,
	[COLUMN_IMAGE_BYTES] = TYPE_INT4,
	[COLUMN_SHA256] = TYPE_BYTEA,
	[COLUMN_PLATE] = TYPE_TEXT,
	[COLUMN_PLATE_CLASS] = TYPE_TEXT,
	[COLUMN_PLATE_COLOR] = TYPE_TEXT,
	[COLUMN_DIRECTION] = TYPE_TEXT,
	[COLUMN_LANE] = TYPE_INT2,
	[COLUMN_SPEED_KMH] = TYPE_INT2,
	[COLUMN_VIOLATION_CODE] = TYPE_TEXT,
	[COLUMN_EVENT_ID] = TYPE_UUID,
	[COLUMN_ATTRIBUTES] = TYPE_JSONB,
};

void ingest_call_init(IngestCall *call)
{
	memset(call, 0, sizeof(*call));
}

void ingest_call_free(IngestCall *call)
{
	free(call->header.data);
	for (int i = 0; i < INGEST_CALL_COLUMNS; i++)
		free(call->columns[i].data);
	memset(call, 0, sizeof(*call));
}

/* Appends bytes; room for len more when data is NULL. After a failure everything further is dropped. */
static void put_bytes(IngestCall *call, IngestBuffer *buffer, const void *data, size_t len)
{
	if (call->failed)
		return;
	if (buffer->len + len > buffer->size)
	{
		size_t size = (buffer->len + len) * 2 + 256;
		char *grown = realloc(buffer->data, size);

		if (grown == NULL)
		{
			call->failed = true;
			return;
		}
		buffer->data = grown;
		buffer->size = size;
	}
	if (data != NULL)
		memcpy(buffer->data + buffer->len, data, len);
	else
		memset(buffer->data + buffer->len, 0, len);
	buffer->len += len;
	call->bytes += len;
}

static void put_int32(IngestCall *call, IngestBuffer *buffer, uint32_t value)
{
	uint32_t network = htonl(value);

	put_bytes(call, buffer, &network, sizeof(network));
}

void ingest_call_begin(IngestCall *call)
{
	call->rows = 0;
	call->bytes = 0;
	call->failed = false;
	call->header.len = 0;
	for (int i = 0; i < INGEST_CALL_COLUMNS; i++)
	{
		call->columns[i].len = 0;
		call->has_value[i] = false;
		call->has_null[i] = false;
		put_bytes(call, &call->columns[i], NULL, ARRAY_HEADER_SIZE);
	}
}

/* --- elements --- */

static void add_null(IngestCall *call, int column)
{
	call->has_null[column] = true;
	put_int32(call, &call->columns[column], UINT32_MAX);
}

static void add_value(IngestCall *call, int column, const void *data, size_t len)
{
	call->has_value[column] = true;
	put_int32(call, &call->columns[column], (uint32_t) len);
	put_bytes(call, &call->columns[column], data, len);
}

static void add_text(IngestCall *call, int column, const char *text)
{
	if (text[0] == '\0')
		add_null(call, column);
	else
		add_value(call, column, text, strlen(text));
}

static void add_int16(IngestCall *call, int column, bool has, int value)
{
	uint16_t network = htons((uint16_t) value);

	if (has)
		add_value(call, column, &network, sizeof(network));
	else
		add_null(call, column);
}

static void add_time(IngestCall *call, int column, int64_t micros)
{
	uint64_t since_2000 = (uint64_t) (micros - EPOCH_2000);
	uint32_t network[2] = {htonl((uint32_t) (since_2000 >> 32)), htonl((uint32_t) since_2000)};

	add_value(call, column, network, sizeof(network));
}

static void add_jsonb(IngestCall *call, int column, const char *text)
{
	static const char version = JSONB_VERSION;

	if (text[0] == '\0')
	{
		add_null(call, column);
		return;
	}
	call->has_value[column] = true;
	put_int32(call, &call->columns[column], (uint32_t) strlen(text) + 1);
	put_bytes(call, &call->columns[column], &version, 1);
	put_bytes(call, &call->columns[column], text, strlen(text));
}

void ingest_call_add(IngestCall *call, const IngestRow *row)
{
	const Record *record = row->record;
	uint32_t image_bytes = htonl((uint32_t) row->image_bytes);

	call->rows++;
	if (row->path == NULL)
	{
		for (int i = 0; i < INGEST_CALL_COLUMNS; i++)
			add_null(call, i);
		return;
	}
	add_time(call, COLUMN_CAPTURED_AT, record->captured_at);
	add_value(call, COLUMN_PATH, row->path, strlen(row->path));
	add_value(call, COLUMN_IMAGE_BYTES, &image_bytes, sizeof(image_bytes));
	add_value(call, COLUMN_SHA256, row->sha256, TMS_SHA256_SIZE);
	add_text(call, COLUMN_PLATE, record->plate);
	add_text(call, COLUMN_PLATE_CLASS, record->plate_class);
	add_text(call, COLUMN_PLATE_COLOR, record->plate_color);
	add_text(call, COLUMN_DIRECTION, record->direction);
	add_int16(call, COLUMN_LANE, record->has_lane, record->lane);
	add_int16(call, COLUMN_SPEED_KMH, record->has_speed_kmh, record->speed_kmh);
	add_text(call, COLUMN_VIOLATION_CODE, record->violation_code);
	if (record->has_event_id)
		add_value(call, COLUMN_EVENT_ID, record->event_id.bytes, TMS_UUID_SIZE);
	else
		add_null(call, COLUMN_EVENT_ID);
	add_jsonb(call, COLUMN_ATTRIBUTES, record->attributes);
}

/* --- header --- */

static void put_raw(IngestCall *call, const char *text)
{
	put_bytes(call, &call->header, text, strlen(text));
}

/* A JSON string. */
static void put_string(IngestCall *call, const char *text)
{
	put_raw(call, "\"");
	for (const char *c = text; *c != '\0'; c++)
	{
		char escaped[8];

		if (*c != '"' && *c != '\\' && (unsigned char) *c >= 0x20)
			put_bytes(call, &call->header, c, 1);
		else
		{
			snprintf(escaped, sizeof(escaped), "\\u%04x", (unsigned char) *c);
			put_raw(call, escaped);
		}
	}
	put_raw(call, "\"");
}

/*
 * The status, which others wrote, comes last and far from the token: were it no JSON, the server would show the characters
 * before the place in its log.
 */
static void put_header(IngestCall *call, const IngestHeader *header)
{
	char numbers[400];
	char ledger[TMS_UUID_TEXT_SIZE];

	put_raw(call, "{\"device\":");
	put_string(call, header->device);
	put_raw(call, ",\"token\":");
	put_string(call, header->token);
	put_raw(call, ",\"ledger\":");
	tms_uuid_format(&header->ledger, ledger);
	put_string(call, ledger);
	snprintf(numbers, sizeof(numbers),
			 ",\"oldest_seq\":%" PRId64 ",\"last_seq\":%" PRId64 ",\"first_seq\":%" PRId64 ",\"uploaded_seq\":%" PRId64
			 ",\"uploaded_max\":%" PRId64 ",\"cleaned_seq\":%" PRId64 ",\"report_no\":%" PRId64
			 ",\"request_seen\":%" PRId64,
			 header->oldest_seq, header->last_seq, header->first_seq, header->uploaded_seq, header->uploaded_max,
			 header->cleaned_seq, header->report_no, header->request_seen);
	put_raw(call, numbers);
	if (header->prev_sha256 != NULL)
	{
		char hex[TMS_SHA256_HEX_SIZE];

		tms_sha256_hex(header->prev_sha256, hex);
		put_raw(call, ",\"prev_sha256\":");
		put_string(call, hex);
	}
	if (header->status != NULL)
	{
		put_raw(call, ",\"status\":");
		put_raw(call, header->status);
	}
	put_bytes(call, &call->header, "}", 2);
}

/* Writes the array's header in front of its elements. */
static void finish_column(IngestCall *call, int column)
{
	uint32_t head[ARRAY_HEADER_SIZE / sizeof(uint32_t)] = {
		htonl(1), htonl(call->has_null[column] ? 1 : 0), htonl(column_types[column]), htonl((uint32_t) call->rows),
		htonl(1),
	};

	memcpy(call->columns[column].data, head, sizeof(head));
}

TmsStatus ingest_call_finish(IngestCall *call, const IngestHeader *header)
{
	put_header(call, header);
	if (call->failed)
		return TMS_MEMORY;
	call->values[0] = call->header.data;
	call->lengths[0] = (int) call->header.len - 1;
	call->formats[0] = 0;
	for (int i = 0; i < INGEST_CALL_COLUMNS; i++)
	{
		/* The path tells how many rows there are, so its array goes even when all its elements are NULL. */
		bool sent = call->has_value[i] || (i == COLUMN_PATH && call->rows > 0);

		if (sent)
			finish_column(call, i);
		call->values[1 + i] = sent ? call->columns[i].data : NULL;
		call->lengths[1 + i] = sent ? (int) call->columns[i].len : 0;
		call->formats[1 + i] = 1;
	}
	return TMS_OK;
}
