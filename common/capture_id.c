/*
 * Ledger UUIDs and the ids of captures.
 */
#include "capture_id.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#define SHA1_SIZE 20

/* The groups of the text form 8-4-4-4-12, in bytes. */
static const size_t uuid_groups[] = {4, 2, 2, 2, 6};

#define UUID_GROUPS (sizeof(uuid_groups) / sizeof(uuid_groups[0]))

bool tms_uuid_parse(const char *text, size_t len, TmsUuid *out)
{
	TmsUuid uuid;
	uint8_t *bytes = uuid.bytes;
	size_t i;

	if (len != TMS_UUID_TEXT_SIZE - 1)
		return false;
	for (i = 0; i < UUID_GROUPS; i++)
	{
		if (i > 0 && *text++ != '-')
			return false;
		if (!tms_hex_parse(text, uuid_groups[i], bytes))
			return false;
		text += 2 * uuid_groups[i];
		bytes += uuid_groups[i];
	}
	*out = uuid;
	return true;
}

void tms_uuid_format(const TmsUuid *uuid, char out[TMS_UUID_TEXT_SIZE])
{
	const uint8_t *bytes = uuid->bytes;
	size_t i;

	for (i = 0; i < UUID_GROUPS; i++)
	{
		if (i > 0)
			*out++ = '-';
		tms_hex_format(bytes, uuid_groups[i], out);
		out += 2 * uuid_groups[i];
		bytes += uuid_groups[i];
	}
}

/* Marks a UUID's version and, with it, the variant of RFC 4122. */
static void uuid_set_version(TmsUuid *uuid, int version)
{
	uuid->bytes[6] = (uint8_t) (version << 4 | (uuid->bytes[6] & 0x0f));
	uuid->bytes[8] = (uint8_t) (0x80 | (uuid->bytes[8] & 0x3f));
}

bool tms_uuid_random(TmsUuid *out)
{
	TmsUuid uuid;

	if (RAND_bytes(uuid.bytes, sizeof(uuid.bytes)) != 1)
		return false;
	uuid_set_version(&uuid, 4);
	*out = uuid;
	return true;
}

int32_t tms_ledger_number(const TmsUuid *ledger)
{
	uint32_t head = (uint32_t) ledger->bytes[0] << 24 | (uint32_t) ledger->bytes[1] << 16 |
					(uint32_t) ledger->bytes[2] << 8 | (uint32_t) ledger->bytes[3];

	return (int32_t) (head >> 1);
}

int64_t tms_capture_id(int32_t ledger_no, int64_t seq)
{
	if (ledger_no < 0 || seq < 1 || seq > TMS_SEQ_MAX)
		return 0;
	return (int64_t) ledger_no << 32 | seq;
}

int32_t tms_capture_ledger_no(int64_t capture_id)
{
	return (int32_t) (capture_id >> 32);
}

int64_t tms_capture_seq(int64_t capture_id)
{
	return capture_id & TMS_SEQ_MAX;
}

bool tms_ledger_fork_uuid(const TmsUuid *ledger, int64_t from, const uint8_t sha256[TMS_SHA256_SIZE], TmsUuid *out)
{
	/* UUID version 5: SHA-1 of the name space's bytes followed by the name. */
	char name[TMS_UUID_SIZE + 20 + 1 + TMS_SHA256_HEX_SIZE];
	char hex[TMS_SHA256_HEX_SIZE];
	uint8_t digest[SHA1_SIZE];
	int len;

	tms_sha256_hex(sha256, hex);
	memcpy(name, ledger->bytes, TMS_UUID_SIZE);
	len = snprintf(name + TMS_UUID_SIZE, sizeof(name) - TMS_UUID_SIZE, "%" PRId64 ":%s", from, hex);
	if (EVP_Digest(name, TMS_UUID_SIZE + (size_t) len, digest, NULL, EVP_sha1(), NULL) != 1)
		return false;
	memcpy(out->bytes, digest, TMS_UUID_SIZE);
	uuid_set_version(out, 5);
	return true;
}
