/*
 * tms.jpeg_info, tms.thumbnail, tms.crop, tms.compose: what common/jpeg* does, as SQL functions.
 *
 * What they allocate in between is malloc'd and freed before anything of PostgreSQL's can raise an error; a cancel stops the
 * work at the next row and is raised here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "common/jpeg_compose.h"
#include "common/jpeg_crop.h"
#include "common/jpeg_info.h"
#include "common/jpeg_thumbnail.h"
#include "tms_ext/compat.h"
#include "tms_ext/jpeg.h"

PG_FUNCTION_INFO_V1(tms_jpeg_info);
PG_FUNCTION_INFO_V1(tms_thumbnail);
PG_FUNCTION_INFO_V1(tms_crop);
PG_FUNCTION_INFO_V1(tms_compose);

static int max_pixels;

void tms_jpeg_init(void)
{
	DefineCustomIntVariable("tms.max_pixels", "Most pixels of a photograph that is decoded, and of one that is made.",
							"Larger ones are refused before memory is taken; decoding takes up to eight bytes a pixel.",
							&max_pixels, 100000000, 1, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
}

/* --- work --- */

/* Asked at every row. True only when CHECK_FOR_INTERRUPTS would do something. */
static bool is_interrupted(void)
{
	return InterruptPending && InterruptHoldoffCount == 0 && QueryCancelHoldoffCount == 0 && CritSectionCount == 0;
}

/* One call's work: a function of common/jpeg* with its arguments. */
typedef TmsStatus Work(TmsJpegJob *job, const void *arguments);

static int sqlstate_of(TmsStatus status)
{
	switch (status)
	{
		case TMS_INVALID:
			return ERRCODE_INVALID_PARAMETER_VALUE;
		case TMS_UNSUPPORTED:
			return ERRCODE_FEATURE_NOT_SUPPORTED;
		case TMS_TOO_LARGE:
			return ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		case TMS_MEMORY:
			return ERRCODE_OUT_OF_MEMORY;
		default:
			return ERRCODE_INVALID_BINARY_REPRESENTATION;
	}
}

static void raise_failure(TmsStatus status, const TmsJpegJob *job, const char *what)
{
	ereport(ERROR, errcode(sqlstate_of(status)), errmsg("cannot %s", what), errdetail("%s.", job->error),
			status == TMS_TOO_LARGE
				? errhint("The setting tms.max_pixels limits the pixels of what is decoded and made.")
				: 0,
			status == TMS_UNSUPPORTED
				? errhint("Read are 8 bits a sample, sequential and progressive, Huffman and arithmetic coding.")
				: 0);
}

/* The job's result as bytea. What the job owns is freed before anything is raised. */
static bytea *take_result(TmsJpegJob *job)
{
	bytea *result = job->result_len <= MaxAllocSize - VARHDRSZ
						? palloc_extended(job->result_len + VARHDRSZ, MCXT_ALLOC_NO_OOM)
						: NULL;

	if (result != NULL)
	{
		SET_VARSIZE(result, job->result_len + VARHDRSZ);
		memcpy(VARDATA(result), job->result, job->result_len);
	}
	free(job->result);
	if (result == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
				errdetail("Failed on an image of %zu bytes.", job->result_len));
	return result;
}

/* Does the work; `what` is what it does, for messages. */
static bytea *run_work(Work *work, const void *arguments, const char *what)
{
	TmsJpegJob job;
	TmsStatus status;
	bytea *result;

	/* An interrupt that raises no error (a barrier, say) has only interrupted: begin again. */
	do
	{
		CHECK_FOR_INTERRUPTS();
		job = (TmsJpegJob){.max_pixels = max_pixels, .stop = is_interrupted};
		status = work(&job, arguments);
	} while (status == TMS_STOPPED);
	if (status != TMS_OK)
		raise_failure(status, &job, what);
	result = take_result(&job);
	if (job.damage[0] != '\0')
		ereport(WARNING, errcode(ERRCODE_WARNING), errmsg("the image is damaged: what could not be decoded is gray"),
				errdetail("%s.", job.damage));
	return result;
}

static void check_range(const char *name, int value, int least, int most)
{
	if (value < least || value > most)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is %d", name, value),
				errdetail("It must be between %d and %d.", least, most));
}

/* --- tms.jpeg_info --- */

static Datum taken_at(const TmsExif *exif)
{
	Timestamp days = date2j(exif->taken.year, exif->taken.month, exif->taken.day) - POSTGRES_EPOCH_JDATE;
	Timestamp seconds = exif->taken.hour * SECS_PER_HOUR + exif->taken.minute * SECS_PER_MINUTE + exif->taken.second;

	return TimestampGetDatum(days * USECS_PER_DAY + seconds * USECS_PER_SEC);
}

/* A text of the file, NULL when it is empty. */
static Datum text_or_null(const char *text, bool *is_null)
{
	*is_null = text[0] == '\0';
	return *is_null ? (Datum) 0 : CStringGetTextDatum(text);
}

Datum tms_jpeg_info(PG_FUNCTION_ARGS)
{
	bytea *image = PG_GETARG_BYTEA_PP(0);
	TmsJpegDescription told = tms_jpeg_describe((uint8 *) VARDATA_ANY(image), VARSIZE_ANY_EXHDR(image));
	TupleDesc desc;
	Datum values[12] = {0};
	bool nulls[12] = {0};

	if (told.info.state == TMS_JPEG_NOT)
		ereport(ERROR, errcode(ERRCODE_INVALID_BINARY_REPRESENTATION), errmsg("not a JPEG"),
				errdetail("The %d bytes lack the start marker or the frame header of a JPEG.",
						  (int) VARSIZE_ANY_EXHDR(image)));
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != lengthof(values))
		elog(ERROR, "tms.jpeg_info does not return the row of this library");
	values[0] = Int32GetDatum(told.info.width);
	values[1] = Int32GetDatum(told.info.height);
	values[2] = Int32GetDatum(told.info.components);
	values[3] = text_or_null(told.subsampling, &nulls[3]);
	values[4] = Int32GetDatum(told.info.bits);
	values[5] = BoolGetDatum(told.info.progressive);
	values[6] = Int32GetDatum(told.quality);
	nulls[6] = told.quality == 0;
	values[7] = BoolGetDatum(told.info.state == TMS_JPEG_COMPLETE);
	nulls[8] = told.exif.taken.year == 0;
	values[8] = nulls[8] ? (Datum) 0 : taken_at(&told.exif);
	values[9] = Int32GetDatum(told.exif.orientation);
	nulls[9] = told.exif.orientation == 0;
	values[10] = text_or_null(told.exif.make, &nulls[10]);
	values[11] = text_or_null(told.exif.model, &nulls[11]);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* --- tms.thumbnail --- */

typedef struct ThumbnailArguments
{
	const bytea *image;
	int max_side, quality;
} ThumbnailArguments;

static TmsStatus thumbnail(TmsJpegJob *job, const void *arguments)
{
	const ThumbnailArguments *given = arguments;

	return tms_jpeg_thumbnail(job, (const uint8 *) VARDATA_ANY(given->image), VARSIZE_ANY_EXHDR(given->image),
							  given->max_side, given->quality);
}

Datum tms_thumbnail(PG_FUNCTION_ARGS)
{
	ThumbnailArguments given = {
		.image = PG_GETARG_BYTEA_PP(0), .max_side = PG_GETARG_INT32(1), .quality = PG_GETARG_INT32(2)};

	check_range("max_side", given.max_side, 1, INT_MAX);
	check_range("quality", given.quality, 1, 100);
	PG_RETURN_BYTEA_P(run_work(thumbnail, &given, "make a thumbnail of the image"));
}

/* --- tms.crop --- */

typedef struct CropArguments
{
	const bytea *image;
	TmsJpegBox box;
	bool exact;
} CropArguments;

static TmsStatus crop(TmsJpegJob *job, const void *arguments)
{
	const CropArguments *given = arguments;

	return tms_jpeg_crop(job, (const uint8 *) VARDATA_ANY(given->image), VARSIZE_ANY_EXHDR(given->image), &given->box,
						 given->exact);
}

Datum tms_crop(PG_FUNCTION_ARGS)
{
	CropArguments given = {.image = PG_GETARG_BYTEA_PP(0), .exact = PG_GETARG_BOOL(5)};

	given.box = (TmsJpegBox){
		.x = PG_GETARG_INT32(1), .y = PG_GETARG_INT32(2), .width = PG_GETARG_INT32(3), .height = PG_GETARG_INT32(4)};
	check_range("w", given.box.width, 1, INT_MAX);
	check_range("h", given.box.height, 1, INT_MAX);
	PG_RETURN_BYTEA_P(run_work(crop, &given, "crop the image"));
}

/* --- tms.compose --- */

typedef struct ComposeArguments
{
	TmsJpegPart *parts;
	int count, columns, max_side, quality;
} ComposeArguments;

/* The job's reason also says which image is meant. */
static TmsStatus compose(TmsJpegJob *job, const void *arguments)
{
	const ComposeArguments *given = arguments;
	char reason[TMS_JPEG_TEXT_SIZE];
	int failed;
	TmsStatus status =
		tms_jpeg_compose(job, given->parts, given->count, given->columns, given->max_side, given->quality, &failed);

	if (status != TMS_OK && failed >= 0)
	{
		strlcpy(reason, job->error, sizeof(reason));
		snprintf(job->error, sizeof(job->error), "Image %d: %.200s", failed + 1, reason);
	}
	return status;
}

/* Takes the images of an array, NULLs too; how many there are. */
static int take_parts(ComposeArguments *given, Datum *images, const bool *nulls)
{
	int present = 0;

	given->parts = palloc0(sizeof(TmsJpegPart) * given->count);
	for (int i = 0; i < given->count; i++)
	{
		bytea *image;

		if (nulls[i])
			continue;
		image = DatumGetByteaPP(images[i]);
		given->parts[i].data = (const uint8 *) VARDATA_ANY(image);
		given->parts[i].len = VARSIZE_ANY_EXHDR(image);
		present++;
	}
	return present;
}

Datum tms_compose(PG_FUNCTION_ARGS)
{
	ComposeArguments given = {
		.columns = PG_GETARG_INT32(1), .max_side = PG_GETARG_INT32(2), .quality = PG_GETARG_INT32(3)};
	Datum *images;
	bool *nulls;

	check_range("columns", given.columns, 1, INT_MAX);
	check_range("max_side", given.max_side, 1, INT_MAX);
	check_range("quality", given.quality, 1, 100);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), BYTEAOID, -1, false, TYPALIGN_INT, &images, &nulls, &given.count);
	if (take_parts(&given, images, nulls) == 0)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(run_work(compose, &given, "compose the images"));
}
