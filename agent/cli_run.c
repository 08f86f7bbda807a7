/*
 * `tms-agent run`: opens the ledger and the cache, starts the services in the order of their table, waits for signals, and
 * stops them in reverse.
 *
 * Signals are blocked in every thread and read here from a descriptor. A reload stops the services, not the ledger, and
 * starts them with the new configuration; when that does not do, the old one goes on.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "clock.h"
#include "data_lock.h"
#include "listen.h"
#include "log.h"
#include "machine_id.h"
#include "notify.h"
#include "service.h"
#include "status.h"
#include "status_file.h"
#include "watchdog.h"

#define TICK_MS 10000 /* between samples of the rate of intake, and signs of life if systemd wants none sooner */

/*
 * A thread is stuck when it is silent for so long, by default or in watchdog times: long enough for a transaction over millions
 * of rows on a slow disk.
 */
#define SILENCE  (600 * CLOCK_SECOND)
#define SILENCES 5

/* What takes captures in comes last: by then what it hands them to is there. */
static const Service *const services[] = {
	&uploader_service,     &manifest_service,     &registrar_service,   &cleaner_service,
	&cache_server_service, &intake_spool_service, &intake_http_service,
};

#define SERVICE_COUNT ((int) (sizeof services / sizeof services[0]))

typedef struct Agent
{
	const char *config_file;
	Config *config;
	Cache *cache;
	Ledger *ledger;
	ServiceContext context; /* what the services got at start; theirs until they are stopped */
	void *handles[SERVICE_COUNT];
	bool running[SERVICE_COUNT];
} Agent;

static void stop_services(Agent *agent)
{
	for (int i = SERVICE_COUNT - 1; i >= 0; i--)
		if (agent->running[i])
		{
			services[i]->stop(agent->handles[i]);
			agent->running[i] = false;
			log_event(LOG_LEVEL_DEBUG, "service_stopped", "service=%s", services[i]->name);
		}
}

/* Starts all that a configuration wants, or none. */
static TmsStatus start_services(Agent *agent, const Config *config)
{
	agent->context = (ServiceContext){.config = config, .cache = agent->cache, .ledger = agent->ledger};
	for (int i = 0; i < SERVICE_COUNT; i++)
	{
		TmsStatus status;

		if (services[i]->wanted && !services[i]->wanted(config))
			continue;
		status = services[i]->start(&agent->context, &agent->handles[i]);
		if (status != TMS_OK)
		{
			stop_services(agent);
			return status;
		}
		agent->running[i] = true;
		log_event(LOG_LEVEL_DEBUG, "service_started", "service=%s", services[i]->name);
	}
	return TMS_OK;
}

/* What may not change under a running ledger; false after saying so. */
static bool reload_allowed(const Config *old, const Config *new)
{
	const char *changed = strcmp(old->data_dir, new->data_dir) != 0 ? "agent.data_dir"
						  : strcmp(old->device, new->device) != 0   ? "agent.device"
																	: NULL;

	if (changed)
		log_event(LOG_LEVEL_ERROR, "reload", "key=%s error=\"changed: needs a restart\" kept=old", changed);
	return !changed;
}

/* Takes up the file as it is now; TMS_OK when services run, be it with the old configuration. */
static TmsStatus reload(Agent *agent)
{
	Config *config;
	TmsStatus status;

	notify_send("RELOADING=1");
	if (config_load(agent->config_file, &config) != TMS_OK)
	{
		log_event(LOG_LEVEL_ERROR, "reload", "error=\"configuration has mistakes\" kept=old");
		notify_send("READY=1");
		return TMS_OK;
	}
	if (!reload_allowed(agent->config, config))
	{
		config_free(config);
		notify_send("READY=1");
		return TMS_OK;
	}
	stop_services(agent);
	status = start_services(agent, config);
	if (status == TMS_OK)
	{
		config_free(agent->config);
		agent->config = config;
		log_event(LOG_LEVEL_INFO, "reloaded", "device=%s", agent->config->device);
	}
	else
	{
		config_free(config);
		log_event(LOG_LEVEL_ERROR, "reload", "error=\"services do not start with the new configuration\" kept=old");
		status = start_services(agent, agent->config);
	}
	listen_forget();
	notify_send("READY=1");
	return status;
}

/* Waits for signals until one ends the program. */
static TmsStatus run_loop(Agent *agent, int signals)
{
	int64_t watchdog = notify_watchdog();
	int64_t silence = watchdog ? SILENCES * watchdog : SILENCE;
	int tick = watchdog && watchdog / 3000 < TICK_MS ? (int) (watchdog / 3000) : TICK_MS;

	for (;;)
	{
		struct pollfd wait = {.fd = signals, .events = POLLIN};
		struct signalfd_siginfo got;
		/* A ledger that does not answer any more, or a stuck thread, gets no sign of life: systemd starts anew. */
		bool alive = watchdog_check(&agent->context, silence);

		if (status_sample(&agent->context) && status_file_write(&agent->context) && alive)
			notify_send("WATCHDOG=1");
		if (poll(&wait, 1, tick) <= 0)
			continue;
		if (read(signals, &got, sizeof got) != (ssize_t) sizeof got)
			continue;
		if (got.ssi_signo != SIGHUP)
		{
			log_event(LOG_LEVEL_INFO, "stopping", "signal=%s", got.ssi_signo == SIGTERM ? "TERM" : "INT");
			return TMS_OK;
		}
		if (reload(agent) != TMS_OK)
			return TMS_IO;
	}
}

/* Opens what services work on, runs them to the end. */
static TmsStatus run_agent(Agent *agent, int signals)
{
	char machine_id[MACHINE_ID_SIZE];
	TmsStatus status = cache_open(agent->config->data_dir, &agent->cache);

	if (status != TMS_OK)
		return status;
	machine_id_read(machine_id);
	status = ledger_open(agent->cache, agent->config->data_dir, agent->config->device, machine_id, &agent->ledger);
	if (status == TMS_OK)
	{
		status_file_restore(agent->config->data_dir);
		status = start_services(agent, agent->config);
		if (status == TMS_OK)
		{
			log_event(LOG_LEVEL_INFO, "started", "version=%s device=%s process=%d", TMS_VERSION, agent->config->device,
					  (int) getpid());
			notify_send("READY=1");
			status = run_loop(agent, signals);
			notify_send("STOPPING=1");
			stop_services(agent);
			listen_forget();
			(void) status_file_write(&agent->context);
		}
		ledger_close(agent->ledger);
	}
	cache_close(agent->cache);
	return status;
}

/* A connection is a descriptor: as many as the system lets the program have. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max)
	{
		limit.rlim_cur = limit.rlim_max;
		(void) setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int cli_run(const CliOptions *options)
{
	Agent agent = {.config_file = options->config};
	TmsStatus status;
	sigset_t set;
	int lock, signals;

	if (config_load(options->config, &agent.config) != TMS_OK)
		return CLI_USAGE;

	/* Before any thread is made, so that all inherit it. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	raise_descriptors();
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0)
	{
		log_event(LOG_LEVEL_ERROR, "start", "error=\"cannot wait for signals: %s\"", strerror(errno));
		config_free(agent.config);
		return CLI_FAILED;
	}
	status = data_lock_take(agent.config->data_dir, &lock);
	if (status == TMS_OK)
	{
		status = run_agent(&agent, signals);
		close(lock);
	}
	log_event(status == TMS_OK ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, "stopped", "status=%s", tms_status_name(status));
	close(signals);
	config_free(agent.config);
	return status == TMS_OK ? CLI_OK : CLI_FAILED;
}
