/*
 * Which network addresses may be asked for images.
 */
#ifndef TMS_ADDRESS_H
#define TMS_ADDRESS_H

#include "postgres.h"

#include <sys/socket.h>

/*
 * Is this resolved address one that must not be asked? Link-local, unspecified, multicast, reserved and non-IP ones always,
 * loopback ones unless allowed. Safe in callbacks.
 */
extern bool tms_address_refused(const struct sockaddr *address, bool allow_loopback);

/* Does the URL itself name the loopback interface (localhost, 127.0.0.0/8, [::1]), so that asking there was meant? */
extern bool tms_url_names_loopback(const char *url);

#endif
