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

#endif
