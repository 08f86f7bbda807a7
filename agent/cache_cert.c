/*
 * The certificate of the cache server; see cache_cert.h.
 *
 * The library asks for it in every handshake and keeps pointers to what it gets for as long as a connection lasts. So what
 * was read once stays in memory until the program ends; a renewal every few weeks adds a few kilobytes. That is also how a
 * reload finds the last good pair when the files are broken by then.
 *
 * `lock` guards everything here; what a Pair holds is not changed once it is in the list.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <gnutls/x509.h>

#include "cache_cert.h"
#include "clock.h"
#include "health.h"
#include "log.h"

#define CHAIN_MAX      16 /* certificates in a file */
#define LOOK_INTERVAL  CLOCK_SECOND
#define FILE_COUNT     2 /* certificate, key */
#define FILE_BYTES_MAX (256 * 1024)

/* What was read from both files at one time. */
typedef struct Pair
{
	struct Pair *older;
	char *files[FILE_COUNT]; /* where it came from */
	unsigned int chain_length;
	gnutls_pcert_st chain[CHAIN_MAX];
	gnutls_privkey_t key;
} Pair;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *files[FILE_COUNT]; /* to be shown */
static struct stat seen[FILE_COUNT]; /* the files as they were when they were last read */
static bool missing; /* one of them, and told so */
static int64_t look_at; /* by the steady clock: not looked at before */
static Pair *pairs; /* newest first: the first one that came from `files` is shown */

static void say(const char *error)
{
	char cert[600], key[600], text[200], quoted[420];

	snprintf(text, sizeof(text), "%s; do tls_cert and tls_key hold PEM texts that belong together?", error);
	log_event(LOG_LEVEL_ERROR, "cache_certificate", "tls_cert=%s tls_key=%s error=%s",
			  log_quote(files[0], cert, sizeof(cert)), log_quote(files[1], key, sizeof(key)),
			  log_quote(text, quoted, sizeof(quoted)));
}

static void free_pair(Pair *pair)
{
	for (unsigned int i = 0; i < pair->chain_length; i++)
		gnutls_pcert_deinit(&pair->chain[i]);
	if (pair->key != NULL)
		gnutls_privkey_deinit(pair->key); /* wipes it */
	for (int i = 0; i < FILE_COUNT; i++)
		free(pair->files[i]);
	free(pair);
}

/* The pair that is shown; NULL: none of these files was ever good. */
static Pair *current(void)
{
	Pair *pair = pairs;

	while (pair != NULL && (strcmp(pair->files[0], files[0]) != 0 || strcmp(pair->files[1], files[1]) != 0))
		pair = pair->older;
	return pair;
}

/* Do the two belong together? Only a whole set of credentials is checked for that, which leaks when there is no certificate. */
static int check_pair(const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
	gnutls_certificate_credentials_t credentials;
	int code = gnutls_certificate_allocate_credentials(&credentials);

	if (code < 0)
		return code;
	code = gnutls_certificate_set_x509_key_mem(credentials, cert, key, GNUTLS_X509_FMT_PEM);
	gnutls_certificate_free_credentials(credentials);
	return code;
}

static int import_pair(Pair *pair, const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
	unsigned int count = CHAIN_MAX;
	int code = gnutls_pcert_list_import_x509_raw(pair->chain, &count, cert, GNUTLS_X509_FMT_PEM, 0);

	if (code < 0)
		return code;
	pair->chain_length = count;
	code = check_pair(cert, key);
	if (code >= 0)
		code = gnutls_privkey_init(&pair->key);
	return code < 0 ? code : gnutls_privkey_import_x509_raw(pair->key, key, GNUTLS_X509_FMT_PEM, NULL, 0);
}

static int load_file(const char *file, const struct stat *about, gnutls_datum_t *out)
{
	if (about->st_size > FILE_BYTES_MAX)
		return GNUTLS_E_FILE_ERROR;
	return gnutls_load_file(file, out);
}

/* Reads both files; the pair is shown from now on. False after saying why they will not do. */
static bool read_pair(const struct stat about[FILE_COUNT])
{
	Pair *pair = calloc(1, sizeof(*pair));
	gnutls_datum_t texts[FILE_COUNT] = {{NULL, 0}, {NULL, 0}};
	int code = pair != NULL ? 0 : GNUTLS_E_MEMORY_ERROR;

	for (int i = 0; i < FILE_COUNT && code >= 0; i++)
	{
		pair->files[i] = strdup(files[i]);
		code = pair->files[i] != NULL ? load_file(files[i], &about[i], &texts[i]) : GNUTLS_E_MEMORY_ERROR;
	}
	if (code >= 0)
		code = import_pair(pair, &texts[0], &texts[1]);
	for (int i = 0; i < FILE_COUNT; i++)
		if (texts[i].data != NULL)
		{
			explicit_bzero(texts[i].data, texts[i].size);
			gnutls_free(texts[i].data);
		}
	if (code >= 0)
	{
		pair->older = pairs;
		pairs = pair;
		return true;
	}
	say(gnutls_strerror(code));
	if (pair != NULL)
		free_pair(pair);
	return false;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
		   a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Reads the files when they are not what they were. While one of them is missing, the last pair holds. */
static bool look(void)
{
	struct stat about[FILE_COUNT];

	for (int i = 0; i < FILE_COUNT; i++)
		if (stat(files[i], &about[i]) != 0)
		{
			if (!missing)
				say(strerror(errno));
			missing = true;
			return false;
		}
	missing = false;
	if (same_file(&about[0], &seen[0]) && same_file(&about[1], &seen[1]))
		return current() != NULL;
	memcpy(seen, about, sizeof(seen));
	return read_pair(about);
}

/* Takes other names; false: out of memory. */
static bool rename_files(const char *cert_file, const char *key_file)
{
	const char *names[FILE_COUNT] = {cert_file, key_file};

	for (int i = 0; i < FILE_COUNT; i++)
	{
		if (files[i] != NULL && strcmp(files[i], names[i]) == 0)
			continue;
		free(files[i]);
		files[i] = strdup(names[i]);
		if (files[i] == NULL)
			return false;
		memset(seen, 0, sizeof(seen));
	}
	return true;
}

TmsStatus cache_cert_open(const char *cert_file, const char *key_file)
{
	TmsStatus status = TMS_MEMORY;

	pthread_mutex_lock(&lock);
	if (rename_files(cert_file, key_file))
	{
		look_at = clock_steady() + LOOK_INTERVAL;
		status = TMS_OK;
		if (!look() && current() == NULL)
			health_error(HEALTH_CACHE_SERVER, "tls_cert and tls_key will not do: nobody can connect");
	}
	pthread_mutex_unlock(&lock);
	return status;
}

int cache_cert_retrieve(gnutls_session_t session, const gnutls_datum_t *issuers, int issuer_count,
						const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **chain,
						unsigned int *chain_length, gnutls_privkey_t *key)
{
	const Pair *before;
	Pair *pair;

	pthread_mutex_lock(&lock);
	before = current();
	if (clock_steady() >= look_at)
	{
		look_at = clock_steady() + LOOK_INTERVAL;
		if (look() && current() != before)
			log_event(LOG_LEVEL_INFO, "cache_certificate", "state=renewed");
	}
	pair = current();
	pthread_mutex_unlock(&lock);
	if (pair == NULL)
		return -1;
	*chain = pair->chain;
	*chain_length = pair->chain_length;
	*key = pair->key;
	return 0;
}
