/*
 * The status page. Figures come from status.c, history and health, captures from the ledger.
 *
 * It refreshes by itself without a script. Photographs are scaled by the browser: each is fetched once, when it is scrolled to,
 * and kept, since what is below a storage path never changes; `/?photographs=0` leaves them out for slow links.
 */
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common/sha256.h"
#include "cleaner_state.h"
#include "clock.h"
#include "health.h"
#include "status.h"
#include "status_chart.h"
#include "status_history.h"
#include "status_page.h"
#include "status_text.h"

#define LATEST      12 /* captures shown */
#define LEDGERS_MAX 1024
#define HOUR        (3600 * CLOCK_SECOND)
#define SOON        (24 * HOUR) /* a disk that is full by then is a problem today */

static const char style[] =
	":root{color-scheme:light "
	"dark;--back:#f3f4f6;--card:#fff;--text:#15181d;--soft:#5d6673;--line:#dfe3e8;--blue:#2166c2;"
	"--good:#1a7f4b;--bad:#b3261e;--badback:#fdecea;--warn:#8a5a00;--warnback:#fff4dc}"
	"@media(prefers-color-scheme:dark){:root{--back:#101317;--card:#1a1e24;--text:#e8eaed;--soft:#9aa4b1;--line:#"
	"2c323a;"
	"--blue:#79b0ff;--good:#5fd098;--bad:#ff9b93;--badback:#3a1b1a;--warn:#f2c46d;--warnback:#352a12}}"
	"*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--text);"
	"font:15px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif}"
	"main{max-width:1080px;margin:0 auto;padding:16px}"
	"header{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 12px;margin:4px 0 14px}"
	"h1{font-size:22px;margin:0;overflow-wrap:anywhere}h2{font-size:16px;margin:26px 0 10px}"
	".badge{padding:1px 10px;border-radius:99px;font-size:13px;font-weight:600;border:1px solid currentColor}"
	".good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}.soft,header time{color:var(--soft)}"
	"header time{margin-left:auto;font-size:13px}"
	".problems{list-style:none;margin:0 0 14px;padding:0;display:grid;gap:6px}"
	".problems li{padding:9px 12px;border-radius:8px;background:var(--warnback);color:var(--warn);border-left:4px "
	"solid;"
	"overflow-wrap:anywhere}.problems li.bad{background:var(--badback);color:var(--bad)}"
	".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:10px}"
	".tile,figure,table,.capture{background:var(--card);border:1px solid var(--line);border-radius:10px}"
	".tile{padding:11px 13px}.tile h3{margin:0;font-size:13px;font-weight:500;color:var(--soft)}"
	".tile b{display:block;font-size:23px;line-height:1.3;font-variant-numeric:tabular-nums}"
	".tile p{margin:0;font-size:13px;color:var(--soft)}meter{width:100%;height:10px}"
	".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(238px,1fr));gap:10px}"
	"figure{margin:0;padding:11px "
	"13px}figcaption{display:flex;justify-content:space-between;font-size:13px;color:var(--soft);"
	"margin-bottom:6px}svg{display:block;width:100%;height:60px;border-bottom:1px solid var(--line)}"
	".area{fill:var(--blue);opacity:.18}.edge{fill:none;stroke:var(--blue);stroke-width:1.5;vector-effect:non-scaling-"
	"stroke}"
	"figcaption "
	"span{white-space:nowrap}.axis{display:flex;justify-content:space-between;font-size:11px;color:var(--soft);margin-"
	"top:2px}"
	".scroll{overflow-x:auto}table{border-collapse:separate;border-spacing:0;width:100%;font-size:14px}"
	"th,td{text-align:left;padding:7px 12px;border-bottom:1px solid var(--line);vertical-align:top}"
	"th{font-size:12px;font-weight:500;color:var(--soft)}tr:last-child "
	"td{border-bottom:0}td.error{overflow-wrap:anywhere;"
	"min-width:200px}td.number,th.number{text-align:right;font-variant-numeric:tabular-nums}"
	".captures{display:grid;grid-template-columns:repeat(auto-fill,minmax(184px,1fr));gap:10px}"
	".capture{overflow:hidden;display:block;color:inherit;text-decoration:none}.capture img{display:block;width:100%;"
	"height:auto;aspect-ratio:16/10;object-fit:cover;background:var(--line)}.capture div{padding:7px "
	"10px;font-size:12px;"
	"color:var(--soft);overflow-wrap:anywhere}.capture div span{white-space:nowrap}.capture "
	"strong{display:block;font-size:15px;color:var(--text)}"
	".wide{grid-column:1/-1;margin:0}footer{margin:26px 0 8px;font-size:13px;color:var(--soft)}a{color:var(--blue)}";

/* Writes text that came from outside, so that it is text in HTML and in its attributes, whatever it holds. */
static void escaped(FILE *out, const char *text)
{
	for (; *text; text++)
		switch (*text)
		{
			case '&':
				fputs("&amp;", out);
				break;
			case '<':
				fputs("&lt;", out);
				break;
			case '>':
				fputs("&gt;", out);
				break;
			case '"':
				fputs("&quot;", out);
				break;
			case '\'':
				fputs("&#39;", out);
				break;
			default:
				fputc((unsigned char) *text < ' ' ? ' ' : *text, out);
		}
}

/* --- what is wrong --- */

/* One line of the list, whose head comes with the first; returns how many there are now. */
static int problem(FILE *out, int count, bool bad, const char *what, const char *why)
{
	if (count == 0)
		fputs("<ul class=\"problems\">\n", out);
	fprintf(out, "<li%s>%s", bad ? " class=\"bad\"" : "", what);
	escaped(out, why);
	fputs("</li>\n", out);
	return count + 1;
}

static int disk_problems(FILE *out, int count, const ServiceContext *context, const StatusFigures *figures)
{
	const char *state = cleaner_state_name();
	char left[STATUS_TEXT_SIZE], text[100];

	if (figures->total_bytes > 0 &&
		figures->free_bytes < figures->total_bytes / 100 * context->config->min_free_percent)
		count =
			problem(out, count, true, "The disk is nearly full: only ", status_text_size(figures->free_bytes, left));
	else if (figures->safe_until && figures->safe_until < figures->at + SOON)
	{
		snprintf(text, sizeof text, "%s, if the image center stays away.",
				 status_text_span(figures->safe_until - figures->at, left));
		count = problem(out, count, true, "The disk is full in ", text);
	}
	if (strcmp(state, "disk_low_stuck") == 0)
		count = problem(out, count, true,
						"Nothing that is safe is left to make room: ", "intake refuses once the disk is full.");
	else if (strcmp(state, "disk_low_early") == 0)
		count = problem(out, count, false, "The disk does not hold a cleaning period: ",
						"photographs that are safe in both centers leave early.");
	if (figures->counts.set_aside > 0)
		count = problem(out, count, false, "Photographs that cannot be uploaded or are damaged: ",
						status_text_count(figures->counts.set_aside, left));
	return count;
}

/* The list of problems, worst first; how many. */
static int write_problems(FILE *out, const ServiceContext *context, const StatusFigures *figures)
{
	static const struct
	{
		HealthPart part;
		bool bad;
		const char *what;
	} rows[] = {
		{HEALTH_INTAKE, true, "Intake: "},           {HEALTH_IMAGE_CENTER, true, "Image center: "},
		{HEALTH_PATH_CENTER, true, "Path center: "}, {HEALTH_CACHE_SERVER, false, "Cache server: "},
		{HEALTH_CLEANER, false, "Cleaner: "},
	};
	int count = 0;

	count = disk_problems(out, count, context, figures);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
	{
		HealthReport report = health_get(rows[i].part);

		if (report.error[0])
			count = problem(out, count, rows[i].bad, rows[i].what, report.error);
	}
	if (strcmp(status_clock_state(), "unsynchronized") == 0)
		count = problem(out, count, false, "The clock is not synchronized: ", "is there an NTP server?");
	if (count > 0)
		fputs("</ul>\n", out);
	return count;
}

/* --- the figures --- */

static void tile(FILE *out, const char *id, const char *title, const char *value, const char *below)
{
	fprintf(out, "<div class=\"tile\" id=\"%s\"><h3>%s</h3><b>%s</b><p>%s</p></div>\n", id, title, value, below);
}

static void backlog_tile(FILE *out, const char *id, const char *title, int64_t backlog, int64_t oldest,
						 int64_t requested, int64_t now)
{
	char value[STATUS_TEXT_SIZE], age[STATUS_TEXT_SIZE], again[STATUS_TEXT_SIZE], below[100] = "nothing waits";

	if (backlog > 0)
		snprintf(below, sizeof below, "the oldest for %s%s%s%s", status_text_span(now - oldest, age),
				 requested ? "; " : "", requested ? status_text_count(requested, again) : "",
				 requested ? " by request" : "");
	tile(out, id, title, status_text_count(backlog, value), below);
}

static void disk_tile(FILE *out, const ServiceContext *context, const StatusFigures *figures)
{
	char value[STATUS_TEXT_SIZE], total[STATUS_TEXT_SIZE], below[300];
	double used;

	if (figures->total_bytes <= 0)
	{
		tile(out, "disk", "Free disk", "?", "not known");
		return;
	}
	used = 100 - 100.0 * (double) figures->free_bytes / (double) figures->total_bytes;
	/* The meter turns yellow late, and red where safe photographs have to leave early. */
	snprintf(
		below, sizeof below,
		"of %s<meter min=\"0\" max=\"100\" low=\"80\" high=\"%d\" optimum=\"0\" value=\"%.1f\">%.0f %% used</meter>",
		status_text_size(figures->total_bytes, total), 100 - context->config->min_free_percent, used, used);
	tile(out, "disk", "Free disk", status_text_size(figures->free_bytes, value), below);
}

static void write_tiles(FILE *out, const ServiceContext *context, const StatusFigures *figures)
{
	const LedgerCounts *counts = &figures->counts;
	char value[STATUS_TEXT_SIZE], below[STATUS_TEXT_SIZE];

	fputs("<section class=\"tiles\">\n", out);
	if (figures->safe_until)
		tile(out, "safe_until", "Safe for", status_text_span(figures->safe_until - figures->at, value),
			 status_text_time(figures->safe_until, below));
	else
		tile(out, "safe_until", "Safe for", figures->per_hour > 0 ? "10 years" : "?",
			 figures->per_hour > 0   ? "or more"
			 : figures->per_hour < 0 ? "not known yet"
									 : "not known: nothing comes in");
	backlog_tile(out, "upload", "To the image center", counts->upload_backlog, counts->upload_oldest,
				 counts->upload_requested, figures->at);
	backlog_tile(out, "register", "To the path center", counts->register_backlog, counts->register_oldest, 0,
				 figures->at);
	tile(out, "intake", "Intake",
		 figures->per_hour < 0 ? "?" : status_text_count((int64_t) (figures->per_hour + 0.5), value),
		 "photographs an hour");
	tile(out, "cache", "Cache", status_text_count(counts->cached, value),
		 status_text_size(counts->cached_bytes, below));
	disk_tile(out, context, figures);
	fputs("</section>\n", out);
}

/* --- the day --- */

static double largest_of(const StatusPoint *points, int count)
{
	double largest = 0;

	for (int i = 0; i < count; i++)
		if (points[i].value > largest)
			largest = points[i].value;
	return largest;
}

static void backlog_chart(FILE *out, const char *title, StatusPoint *points, int count)
{
	char most[STATUS_TEXT_SIZE], top[STATUS_TEXT_SIZE + 16];
	double largest = largest_of(points, count);

	snprintf(top, sizeof top, "most: %s", status_text_count((int64_t) largest, most));
	status_chart(out, title, top, points, count, largest);
}

static void write_charts(FILE *out, const StatusFigures *figures)
{
	StatusSample samples[STATUS_HISTORY_COUNT + 1];
	StatusPoint points[STATUS_HISTORY_COUNT + 1];
	int count = status_history_read(samples);
	char most[STATUS_TEXT_SIZE], top[STATUS_TEXT_SIZE + 16];

	samples[count++] = (StatusSample){.at = clock_steady(),
									  .taken = status_history_taken(),
									  .upload_backlog = figures->counts.upload_backlog,
									  .register_backlog = figures->counts.register_backlog,
									  .free_bytes = figures->free_bytes};
	fputs("<h2>The last 24 hours</h2>\n<section class=\"charts\">\n", out);
	for (int i = 0; i < count; i++)
	{
		int64_t span = i ? samples[i].at - samples[i - 1].at : 0;

		points[i] = (StatusPoint){samples[i].at, -1};
		if (span >= STATUS_HISTORY_STEP / 2) /* over less it says little */
			points[i].value = (double) (samples[i].taken - samples[i - 1].taken) * (double) HOUR / (double) span;
		else if (i > 0)
			points[i].value = points[i - 1].value;
	}
	if (count > 1)
		points[0].value = points[1].value;
	snprintf(top, sizeof top, "most: %s an hour", status_text_count((int64_t) (largest_of(points, count) + 0.5), most));
	status_chart(out, "Intake", top, points, count, largest_of(points, count));
	for (int i = 0; i < count; i++)
		points[i].value = (double) samples[i].upload_backlog;
	backlog_chart(out, "Waiting: image center", points, count);
	for (int i = 0; i < count; i++)
		points[i].value = (double) samples[i].register_backlog;
	backlog_chart(out, "Waiting: path center", points, count);
	for (int i = 0; i < count; i++)
		points[i].value = (double) samples[i].free_bytes;
	snprintf(top, sizeof top, "of %s", status_text_size(figures->total_bytes, most));
	status_chart(out, "Free disk", top, points, count, (double) figures->total_bytes);
	fputs("</section>\n", out);
}

/* --- the last captures --- */

/* Is the entry in the path center? */
static bool registered(const LedgerInfo *ledgers, int count, const LedgerEntry *entry)
{
	for (int i = 0; i < count; i++)
		if (memcmp(ledgers[i].ledger.bytes, entry->ledger.bytes, TMS_UUID_SIZE) == 0)
			return entry->seq <= ledgers[i].confirmed;
	return false;
}

static void write_capture(FILE *out, const LedgerEntry *entry, bool in_path_center, bool photographs)
{
	char time[STATUS_TEXT_SIZE];
	bool uploaded = entry->uploaded_at != 0;

	if (entry->held)
		fprintf(out, "<a class=\"capture\" href=\"" STATUS_PAGE_PHOTOGRAPHS "%s\">", entry->path);
	else
		fputs("<span class=\"capture\">", out);
	if (entry->held && photographs)
		fprintf(out,
				"<img src=\"" STATUS_PAGE_PHOTOGRAPHS "%s\" alt=\"\" loading=\"lazy\" width=\"320\" height=\"200\">",
				entry->path);
	fputs("<div><strong>", out);
	escaped(out, entry->record.plate[0] ? entry->record.plate : "no plate");
	fprintf(out, "</strong>%s<br>seq %" PRId64, status_text_time(entry->record.captured_at, time), entry->seq);
	if (entry->record.has_lane)
		fprintf(out, ", lane %d", entry->record.lane);
	if (entry->record.violation_code[0])
	{
		fputs(", violation ", out);
		escaped(out, entry->record.violation_code);
	}
	fprintf(out, "<br><span class=\"%s\">%s</span>, <span class=\"%s\">%s</span></div>%s\n", uploaded ? "good" : "warn",
			uploaded ? "uploaded" : "not uploaded", in_path_center ? "good" : "warn",
			in_path_center ? "registered" : "not registered", entry->held ? "</a>" : "</span>");
}

static void write_captures(FILE *out, const ServiceContext *context, bool photographs)
{
	LedgerEntry *entries = calloc(LATEST, sizeof *entries);
	LedgerInfo *ledgers = calloc(LEDGERS_MAX, sizeof *ledgers);
	int count = 0, ledger_count = 0;

	fputs("<h2>The last captures</h2>\n<section class=\"captures\">\n", out);
	if (entries && ledgers && ledger_list(context->ledger, ledgers, LEDGERS_MAX, &ledger_count) == TMS_OK &&
		ledger_newest(context->ledger, entries, LATEST, &count) == TMS_OK)
		for (int i = 0; i < count; i++)
			write_capture(out, &entries[i], registered(ledgers, ledger_count, &entries[i]), photographs);
	if (count == 0)
		fputs("<p class=\"soft wide\">Nothing has come in yet.</p>\n", out);
	fputs("</section>\n", out);
	free(entries);
	free(ledgers);
}

/* --- the rest --- */

static void write_errors(FILE *out, int64_t now)
{
	HealthError errors[HEALTH_ERRORS];
	int count = health_errors(errors);
	char age[STATUS_TEXT_SIZE];

	if (count == 0)
		return;
	fputs("<h2>The last errors</h2>\n<div class=\"scroll\"><table><tr><th>ago<th "
		  "class=\"number\">times<th>part<th>error</tr>\n",
		  out);
	for (int i = 0; i < count; i++)
	{
		fprintf(out, "<tr><td>%s<td class=\"number\">%" PRId64 "<td>%s<td class=\"error\">",
				status_text_span(now - errors[i].last_at, age), errors[i].count, health_part_name(errors[i].part));
		escaped(out, errors[i].error);
		fputs("</tr>\n", out);
	}
	fputs("</table></div>\n", out);
}

static void write_page(FILE *out, const ServiceContext *context, const StatusFigures *figures, bool photographs)
{
	char time[STATUS_TEXT_SIZE], *problems = NULL;
	size_t len;
	FILE *list = open_memstream(&problems, &len); /* the head tells how many there are */
	int count = list ? write_problems(list, context, figures) : 0;

	if (list)
		fclose(list);
	fprintf(out,
			"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s</title>\n"
			"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta http-equiv=\"refresh\" "
			"content=\"30\">"
			"<link rel=\"icon\" href=\"data:,\"><style>%s</style></head>\n<body><main>\n",
			context->config->device, style);
	fprintf(out, "<header><h1>%s</h1><span class=\"badge %s\" id=\"state\">", context->config->device,
			count ? "bad" : "good");
	if (count)
		fprintf(out, "%d problem%s", count, count == 1 ? "" : "s");
	else
		fputs("all is well", out);
	fprintf(out, "</span><time id=\"at\">%s</time></header>\n%s", status_text_time(figures->at, time),
			problems ? problems : "");
	free(problems);
	write_tiles(out, context, figures);
	write_charts(out, figures);
	write_errors(out, figures->at);
	write_captures(out, context, photographs);
	fprintf(out,
			"<footer>tms-agent " TMS_VERSION ". Read anew every 30 seconds. <a href=\"%s\">%s photographs</a>, "
			"<a href=\"/v1/status\">as JSON</a>, <a href=\"/metrics\">metrics</a></footer>\n</main></body></html>\n",
			photographs ? "/?photographs=0" : "/", photographs ? "Without" : "With");
}

char *status_page(const ServiceContext *context, bool photographs)
{
	StatusFigures figures;
	char *text = NULL;
	size_t len;
	FILE *out;

	if (!status_read(context, &figures))
		return NULL;
	out = open_memstream(&text, &len);
	if (!out)
		return NULL;
	write_page(out, context, &figures, photographs);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

bool status_page_policy(char out[STATUS_PAGE_POLICY_SIZE])
{
	uint8_t digest[TMS_SHA256_SIZE];
	char text[4 * ((TMS_SHA256_SIZE + 2) / 3) + 1];

	if (!tms_sha256(style, sizeof style - 1, digest))
		return false;
	EVP_EncodeBlock((unsigned char *) text, digest, sizeof digest);
	snprintf(out, STATUS_PAGE_POLICY_SIZE,
			 "default-src 'none'; style-src 'sha256-%s'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
			 "frame-ancestors 'none'",
			 text);
	return true;
}
