/*
 * Names of the statuses.
 */
#include "status.h"

#include <stddef.h>

static const char *const status_names[] = {
	[TMS_OK] = "ok",
	[TMS_INVALID] = "invalid",
	[TMS_TOO_LARGE] = "too_large",
	[TMS_NOT_FOUND] = "not_found",
	[TMS_EXISTS] = "exists",
	[TMS_CONFLICT] = "conflict",
	[TMS_FULL] = "disk_full",
	[TMS_IO] = "io_error",
	[TMS_DAMAGED] = "damaged",
	[TMS_AGAIN] = "try_again",
	[TMS_STOPPED] = "stopped",
	[TMS_MEMORY] = "out_of_memory",
	[TMS_UNSUPPORTED] = "unsupported",
};

const char *tms_status_name(TmsStatus status)
{
	size_t i = (size_t) status;

	return i < sizeof(status_names) / sizeof(status_names[0]) ? status_names[i] : "unknown";
}
