/*
 * Listening sockets for the agent's HTTP servers.
 */
#ifndef AGENT_LISTEN_H
#define AGENT_LISTEN_H

#include "../common/status.h"

/*
 * Opens a listening TCP socket at "host:port" (host: an address or a name; port 0: any). Logs a failure, naming the key
 * it was configured with, and the address once it listens. The socket does not block. The caller closes *fd.
 */
extern TMS_CHECKED TmsStatus listen_open(const char *listen_at, const char *key, int *fd);

/*
 * Keeps a socket that is to be listened at again: while the services restart, whoever connects waits in its queue and is
 * not refused. The next listen_open of the same address gets it. Takes fd over; less than 0: nothing. All of this header
 * belongs to the main thread.
 */
extern void listen_keep(const char *listen_at, int fd);

/* Closes what was kept and not opened again. */
extern void listen_forget(void);

#endif
