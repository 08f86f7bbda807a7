/*
 * libcurl's sockets, counted among the descriptors that the server lets a backend have.
 */
#ifndef TMS_FETCH_SOCKET_H
#define TMS_FETCH_SOCKET_H

#include "postgres.h"

/* How many may be open at once. */
extern int tms_fetch_sockets_max(void);

/* Opens one; -1, and *why in static memory, when it cannot be. Raises no error, as the next. */
extern int tms_fetch_socket_open(int family, int type, int protocol, const char **why);

/* Closes one; as close(). */
extern int tms_fetch_socket_close(int fd);

/* Takes out of the count those that libcurl has closed by itself. */
extern void tms_fetch_sockets_count_anew(void);

#endif
