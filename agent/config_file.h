/*
 * Reads the form of a configuration file: [section], key = value, comments. What the words mean is config.c's.
 *
 * A line is of any length. A comment is a line that begins with ; or #, or the rest of a line from a ; that has a space or
 * tab before it (so a value may hold ; and #). Spaces around sections, keys and values do not count.
 */
#ifndef AGENT_CONFIG_FILE_H
#define AGENT_CONFIG_FILE_H

#include <stdio.h>

/*
 * Takes one line: key and value are NULL at a section's head. comment is what stood behind the sign of a comment, or "".
 * All texts last for the call only.
 */
typedef void ConfigLineFn(void *state, int line, const char *section, const char *key, const char *value,
						  const char *comment);

/* Takes one line that has not the form of any; `why` is a phrase. */
typedef void ConfigBadLineFn(void *state, int line, const char *why);

/* Reads to the end of the file, whatever is wrong. Returns 0, or errno when reading itself failed. */
extern int config_file_read(FILE *file, ConfigLineFn *take, ConfigBadLineFn *refuse, void *state);

#endif
