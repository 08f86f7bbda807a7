/*
 * What a function of the agent or of common/ says about its work.
 *
 * A function that can fail for a reason its caller must act on returns a TmsStatus; the compiler warns when nobody looks
 * at it. The failure is logged once, where it happens, by whoever knows the details; callers pass the status on.
 */
#ifndef TMS_STATUS_H
#define TMS_STATUS_H

#define TMS_CHECKED __attribute__((warn_unused_result))

typedef enum TmsStatus
{
	TMS_OK = 0,
	TMS_INVALID, /* the input breaks a rule; trying again will not help */
	TMS_TOO_LARGE, /* the input is over its cap */
	TMS_NOT_FOUND, /* nothing by that name or number */
	TMS_EXISTS, /* it is there already */
	TMS_CONFLICT, /* something else is there under that name */
	TMS_FULL, /* no space on the disk */
	TMS_IO, /* the disk or the file system failed */
	TMS_DAMAGED, /* stored bytes are not what was stored */
	TMS_AGAIN, /* a peer is away or slow; try again later */
	TMS_STOPPED, /* the program is asked to stop */
	TMS_MEMORY, /* out of memory */
	TMS_UNSUPPORTED, /* a form of the input that we do not read */
} TmsStatus;

/* Name of a status for log lines, one word such as "disk_full"; never NULL, static memory. */
extern const char *tms_status_name(TmsStatus status);

#endif
