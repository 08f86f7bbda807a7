/*
 * What a service of the agent gets at start. cli_run.c holds the table of services, starts them in its order and stops them
 * in reverse; a service runs its own threads.
 */
#ifndef AGENT_SERVICE_H
#define AGENT_SERVICE_H

#include "../common/status.h"
#include "../common/url_sign.h"
#include "cache.h"
#include "config.h"
#include "ledger.h"

/* Everything in it outlives all services and is safe to use from any thread. */
typedef struct ServiceContext
{
	const Config *config;
	Cache *cache;
	Ledger *ledger;
} ServiceContext;

typedef struct Service
{
	const char *name;
	/* Does this configuration want it? NULL: always. */
	bool (*wanted)(const Config *config);
	/* Starts threads and returns; *handle is what stop gets. A failure is logged and ends the program. */
	TmsStatus (*start)(const ServiceContext *context, void **handle);
	/* Ends the service: returns within a second, all its threads joined, the handle freed. */
	void (*stop)(void *handle);
} Service;

/* Each is defined in the file of its name. */
extern const Service intake_http_service;
extern const Service intake_spool_service;
extern const Service uploader_service;
extern const Service manifest_service;
extern const Service registrar_service;
extern const Service cleaner_service;
extern const Service cache_server_service;

#endif
