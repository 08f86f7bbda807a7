/*
 * Percent-decoding, the signature's check, and byte ranges (RFC 9110, one range).
 */
#include <string.h>

#include "cache_request.h"

#define NEVER_VALID '\x01'

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t cache_request_decode(char *text)
{
	char *out = text;

	for (const char *in = text; *in; in++)
	{
		if (*in != '%')
			*out++ = *in;
		else if (hex_digit(in[1]) < 0 || hex_digit(in[2]) < 0)
			*out++ = NEVER_VALID;
		else
		{
			int c = hex_digit(in[1]) * 16 + hex_digit(in[2]);

			*out++ = c < ' ' || c == 0x7f ? NEVER_VALID : (char) c;
			in += 2;
		}
	}
	*out = '\0';
	return (size_t) (out - text);
}

/* Reads decimal digits and nothing else, up to `end` characters; false also when the number is too large. */
static bool parse_number(const char *text, size_t len, int64_t *out)
{
	*out = 0;
	if (len == 0 || len > 18)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return false;
		*out = *out * 10 + (text[i] - '0');
	}
	return true;
}

const char *cache_request_refusal(const uint8_t key[TMS_URL_KEY_SIZE], const char *path, const char *expires,
								  const char *sig, int64_t now)
{
	int64_t until;

	if (!expires || !sig)
		return "the URL is not signed";
	if (!parse_number(expires, strlen(expires), &until) || !tms_url_signature_valid(key, path, until, sig))
		return "the signature is wrong";
	if (until < now)
		return "the URL has expired";
	if (until > now + CACHE_EXPIRES_MAX)
		return "the URL is valid for too long";
	return NULL;
}

CacheRange cache_request_range(const char *header, int64_t size, int64_t *first, int64_t *length)
{
	const char *dash;
	int64_t from, to;
	size_t left, right;

	*first = 0;
	*length = size;
	if (!header || strncmp(header, "bytes=", 6) != 0)
		return CACHE_RANGE_WHOLE;
	header += 6;
	dash = strchr(header, '-');
	if (!dash)
		return CACHE_RANGE_WHOLE;
	left = (size_t) (dash - header);
	right = strlen(dash + 1);
	if (left == 0)
	{
		/* The last so many bytes. */
		if (!parse_number(dash + 1, right, &to))
			return CACHE_RANGE_WHOLE;
		if (to == 0 || size == 0)
			return CACHE_RANGE_OUTSIDE;
		*first = to < size ? size - to : 0;
		*length = size - *first;
		return CACHE_RANGE_PART;
	}
	if (!parse_number(header, left, &from) || (right > 0 && (!parse_number(dash + 1, right, &to) || to < from)))
		return CACHE_RANGE_WHOLE;
	if (from >= size)
		return CACHE_RANGE_OUTSIDE;
	*first = from;
	*length = (right > 0 && to < size ? to + 1 : size) - from;
	return CACHE_RANGE_PART;
}
