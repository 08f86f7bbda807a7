/*
 * Figures as people read them, for the table of `tms-agent status` and the status page.
 */
#ifndef AGENT_STATUS_TEXT_H
#define AGENT_STATUS_TEXT_H

#include <stdint.h>

#define STATUS_TEXT_SIZE 32

/* A span of microseconds in its largest unit of which there are two: "3 min", "50 h", "8 days". Returns out. */
extern const char *status_text_span(int64_t micros, char out[STATUS_TEXT_SIZE]);

/* Bytes: "1.5 GB" (of 1024 MB). Returns out. */
extern const char *status_text_size(int64_t bytes, char out[STATUS_TEXT_SIZE]);

/* A count with its thousands set apart: "1,234,567". Returns out. */
extern const char *status_text_count(int64_t count, char out[STATUS_TEXT_SIZE]);

/* A time, microseconds since 1970: "2026-11-22 06:03:06 UTC". Returns out. */
extern const char *status_text_time(int64_t at, char out[STATUS_TEXT_SIZE]);

#endif
