/*
 * data_dir/status.json: the status as of the last look, for when the agent cannot be asked. It is replaced whole, never
 * synced, and nothing but people's eyes depends on it.
 */
#ifndef AGENT_STATUS_FILE_H
#define AGENT_STATUS_FILE_H

#include <stdbool.h>

#include "service.h"

/* Writes the status there. False when the ledger does not answer; a file that cannot be written is no failure. */
extern bool status_file_write(const ServiceContext *context);

/* At start: takes up the history of the run before, if the file is there. */
extern void status_file_restore(const char *data_dir);

/* The text of the file, which the caller frees; NULL when there is none that can be read. */
extern char *status_file_read(const char *data_dir);

#endif
