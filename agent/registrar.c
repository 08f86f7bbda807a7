/*
 * The registrar: brings every record to the path center, in the order of its ledger, and brings back what the path
 * center wants: the cleaning period, upload requests, and where it stands. One thread, one connection, one call at a
 * time.
 *
 * The agent's side of the ledger protocol (DESIGN 6a). A ledger is confirmed up to what a call of its own was
 * answered with, on the same connection; an answer that is lower takes it back, and it goes on from there. Nothing is
 * kept here that the ledger does not have, but for how the next attempts go: in smaller batches after the server
 * refused one, one row with its identity alone when even that was refused for its content, and after growing waits.
 *
 * All ledgers are reported, sealed ones too, at every heartbeat and after every new connection. One that is stuck
 * does not stop another.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backoff.h"
#include "clock.h"
#include "health.h"
#include "log.h"
#include "metrics.h"
#include "registrar_answer.h"
#include "registrar_call.h"
#include "registrar_link.h"
#include "service.h"
#include "status.h"
#include "worker.h"

/* How long the thread waits at most before it looks for new entries. */
#define TICK (CLOCK_SECOND / 5)

/* How a ledger's next call goes. */
typedef struct LedgerState
{
	TmsUuid ledger;
	int rows_max;
	bool bare;
	char bare_reason[6];
	Backoff backoff;
} LedgerState;

typedef struct Registrar
{
	ServiceContext context;
	Worker worker;
	RegistrarLink *link;
	RegistrarCall call;

	LedgerInfo *infos; /* as listed at the start of the round */
	int info_count;
	int info_size;
	LedgerState *states; /* one for every ledger that was ever listed */
	int state_count;

	Backoff backoff; /* the path center as a whole */
	int64_t heartbeat_at; /* all times by the steady clock */
	int64_t waiting_since; /* there are entries to register; 0: there are none */
	bool more; /* the last round left some behind that may go at once */
	bool period_refused; /* and told so */
} Registrar;

/* What a server's error means for the next attempt. */
typedef enum ErrorAction
{
	ACTION_AWAY, /* it has troubles of its own: again soon */
	ACTION_RECONNECT, /* this server will not do */
	ACTION_REFUSED, /* somebody has to change something: again later */
	ACTION_SPLIT, /* too much at once: fewer rows */
	ACTION_BARE, /* something in it cannot be taken: fewer rows, then that one with its identity alone */
} ErrorAction;

/* By how an SQLSTATE begins; the first that fits. */
static const struct ErrorRule
{
	const char *sqlstate;
	ErrorAction action;
} error_rules[] = {
	{"57014", ACTION_SPLIT}, /* statement timeout */
	{"54", ACTION_SPLIT}, /* program limit exceeded */
	{"53200", ACTION_SPLIT}, /* out of memory */
	{"22", ACTION_BARE}, /* data exception: what cannot be put into the database's encoding, above all */
	{"23", ACTION_BARE}, /* a constraint that somebody added */
	{"P0001", ACTION_SPLIT}, /* a trigger's own error */
	{"25006", ACTION_RECONNECT}, /* a standby */
	{"28", ACTION_REFUSED}, /* token or device */
	{"3", ACTION_REFUSED}, /* no such database, schema ... */
	{"42", ACTION_REFUSED}, /* no right to, no extension */
	{"", ACTION_AWAY},
};

static ErrorAction error_action(const char *sqlstate)
{
	const struct ErrorRule *rule = error_rules;

	while (strncmp(sqlstate, rule->sqlstate, strlen(rule->sqlstate)) != 0)
		rule++;
	return rule->action;
}

/* --- the path center as a whole --- */

static void center_failed(Registrar *registrar, const BackoffSchedule *schedule, const RegistrarError *error)
{
	char reason[2 * sizeof(error->reason)];
	int64_t now = clock_steady();

	backoff_fail(&registrar->backoff, schedule, now);
	health_error(HEALTH_PATH_CENTER, "%s", error->reason);
	log_event(LOG_LEVEL_WARNING, "path_center_failing", "sqlstate=%s reason=%s retry_in_ms=%" PRId64,
			  error->sqlstate[0] != '\0' ? error->sqlstate : "none", log_quote(error->reason, reason, sizeof(reason)),
			  (registrar->backoff.retry_at - now) / 1000);
}

static void center_worked(Registrar *registrar)
{
	if (registrar->backoff.failures > 0)
		log_event(LOG_LEVEL_INFO, "path_center_back", "failures=%d", registrar->backoff.failures);
	backoff_reset(&registrar->backoff);
	health_ok(HEALTH_PATH_CENTER);
}

/* Connects when not connected. A new connection may lead to another past: everything is reported at once. */
static TmsStatus connect_center(Registrar *registrar)
{
	RegistrarError error;
	TmsStatus status;

	if (registrar_link_connected(registrar->link))
		return TMS_OK;
	status = registrar_link_connect(registrar->link, registrar->worker.stop_fd, &error);
	if (status == TMS_OK)
	{
		log_event(LOG_LEVEL_INFO, "path_center_connected", "attempts=%d", registrar->backoff.failures + 1);
		registrar->heartbeat_at = 0;
	}
	else if (status == TMS_AGAIN)
		center_failed(registrar, &backoff_away, &error);
	else if (status == TMS_MEMORY)
		backoff_fail(&registrar->backoff, &backoff_away, clock_steady());
	return status;
}

/* --- what an answer means --- */

/* A period that makes no sense: the last good one holds. Told in status and heartbeat as long as it is so, logged once. */
static void refuse_period(Registrar *registrar)
{
	health_error(HEALTH_PATH_CENTER, "it told no cleaning period that makes sense; the last good one holds");
	if (!registrar->period_refused)
		log_event(LOG_LEVEL_ERROR, "cleaning_period_refused", "keeps_seconds=%" PRId64,
				  ledger_cleaning_period(registrar->context.ledger) / CLOCK_SECOND);
	registrar->period_refused = true;
}

static void take_period(Registrar *registrar, const RegistrarAnswer *answer)
{
	Ledger *ledger = registrar->context.ledger;
	int64_t before = ledger_cleaning_period(ledger);
	LedgerPeriod taken;

	if (answer->cleaning_period == 0)
	{
		refuse_period(registrar);
		return;
	}
	registrar->period_refused = false;
	if (ledger_offer_period(ledger, answer->cleaning_period, registrar->context.config->heartbeat, &taken) != TMS_OK)
		return;
	if (taken == LEDGER_PERIOD_TAKEN)
		log_event(LOG_LEVEL_INFO, "cleaning_period", "seconds=%" PRId64 " before_seconds=%" PRId64,
				  answer->cleaning_period / CLOCK_SECOND, before / CLOCK_SECOND);
	else if (taken == LEDGER_PERIOD_OFFERED)
		log_event(LOG_LEVEL_INFO, "cleaning_period_offered",
				  "seconds=%" PRId64 " keeps_seconds=%" PRId64 " until=\"another answer agrees\"",
				  answer->cleaning_period / CLOCK_SECOND, before / CLOCK_SECOND);
}

static void take_request(Registrar *registrar, const RegistrarAnswer *answer)
{
	Ledger *ledger = registrar->context.ledger;

	if (!answer->has_request || answer->request_id <= ledger_request_seen(ledger))
		return;
	if (ledger_request_upload(ledger, answer->request_id, answer->request_since, answer->request_until) != TMS_OK)
		return;
	log_event(LOG_LEVEL_INFO, "upload_request", "id=%" PRId64, answer->request_id);
	registrar->heartbeat_at = clock_steady(); /* tells that it was taken, and brings the next one */
}

/* Where the path center stands with this ledger. */
static TmsStatus take_position(Registrar *registrar, const LedgerInfo *info, const RegistrarAnswer *answer,
							   int64_t confirmed)
{
	Ledger *ledger = registrar->context.ledger;
	TmsStatus status = TMS_OK;
	char uuid[TMS_UUID_TEXT_SIZE];

	tms_uuid_format(&info->ledger, uuid);
	if (confirmed < info->confirmed)
		log_event(LOG_LEVEL_WARNING, "path_center_behind", "ledger=%s confirmed=%" PRId64 " now=%" PRId64, uuid,
				  info->confirmed, confirmed);
	if (confirmed != info->confirmed)
		status = ledger_confirm(ledger, &info->ledger, confirmed);
	if (answer->fork_from > 0 && status == TMS_OK)
	{
		log_event(LOG_LEVEL_WARNING, "ledger_fork", "ledger=%s from=%" PRId64, uuid, answer->fork_from);
		status = ledger_fork(ledger, &info->ledger, answer->fork_from);
	}
	return status;
}

/* --- one call --- */

/* The state of a ledger; NULL: out of memory. */
static LedgerState *state_of(Registrar *registrar, const TmsUuid *ledger)
{
	LedgerState *states = registrar->states;
	int count = registrar->state_count;

	for (int i = 0; i < count; i++)
		if (memcmp(&states[i].ledger, ledger, sizeof(*ledger)) == 0)
			return &states[i];
	states = realloc(states, sizeof(LedgerState) * (size_t) (count + 1));
	if (states == NULL)
		return NULL;
	registrar->states = states;
	registrar->state_count++;
	memset(&states[count], 0, sizeof(LedgerState));
	states[count].ledger = *ledger;
	states[count].rows_max = registrar->context.config->batch;
	return &states[count];
}

/* A ledger's call failed for itself, and cannot be made smaller. */
static void ledger_failed(LedgerState *state, const BackoffSchedule *schedule, const char *reason)
{
	char uuid[TMS_UUID_TEXT_SIZE];
	char quoted[400];
	int64_t now = clock_steady();

	backoff_fail(&state->backoff, schedule, now);
	tms_uuid_format(&state->ledger, uuid);
	health_error(HEALTH_PATH_CENTER, "%s", reason);
	log_event(LOG_LEVEL_ERROR, "ledger_stuck", "ledger=%s reason=%s retry_in_ms=%" PRId64, uuid,
			  log_quote(reason, quoted, sizeof(quoted)), (state->backoff.retry_at - now) / 1000);
}

/* The server refused a call for what was in it: make the next one smaller, or plainer. */
static void reduce(Registrar *registrar, LedgerState *state, const RegistrarError *error, ErrorAction action)
{
	int rows = registrar->call.ingest.rows;
	char uuid[TMS_UUID_TEXT_SIZE];
	char reason[2 * sizeof(error->reason)];

	if (rows <= 1 && (action == ACTION_SPLIT || state->bare))
	{
		ledger_failed(state, &backoff_refused, error->reason);
		return;
	}
	if (rows > 1)
		state->rows_max = rows / 2;
	else
	{
		state->bare = true;
		memcpy(state->bare_reason, error->sqlstate, sizeof(state->bare_reason));
	}
	tms_uuid_format(&state->ledger, uuid);
	log_event(rows > 1 ? LOG_LEVEL_WARNING : LOG_LEVEL_ERROR, rows > 1 ? "batch_halved" : "record_bare",
			  "ledger=%s first_seq=%" PRId64 " rows=%d sqlstate=%s reason=%s", uuid, registrar->call.first_seq, rows,
			  error->sqlstate, log_quote(error->reason, reason, sizeof(reason)));
	registrar->more = true;
}

/* The server refused a call. TMS_AGAIN: the path center as a whole is not to be asked for a while. */
static TmsStatus call_refused(Registrar *registrar, LedgerState *state, const RegistrarError *error)
{
	ErrorAction action = error_action(error->sqlstate);

	if (action == ACTION_SPLIT || action == ACTION_BARE)
	{
		reduce(registrar, state, error, action);
		return TMS_OK;
	}
	center_failed(registrar, action == ACTION_REFUSED ? &backoff_refused : &backoff_away, error);
	if (action != ACTION_AWAY)
		registrar_link_disconnect(registrar->link);
	return TMS_AGAIN;
}

/* The call was taken. */
static void call_answered(Registrar *registrar, const LedgerInfo *info, LedgerState *state,
						  const RegistrarAnswer *answer)
{
	const RegistrarCall *call = &registrar->call;
	int64_t confirmed = registrar_answer_confirmed(answer, call->last_seq);

	center_worked(registrar);
	take_period(registrar, answer);
	take_request(registrar, answer);
	if (take_position(registrar, info, answer, confirmed) != TMS_OK)
	{
		ledger_failed(state, &backoff_away, "the ledger could not be written");
		return;
	}
	if (call->ingest.rows > 0 && confirmed == info->confirmed && answer->fork_from == 0)
	{
		ledger_failed(state, &backoff_away, "the path center took a batch and did not accept it");
		return;
	}
	backoff_reset(&state->backoff);
	state->bare = false;
	state->rows_max =
		state->rows_max * 2 < registrar->context.config->batch ? state->rows_max * 2 : registrar->context.config->batch;
	if (answer->fork_from > 0 || confirmed < info->last_seq)
		registrar->more |= call->ingest.rows > 0 || confirmed < info->confirmed;
	log_event(LOG_LEVEL_DEBUG, "registered", "first_seq=%" PRId64 " rows=%d accepted=%" PRId64, call->first_seq,
			  call->ingest.rows, answer->accepted);
}

/* Reports one ledger. TMS_OK: go on with the next one. */
static TmsStatus report_ledger(Registrar *registrar, const LedgerInfo *info, LedgerState *state, bool heartbeat)
{
	RegistrarCallPlan plan = {.rows_max = state->rows_max, .bare = state->bare, .bare_reason = state->bare_reason};
	char *json = heartbeat && !info->sealed ? status_json(&registrar->context, false) : NULL;
	const char *fields[REGISTRAR_ANSWER_FIELDS];
	RegistrarAnswer answer;
	RegistrarError error;
	TmsStatus status;
	int64_t begun;

	plan.status = json;
	status = registrar_call_make(&registrar->call, &registrar->context, info, &plan);
	free(json);
	if (status != TMS_OK)
	{
		ledger_failed(state, &backoff_away, "the ledger could not be read");
		return TMS_OK;
	}
	begun = clock_steady();
	status = registrar_link_call(registrar->link, &registrar->call.ingest, fields, &error);
	if (status == TMS_OK)
		metrics_time(METRIC_INGEST, clock_steady() - begun);
	if (status == TMS_AGAIN)
		center_failed(registrar, &backoff_away, &error);
	else if (status == TMS_INVALID)
		status = call_refused(registrar, state, &error);
	else if (status == TMS_OK && registrar_answer_read(fields, &answer))
		call_answered(registrar, info, state, &answer);
	else if (status == TMS_OK)
		ledger_failed(state, &backoff_refused, "the path center's answer makes no sense");
	return status;
}

/* --- a round over all ledgers --- */

static TmsStatus list_ledgers(Registrar *registrar)
{
	TmsStatus status;

	while (true)
	{
		if (registrar->info_size > 0)
		{
			status =
				ledger_list(registrar->context.ledger, registrar->infos, registrar->info_size, &registrar->info_count);
			if (status != TMS_OK || registrar->info_count < registrar->info_size)
				return status;
		}
		free(registrar->infos);
		registrar->info_size = registrar->info_size * 2 + 8;
		registrar->infos = calloc((size_t) registrar->info_size, sizeof(LedgerInfo));
		if (registrar->infos == NULL)
		{
			registrar->info_size = 0;
			return TMS_MEMORY;
		}
	}
}

static void run_round(Registrar *registrar, bool heartbeat)
{
	registrar->more = false;
	registrar->waiting_since = 0;
	if (heartbeat)
		registrar->heartbeat_at = clock_steady() + registrar->context.config->heartbeat;
	if (list_ledgers(registrar) != TMS_OK)
	{
		backoff_fail(&registrar->backoff, &backoff_away, clock_steady());
		return;
	}
	for (int i = 0; i < registrar->info_count; i++)
	{
		const LedgerInfo *info = &registrar->infos[i];
		LedgerState *state = state_of(registrar, &info->ledger);

		if (state == NULL || clock_steady() < state->backoff.retry_at)
			continue;
		if (!heartbeat && info->last_seq <= info->confirmed)
			continue;
		if (worker_stopping(registrar->worker.stop_fd) || report_ledger(registrar, info, state, heartbeat) != TMS_OK)
			return;
	}
}

/* --- the thread --- */

/* Is it time to send what waits? */
static bool sending_is_due(Registrar *registrar, int64_t now)
{
	const Config *config = registrar->context.config;
	LedgerCounts counts;

	if (registrar->more)
		return true;
	if (ledger_counts(registrar->context.ledger, &counts) != TMS_OK || counts.register_backlog == 0)
		return false;
	if (registrar->waiting_since == 0)
		registrar->waiting_since = now;
	return counts.violations_waiting > 0 || counts.register_backlog >= config->batch ||
		   now - registrar->waiting_since >= config->interval;
}

static void run_registrar(void *argument)
{
	Registrar *registrar = argument;
	int stop_fd = registrar->worker.stop_fd;

	while (!worker_stopping(stop_fd))
	{
		int64_t now = clock_steady();
		int64_t wait = TICK;

		if (now < registrar->backoff.retry_at)
			wait = registrar->backoff.retry_at - now;
		else if (connect_center(registrar) != TMS_OK)
			wait = 0;
		else if (now >= registrar->heartbeat_at)
		{
			run_round(registrar, true);
			wait = 0;
		}
		else if (sending_is_due(registrar, now))
		{
			run_round(registrar, false);
			wait = registrar->more ? 0 : TICK;
		}
		worker_pause(stop_fd, wait);
	}
}

static void free_registrar(Registrar *registrar)
{
	registrar_link_close(registrar->link);
	registrar_call_free(&registrar->call);
	free(registrar->infos);
	free(registrar->states);
	free(registrar);
}

static TmsStatus start_registrar(const ServiceContext *context, void **handle)
{
	Registrar *registrar = calloc(1, sizeof(*registrar));
	TmsStatus status;

	if (registrar == NULL)
		return TMS_MEMORY;
	registrar->context = *context;
	registrar_call_init(&registrar->call);
	status = registrar_link_open(context->config->conninfo, &registrar->link);
	if (status == TMS_OK)
		status = worker_start(&registrar->worker, "registrar", run_registrar, registrar);
	if (status != TMS_OK)
	{
		free_registrar(registrar);
		return status;
	}
	*handle = registrar;
	return TMS_OK;
}

static void stop_registrar(void *handle)
{
	Registrar *registrar = handle;

	worker_stop(&registrar->worker);
	free_registrar(registrar);
}

const Service registrar_service = {.name = "registrar", .start = start_registrar, .stop = stop_registrar};
