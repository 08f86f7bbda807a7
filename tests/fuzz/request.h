/*
 * One POST /v1/captures through libmicrohttpd, without a network and in one thread: for the fuzzers of what comes in there.
 */
#ifndef FUZZ_REQUEST_H
#define FUZZ_REQUEST_H

#include <stddef.h>
#include <stdint.h>

/*
 * Sends the request, whose texts are in that charset, in pieces of so many bytes and reads the answer to its end. Aborts when the answer is none that a sender
 * may get, when nothing comes, or when a capture was taken whose record cannot be written down and read again. Returns what came
 * of it as text, to compare: the HTTP status, and the record and number of bytes taken; it lasts until the next call.
 */
extern const char *fuzz_request(const char *charset, const char *target, const char *content_type, const uint8_t *body,
								size_t len, size_t piece);

#endif
