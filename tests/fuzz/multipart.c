/*
 * A multipart body, as it comes in POST /v1/captures. The first byte says in what pieces it comes in; what comes of it does not
 * depend on them. The boundary is "cut".
 */
#include <stdlib.h>
#include <string.h>

#include "request.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char form[] = "multipart/form-data; boundary=cut";
	char *whole;

	if (size == 0)
		return 0;
	whole = strdup(fuzz_request("UTF-8", "/v1/captures", form, data + 1, size - 1, 1 << 20));
	if (strcmp(whole,
			   fuzz_request("UTF-8", "/v1/captures", form, data + 1, size - 1, (size_t) data[0] * data[0] + 1)) != 0)
		abort();
	free(whole);
	return 0;
}
