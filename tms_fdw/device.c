/*
 * Devices and ledgers as the wrapper needs them: read one by one when first asked for, in the snapshot of the query, as the
 * extension's owner. SPI is connected only inside a call.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "common/capture_id.h"
#include "tms_ext/owner.h"
#include "tms_fdw/device.h"

/* Watermarks of one ledger. */
typedef struct Ledger
{
	int32 ledger_no; /* key */
	bool known;
	int64 uploaded_seq;
	int64 uploaded_max;
	int64 cleaned_seq;
} Ledger;

typedef struct DeviceEntry
{
	int32 device_id; /* key */
	TmsDevice *device; /* NULL: there is none */
} DeviceEntry;

struct TmsDeviceCache
{
	MemoryContext context;
	HTAB *devices;
	HTAB *ledgers;
};

/* A query for one row by an integer, with its plan once it was used. */
typedef struct Lookup
{
	const char *text;
	SPIPlanPtr plan;
} Lookup;

static Lookup device_query = {"SELECT d.code, d.site, d.base_url, d.enabled, s.url_key FROM tms.device d "
							  "LEFT JOIN tms.device_secret s USING (device_id) WHERE d.device_id = $1"};
static Lookup ledger_query = {"SELECT uploaded_seq, uploaded_max, cleaned_seq FROM tms.ledger WHERE ledger_no = $1"};

TmsDeviceCache *tms_device_cache_create(MemoryContext context)
{
	TmsDeviceCache *cache = MemoryContextAlloc(context, sizeof(TmsDeviceCache));
	HASHCTL control = {0};

	cache->context = context;
	control.hcxt = context;
	control.keysize = sizeof(int32);
	control.entrysize = sizeof(DeviceEntry);
	cache->devices = hash_create("tms devices", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	control.entrysize = sizeof(Ledger);
	cache->ledgers = hash_create("tms ledgers", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return cache;
}

/* Connects SPI as the extension's owner and runs a query; true when it found its row. To be followed by end_query. */
static bool begin_query(Lookup *query, int32 key, TmsIdentity *saved)
{
	Oid type = INT4OID;
	Datum value = Int32GetDatum(key);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tms_run_as(tms_extension_owner(), saved);
	if (query->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(query->text, 1, &type);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
		query->plan = plan;
	}
	if (SPI_execute_plan(query->plan, &value, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(SPI_result));
	return SPI_processed == 1;
}

static void end_query(const TmsIdentity *saved)
{
	tms_run_back(saved);
	SPI_finish();
}

/* A column of the row found; the Datum lives until end_query. */
static Datum column(int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, isnull);
}

/* A text column of the row found, copied to a context; NULL for NULL. */
static const char *text_column(MemoryContext context, int number)
{
	char *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number);

	return value == NULL ? NULL : MemoryContextStrdup(context, value);
}

static TmsDevice *read_device(TmsDeviceCache *cache, int32 device_id)
{
	TmsDevice *device = NULL;
	TmsIdentity saved;

	if (begin_query(&device_query, device_id, &saved))
	{
		Datum url_key;
		bool isnull;

		device = MemoryContextAllocZero(cache->context, sizeof(TmsDevice));
		device->device_id = device_id;
		device->code = text_column(cache->context, 1);
		device->site = text_column(cache->context, 2);
		device->base_url = text_column(cache->context, 3);
		device->enabled = DatumGetBool(column(4, &isnull)) && !isnull;
		url_key = column(5, &isnull);
		if (!isnull && VARSIZE_ANY_EXHDR(DatumGetByteaPP(url_key)) == TMS_URL_KEY_SIZE)
		{
			device->has_url_key = true;
			memcpy(device->url_key, VARDATA_ANY(DatumGetByteaPP(url_key)), TMS_URL_KEY_SIZE);
		}
	}
	end_query(&saved);
	return device;
}

const TmsDevice *tms_device_get(TmsDeviceCache *cache, int32 device_id)
{
	DeviceEntry *entry = hash_search(cache->devices, &device_id, HASH_FIND, NULL);
	TmsDevice *device;

	if (entry != NULL)
		return entry->device;
	device = read_device(cache, device_id);
	entry = hash_search(cache->devices, &device_id, HASH_ENTER, NULL);
	entry->device = device;
	return device;
}

static void read_ledger(int32 ledger_no, Ledger *ledger)
{
	TmsIdentity saved;

	memset(ledger, 0, sizeof(*ledger));
	ledger->ledger_no = ledger_no;
	ledger->known = begin_query(&ledger_query, ledger_no, &saved);
	if (ledger->known)
	{
		bool isnull; /* the columns are NOT NULL */

		ledger->uploaded_seq = DatumGetInt64(column(1, &isnull));
		ledger->uploaded_max = DatumGetInt64(column(2, &isnull));
		ledger->cleaned_seq = DatumGetInt64(column(3, &isnull));
	}
	end_query(&saved);
}

static const Ledger *get_ledger(TmsDeviceCache *cache, int64 capture_id)
{
	int32 ledger_no = tms_capture_ledger_no(capture_id);
	Ledger *entry = hash_search(cache->ledgers, &ledger_no, HASH_FIND, NULL);
	Ledger ledger;

	if (entry != NULL)
		return entry;
	read_ledger(ledger_no, &ledger);
	entry = hash_search(cache->ledgers, &ledger_no, HASH_ENTER, NULL);
	*entry = ledger;
	return entry;
}

bool tms_device_above_uploaded_max(TmsDeviceCache *cache, int64 capture_id)
{
	const Ledger *ledger = get_ledger(cache, capture_id);

	return ledger->known && tms_capture_seq(capture_id) > ledger->uploaded_max;
}

TmsExpected tms_device_expected(TmsDeviceCache *cache, int64 capture_id)
{
	const Ledger *ledger = get_ledger(cache, capture_id);
	int64 seq = tms_capture_seq(capture_id);
	bool uploaded = seq <= ledger->uploaded_seq;
	bool cleaned = seq <= ledger->cleaned_seq;

	if (!ledger->known)
		return TMS_EXPECTED_BOTH;
	/* Between the two upload watermarks a capture may or may not be uploaded; but it is cleaned only if it is. */
	if (!uploaded && cleaned)
		return seq <= ledger->uploaded_max ? TMS_EXPECTED_IMAGE_CENTER : TMS_EXPECTED_LOST;
	if (!uploaded)
		return TMS_EXPECTED_FRONT_END;
	return cleaned ? TMS_EXPECTED_IMAGE_CENTER : TMS_EXPECTED_BOTH;
}

const char *tms_expected_name(TmsExpected expected)
{
	static const char *const names[] = {
		[TMS_EXPECTED_BOTH] = "both",
		[TMS_EXPECTED_FRONT_END] = "front_end",
		[TMS_EXPECTED_IMAGE_CENTER] = "image_center",
		[TMS_EXPECTED_LOST] = "lost",
	};

	return names[expected];
}
