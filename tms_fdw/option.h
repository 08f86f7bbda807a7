/*
 * Options of a server, a user mapping and a foreign table of tms_fdw, read and checked once; and the settings that
 * overrule them.
 */
#ifndef TMS_OPTION_H
#define TMS_OPTION_H

#include "postgres.h"

#include "foreign/foreign.h"

typedef enum TmsPrefer
{
	TMS_PREFER_IMAGE_CENTER,
	TMS_PREFER_FRONT_END,
} TmsPrefer;

typedef enum TmsOnUnavailable
{
	TMS_UNAVAILABLE_NULL,
	TMS_UNAVAILABLE_ERROR,
} TmsOnUnavailable;

/* tms.image_source: which sources this session asks. */
typedef enum TmsImageSource
{
	TMS_SOURCE_AUTO,
	TMS_SOURCE_IMAGE_CENTER,
	TMS_SOURCE_FRONT_END,
} TmsImageSource;

typedef enum TmsStore
{
	TMS_STORE_HTTP,
	TMS_STORE_S3,
} TmsStore;

/* One server as one user sees it; times in milliseconds, sizes in bytes. Texts are palloc'd with the struct. */
typedef struct TmsServerOptions
{
	Oid serverid;
	Oid umid; /* user mapping, InvalidOid when there is none */
	const char *server_name;
	const char *url; /* without a trailing slash */
	TmsStore store;
	const char *region; /* of an S3 store */
	bool front_end;
	TmsPrefer prefer;
	TmsOnUnavailable on_unavailable; /* tms.on_unavailable applied when set */
	TmsImageSource source; /* tms.image_source */
	int concurrency;
	int per_device_concurrency;
	int64 prefetch_memory;
	int connect_timeout;
	int first_byte_timeout;
	int timeout;
	int hedge_after; /* 0: off */
	int breaker_failures; /* 0: no breaker */
	int breaker_cooldown;
	int64 max_image_bytes;
	const char *ca_file; /* or NULL */
	const char *username; /* secrets: never printed */
	const char *password;
	const char *bearer_token;
	const char *access_key_id; /* of an S3 store, with the next; session_token may be NULL beside them */
	const char *secret_access_key;
	const char *session_token;
} TmsServerOptions;

/*
 * Reads the options of a server for a user, in the current memory context, and applies the settings. Raises an error for
 * a server that is not of tms_fdw or has no url.
 */
extern TmsServerOptions *tms_server_options(Oid serverid, Oid userid);

/* The same by name; checks that the current user has USAGE on the server. */
extern TmsServerOptions *tms_server_options_by_name(const char *server_name);

/* Is this a server of tms_fdw? */
extern bool tms_server_is_ours(Oid serverid);

/* The table option `relation` of a foreign table, or its default: schema and name, palloc'd. */
extern void tms_table_relation(ForeignTable *table, char **schema, char **name);

/* Splits a qualified name as SQL writes it into palloc'd schema and name; false when it is anything else. */
extern bool tms_qualified_name_parse(const char *text, char **schema, char **name);

/* The name of a foreign table's column in its relation: column_name, or its own name. palloc'd. */
extern char *tms_column_name(Oid foreigntableid, AttrNumber attnum);

/* Settings; defined by tms_option_define_settings, which _PG_init calls. */
extern int tms_image_source;
extern int tms_max_images;
extern void tms_option_define_settings(void);

#endif
