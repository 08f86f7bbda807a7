/*
 * The setting of the functions that decode photographs.
 */
#ifndef TMS_EXT_JPEG_H
#define TMS_EXT_JPEG_H

/* Defines tms.max_pixels. */
extern void tms_jpeg_init(void);

#endif
