/*
 * The certificate of the cache server, read from its files again when they change: a renewed one is shown to the next who
 * connects, and nobody is cut off. One per process.
 */
#ifndef AGENT_CACHE_CERT_H
#define AGENT_CACHE_CERT_H

#include <gnutls/abstract.h>

#include "../common/status.h"

/*
 * Reads the PEM files tls_cert and tls_key, to be shown from now on. When they will not do, which is logged, the last pair
 * that these files have held since the program began goes on; when there is none, nobody can connect until the files are
 * mended. That is no failure: a certificate is no reason to take no photographs. TMS_MEMORY.
 */
extern TMS_CHECKED TmsStatus cache_cert_open(const char *cert_file, const char *key_file);

/*
 * Gives the certificate as the files have it now (a gnutls_certificate_retrieve_function2, for libmicrohttpd). Files that
 * have changed and will not do are told once; the last good pair holds. -1: there is none yet.
 */
extern int cache_cert_retrieve(gnutls_session_t session, const gnutls_datum_t *issuers, int issuer_count,
							   const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **chain,
							   unsigned int *chain_length, gnutls_privkey_t *key);

#endif
