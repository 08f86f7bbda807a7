/*
 * Executing a scan.
 *
 * A row's way: the path query's executor -> fresh -> (conditions that need no image) -> ahead, its image asked for ->
 * current, its image waited for, shown to the outer query -> kept or gone. Order never changes.
 *
 * Invariants: every row is in exactly one of fresh, ahead, kept, or is current; n_ahead is the length of ahead. Only rows in
 * ahead, kept and current have images. `kept` has all rows delivered since the start unless kept_all is false, and then none.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "foreign/fdwapi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "tms_ext/compat.h"
#include "tms_fdw/device.h"
#include "tms_fdw/look_ahead.h"
#include "tms_fdw/option.h"
#include "tms_fdw/path_query.h"
#include "tms_fdw/path_run.h"
#include "tms_fdw/plan.h"
#include "tms_fdw/scan.h"

/* Rows taken from the path query at a time: at first, and at most. */
#define FIRST_BATCH   4
#define LARGEST_BATCH 256

typedef struct Row
{
	dlist_node node;
	MinimalTuple tuple;
	TmsImage *image; /* NULL: none asked for */
	int64 image_bytes; /* of an image that was asked for; -1: unknown */
} Row;

typedef struct TmsScan
{
	Oid userid; /* whose rights count: of who began the scan, whoever fetches from the cursor */

	/* from the plan */
	Query *query;
	bool fast_start; /* of the path query */
	List *before; /* conditions, as expressions */
	int *sources; /* per attribute, see plan.h */
	int keys[TMS_KEY_COUNT];
	bool fetches;
	int expected; /* rows, see TMS_PLAN_EXPECTED */
	int at_most; /* rows, see TMS_PLAN_AT_MOST */

	/* the path query and its parameters */
	MemoryContext param_context; /* values of the parameters */
	List *param_exprs;
	List *param_states;
	ParamListInfo params;
	PlannedStmt *plan;
	TmsPathRun *run; /* NULL: not started, or to be started again */
	bool ended; /* the path query has no more rows */
	uint64 batch;

	/* rows */
	MemoryContext row_context;
	TupleTableSlot *row_slot; /* a row of the path query, taken apart */
	ExprContext *before_context;
	ExprState *before_state;
	dlist_head fresh;
	dlist_head ahead;
	int n_ahead;
	Row *current;
	dlist_head kept;
	bool keep; /* may the outer query want all rows again? */
	bool kept_all;
	Size kept_bytes;
	Size kept_limit;

	/* images */
	MemoryContext image_context;
	TmsServerOptions *options;
	TmsDeviceCache *devices; /* for expected_source; NULL until then */
	TmsImageSet *images;
	TmsLookAhead look_ahead; /* of the rows in ahead; only when this scan fetches */
	TmsFetchCounters counters;
} TmsScan;

/* --- parameters ---------------------------------------------------------------------------------------------------- */

/* Is this parameter the same for the whole execution of the outer query? */
static bool is_constant(Node *expr)
{
	return IsA(expr, Param) && ((Param *) expr)->paramkind == PARAM_EXTERN;
}

/*
 * Evaluates the parameters anew: for planning only those that are constant, which the planner may use as such, for a run all
 * of them.
 */
static void evaluate_params(TmsScan *scan, bool constant_only)
{
	ExprContext *econtext = scan->before_context;
	ListCell *expr;
	ListCell *state;
	int i = 0;

	MemoryContextReset(scan->param_context);
	forboth(expr, scan->param_exprs, state, scan->param_states)
	{
		Node *node = lfirst(expr);
		ParamExternData *param = &scan->params->params[i++];
		int16 length;
		bool by_value;

		MemSet(param, 0, sizeof(*param));
		if (constant_only && !is_constant(node))
			continue;
		param->ptype = exprType(node);
		param->pflags = is_constant(node) ? PARAM_FLAG_CONST : 0;
		param->value = ExecEvalExprSwitchContext((ExprState *) lfirst(state), econtext, &param->isnull);
		get_typlenbyval(param->ptype, &length, &by_value);
		if (!param->isnull && !by_value)
		{
			MemoryContext old = MemoryContextSwitchTo(scan->param_context);

			param->value = datumCopy(param->value, by_value, length);
			MemoryContextSwitchTo(old);
		}
	}
	ResetExprContext(econtext);
}

/* --- begin --------------------------------------------------------------------------------------------------------- */

static void unpack_plan(TmsScan *scan, ForeignScan *plan)
{
	List *sources = list_nth(plan->fdw_private, TMS_PLAN_SOURCES);
	List *keys = list_nth(plan->fdw_private, TMS_PLAN_KEYS);
	int n_params = intVal(list_nth(plan->fdw_private, TMS_PLAN_PARAMS));
	int i;

	scan->query = list_nth_node(Query, plan->fdw_private, TMS_PLAN_QUERY);
	scan->expected = intVal(list_nth(plan->fdw_private, TMS_PLAN_EXPECTED));
	scan->at_most = intVal(list_nth(plan->fdw_private, TMS_PLAN_AT_MOST));
	scan->fast_start = intVal(list_nth(plan->fdw_private, TMS_PLAN_FAST_START)) != 0;
	scan->sources = palloc(list_length(sources) * sizeof(int));
	for (i = 0; i < list_length(sources); i++)
	{
		scan->sources[i] = list_nth_int(sources, i);
		scan->fetches |= scan->sources[i] <= -(int) TMS_COLUMN_IMAGE;
	}
	for (i = 0; i < TMS_KEY_COUNT; i++)
		scan->keys[i] = list_nth_int(keys, i);
	scan->param_exprs = list_truncate(list_copy(plan->fdw_exprs), n_params);
	scan->before = list_copy_tail(plan->fdw_exprs, n_params);
}

/* Plans the path query with what is known for the whole execution. */
static void plan_path_query(TmsScan *scan, ForeignScanState *node)
{
	MemoryContext old = MemoryContextSwitchTo(node->ss.ps.state->es_query_cxt);

	evaluate_params(scan, true);
	scan->plan = tms_path_query_plan(scan->query, scan->userid, scan->params, scan->fast_start);
	MemoryContextSwitchTo(old);
}

static void read_options(TmsScan *scan, ForeignScanState *node)
{
	Oid serverid = GetForeignServerIdByRelId(RelationGetRelid(node->ss.ss_currentRelation));

	scan->options = tms_server_options(serverid, scan->userid);
	scan->kept_limit = scan->options->prefetch_memory / 2;
}

void tms_scan_begin(ForeignScanState *node, int eflags)
{
	EState *estate = node->ss.ps.state;
	TmsScan *scan = palloc0(sizeof(TmsScan));

	node->fdw_state = scan;
	unpack_plan(scan, (ForeignScan *) node->ss.ps.plan);
	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;

	scan->userid = tms_scan_check_as_user((ForeignScan *) node->ss.ps.plan, estate);
	if (!OidIsValid(scan->userid))
		scan->userid = GetUserId();
	scan->param_context = AllocSetContextCreate(estate->es_query_cxt, "tms parameters", ALLOCSET_SMALL_SIZES);
	scan->row_context = AllocSetContextCreate(estate->es_query_cxt, "tms rows", ALLOCSET_DEFAULT_SIZES);
	scan->image_context = AllocSetContextCreate(estate->es_query_cxt, "tms images of a scan", ALLOCSET_SMALL_SIZES);
	scan->param_states = ExecInitExprList(scan->param_exprs, (PlanState *) node);
	scan->params = makeParamList(list_length(scan->param_exprs));
	scan->before_state = ExecInitQual(scan->before, (PlanState *) node);
	scan->before_context = CreateExprContext(estate);
	dlist_init(&scan->fresh);
	dlist_init(&scan->ahead);
	dlist_init(&scan->kept);
	scan->keep = (eflags & EXEC_FLAG_REWIND) != 0;
	scan->kept_limit = (Size) work_mem * 1024;
	if (scan->fetches)
		read_options(scan, node);

	/* Inside EvalPlanQual the rows come from elsewhere, and most scans are never run. */
	if (estate->es_epq_active == NULL)
		plan_path_query(scan, node);
}

/* --- rows ---------------------------------------------------------------------------------------------------------- */

static void receive_row(void *owner, MinimalTuple tuple)
{
	TmsScan *scan = owner;
	Row *row = palloc0(sizeof(Row));

	row->tuple = tuple;
	dlist_push_tail(&scan->fresh, &row->node);
}

static void free_row(TmsScan *scan, Row *row)
{
	if (row->image != NULL)
		tms_image_release(scan->images, row->image);
	pfree(row->tuple);
	pfree(row);
}

static void start_run(TmsScan *scan, ForeignScanState *node)
{
	EState *estate = node->ss.ps.state;

	if (scan->plan == NULL)
		plan_path_query(scan, node);
	evaluate_params(scan, false);
	scan->run =
		tms_path_run_start(estate->es_query_cxt, scan->plan, scan->params, estate->es_snapshot, receive_row, scan);
	if (scan->row_slot == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);

		scan->row_slot = ExecInitExtraTupleSlot(estate, CreateTupleDescCopy(tms_path_run_descriptor(scan->run)),
												&TTSOpsMinimalTuple);
		MemoryContextSwitchTo(old);
	}
	scan->ended = false;
	scan->batch = FIRST_BATCH;
	if (scan->fetches)
		tms_look_ahead_begin(&scan->look_ahead, scan->options, scan->expected, scan->at_most);
	scan->kept_all = scan->keep;
	scan->kept_bytes = 0;
}

/* Ends the run with all its rows and images; the next row starts another one. */
static void stop_run(TmsScan *scan)
{
	if (scan->run == NULL)
		return;
	if (scan->images != NULL)
		tms_image_set_destroy(scan->images);
	scan->images = NULL;
	ExecClearTuple(scan->row_slot);
	tms_path_run_stop(scan->run);
	scan->run = NULL;
	scan->current = NULL;
	scan->n_ahead = 0;
	dlist_init(&scan->fresh);
	dlist_init(&scan->ahead);
	dlist_init(&scan->kept);
	MemoryContextReset(scan->row_context);
}

/* The next row of the path query, or NULL after the last. */
static Row *next_fresh_row(TmsScan *scan)
{
	if (dlist_is_empty(&scan->fresh) && !scan->ended)
	{
		MemoryContext old = MemoryContextSwitchTo(scan->row_context);

		scan->ended = !tms_path_run_read(scan->run, scan->batch);
		scan->batch = Min(2 * scan->batch, LARGEST_BATCH);
		MemoryContextSwitchTo(old);
	}
	if (dlist_is_empty(&scan->fresh))
		return NULL;
	return dlist_container(Row, node, dlist_pop_head_node(&scan->fresh));
}

/* --- what a row shows ---------------------------------------------------------------------------------------------- */

static Datum key_value(TmsScan *scan, TmsKey key, bool *isnull)
{
	return slot_getattr(scan->row_slot, scan->keys[key], isnull);
}

/* The value of a column that the path query does not have; the row is in row_slot. */
static Datum own_value(TmsScan *scan, const Row *row, TmsColumnKind kind, bool *isnull)
{
	const TmsImage *image = row->image;
	const char *text = NULL;

	if (kind == TMS_COLUMN_IMAGE)
	{
		*isnull = image == NULL || image->image == NULL;
		return *isnull ? (Datum) 0 : PointerGetDatum(image->image);
	}
	if (kind == TMS_COLUMN_EXPECTED_SOURCE)
	{
		Datum capture_id = key_value(scan, TMS_KEY_CAPTURE_ID, isnull);

		if (scan->devices == NULL)
			scan->devices = tms_device_cache_create(scan->image_context);
		if (!*isnull)
			text = tms_expected_name(tms_device_expected(scan->devices, DatumGetInt64(capture_id)));
	}
	else if (image != NULL)
		text = kind == TMS_COLUMN_IMAGE_SOURCE ? image->source : image->error;
	*isnull = text == NULL;
	return *isnull ? (Datum) 0 : CStringGetTextDatum(text);
}

/* Shows a row in the scan's slot; the row must live as long as it is shown there. */
static void show_row(TmsScan *scan, const Row *row, TupleTableSlot *slot)
{
	int natts = slot->tts_tupleDescriptor->natts;
	int i;

	ExecStoreMinimalTuple(row->tuple, scan->row_slot, false);
	slot_getallattrs(scan->row_slot);
	ExecClearTuple(slot);
	for (i = 0; i < natts; i++)
	{
		int source = scan->sources[i];

		slot->tts_isnull[i] = true;
		if (source > 0)
		{
			slot->tts_values[i] = scan->row_slot->tts_values[source - 1];
			slot->tts_isnull[i] = scan->row_slot->tts_isnull[source - 1];
		}
		else if (source < 0)
			slot->tts_values[i] = own_value(scan, row, -source, &slot->tts_isnull[i]);
	}
	ExecStoreVirtualTuple(slot);
}

/* --- looking ahead ------------------------------------------------------------------------------------------------- */

/* Does a row pass the conditions that need no image? */
static bool passes(TmsScan *scan, const Row *row, TupleTableSlot *slot)
{
	MemoryContext old;
	bool passed;

	if (scan->before_state == NULL)
		return true;
	ResetExprContext(scan->before_context);
	old = MemoryContextSwitchTo(scan->before_context->ecxt_per_tuple_memory);
	show_row(scan, row, slot);
	scan->before_context->ecxt_scantuple = slot;
	passed = ExecQual(scan->before_state, scan->before_context);
	ExecClearTuple(slot);
	MemoryContextSwitchTo(old);
	return passed;
}

/* Asks for the image of a row. */
static void ask_image(TmsScan *scan, Row *row)
{
	TmsImageRequest request = {0};
	bool isnull;
	Datum value;

	if (scan->images == NULL)
		scan->images = tms_image_set_create(scan->image_context, scan->options, &scan->counters);
	ExecStoreMinimalTuple(row->tuple, scan->row_slot, false);

	/* Nothing has the number 0, so a NULL finds no ledger and no device. */
	value = key_value(scan, TMS_KEY_CAPTURE_ID, &isnull);
	request.capture_id = isnull ? 0 : DatumGetInt64(value);
	value = key_value(scan, TMS_KEY_DEVICE_ID, &isnull);
	request.device_id = isnull ? 0 : DatumGetInt32(value);
	value = key_value(scan, TMS_KEY_PATH, &isnull);
	request.path = isnull ? NULL : TextDatumGetCString(value);
	value = key_value(scan, TMS_KEY_IMAGE_BYTES, &isnull);
	request.image_bytes = isnull ? -1 : DatumGetInt32(value);
	value = key_value(scan, TMS_KEY_SHA256, &isnull);
	if (!isnull)
	{
		bytea *sha256 = DatumGetByteaPP(value);

		request.has_sha256 = VARSIZE_ANY_EXHDR(sha256) == sizeof(request.sha256);
		if (request.has_sha256)
			memcpy(request.sha256, VARDATA_ANY(sha256), sizeof(request.sha256));
	}
	row->image = tms_image_submit(scan->images, &request);
	row->image_bytes = request.image_bytes;
	tms_look_ahead_asked(&scan->look_ahead, row->image_bytes);
}

/* Is there enough to do without more rows: images under way, and one that the outer query can have at once? */
static bool can_deliver(const TmsScan *scan)
{
	const Row *first = dlist_container(Row, node, dlist_head_node(unconstify(dlist_head *, &scan->ahead)));

	return scan->n_ahead > scan->options->concurrency && first->image->state == TMS_IMAGE_SETTLED;
}

/* Takes as many rows ahead as makes sense; false when there is no row left at all. */
static bool fill_ahead(TmsScan *scan, TupleTableSlot *slot)
{
	while (scan->n_ahead == 0 || (scan->fetches && tms_look_ahead_further(&scan->look_ahead)))
	{
		Row *row;

		CHECK_FOR_INTERRUPTS();
		if (scan->images != NULL && scan->n_ahead > 0 && dlist_is_empty(&scan->fresh))
		{
			/* The path query may take its time, so requests are on their way meanwhile. */
			if (scan->ended || can_deliver(scan))
				break;
			tms_image_go_on(scan->images);
		}
		row = next_fresh_row(scan);
		if (row == NULL)
			break;
		if (!passes(scan, row, slot))
		{
			free_row(scan, row);
			continue;
		}
		if (scan->fetches)
			ask_image(scan, row);
		dlist_push_tail(&scan->ahead, &row->node);
		scan->n_ahead++;
	}
	return scan->n_ahead > 0;
}

/* --- delivered rows ------------------------------------------------------------------------------------------------ */

static void drop_kept(TmsScan *scan)
{
	while (!dlist_is_empty(&scan->kept))
		free_row(scan, dlist_container(Row, node, dlist_pop_head_node(&scan->kept)));
	scan->kept_all = false;
}

/* The outer query is done with the current row: keeps it for a rescan, or lets it go. */
static void retire_current(TmsScan *scan)
{
	Row *row = scan->current;

	if (row == NULL)
		return;
	scan->current = NULL;
	if (!scan->kept_all)
	{
		free_row(scan, row);
		return;
	}
	dlist_push_tail(&scan->kept, &row->node);
	scan->kept_bytes += row->tuple->t_len;
	if (row->image != NULL && row->image->image != NULL)
		scan->kept_bytes += VARSIZE(row->image->image);
	if (scan->kept_bytes > scan->kept_limit)
		drop_kept(scan);
}

/* Puts all delivered rows back in front; they are asked for only once. */
static void rewind_kept(TmsScan *scan)
{
	retire_current(scan);
	if (!scan->kept_all)
	{
		stop_run(scan);
		return;
	}
	while (!dlist_is_empty(&scan->kept))
	{
		dlist_node *last = dlist_tail_node(&scan->kept);

		dlist_delete(last);
		dlist_push_head(&scan->ahead, last);
		scan->n_ahead++;
		if (scan->fetches)
			tms_look_ahead_returned(&scan->look_ahead, dlist_container(Row, node, last)->image_bytes);
	}
	scan->kept_bytes = 0;
}

/* --- callbacks ----------------------------------------------------------------------------------------------------- */

TupleTableSlot *tms_scan_iterate(ForeignScanState *node)
{
	TmsScan *scan = node->fdw_state;
	TupleTableSlot *slot = node->ss.ss_ScanTupleSlot;

	retire_current(scan);
	if (scan->run == NULL)
		start_run(scan, node);
	if (!fill_ahead(scan, slot))
		return ExecClearTuple(slot);

	scan->current = dlist_container(Row, node, dlist_pop_head_node(&scan->ahead));
	scan->n_ahead--;
	if (scan->current->image != NULL)
	{
		tms_look_ahead_taken(&scan->look_ahead, scan->current->image_bytes);
		tms_image_wait(scan->images, scan->current->image);
	}
	show_row(scan, scan->current, slot);
	return slot;
}

void tms_scan_rescan(ForeignScanState *node)
{
	TmsScan *scan = node->fdw_state;

	ExecClearTuple(node->ss.ss_ScanTupleSlot);
	if (scan->run == NULL)
		return;
	if (node->ss.ps.chgParam == NULL)
		rewind_kept(scan);
	else
		stop_run(scan);
}

void tms_scan_end(ForeignScanState *node)
{
	TmsScan *scan = node->fdw_state;

	if (scan != NULL)
		stop_run(scan);
}

TmsScanReport tms_scan_report(ForeignScanState *node)
{
	TmsScan *scan = node->fdw_state;
	TmsScanReport report = {scan->query, scan->before, scan->fetches, scan->counters};

	return report;
}
