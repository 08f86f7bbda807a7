/*
 * What EXPLAIN shows of a scan: the path query, the conditions checked before images are asked for, and with ANALYZE what was
 * fetched. Never a URL.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "utils/ruleutils.h"

#include "tms_ext/compat.h"
#include "tms_fdw/explain.h"
#include "tms_fdw/path_query.h"
#include "tms_fdw/scan.h"

/* Prints conditions as the server prints a node's Filter. */
static void show_conditions(const char *label, List *conditions, ForeignScanState *node, ExplainState *es)
{
	List *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, NIL);

	ExplainPropertyText(label, deparse_expression((Node *) make_ands_explicit(conditions), context, es->verbose, false),
						es);
}

/* One line each of what belongs together, as the server does for its own nodes. */
static void show_counters_as_text(const TmsFetchCounters *counters, ExplainState *es)
{
	appendStringInfoSpaces(es->str, es->indent * 2);
	appendStringInfo(es->str, "Images: " INT64_FORMAT "  Bytes: " INT64_FORMAT "  Unavailable: " INT64_FORMAT "\n",
					 counters->images, counters->bytes, counters->unavailable);
	appendStringInfoSpaces(es->str, es->indent * 2);
	appendStringInfo(es->str,
					 "Requests: image center=" INT64_FORMAT " front end=" INT64_FORMAT "  Failovers: " INT64_FORMAT
					 "  Hedges: " INT64_FORMAT "  Digest Failures: " INT64_FORMAT "\n",
					 counters->requests_image_center, counters->requests_front_end, counters->failovers,
					 counters->hedges, counters->digest_failures);
	if (es->timing)
	{
		appendStringInfoSpaces(es->str, es->indent * 2);
		appendStringInfo(es->str, "Image Wait Time: %.3f ms\n", counters->wait_us / 1000.0);
	}
}

static void show_counters(const TmsFetchCounters *counters, ExplainState *es)
{
	if (es->format == EXPLAIN_FORMAT_TEXT)
	{
		show_counters_as_text(counters, es);
		return;
	}
	ExplainPropertyInteger("Images", NULL, counters->images, es);
	ExplainPropertyInteger("Image Bytes", NULL, counters->bytes, es);
	ExplainPropertyInteger("Images Unavailable", NULL, counters->unavailable, es);
	ExplainPropertyInteger("Image Center Requests", NULL, counters->requests_image_center, es);
	ExplainPropertyInteger("Front End Requests", NULL, counters->requests_front_end, es);
	ExplainPropertyInteger("Failovers", NULL, counters->failovers, es);
	ExplainPropertyInteger("Hedges", NULL, counters->hedges, es);
	ExplainPropertyInteger("Digest Failures", NULL, counters->digest_failures, es);
	if (es->timing)
		ExplainPropertyFloat("Image Wait Time", "ms", counters->wait_us / 1000.0, 3, es);
}

void tms_explain_scan(ForeignScanState *node, ExplainState *es)
{
	TmsScanReport report = tms_scan_report(node);

	if (report.before != NIL)
		show_conditions("Filter Before Images", report.before, node, es);
	ExplainPropertyText("Path SQL", tms_path_query_text(report.query), es);
	if (es->analyze && report.fetches)
		show_counters(&report.counters, es);
}
