/*
 * Configuration of the agent: one table of keys (config.c) from INI file to this struct.
 */
#ifndef AGENT_CONFIG_H
#define AGENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/object_path.h"
#include "../common/status.h"
#include "rate_schedule.h"

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
	char *charset; /* of record texts, as iconv calls it */
	/* [path_center] */
	char *conninfo; /* may hold a password: never logged */
	int batch;
	int64_t interval;
	int64_t heartbeat;
	int64_t ledger_keep;
	/* [image_center] */
	char *url; /* without a trailing slash */
	char *store; /* "http" or "s3" */
	char *verify; /* what counts as uploaded: "digest" or "length" */
	char *region; /* of an S3 store */
	char *access_key_id; /* likewise, or "" */
	char *secret_access_key_file;
	char *secret_access_key; /* secret */
	int upload_concurrency;
	RateSchedule rate_limit;
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

/* How the text of a value is read and checked, and the type of its field. */
typedef enum ConfigKind
{
	CONFIG_TEXT, /* char * */
	CONFIG_CONNINFO, /* char *, secret */
	CONFIG_DEVICE, /* char *, a device code */
	CONFIG_FOLDER, /* char *, absolute, without a trailing slash */
	CONFIG_FILE, /* char *, absolute, readable */
	CONFIG_SECRET_FILE, /* char *, as CONFIG_FILE; what it holds goes to the field at secret_offset */
	CONFIG_LISTEN, /* char *, host:port */
	CONFIG_URL, /* char *, http or https */
	CONFIG_STORE, /* char *, a kind of image center */
	CONFIG_VERIFY, /* char *, "digest" or "length" */
	CONFIG_CHARSET, /* char *, a character set that iconv knows */
	CONFIG_REGION, /* char *, a region of an S3 store */
	CONFIG_INT, /* int */
	CONFIG_PERCENT, /* int */
	CONFIG_DURATION, /* int64_t, microseconds */
	CONFIG_SIZE, /* int64_t, bytes */
	CONFIG_RATE, /* RateSchedule */
	CONFIG_KIND_COUNT
} ConfigKind;

typedef struct ConfigKey
{
	const char *section;
	const char *name;
	ConfigKind kind;
	const char *fallback; /* as it would stand in the file; "" where there is none */
	bool required;
	int64_t min; /* of numbers, in the field's unit */
	int64_t max;
	size_t offset; /* of the field in Config */
	size_t secret_offset; /* CONFIG_SECRET_FILE: of the char * field for what the file holds */
} ConfigKey;

/* Every key there is, by section. */
extern const ConfigKey config_keys[];
extern const int config_key_count;

/*
 * Reads and checks a file. On failure logs one line that names file, line and key for each mistake (unknown section or
 * key, bad value, missing required key, unreadable secret file) and returns TMS_INVALID. The caller frees with config_free.
 */
extern TMS_CHECKED TmsStatus config_load(const char *file, Config **out);

/* Frees a configuration and wipes its secrets; NULL is allowed. */
extern void config_free(Config *config);

/* Writes a key's value as it could stand in a file; what may hold a secret is written "(set)". */
extern void config_show(const Config *config, const ConfigKey *key, char *out, size_t size);

/* Is the size of an object in the image center enough for an upload to count, without its digest? */
extern bool config_verifies_length(const Config *config);

/* Is the image center an S3 store? */
extern bool config_is_s3(const Config *config);

/* Splits "host:port" or "[v6]:port"; false when it is not of that form or the port is not 0 to 65535. */
extern bool config_split_listen(const char *listen, char host[256], int *port);

#endif
