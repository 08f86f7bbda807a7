/*
 * Options and settings of the wrapper: one table of options gives names, places, types, ranges and defaults; the validator
 * and the readers both go through it.
 */
#include "postgres.h"

#include <limits.h>
#include <math.h>

#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "common/s3.h"
#include "tms_ext/compat.h"
#include "tms_fdw/base_url.h"
#include "tms_fdw/option.h"

/* A bytea must stay below 1 GB with its header, and still be printable as hexadecimal by a client that asks for text. */
#define IMAGE_BYTES_MAX   (INT64CONST(500) * 1024 * 1024)
#define DURATION_MAX      (24.0 * 60 * 60 * 1000)
#define TEXT_MAX          1024 /* bytes; of an option with a max of its own, that */
#define SESSION_TOKEN_MAX 2048
#define REGION_MAX        64

#define DEFAULT_RELATION "tms.capture"

typedef enum OptionKind
{
	OPTION_BOOL,
	OPTION_INT,
	OPTION_DURATION, /* int, milliseconds */
	OPTION_DURATION_OR_OFF, /* the same, 0 for "off" */
	OPTION_SIZE, /* int64, bytes */
	OPTION_ENUM,
	OPTION_URL, /* not shown when it is refused: it may hold a password */
	OPTION_FILE, /* absolute path; superusers only */
	OPTION_TEXT,
	OPTION_SECRET, /* a text that no message shows */
	OPTION_REGION, /* a name of letters, digits, "-" and "_" */
	OPTION_RELATION, /* schema.name; not kept in the struct */
} OptionKind;

typedef struct Option
{
	const char *name;
	Oid catalog; /* where it may stand */
	OptionKind kind;
	const char *default_value; /* as one would write it; NULL: none */
	double min;
	double max;
	const struct config_enum_entry *values;
	size_t offset; /* in TmsServerOptions; NOT_KEPT when only checked */
} Option;

#define NOT_KEPT        SIZE_MAX
#define KEPT(field)     offsetof(TmsServerOptions, field)
#define IN_SERVER       ForeignServerRelationId
#define IN_USER_MAPPING UserMappingRelationId
#define IN_TABLE        ForeignTableRelationId
#define IN_COLUMN       AttributeRelationId

static const struct config_enum_entry store_values[] = {{"http", TMS_STORE_HTTP}, {"s3", TMS_STORE_S3}, {NULL}};

static const struct config_enum_entry prefer_values[] = {
	{"image_center", TMS_PREFER_IMAGE_CENTER}, {"front_end", TMS_PREFER_FRONT_END}, {NULL}};

static const struct config_enum_entry unavailable_values[] = {
	{"null", TMS_UNAVAILABLE_NULL}, {"error", TMS_UNAVAILABLE_ERROR}, {NULL}};

static const Option options[] = {
	{"url", IN_SERVER, OPTION_URL, NULL, 0, 0, NULL, KEPT(url)},
	{"store", IN_SERVER, OPTION_ENUM, "http", 0, 0, store_values, KEPT(store)},
	{"region", IN_SERVER, OPTION_REGION, TMS_S3_DEFAULT_REGION, 0, 0, NULL, KEPT(region)},
	{"front_end", IN_SERVER, OPTION_BOOL, "on", 0, 0, NULL, KEPT(front_end)},
	{"prefer", IN_SERVER, OPTION_ENUM, "image_center", 0, 0, prefer_values, KEPT(prefer)},
	{"concurrency", IN_SERVER, OPTION_INT, "16", 1, 256, NULL, KEPT(concurrency)},
	{"per_device_concurrency", IN_SERVER, OPTION_INT, "4", 1, 256, NULL, KEPT(per_device_concurrency)},
	{"prefetch_memory", IN_SERVER, OPTION_SIZE, "64MB", 64.0 * 1024, 64.0 * 1024 * 1024 * 1024, NULL,
	 KEPT(prefetch_memory)},
	{"connect_timeout", IN_SERVER, OPTION_DURATION, "1s", 1, DURATION_MAX, NULL, KEPT(connect_timeout)},
	{"first_byte_timeout", IN_SERVER, OPTION_DURATION, "2s", 1, DURATION_MAX, NULL, KEPT(first_byte_timeout)},
	{"timeout", IN_SERVER, OPTION_DURATION, "30s", 1, DURATION_MAX, NULL, KEPT(timeout)},
	{"hedge_after", IN_SERVER, OPTION_DURATION_OR_OFF, "off", 1, DURATION_MAX, NULL, KEPT(hedge_after)},
	{"breaker_failures", IN_SERVER, OPTION_INT, "5", 0, 1000, NULL, KEPT(breaker_failures)},
	{"breaker_cooldown", IN_SERVER, OPTION_DURATION, "5s", 1, DURATION_MAX, NULL, KEPT(breaker_cooldown)},
	{"max_image_bytes", IN_SERVER, OPTION_SIZE, "32MB", 1, (double) IMAGE_BYTES_MAX, NULL, KEPT(max_image_bytes)},
	{"on_unavailable", IN_SERVER, OPTION_ENUM, "null", 0, 0, unavailable_values, KEPT(on_unavailable)},
	{"ca_file", IN_SERVER, OPTION_FILE, NULL, 0, 0, NULL, KEPT(ca_file)},
	{"username", IN_USER_MAPPING, OPTION_TEXT, NULL, 0, 0, NULL, KEPT(username)},
	{"password", IN_USER_MAPPING, OPTION_SECRET, NULL, 0, 0, NULL, KEPT(password)},
	{"bearer_token", IN_USER_MAPPING, OPTION_SECRET, NULL, 0, 0, NULL, KEPT(bearer_token)},
	{"access_key_id", IN_USER_MAPPING, OPTION_TEXT, NULL, 0, 0, NULL, KEPT(access_key_id)},
	{"secret_access_key", IN_USER_MAPPING, OPTION_SECRET, NULL, 0, 0, NULL, KEPT(secret_access_key)},
	{"session_token", IN_USER_MAPPING, OPTION_SECRET, NULL, 0, SESSION_TOKEN_MAX, NULL, KEPT(session_token)},
	{"relation", IN_TABLE, OPTION_RELATION, DEFAULT_RELATION, 0, 0, NULL, NOT_KEPT},
	{"column_name", IN_COLUMN, OPTION_TEXT, NULL, 0, 0, NULL, NOT_KEPT},
};

/* Where an option may stand, for hints. */
static const struct
{
	Oid catalog;
	const char *place;
} places[] = {
	{IN_SERVER, "a server"},
	{IN_USER_MAPPING, "a user mapping"},
	{IN_TABLE, "a foreign table"},
	{IN_COLUMN, "a column of a foreign table"},
};

/* --- settings ------------------------------------------------------------------------------------------------------ */

/* tms.on_unavailable: the values of the server option, and "server" to leave it to that option. */
#define UNAVAILABLE_BY_SERVER (-1)

int tms_image_source = TMS_SOURCE_AUTO;
int tms_max_images = 10000;
static int tms_on_unavailable = UNAVAILABLE_BY_SERVER;

static const struct config_enum_entry source_settings[] = {
	{"auto", TMS_SOURCE_AUTO}, {"image_center", TMS_SOURCE_IMAGE_CENTER}, {"front_end", TMS_SOURCE_FRONT_END}, {NULL}};

static const struct config_enum_entry unavailable_settings[] = {
	{"server", UNAVAILABLE_BY_SERVER}, {"null", TMS_UNAVAILABLE_NULL}, {"error", TMS_UNAVAILABLE_ERROR}, {NULL}};

void tms_option_define_settings(void)
{
	DefineCustomEnumVariable("tms.image_source", "Which sources are asked for images.",
							 "auto asks the image center and the front ends in the order that promises most.",
							 &tms_image_source, TMS_SOURCE_AUTO, source_settings, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("tms.on_unavailable", "What an image becomes that no source has.",
							 "null or error; server leaves it to the server's option on_unavailable.",
							 &tms_on_unavailable, UNAVAILABLE_BY_SERVER, unavailable_settings, PGC_USERSET, 0, NULL,
							 NULL, NULL);
	DefineCustomIntVariable("tms.max_images", "Most images that one statement may ask for.",
							"Beyond it the statement fails, so that no careless query drains the front ends.",
							&tms_max_images, 10000, 1, INT_MAX, PGC_USERSET, 0, NULL, NULL, NULL);
}

/* --- names --------------------------------------------------------------------------------------------------------- */

static const Option *option_find(const char *name, Oid catalog)
{
	int i;

	for (i = 0; i < lengthof(options); i++)
	{
		if (options[i].catalog == catalog && strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

/* "a server", where an option of that name may stand; NULL when there is no such option at all. */
static const char *option_place(const char *name)
{
	int i;

	for (i = 0; i < lengthof(places); i++)
	{
		if (option_find(name, places[i].catalog) != NULL)
			return places[i].place;
	}
	return NULL;
}

/* The option of this catalog whose name is nearest to `name`, or NULL when none is near. */
static const char *option_nearest(const char *name, Oid catalog)
{
	const char *nearest = NULL;
	int best = Min(strlen(name) / 2, 4);
	int i;

	if (strlen(name) >= NAMEDATALEN)
		return NULL;
	for (i = 0; i < lengthof(options); i++)
	{
		int distance;

		if (options[i].catalog != catalog)
			continue;
		distance = varstr_levenshtein_less_equal(name, strlen(name), options[i].name, strlen(options[i].name), 1, 1, 1,
												 best, true);
		if (distance <= best && (nearest == NULL || distance < best))
		{
			nearest = options[i].name;
			best = distance;
		}
	}
	return nearest;
}

static const char *option_list(Oid catalog)
{
	StringInfoData names;
	int i;

	initStringInfo(&names);
	for (i = 0; i < lengthof(options); i++)
	{
		if (options[i].catalog == catalog)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", options[i].name);
	}
	return names.data;
}

static void refuse_unknown(const char *name, Oid catalog)
{
	const char *place = option_place(name);
	const char *nearest = option_nearest(name, catalog);
	const char *list = option_list(catalog);

	ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("invalid option \"%s\"", name),
					place != NULL     ? errhint("This is an option of %s.", place)
					: nearest != NULL ? errhint("Perhaps you meant the option \"%s\".", nearest)
					: list[0] != '\0' ? errhint("Valid options here are: %s.", list)
									  : errhint("There are no options here.")));
}

/* --- values -------------------------------------------------------------------------------------------------------- */

static void refuse_value(const Option *option, const char *value, const char *why)
{
	if (option->kind == OPTION_SECRET || option->kind == OPTION_URL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value for option \"%s\"", option->name), errdetail("The value %s.", why)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\": \"%s\"", option->name, value), errdetail("The value %s.", why)));
}

/* A number with or without a unit; refuses what is out of the option's range, in the words of its unit. */
static double read_number(const Option *option, const char *value)
{
	static const struct
	{
		int unit;
		const char *otherwise;
	} kinds[] = {
		[OPTION_INT] = {0, "is not an integer"},
		[OPTION_DURATION] = {GUC_UNIT_MS, "is not a duration such as 500ms, 2s or 1min"},
		[OPTION_DURATION_OR_OFF] = {GUC_UNIT_MS, "is neither \"off\" nor a duration such as 500ms, 2s or 1min"},
		[OPTION_SIZE] = {GUC_UNIT_BYTE, "is not a size such as 512kB, 64MB or 1GB"},
	};
	const char *hint = NULL;
	double number;

	if (!parse_real(value, &number, kinds[option->kind].unit, &hint))
		refuse_value(option, value, kinds[option->kind].otherwise);
	if (option->kind == OPTION_INT && number != rint(number))
		refuse_value(option, value, "is not an integer");
	number = rint(number);
	if (number < option->min || number > option->max)
		refuse_value(option, value,
					 option->kind == OPTION_INT ? psprintf("is outside %.0f to %.0f", option->min, option->max)
					 : option->kind == OPTION_SIZE
						 ? psprintf("is outside %.0f to %.0f bytes", option->min, option->max)
						 : psprintf("is outside %.0f ms to %.0f ms", option->min, option->max));
	return number;
}

static int read_enum(const Option *option, const char *value)
{
	const struct config_enum_entry *entry;
	StringInfoData names;

	initStringInfo(&names);
	for (entry = option->values; entry->name != NULL; entry++)
	{
		if (pg_strcasecmp(entry->name, value) == 0)
			return entry->val;
		appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? " nor " : "", entry->name);
	}
	refuse_value(option, value, psprintf("is neither %s", names.data));
	return 0;
}

static const char *read_text(const Option *option, const char *value)
{
	size_t most = option->max > 0 ? (size_t) option->max : TEXT_MAX;
	const char *c;

	if (value[0] == '\0')
		refuse_value(option, value, "is empty");
	if (strlen(value) > most)
		refuse_value(option, value, psprintf("is longer than %zu bytes", most));
	for (c = value; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 127)
			refuse_value(option, value, "has a control character");
	}
	return pstrdup(value);
}

static const char *read_region(const Option *option, const char *value)
{
	static const char characters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

	if (value[strspn(value, characters)] != '\0' || strlen(value) > REGION_MAX)
		refuse_value(option, value, "is no name of a region");
	return read_text(option, value);
}

static const char *read_url(const Option *option, const char *value)
{
	const char *fault = tms_base_url_fault(read_text(option, value));

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value for option \"%s\"", option->name), errdetail("The URL %s.", fault),
						errhint("Write http://host:port/path; put credentials into a user mapping.")));
	return tms_base_url_trim(value);
}

/* Reads one option's value into its field of *out, or raises an error. */
static void option_read(const Option *option, const char *value, TmsServerOptions *out)
{
	char *field = option->offset == NOT_KEPT ? NULL : (char *) out + option->offset;
	char *schema;
	char *name;

	switch (option->kind)
	{
		case OPTION_BOOL:
			if (!parse_bool(value, (bool *) field))
				refuse_value(option, value, "is neither \"on\" nor \"off\"");
			break;
		case OPTION_INT:
		case OPTION_DURATION:
			*(int *) field = (int) read_number(option, value);
			break;
		case OPTION_DURATION_OR_OFF:
			*(int *) field = pg_strcasecmp(value, "off") == 0 ? 0 : (int) read_number(option, value);
			break;
		case OPTION_SIZE:
			*(int64 *) field = (int64) read_number(option, value);
			break;
		case OPTION_ENUM:
			*(int *) field = read_enum(option, value);
			break;
		case OPTION_REGION:
			*(const char **) field = read_region(option, value);
			break;
		case OPTION_URL:
			*(const char **) field = read_url(option, value);
			break;
		case OPTION_FILE:
			if (!is_absolute_path(read_text(option, value)))
				refuse_value(option, value, "is not an absolute path");
			*(const char **) field = pstrdup(value);
			break;
		case OPTION_TEXT:
		case OPTION_SECRET:
			if (field == NULL)
				read_text(option, value);
			else
				*(const char **) field = read_text(option, value);
			break;
		case OPTION_RELATION:
			if (!tms_qualified_name_parse(value, &schema, &name))
				refuse_value(option, value, "is not a name with its schema, such as public.my_captures");
			break;
	}
}

/* Checks what one value alone cannot tell. */
static void check_together(Oid catalog, const TmsServerOptions *set)
{
	if (catalog == IN_SERVER && set->url == NULL)
		ereport(ERROR, (errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED), errmsg("option \"url\" is required"),
						errhint("Name the image center: OPTIONS (url 'http://host:port/path').")));
	if (catalog != IN_USER_MAPPING)
		return;
	if ((set->username == NULL) != (set->password == NULL))
		ereport(ERROR, (errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
						errmsg("options \"username\" and \"password\" need each other")));
	if ((set->access_key_id == NULL) != (set->secret_access_key == NULL) ||
		(set->session_token != NULL && set->access_key_id == NULL))
		ereport(ERROR, (errcode(ERRCODE_FDW_DYNAMIC_PARAMETER_VALUE_NEEDED),
						errmsg("options \"access_key_id\" and \"secret_access_key\" need each other"),
						set->session_token != NULL ? errdetail("A session token belongs to both.") : 0));
	if (set->access_key_id != NULL && (set->username != NULL || set->bearer_token != NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"access_key_id\" excludes \"username\" and \"bearer_token\""),
				 errdetail("The first is for servers with store \"s3\", the others for those with store \"http\".")));
	if (set->username != NULL && set->bearer_token != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("option \"bearer_token\" excludes \"username\" and \"password\"")));
	if (set->username != NULL && strchr(set->username, ':') != NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid value for option \"username\""),
						errdetail("HTTP allows no colon in a user name.")));
}

PG_FUNCTION_INFO_V1(tms_fdw_validator);

Datum tms_fdw_validator(PG_FUNCTION_ARGS)
{
	List *given = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid catalog = PG_GETARG_OID(1);
	TmsServerOptions set = {0};
	ListCell *lc;

	foreach (lc, given)
	{
		DefElem *def = lfirst_node(DefElem, lc);
		const Option *option = option_find(def->defname, catalog);

		if (option == NULL)
			refuse_unknown(def->defname, catalog);
		if (option->kind == OPTION_FILE && !superuser())
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
							errmsg("only a superuser may set option \"%s\"", option->name),
							errdetail("The server process would read any file of that name.")));
		option_read(option, defGetString(def), &set);
	}
	check_together(catalog, &set);
	PG_RETURN_VOID();
}

/* --- readers ------------------------------------------------------------------------------------------------------- */

/* Options that are not of this version's table are passed over: a newer version may have left them in the catalog. */
static void read_list(List *list, Oid catalog, TmsServerOptions *out)
{
	ListCell *lc;

	foreach (lc, list)
	{
		DefElem *def = lfirst_node(DefElem, lc);
		const Option *option = option_find(def->defname, catalog);

		if (option != NULL)
			option_read(option, defGetString(def), out);
	}
}

/* The user's mapping, or else the one for PUBLIC; no mapping means requests without credentials. */
static void read_user_mapping(Oid serverid, Oid userid, TmsServerOptions *out)
{
	HeapTuple tuple;
	Datum umoptions;
	bool isnull;

	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(userid), ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple))
		tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple))
		return;

	out->umid = ((Form_pg_user_mapping) GETSTRUCT(tuple))->oid;
	umoptions = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	if (!isnull)
		read_list(untransformRelOptions(umoptions), IN_USER_MAPPING, out);
	ReleaseSysCache(tuple);
}

/* Credentials of the other kind of store would be left out of requests, and nobody would know why they are refused. */
static void check_credentials(const TmsServerOptions *options)
{
	bool s3 = options->store == TMS_STORE_S3;

	if (s3 ? options->username == NULL && options->bearer_token == NULL : options->access_key_id == NULL)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
		 errmsg("user mapping does not fit the store of server \"%s\"", options->server_name),
		 errdetail("The store is \"%s\", the user mapping holds credentials of the other kind.", s3 ? "s3" : "http"),
		 s3 ? errhint("Give access_key_id and secret_access_key.")
			: errhint("Set the server's option store to \"s3\", or give username and password, or bearer_token.")));
}

bool tms_server_is_ours(Oid serverid)
{
	ForeignServer *server = GetForeignServer(serverid);

	return strcmp(GetForeignDataWrapper(server->fdwid)->fdwname, "tms_fdw") == 0;
}

static TmsServerOptions *read_server(ForeignServer *server, Oid userid)
{
	TmsServerOptions *out = palloc0(sizeof(TmsServerOptions));
	int i;

	if (!tms_server_is_ours(server->serverid))
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("server \"%s\" is not of the foreign-data wrapper tms_fdw", server->servername)));
	out->serverid = server->serverid;
	out->server_name = pstrdup(server->servername);
	for (i = 0; i < lengthof(options); i++)
	{
		if (options[i].catalog == IN_SERVER && options[i].default_value != NULL)
			option_read(&options[i], options[i].default_value, out);
	}
	read_list(server->options, IN_SERVER, out);
	check_together(IN_SERVER, out);
	read_user_mapping(server->serverid, userid, out);
	check_credentials(out);

	out->source = tms_image_source;
	if (tms_on_unavailable != UNAVAILABLE_BY_SERVER)
		out->on_unavailable = tms_on_unavailable;
	return out;
}

TmsServerOptions *tms_server_options(Oid serverid, Oid userid)
{
	return read_server(GetForeignServer(serverid), userid);
}

TmsServerOptions *tms_server_options_by_name(const char *server_name)
{
	ForeignServer *server = GetForeignServerByName(server_name, false);
	AclResult acl = tms_server_aclcheck(server->serverid, GetUserId(), ACL_USAGE);

	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_FOREIGN_SERVER, server->servername);
	return read_server(server, GetUserId());
}

bool tms_qualified_name_parse(const char *text, char **schema, char **name)
{
	List *parts;
	char *rest = pstrdup(text);

	if (!SplitIdentifierString(rest, '.', &parts) || list_length(parts) != 2)
		return false;
	*schema = linitial(parts);
	*name = lsecond(parts);
	return true;
}

/* The value of a text option in a list, or NULL. */
static const char *list_value(List *list, const char *name)
{
	ListCell *lc;

	foreach (lc, list)
	{
		DefElem *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, name) == 0)
			return defGetString(def);
	}
	return NULL;
}

void tms_table_relation(ForeignTable *table, char **schema, char **name)
{
	const char *relation = list_value(table->options, "relation");

	if (!tms_qualified_name_parse(relation != NULL ? relation : DEFAULT_RELATION, schema, name))
		elog(ERROR, "option \"relation\" of foreign table %u is not a qualified name", table->relid);
}

char *tms_column_name(Oid foreigntableid, AttrNumber attnum)
{
	const char *name = list_value(GetForeignColumnOptions(foreigntableid, attnum), "column_name");

	return name != NULL ? pstrdup(name) : get_attname(foreigntableid, attnum, false);
}
