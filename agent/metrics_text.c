/*
 * The text of the metrics. What status.c knows is taken from there, so that both say the same.
 *
 * A family is written whole (HELP, TYPE, then its series), since Prometheus refuses one that comes in parts. Figures that are
 * not known are left out: an absent series is what its users expect for that, 0 or NaN would be a lie.
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "health.h"
#include "metrics.h"
#include "metrics_text.h"
#include "status.h"

static void family(FILE *out, const char *name, const char *type, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A family of one series without labels. */
static void one_number(FILE *out, const char *name, const char *type, const char *help, int64_t value)
{
	family(out, name, type, help);
	fprintf(out, "%s %" PRId64 "\n", name, value);
}

/* Microseconds as seconds, exact. */
static void seconds(FILE *out, int64_t micros)
{
	fprintf(out, " %" PRId64 ".%06" PRId64 "\n", micros / CLOCK_SECOND, micros % CLOCK_SECOND);
}

static void one_time(FILE *out, const char *name, const char *type, const char *help, int64_t micros)
{
	family(out, name, type, help);
	fputs(name, out);
	seconds(out, micros);
}

static void write_counters(FILE *out)
{
	static const struct
	{
		const char *name, *help;
	} names[METRIC_COUNTER_COUNT] = {
		[METRIC_CAPTURES_TAKEN] = {"tms_agent_captures_taken_total", "Captures acknowledged since start."},
		[METRIC_BYTES_TAKEN] = {"tms_agent_captures_taken_bytes_total", "Bytes of the captures acknowledged."},
		[METRIC_CAPTURES_UPLOADED] = {"tms_agent_captures_uploaded_total",
									  "Captures verified in the image center since start."},
		[METRIC_BYTES_UPLOADED] = {"tms_agent_captures_uploaded_bytes_total", "Bytes of the captures uploaded."},
	};

	for (int i = 0; i < METRIC_COUNTER_COUNT; i++)
		one_number(out, names[i].name, "counter", names[i].help, metrics_get((MetricCounter) i));
	family(out, "tms_agent_http_requests_total", "counter", "Requests to the intake port, by HTTP status.");
	for (int i = 0; i < METRIC_ANSWERS; i++)
	{
		char code[16] = "other";

		if (metric_answers[i] != 0)
			snprintf(code, sizeof code, "%u", metric_answers[i]);
		fprintf(out, "tms_agent_http_requests_total{code=\"%s\"} %" PRId64 "\n", code, metrics_answers(i));
	}
}

static void write_timers(FILE *out)
{
	static const struct
	{
		const char *name, *help;
	} names[METRIC_TIMER_COUNT] = {
		[METRIC_INTAKE] = {"tms_agent_intake_duration_seconds", "From a capture's last byte to durable."},
		[METRIC_FSYNC] = {"tms_agent_fsync_duration_seconds", "Time to sync one photograph's file."},
		[METRIC_UPLOAD] = {"tms_agent_upload_duration_seconds", "Time to send one capture and verify it."},
		[METRIC_INGEST] = {"tms_agent_ingest_duration_seconds", "Time of one call to the path center."},
	};

	for (int i = 0; i < METRIC_TIMER_COUNT; i++)
	{
		MetricTimes times = metrics_times((MetricTimer) i);
		int64_t count = 0;

		family(out, names[i].name, "histogram", names[i].help);
		for (int b = 0; b < METRIC_BOUNDS; b++)
		{
			count += times.buckets[b];
			fprintf(out, "%s_bucket{le=\"%g\"} %" PRId64 "\n", names[i].name, (double) metric_bounds[b] / 1e6, count);
		}
		count += times.buckets[METRIC_BOUNDS];
		fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRId64 "\n%s_sum", names[i].name, count, names[i].name);
		seconds(out, times.sum);
		fprintf(out, "%s_count %" PRId64 "\n", names[i].name, count);
	}
}

static void write_backlogs(FILE *out, const StatusFigures *figures)
{
	static const char backlog[] = "tms_agent_backlog_captures", age[] = "tms_agent_backlog_oldest_age_seconds";
	const struct
	{
		const char *destination;
		int64_t backlog, oldest;
	} rows[] = {
		{"image_center", figures->counts.upload_backlog, figures->counts.upload_oldest},
		{"path_center", figures->counts.register_backlog, figures->counts.register_oldest},
	};

	family(out, backlog, "gauge", "Captures that wait to be sent there.");
	for (int i = 0; i < 2; i++)
		fprintf(out, "%s{destination=\"%s\"} %" PRId64 "\n", backlog, rows[i].destination, rows[i].backlog);
	family(out, age, "gauge", "How long the oldest of them has waited; 0 when none waits.");
	for (int i = 0; i < 2; i++)
	{
		fprintf(out, "%s{destination=\"%s\"}", age, rows[i].destination);
		seconds(out, rows[i].oldest && figures->at > rows[i].oldest ? figures->at - rows[i].oldest : 0);
	}
}

static void write_status(FILE *out, const StatusFigures *figures)
{
	one_number(out, "tms_agent_upload_requested_captures", "gauge",
			   "Of those that wait for the image center: the ones an upload request asked for, counted to 100000.",
			   figures->counts.upload_requested);
	one_number(out, "tms_agent_set_aside_captures", "gauge", "Captures that can never be uploaded, or are damaged.",
			   figures->counts.set_aside);
	one_number(out, "tms_agent_cleaned_captures_total", "counter",
			   "Photographs that left the cache, safe in both centers.", figures->counts.cleaned);
	one_number(out, "tms_agent_cleaned_early_captures_total", "counter",
			   "Of those: before the cleaning period was over, because the disk was low.",
			   figures->counts.cleaned_early);
	one_number(out, "tms_agent_cached_captures", "gauge", "Photographs in the cache.", figures->counts.cached);
	one_number(out, "tms_agent_cached_bytes", "gauge", "Their size.", figures->counts.cached_bytes);
	if (figures->total_bytes >= 0)
	{
		one_number(out, "tms_agent_disk_free_bytes", "gauge", "Free space on the disk of the cache.",
				   figures->free_bytes);
		one_number(out, "tms_agent_disk_size_bytes", "gauge", "Size of that disk.", figures->total_bytes);
	}
	if (figures->per_hour >= 0)
	{
		family(out, "tms_agent_intake_captures_per_second", "gauge", "Captures taken in over the last hour.");
		fprintf(out, "tms_agent_intake_captures_per_second %.9g\n", figures->per_hour / 3600);
	}
	if (figures->safe_until)
		one_time(out, "tms_agent_safe_until_timestamp_seconds", "gauge",
				 "When the disk is full if the image center stays away; absent when not known.", figures->safe_until);
	one_number(out, "tms_agent_clock_synchronized", "gauge", "Whether the kernel takes its clock for synchronized.",
			   strcmp(status_clock_state(), "synchronized") == 0);
}

static void write_parts(FILE *out)
{
	static const char ok[] = "tms_agent_part_successes_total", errors[] = "tms_agent_part_errors_total",
					  failing[] = "tms_agent_part_failing", last[] = "tms_agent_part_last_success_timestamp_seconds";
	HealthReport reports[HEALTH_PART_COUNT];

	for (int i = 0; i < HEALTH_PART_COUNT; i++)
		reports[i] = health_get((HealthPart) i);
	family(out, ok, "counter", "What a part of the agent did successfully.");
	for (int i = 0; i < HEALTH_PART_COUNT; i++)
		fprintf(out, "%s{part=\"%s\"} %" PRId64 "\n", ok, health_part_name((HealthPart) i), reports[i].ok_count);
	family(out, errors, "counter", "What it failed in.");
	for (int i = 0; i < HEALTH_PART_COUNT; i++)
		fprintf(out, "%s{part=\"%s\"} %" PRId64 "\n", errors, health_part_name((HealthPart) i), reports[i].error_count);
	family(out, failing, "gauge", "Whether the last thing it did failed, or nothing gets done.");
	for (int i = 0; i < HEALTH_PART_COUNT; i++)
		fprintf(out, "%s{part=\"%s\"} %d\n", failing, health_part_name((HealthPart) i), reports[i].error[0] != '\0');
	family(out, last, "gauge", "When it last succeeded; absent when it has not yet.");
	for (int i = 0; i < HEALTH_PART_COUNT; i++)
		if (reports[i].last_ok)
		{
			fprintf(out, "%s{part=\"%s\"}", last, health_part_name((HealthPart) i));
			seconds(out, reports[i].last_ok);
		}
}

/* --- the process: the standard names --- */

/* Seconds since 1970 at which this process started, from the kernel's ticks since boot; 0: not known. */
static double start_time(void)
{
	char text[1024] = "";
	FILE *stat = fopen("/proc/self/stat", "re");
	const char *at = stat && fgets(text, sizeof text, stat) ? strrchr(text, ')') : NULL;
	unsigned long long ticks = 0;
	double up = 0;
	FILE *uptime = fopen("/proc/uptime", "re");

	if (!at || sscanf(at + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
					  &ticks) != 1)
		ticks = 0;
	if (!uptime || fscanf(uptime, "%lf", &up) != 1)
		up = 0;
	if (stat)
		fclose(stat);
	if (uptime)
		fclose(uptime);
	return ticks && up > 0 ? (double) clock_now() / 1e6 - up + (double) ticks / (double) sysconf(_SC_CLK_TCK) : 0;
}

static int64_t open_files(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int64_t count = -3; /* ".", ".." and the folder itself */

	while (folder && readdir(folder))
		count++;
	if (folder)
		closedir(folder);
	return count;
}

static void write_process(FILE *out)
{
	static _Atomic double started; /* measured once, so that it does not tremble */
	struct rusage used;
	struct rlimit files;
	long long virtual_pages = 0, resident_pages = 0;
	FILE *memory = fopen("/proc/self/statm", "re");
	int64_t count = open_files();

	if (started == 0)
		started = start_time();
	if (started > 0)
	{
		family(out, "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.");
		fprintf(out, "process_start_time_seconds %.2f\n", started);
	}
	if (getrusage(RUSAGE_SELF, &used) == 0)
		one_time(out, "process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
				 (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * CLOCK_SECOND + used.ru_utime.tv_usec +
					 used.ru_stime.tv_usec);
	if (memory && fscanf(memory, "%lld %lld", &virtual_pages, &resident_pages) == 2)
	{
		one_number(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
				   virtual_pages * sysconf(_SC_PAGESIZE));
		one_number(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
				   resident_pages * sysconf(_SC_PAGESIZE));
	}
	if (memory)
		fclose(memory);
	if (count >= 0)
		one_number(out, "process_open_fds", "gauge", "Number of open file descriptors.", count);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		one_number(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
				   (int64_t) files.rlim_cur);
}

char *metrics_text(const ServiceContext *context)
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
	family(out, "tms_agent_build_info", "gauge", "Always 1; the version is in the label.");
	fprintf(out, "tms_agent_build_info{version=\"%s\"} 1\n", TMS_VERSION);
	write_status(out, &figures);
	write_backlogs(out, &figures);
	write_counters(out);
	write_timers(out);
	write_parts(out);
	write_process(out);
	if (fclose(out) != 0)
	{
		free(text);
		return NULL;
	}
	return text;
}
