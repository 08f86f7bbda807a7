/*
 * Log lines on stderr: built in a buffer on the stack and written at once, so that lines of threads never mix.
 */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"

#define LINE_SIZE 4096

static const char *const level_names[] = {
	[LOG_LEVEL_DEBUG] = "debug",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_ERROR] = "error",
};

static atomic_int least_level = LOG_LEVEL_INFO;

void log_set_level(LogLevel level)
{
	least_level = level;
}

/* snprintf and vsnprintf say how much they would have written; this is how much there is. */
static size_t clamp(int written, size_t size)
{
	if (written < 0)
		return 0;
	return (size_t) written < size ? (size_t) written : size - 1;
}

/* A line that was cut inside a quoted value is closed, so that it can still be read. */
static void close_quote(char *line, size_t len)
{
	bool open = false;
	size_t escape = 0; /* where the last escape begins */

	for (size_t i = 0; i < len; i++)
		if (line[i] == '\\' && open)
			escape = i++;
		else if (line[i] == '"')
			open = !open;
	if (!open)
		return;
	if (escape > 0 && escape + 1 == len - 1) /* its second character is the last one */
		line[len - 2] = '.';
	line[len - 1] = '"';
}

void log_event(LogLevel level, const char *event, const char *format, ...)
{
	char line[LINE_SIZE];
	const size_t room = sizeof line - 1; /* the last byte is for the line's end */
	struct timespec now;
	struct tm utc;
	size_t len;
	va_list args;

	if ((int) level < least_level)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	len = strftime(line, room, "time=%Y-%m-%dT%H:%M:%S", &utc);
	len += clamp(snprintf(line + len, room - len, ".%03ldZ level=%s event=%s ", now.tv_nsec / 1000000,
						  level_names[level], event),
				 room - len);
	va_start(args, format);
	len += clamp(vsnprintf(line + len, room - len, format, args), room - len);
	va_end(args);
	if (len == room - 1)
		close_quote(line, len);

	/* A line is a line, whatever came in by way of a value that was not quoted. */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char) line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* nowhere left to say it */
}

const char *log_quote(const char *text, char *buffer, unsigned long size)
{
	static const char hex[] = "0123456789abcdef";
	size_t len = 0;

	/* Room is kept for the longest escape, the closing quote and the NUL. */
	if (size < 8)
	{
		if (size > 0)
			buffer[0] = '\0';
		return buffer;
	}
	buffer[len++] = '"';
	for (; *text && len + 6 <= size; text++)
	{
		unsigned char c = (unsigned char) *text;

		if (c == '"' || c == '\\')
		{
			buffer[len++] = '\\';
			buffer[len++] = (char) c;
		}
		else if (c < ' ' || c == 0x7f)
		{
			buffer[len++] = '\\';
			buffer[len++] = 'x';
			buffer[len++] = hex[c >> 4];
			buffer[len++] = hex[c & 15];
		}
		else
			buffer[len++] = (char) c;
	}
	buffer[len++] = '"';
	buffer[len] = '\0';
	return buffer;
}
