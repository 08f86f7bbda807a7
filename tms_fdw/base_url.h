/*
 * Base URLs of image centers and front ends: http or https, a host, perhaps a port and a path; nothing else.
 */
#ifndef TMS_BASE_URL_H
#define TMS_BASE_URL_H

#include <stddef.h>

/*
 * Why `url` cannot be a base URL, as a static phrase such as "has no host" that completes the sentence "the URL ..."; NULL
 * when it can. User names, queries and fragments are refused: they would end up in requests, or secrets in the catalog.
 */
extern const char *tms_base_url_fault(const char *url);

/* A palloc'd copy without slashes at the end, so that "/" and a key can be appended. */
extern char *tms_base_url_trim(const char *url);

/* Whom a URL of ours connects to: scheme, host and port in small letters, cut off where `out` ends. */
extern void tms_url_endpoint(const char *url, char *out, size_t size);

#endif
