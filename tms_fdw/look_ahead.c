/*
 * How far to look ahead. How many rows a client wants now (FETCH 10, a driver's fetch size, a plpgsql loop) only the call of
 * the executor tells; a hook notes it, and puts the note of the outer run back when an inner one ends.
 */
#include "postgres.h"

#include <limits.h>

#include "executor/executor.h"

#include "tms_ext/compat.h"
#include "tms_fdw/look_ahead.h"

#define FEW              4 /* a client that reads one row pays for no more images than this */
#define ROWS_PER_REQUEST 16 /* for each request that may be under way: bounds the rows of tiny images */

typedef struct Run
{
	uint64 number;
	uint64 rows; /* that the caller wants of it; 0: all */
} Run;

static Run current_run;
static uint64 last_run;
static ExecutorRun_hook_type previous_run_hook;

static void note_run(TMS_EXECUTOR_RUN_PARAMETERS)
{
	Run outer = current_run;

	current_run.number = ++last_run;
	current_run.rows = count;
	PG_TRY();
	{
		if (previous_run_hook)
			previous_run_hook(TMS_EXECUTOR_RUN_ARGUMENTS);
		else
			standard_ExecutorRun(TMS_EXECUTOR_RUN_ARGUMENTS);
	}
	PG_FINALLY();
	{
		current_run = outer;
	}
	PG_END_TRY();
}

void tms_look_ahead_init(void)
{
	previous_run_hook = ExecutorRun_hook;
	ExecutorRun_hook = note_run;
}

void tms_look_ahead_begin(TmsLookAhead *look_ahead, const TmsServerOptions *options, int64 expected, int64 at_most)
{
	memset(look_ahead, 0, sizeof(*look_ahead));
	look_ahead->options = options;
	look_ahead->expected = expected;
	look_ahead->at_most = at_most;
}

/* How many images the caller is going to take, the wanted one included, as far as anybody knows. */
static int64 still_wanted(const TmsLookAhead *look_ahead)
{
	int64 by_plan = PG_INT64_MAX;
	int64 by_run = PG_INT64_MAX;

	if (look_ahead->expected == TMS_LOOK_AHEAD_ALL)
		return PG_INT64_MAX;
	if (look_ahead->expected != TMS_LOOK_AHEAD_BY_RUN)
		by_plan = look_ahead->expected - look_ahead->taken;
	if (current_run.rows > 0)
		by_run = (int64) current_run.rows -
				 (look_ahead->run == current_run.number ? look_ahead->taken - look_ahead->taken_before_run : 0);
	return Min(by_plan, by_run);
}

bool tms_look_ahead_further(TmsLookAhead *look_ahead)
{
	const TmsServerOptions *options = look_ahead->options;
	int64 rows = Min(FEW + look_ahead->taken, Max(FEW, options->concurrency));

	if (look_ahead->bytes >= options->prefetch_memory || look_ahead->taken + look_ahead->rows >= tms_max_images)
		return false;
	if (look_ahead->at_most > 0 && look_ahead->taken + look_ahead->rows >= look_ahead->at_most)
		return false;
	rows = Max(rows, still_wanted(look_ahead));
	return look_ahead->rows < Min(rows, ROWS_PER_REQUEST * (int64) options->concurrency);
}

static int64 budget_bytes(const TmsLookAhead *look_ahead, int64 image_bytes)
{
	return image_bytes >= 0 ? image_bytes : look_ahead->options->max_image_bytes;
}

void tms_look_ahead_asked(TmsLookAhead *look_ahead, int64 image_bytes)
{
	look_ahead->rows++;
	look_ahead->bytes += budget_bytes(look_ahead, image_bytes);
}

void tms_look_ahead_taken(TmsLookAhead *look_ahead, int64 image_bytes)
{
	look_ahead->rows--;
	look_ahead->bytes -= budget_bytes(look_ahead, image_bytes);
	if (look_ahead->run != current_run.number)
	{
		look_ahead->run = current_run.number;
		look_ahead->taken_before_run = look_ahead->taken;
	}
	look_ahead->taken++;
}

void tms_look_ahead_returned(TmsLookAhead *look_ahead, int64 image_bytes)
{
	tms_look_ahead_asked(look_ahead, image_bytes);
	look_ahead->taken--;
}
