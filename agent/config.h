/*
 * Configuration of the agent: one table of keys (config.c) from INI file to this struct.
 */
#ifndef AGENT_CONFIG_H
#define AGENT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "../common/object_path.h"
#include "../common/status.h"

/* Texts are owned by the Config; a key that is absent has its default, or "" where there is none. Durations: microseconds. */
typedef struct Config
{
	/* [agent] */
	char *device;
	char *token_file;
	char *token; /* secret: contents of token_file, stripped; never logged */
	char *data_dir;
	/* [intake] */
	char *spool_dir;
	char *intake_listen; /* host:port, or "" */
	char *intake_token_file;
	char *intake_token; /* secret, or "" */
	int64_t max_image_bytes;
	/* [path_center] */
	char *conninfo; /* may hold a password: never logged */
	int batch;
	int64_t interval;
	int64_t heartbeat;
	int64_t ledger_keep;
	/* [image_center] */
	char *url; /* without a trailing slash */
	int upload_concurrency;
	char *ca_file;
	char *username; /* Basic authentication for a plain HTTP store, or "" */
	char *password_file;
	char *password; /* secret */
	/* [cache] */
	char *cache_listen;
	char *tls_cert;
	char *tls_key;
	int min_free_percent;
} Config;

/*
 * Reads and checks a file. On failure logs one line that names file, line and key for each mistake (unknown section or
 * key, bad value, missing required key, unreadable secret file) and returns TMS_INVALID. The caller frees with config_free.
 */
extern TMS_CHECKED TmsStatus config_load(const char *file, Config **out);
extern void config_free(Config *config);

/* Splits "host:port" or "[v6]:port"; false when it is not of that form or the port is not 0 to 65535. */
extern bool config_split_listen(const char *listen, char host[256], int *port);

#endif
