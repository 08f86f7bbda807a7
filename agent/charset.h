/*
 * Texts in other character sets than UTF-8, by iconv. Inside the agent every text is UTF-8.
 */
#ifndef AGENT_CHARSET_H
#define AGENT_CHARSET_H

#include <stdbool.h>
#include <stddef.h>

#include "../common/status.h"
#include "record.h"

#define CHARSET_UTF8 "UTF-8"

/* Can texts of this character set be read here? */
extern bool charset_known(const char *charset);

/*
 * Converts a text (NULs are characters like others). The caller frees *out, which has a NUL behind it. TMS_INVALID: it is
 * no text of that character set, or has no counterpart in the other one. TMS_MEMORY.
 */
extern TMS_CHECKED TmsStatus charset_convert(const char *from, const char *to, const char *text, size_t len, char **out,
											 size_t *out_len);

/* As record_set and record_from_json, of name and text in that character set. */
extern TMS_CHECKED TmsStatus charset_record_set(const char *charset, Record *record, const char *name,
												const char *value, size_t len, char error[RECORD_ERROR_SIZE]);
extern TMS_CHECKED TmsStatus charset_record_from_json(const char *charset, Record *record, const char *json, size_t len,
													  char error[RECORD_ERROR_SIZE]);

#endif
