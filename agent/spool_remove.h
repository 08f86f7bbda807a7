/*
 * Removing a file from the spool folder, into which others may put another one under the same name at any moment: a file
 * that was not taken is never removed.
 */
#ifndef AGENT_SPOOL_REMOVE_H
#define AGENT_SPOOL_REMOVE_H

#include <stdbool.h>
#include <sys/stat.h>

/*
 * Removes a file if it is still the one that `seen` (by lstat) tells of and nobody writes to it; else it stays. Logs a failure.
 */
extern void spool_remove(int folder, const char *name, const struct stat *seen);

/* Is that a name which spool_remove gives a file for a moment? A crash may leave it: it gets its own one back, if that is free. */
extern bool spool_put_back(int folder, const char *name);

/* Has somebody the open file open for writing? `unknown` when the system does not tell. */
extern bool spool_has_writer(int fd, bool unknown);

#endif
