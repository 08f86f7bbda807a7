/*
 * Log lines: one line an event on stderr, key=value, values quoted where they need it. Never pass a secret.
 */
#ifndef AGENT_LOG_H
#define AGENT_LOG_H

typedef enum LogLevel
{
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_INFO,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_ERROR,
} LogLevel;

/* Lines below this level are not written; LOG_LEVEL_INFO at start. */
extern void log_set_level(LogLevel level);

/*
 * Writes "time=... level=... event=EVENT key=value ...". The format names keys and values in printf style, as in
 *   log_event(LOG_LEVEL_INFO, "uploaded", "seq=%lld path=%s", (long long) seq, path);
 * A value that has spaces, quotes or control characters is written by way of log_quote. Thread-safe; one write(2) a line.
 */
extern void log_event(LogLevel level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Quotes text for a value (double quotes, backslashes, \xNN for control characters) into buffer; returns buffer. */
extern const char *log_quote(const char *text, char *buffer, unsigned long size);

#endif
