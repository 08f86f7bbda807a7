/*
 * What the fuzzers of common/jpeg* share.
 */
#ifndef FUZZ_DECODE_H
#define FUZZ_DECODE_H

#include <stdint.h>
#include <stdlib.h>

#include "common/jpeg.h"
#include "common/jpeg_job.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small enough that no input takes long. */
#define FUZZ_PIXELS 1000000

/* Takes a number below n from the end of the input. */
static inline int take_number(const uint8_t *data, size_t *size, int n)
{
	int low, high;

	if (*size < 2)
		return 0;
	*size -= 2;
	low = data[*size];
	high = data[*size + 1];
	return (high << 8 | low) % n;
}

/* A result is there exactly when the status says so, and is a whole JPEG of the size wanted (0: any). A failure has a reason. */
static inline void check_result(const TmsJpegJob *job, TmsStatus status, int max_width, int max_height)
{
	TmsJpegInfo info;

	if ((status == TMS_OK) != (job->result != NULL) || (status != TMS_OK && job->error[0] == '\0'))
		abort();
	if (status != TMS_OK)
		return;
	info = tms_jpeg_check(job->result, job->result_len);
	if (info.state != TMS_JPEG_COMPLETE || info.width > max_width || info.height > max_height)
		abort();
	free(job->result);
}

#endif
