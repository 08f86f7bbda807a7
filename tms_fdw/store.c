/*
 * What an image center holds: tms.list_objects, and tms.get_objects for objects that are no images.
 *
 * A store may list anything, for ever: pages and objects of one call are counted, a page that leads back to itself is an
 * error, and a folder is only gone into when its name is one that agents make.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "common/object_path.h"
#include "common/s3_list.h"
#include "tms_ext/json_text.h"
#include "tms_fdw/option.h"
#include "tms_fdw/source.h"
#include "tms_fdw/store_get.h"

#define PAGE_BYTES_MAX INT64CONST(67108864)
#define PAGES_MAX      100000
#define OBJECTS_MAX    INT64CONST(10000000)

PG_FUNCTION_INFO_V1(tms_store_list);
PG_FUNCTION_INFO_V1(tms_store_get_objects);

/* --- rows --- */

typedef struct Rows
{
	Tuplestorestate *store;
	TupleDesc desc;
} Rows;

/* Makes the set that a function of this many columns returns. */
static Rows begin_rows(FunctionCallInfo fcinfo, int columns)
{
	ReturnSetInfo *caller = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext previous;
	Rows rows;

	if (caller == NULL || !IsA(caller, ReturnSetInfo) || (caller->allowedModes & SFRM_Materialize) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("this function returns a set: put it into FROM")));
	previous = MemoryContextSwitchTo(caller->econtext->ecxt_per_query_memory);
	if (get_call_result_type(fcinfo, NULL, &rows.desc) != TYPEFUNC_COMPOSITE || rows.desc->natts != columns)
		elog(ERROR, "the function does not return the row of this library");
	rows.desc = CreateTupleDescCopy(rows.desc);
	rows.store = tuplestore_begin_heap(true, false, work_mem);
	caller->returnMode = SFRM_Materialize;
	caller->setResult = rows.store;
	caller->setDesc = rows.desc;
	MemoryContextSwitchTo(previous);
	return rows;
}

/* --- listing --- */

typedef struct Listing
{
	const TmsServerOptions *options;
	Rows rows;
	bool recursive;
	MemoryContext page; /* reset with every page */
	int pages;
	int64 objects;
} Listing;

/* One object, or one folder, whose bytes are -1. */
static void add_object(Listing *listing, const char *key, int64 bytes)
{
	Datum values[2] = {CStringGetTextDatum(key), Int64GetDatum(bytes)};
	bool nulls[2] = {false, bytes < 0};

	if (++listing->objects > OBJECTS_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the image center lists more than " INT64_FORMAT " objects", OBJECTS_MAX)));
	tuplestore_putvalues(listing->rows.store, listing->rows.desc, values, nulls);
}

/* Gets a page of a list, in the page's context, which is the current one then. NULL: there is no such folder. */
static bytea *get_page(Listing *listing, TmsStoreGet *get, const char *why)
{
	bool s3 = listing->options->store == TMS_STORE_S3;

	if (++listing->pages > PAGES_MAX)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the image center's list has more than %d pages", PAGES_MAX)));
	if (why == NULL)
		tms_store_get(listing->options, get, 1, PAGE_BYTES_MAX);
	if (get->body != NULL || (get->is_absent && !s3))
		return get->body;
	ereport(ERROR, (errcode(get->is_away ? ERRCODE_CONNECTION_FAILURE : ERRCODE_FDW_ERROR),
					errmsg("server \"%s\" does not list its objects: %s", listing->options->server_name,
						   why != NULL ? why : get->problem),
					get->is_away ? 0
					: s3         ? errhint("The user needs the right s3:ListBucket.")
								 : errhint("nginx needs \"autoindex on; autoindex_format json;\" in its location.")));
}

static void not_a_list(const Listing *listing)
{
	ereport(ERROR, (errcode(ERRCODE_FDW_ERROR),
					errmsg("server \"%s\" does not list its objects: what it answers is not a list",
						   listing->options->server_name),
					listing->options->store == TMS_STORE_S3
						? 0
						: errhint("nginx needs \"autoindex on; autoindex_format json;\" in its location.")));
}

/* Adds what a page of an S3 store lists; true with the token of the page that follows. */
static bool read_s3_page(Listing *listing, bytea *body, size_t base_len, char token[TMS_S3_TOKEN_SIZE])
{
	TmsS3List list = {.body = VARDATA_ANY(body), .len = VARSIZE_ANY_EXHDR(body)};
	TmsS3Entry *entry = palloc(sizeof(TmsS3Entry));

	if (!tms_s3_list_valid(list.body, list.len))
		not_a_list(listing);
	while (tms_s3_list_next(&list, entry))
	{
		CHECK_FOR_INTERRUPTS();
		/* Below another base than was asked for: not ours to tell. */
		if (strlen(entry->key) > base_len)
			add_object(listing, entry->key + base_len, entry->is_folder ? -1 : entry->bytes);
	}
	if (!tms_s3_list_ended(&list))
		not_a_list(listing);
	return tms_s3_list_token(list.body, list.len, token);
}

static void list_s3(Listing *listing, const char *folder)
{
	TmsServerOptions bucket = *listing->options;
	char url[TMS_S3_URL_SIZE];
	char base[TMS_S3_KEY_SIZE];
	char token[TMS_S3_TOKEN_SIZE];
	char last_token[TMS_S3_TOKEN_SIZE] = "";
	bool more;

	if (!tms_s3_bucket(bucket.url, url, base))
		ereport(ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("server \"%s\" does not list its objects: its url names no bucket", bucket.server_name)));
	bucket.url = url;
	do
	{
		TmsStoreGet get = {0};
		TmsSigv4Field query[4] = {{"list-type", "2"}, {"prefix", psprintf("%s%s", base, folder)}};
		int count = 2;
		const char *why;

		if (!listing->recursive)
			query[count++] = (TmsSigv4Field){"delimiter", "/"};
		if (last_token[0] != '\0')
			query[count++] = (TmsSigv4Field){"continuation-token", last_token};
		why = tms_source_store_request(&bucket, NULL, query, count, &get.request);
		more = read_s3_page(listing, get_page(listing, &get, why), strlen(base), token);
		if (more && (token[0] == '\0' || strcmp(token, last_token) == 0))
			ereport(ERROR, (errcode(ERRCODE_FDW_ERROR),
							errmsg("server \"%s\" lists its objects without end: a page leads back to itself",
								   bucket.server_name)));
		strlcpy(last_token, token, sizeof(last_token));
		MemoryContextReset(listing->page);
	} while (more);
}

/* Is this the name of one thing, of letters that agents use? */
static bool is_plain_name(const char *name)
{
	return strchr(name, '/') == NULL && tms_storage_path_valid(name, strlen(name));
}

/* Adds one thing of a folder; folders that are to be listed as well go to *folders. */
static void read_http_entry(Listing *listing, const char *folder, Jsonb *entry, List **folders)
{
	JsonbValue value;
	char *key;
	int64 bytes = -1;

	if (!tms_json_member(entry, "name", jbvString, &value))
		not_a_list(listing);
	key = psprintf("%s%s", folder, pnstrdup(value.val.string.val, value.val.string.len));
	if (tms_json_member(entry, "type", jbvString, &value) && value.val.string.len == strlen("directory") &&
		memcmp(value.val.string.val, "directory", strlen("directory")) == 0)
	{
		bool plain = is_plain_name(key + strlen(folder)) && tms_storage_path_valid(key, strlen(key));

		key = psprintf("%s/", key);
		if (plain && listing->recursive)
		{
			MemoryContext previous = MemoryContextSwitchTo(MemoryContextGetParent(listing->page));

			*folders = lappend(*folders, pstrdup(key));
			MemoryContextSwitchTo(previous);
			return;
		}
	}
	else if (!tms_json_member(entry, "size", jbvNumeric, &value) ||
			 !tms_json_whole_number(&value, 0, PG_INT64_MAX, &bytes))
		not_a_list(listing);
	add_object(listing, key, bytes);
}

/* Adds what a folder of a plain HTTP store holds. */
static void read_http_page(Listing *listing, const char *folder, bytea *body, List **folders)
{
	Jsonb *json = tms_json_text_read(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body));
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue value;

	if (json == NULL || !JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json))
		not_a_list(listing);
	iterator = JsonbIteratorInit(&json->root);
	for (token = JsonbIteratorNext(&iterator, &value, true); token != WJB_DONE;
		 token = JsonbIteratorNext(&iterator, &value, true))
	{
		CHECK_FOR_INTERRUPTS();
		if (token != WJB_ELEM)
			continue;
		if (value.type != jbvBinary || !JsonContainerIsObject(value.val.binary.data))
			not_a_list(listing);
		read_http_entry(listing, folder, JsonbValueToJsonb(&value), folders);
	}
}

static void list_http(Listing *listing, const char *folder)
{
	List *folders = list_make1(pstrdup(folder));

	while (folders != NIL)
	{
		char *next = llast(folders);
		TmsStoreGet get = {0};
		MemoryContext previous = MemoryContextSwitchTo(listing->page);
		const char *why;
		bytea *body;

		folders = list_delete_last(folders);
		why = tms_source_store_request(listing->options, next, NULL, 0, &get.request);
		body = get_page(listing, &get, why);
		if (body != NULL)
			read_http_page(listing, next, body, &folders);
		MemoryContextSwitchTo(previous);
		MemoryContextReset(listing->page);
		pfree(next);
	}
}

/* tms.list_objects(server text, folder text, recursive boolean) */
Datum tms_store_list(PG_FUNCTION_ARGS)
{
	char *folder = text_to_cstring(PG_GETARG_TEXT_PP(1));
	size_t len = strlen(folder);
	Listing listing = {.recursive = PG_GETARG_BOOL(2)};
	MemoryContext previous;

	if (len > 0 && (folder[len - 1] != '/' || !tms_storage_path_valid(folder, len - 1)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid folder"),
						errhint("The beginning of object names up to a slash, such as 'gate-1/manifest/', or ''.")));
	listing.options = tms_server_options_by_name(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	listing.rows = begin_rows(fcinfo, 2);
	listing.page = AllocSetContextCreate(CurrentMemoryContext, "tms list of objects", ALLOCSET_DEFAULT_SIZES);
	if (listing.options->store == TMS_STORE_S3)
	{
		previous = MemoryContextSwitchTo(listing.page);
		list_s3(&listing, folder);
		MemoryContextSwitchTo(previous);
	}
	else
		list_http(&listing, folder);
	MemoryContextDelete(listing.page);
	return (Datum) 0;
}

/* --- getting --- */

/* tms.get_objects(server text, objects text[], max_bytes bigint) */
Datum tms_store_get_objects(PG_FUNCTION_ARGS)
{
	TmsServerOptions *options = tms_server_options_by_name(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	int64 max_bytes = PG_GETARG_INT64(2);
	Rows rows = begin_rows(fcinfo, 3);
	TmsStoreGet *gets;
	Datum *objects;
	bool *nulls;
	int count;
	int i;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &objects, &nulls, &count);
	gets = palloc0(sizeof(TmsStoreGet) * Max(count, 1));
	for (i = 0; i < count; i++)
	{
		char *key = nulls[i] ? "" : TextDatumGetCString(objects[i]);

		gets[i].problem = tms_storage_path_valid(key, strlen(key))
							  ? unconstify(char *, tms_source_store_request(options, key, NULL, 0, &gets[i].request))
							  : "not the name of an object of ours";
		gets[i].problem = gets[i].problem != NULL ? pstrdup(gets[i].problem) : NULL;
	}
	tms_store_get(options, gets, count, Min(max_bytes, MaxAllocSize - VARHDRSZ));
	for (i = 0; i < count; i++)
	{
		Datum values[3] = {objects[i], PointerGetDatum(gets[i].body), 0};
		bool is_null[3] = {nulls[i], gets[i].body == NULL, gets[i].problem == NULL};

		if (gets[i].is_away)
			ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE), errmsg("server \"%s\" does not give its objects: %s",
																		options->server_name, gets[i].problem)));
		if (gets[i].problem != NULL)
			values[2] = CStringGetTextDatum(gets[i].problem);
		tuplestore_putvalues(rows.store, rows.desc, values, is_null);
	}
	return (Datum) 0;
}
