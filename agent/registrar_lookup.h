/*
 * Looks up the hosts of a connection string in a thread of its own, because libpq, left to itself, waits for the name
 * server and nothing ends that wait. A look-up that is no longer wanted is left behind and cleans up after itself.
 */
#ifndef AGENT_REGISTRAR_LOOKUP_H
#define AGENT_REGISTRAR_LOOKUP_H

/* One place to connect to. A socket's folder, or no host at all, has no address. */
typedef struct RegistrarPlace
{
	char host[256];
	char address[64]; /* numeric, or "" */
	char port[16]; /* or "": the default */
} RegistrarPlace;

#define REGISTRAR_PLACES_MAX 32

typedef struct RegistrarLookup RegistrarLookup;

/*
 * Starts looking up the hosts of libpq's comma-separated parameters host, hostaddr and port (each may be NULL). NULL:
 * out of memory. The caller frees it, at any time.
 */
extern RegistrarLookup *registrar_lookup_start(const char *host, const char *hostaddr, const char *port);
extern void registrar_lookup_free(RegistrarLookup *lookup);

/* A descriptor that becomes readable at the end. */
extern int registrar_lookup_fd(const RegistrarLookup *lookup);

/* The places found, in order, once the descriptor is readable; valid until the look-up is freed. 0: none. */
extern int registrar_lookup_places(const RegistrarLookup *lookup, const RegistrarPlace **places);

#endif
