/*
 * What the functions that fetch images by capture_id share.
 */
#ifndef TMS_IMAGE_H
#define TMS_IMAGE_H

#include "postgres.h"

#include "tms_fdw/image_fetch.h"

/* Looks up a capture as the current user and fills in what to ask for; false when there is none that the user may see. */
extern bool tms_image_lookup(int64 capture_id, TmsImageRequest *request);

#endif
