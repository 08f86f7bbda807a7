/*
 * tms.image: one image by its capture_id.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "tms_ext/lookup.h"
#include "tms_fdw/image.h"
#include "tms_fdw/option.h"

PG_FUNCTION_INFO_V1(tms_image);

bool tms_image_lookup(int64 capture_id, TmsImageRequest *request)
{
	TmsCaptureRow row;

	if (!tms_capture_lookup(capture_id, &row))
		return false;
	request->capture_id = row.capture_id;
	request->device_id = row.device_id;
	request->path = row.path;
	request->image_bytes = row.image_bytes;
	request->has_sha256 = row.has_sha256;
	memcpy(request->sha256, row.sha256, sizeof(request->sha256));
	return true;
}

/*
 * tms.image(capture_id, server) returns bytea: NULL when there is no such capture, when the caller may not see it, or when
 * the image is unavailable (unless on_unavailable is error).
 *
 * The set lives in the caller's context and is not destroyed: the image is returned without a copy, and a reset of that
 * context frees both.
 */
Datum tms_image(PG_FUNCTION_ARGS)
{
	TmsServerOptions *options = tms_server_options_by_name(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	TmsFetchCounters *counters = palloc0(sizeof(TmsFetchCounters));
	TmsImageRequest request;
	TmsImageSet *set;
	TmsImage *image;

	if (!tms_image_lookup(PG_GETARG_INT64(0), &request))
		PG_RETURN_NULL();
	set = tms_image_set_create(CurrentMemoryContext, options, counters);
	image = tms_image_submit(set, &request);
	tms_image_wait(set, image);
	if (image->image == NULL)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(image->image);
}
