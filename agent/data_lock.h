/*
 * One agent a data folder: a lock on data_dir/agent.lock, held for as long as the process lives.
 */
#ifndef AGENT_DATA_LOCK_H
#define AGENT_DATA_LOCK_H

#include <stdbool.h>

#include "../common/status.h"

/*
 * Makes the folder (its parent must be there) and takes the lock; *fd holds it until closed. Logs a failure: TMS_EXISTS when
 * another process has it, else TMS_IO.
 */
extern TMS_CHECKED TmsStatus data_lock_take(const char *data_dir, int *fd);

/* Does a running agent hold the folder? Takes nothing. *pid is its process id, 0 when not known. */
extern bool data_lock_held(const char *data_dir, int *pid);

#endif
