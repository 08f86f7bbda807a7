/*
 * tms.images: many images by their capture_ids, in order, fetched concurrently and handed out one by one.
 *
 * Captures are looked up and their images asked for ahead of the one that is wanted (look_ahead.h), so that memory is bounded
 * by prefetch_memory however long the array is. Everything lives in the multi-call context: a caller that stops early, or an
 * error, ends the requests by deleting it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "tms_ext/compat.h"
#include "tms_fdw/image.h"
#include "tms_fdw/look_ahead.h"
#include "tms_fdw/option.h"

PG_FUNCTION_INFO_V1(tms_images);

/* One element of the array, from its lookup until its row was returned. */
typedef struct Element
{
	dlist_node node;
	bool is_null;
	int64 capture_id;
	int64 image_bytes;
	TmsImage *image; /* NULL: no such capture */
} Element;

typedef struct Images
{
	Datum *ids;
	bool *nulls;
	int n;
	int next; /* the first one not looked up yet */
	dlist_head ahead;
	Element *current; /* its row was returned last */
	TmsImageSet *set;
	TmsServerOptions *options;
	TmsLookAhead look_ahead;
	TmsFetchCounters counters;
} Images;

/* Begins, in the current context, which owns everything. */
static Images *begin_images(ArrayType *array, const char *server_name, bool takes_all)
{
	Images *images = palloc0(sizeof(Images));

	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &images->ids, &images->nulls,
					  &images->n);
	dlist_init(&images->ahead);
	images->options = tms_server_options_by_name(server_name);
	images->set = tms_image_set_create(CurrentMemoryContext, images->options, &images->counters);
	tms_look_ahead_begin(&images->look_ahead, images->options, takes_all ? TMS_LOOK_AHEAD_ALL : 1, 0);
	return images;
}

/* Looks up the next element and asks for its image. */
static void ask_next(Images *images)
{
	Element *element = palloc0(sizeof(Element));
	TmsImageRequest request = {0};

	element->is_null = images->nulls[images->next];
	element->capture_id = element->is_null ? 0 : DatumGetInt64(images->ids[images->next]);
	images->next++;
	dlist_push_tail(&images->ahead, &element->node);
	if (!element->is_null && tms_image_lookup(element->capture_id, &request))
	{
		element->image = tms_image_submit(images->set, &request);
		element->image_bytes = request.image_bytes;
	}
	if (request.path != NULL)
		pfree(unconstify(char *, request.path));
	tms_look_ahead_asked(&images->look_ahead, element->image_bytes);
}

/* Does the caller get the next row at once, with others under way? */
static bool can_deliver(const Images *images)
{
	const Element *first = dlist_container(Element, node, dlist_head_node(unconstify(dlist_head *, &images->ahead)));

	return images->look_ahead.rows > images->options->concurrency &&
		   (first->image == NULL || first->image->state == TMS_IMAGE_SETTLED);
}

/* Looks up as many elements as makes sense; requests go on meanwhile. */
static void fill_ahead(Images *images)
{
	while (images->next < images->n &&
		   (images->look_ahead.rows == 0 || (tms_look_ahead_further(&images->look_ahead) && !can_deliver(images))))
	{
		CHECK_FOR_INTERRUPTS();
		ask_next(images);
		tms_image_go_on(images->set);
	}
}

static void end_current(Images *images)
{
	if (images->current == NULL)
		return;
	if (images->current->image != NULL)
		tms_image_release(images->set, images->current->image);
	pfree(images->current);
	images->current = NULL;
}

/* The row of the current element, in the current context. */
static HeapTuple image_row(TupleDesc desc, const Images *images)
{
	const Element *element = images->current;
	const TmsImage *image = element->image;
	const char *source = image != NULL ? image->source : NULL;
	const char *error = image != NULL ? image->error : "there is no such capture";
	Datum values[4] = {Int64GetDatum(element->capture_id)};
	bool nulls[4] = {element->is_null, image == NULL || image->image == NULL, source == NULL, error == NULL};

	if (!nulls[1])
		values[1] = PointerGetDatum(image->image);
	if (!nulls[2])
		values[2] = CStringGetTextDatum(source);
	if (!nulls[3])
		values[3] = CStringGetTextDatum(error);
	return heap_form_tuple(desc, values, nulls);
}

Datum tms_images(PG_FUNCTION_ARGS)
{
	FuncCallContext *call;
	MemoryContext previous;
	Images *images;
	Datum row;

	if (SRF_IS_FIRSTCALL())
	{
		ReturnSetInfo *caller = (ReturnSetInfo *) fcinfo->resultinfo;
		TupleDesc desc;

		call = SRF_FIRSTCALL_INIT();
		previous = MemoryContextSwitchTo(call->multi_call_memory_ctx);
		if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 4)
			elog(ERROR, "tms.images does not return the row of this library");
		call->tuple_desc = BlessTupleDesc(desc);
		/* FROM stores all rows before it shows any; a select list takes them one by one. */
		call->user_fctx = begin_images(PG_GETARG_ARRAYTYPE_P_COPY(0), text_to_cstring(PG_GETARG_TEXT_PP(1)),
									   (caller->allowedModes & SFRM_Materialize_Preferred) != 0);
		MemoryContextSwitchTo(previous);
	}
	call = SRF_PERCALL_SETUP();
	images = call->user_fctx;
	previous = MemoryContextSwitchTo(call->multi_call_memory_ctx);
	end_current(images);
	fill_ahead(images);
	MemoryContextSwitchTo(previous);
	if (dlist_is_empty(&images->ahead))
		SRF_RETURN_DONE(call);
	images->current = dlist_container(Element, node, dlist_pop_head_node(&images->ahead));
	tms_look_ahead_taken(&images->look_ahead, images->current->image_bytes);
	if (images->current->image != NULL)
		tms_image_wait(images->set, images->current->image);
	/* SRF_RETURN_NEXT counts before it looks at its argument. */
	row = HeapTupleGetDatum(image_row(call->tuple_desc, images));
	SRF_RETURN_NEXT(call, row);
}
