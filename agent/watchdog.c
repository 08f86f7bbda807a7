/*
 * Notices that nothing goes on; see watchdog.h.
 */
#include <inttypes.h>

#include "clock.h"
#include "health.h"
#include "log.h"
#include "upload_rate.h"
#include "watchdog.h"
#include "worker.h"

/* The threads that have to give signs of life, and what they work for. The indexer may walk a full cache for an hour. */
static const struct Watched
{
	const char *thread;
	HealthPart part;
} watched[] = {
	{"uploader", HEALTH_IMAGE_CENTER}, {"manifest", HEALTH_IMAGE_CENTER}, {"registrar", HEALTH_PATH_CENTER},
	{"cleaner", HEALTH_CLEANER},       {"spool", HEALTH_INTAKE},
};

#define WATCHED_COUNT ((int) (sizeof(watched) / sizeof(watched[0])))

static bool stuck[WATCHED_COUNT]; /* and told so */
static WatchdogPart parts[HEALTH_PART_COUNT];

int64_t watchdog_look(WatchdogPart *part, const WatchdogView *view, int64_t now)
{
	if (part->since == 0 || view->backlog == 0 || view->explained || view->mark != part->mark)
	{
		part->mark = view->mark;
		part->since = now;
	}
	return now - part->since >= WATCHDOG_PATIENCE ? now - part->since : 0;
}

static bool look_at_thread(int i, int64_t silence)
{
	int64_t silent = worker_silence(watched[i].thread);
	bool is_stuck = silent >= silence;

	if (is_stuck)
		health_stalled(watched[i].part, silent);
	if (is_stuck && !stuck[i])
		log_event(LOG_LEVEL_ERROR, "thread_stuck", "thread=%s silent_seconds=%" PRId64, watched[i].thread,
				  silent / CLOCK_SECOND);
	else if (!is_stuck && stuck[i])
		log_event(LOG_LEVEL_INFO, "thread_alive", "thread=%s", watched[i].thread);
	stuck[i] = is_stuck;
	return !is_stuck;
}

static void look_at_part(HealthPart part, const WatchdogView *view, bool threads_alive)
{
	WatchdogPart *state = &parts[part];
	int64_t stalled = watchdog_look(state, view, clock_steady());

	if (stalled > 0)
		health_stalled(part, stalled);
	else if (threads_alive)
		health_stalled(part, 0);
	if (stalled > 0 && !state->told)
		log_event(LOG_LEVEL_ERROR, "no_progress",
				  "part=%s backlog=%" PRId64 " seconds=%" PRId64
				  " error=\"nothing gets done, and no error explains it\"",
				  health_part_name(part), view->backlog, stalled / CLOCK_SECOND);
	else if (stalled == 0 && state->told)
		log_event(LOG_LEVEL_INFO, "no_progress_over", "part=%s backlog=%" PRId64, health_part_name(part),
				  view->backlog);
	state->told = stalled > 0;
}

bool watchdog_check(const ServiceContext *context, int64_t silence)
{
	HealthReport image_center = health_get(HEALTH_IMAGE_CENTER), path_center = health_get(HEALTH_PATH_CENTER);
	LedgerCounts counts;
	bool alive = true;

	for (int i = 0; i < WATCHED_COUNT; i++)
		alive = look_at_thread(i, silence) && alive;
	if (ledger_counts(context->ledger, &counts) != TMS_OK)
		return alive; /* it has told */
	/* Uploads come in any order; what counts is that some are verified, or at least bytes on their way. */
	look_at_part(
		HEALTH_IMAGE_CENTER,
		&(WatchdogView){.backlog = counts.upload_backlog,
						.mark = image_center.ok_count + image_center.moves,
						.explained = image_center.failing || upload_rate_wait(&context->config->rate_limit) > 0},
		alive);
	/* Heartbeats are answered also when no record gets through: the oldest one that waits has to change. */
	look_at_part(HEALTH_PATH_CENTER,
				 &(WatchdogView){.backlog = counts.register_backlog,
								 .mark = counts.register_oldest,
								 .explained = path_center.failing},
				 alive);
	return alive;
}
