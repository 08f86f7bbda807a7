/*
 * Base URLs of image centers and front ends: http or https, a host, perhaps a port and a path; nothing else.
 */
#ifndef TMS_BASE_URL_H
#define TMS_BASE_URL_H

/*
 * Why `url` cannot be a base URL, as a static phrase such as "has no host" that completes the sentence "the URL ..."; NULL
 * when it can. User names, queries and fragments are refused: they would end up in requests, or secrets in the catalog.
 */
extern const char *tms_base_url_fault(const char *url);

/* A palloc'd copy without slashes at the end, so that "/" and a key can be appended. */
extern char *tms_base_url_trim(const char *url);

#endif
