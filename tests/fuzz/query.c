/*
 * The query string of POST /v1/captures, with a photograph as the body; its texts are UTF-8, and GBK.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A gray picture of 8 by 8. */
static const uint8_t jpeg[] = {0xff, 0xd8, 0xff, 0xc0, 0x00, 0x0b, 0x08, 0x00, 0x08, 0x00, 0x08, 0x01, 0x01, 0x11,
							   0x00, 0xff, 0xda, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3f, 0x00, 0x2b, 0xff, 0xd9};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char path[] = "/v1/captures?";
	char *target = malloc(sizeof path + 3 * size);
	char *out = target + sprintf(target, "%s", path);

	/* What would end the request line comes in encoded; the rest as it is. */
	for (size_t i = 0; i < size; i++)
		if (strchr(" \r\n\t\v\f", data[i])) /* NUL too */
			out += sprintf(out, "%%%02X", data[i]);
		else
			*out++ = (char) data[i];
	*out = '\0';
	fuzz_request("UTF-8", target, "image/jpeg", jpeg, sizeof jpeg, 1 << 20);
	fuzz_request("GBK", target, "image/jpeg", jpeg, sizeof jpeg, 1 << 20);
	free(target);
	return 0;
}
