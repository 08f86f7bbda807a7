/*
 * The connection to the path center: the only file of the agent that knows libpq. Nothing in it blocks: every wait
 * has a limit and ends when stop_fd becomes readable. Belongs to one thread.
 *
 * No prepared statement and no session setting is used, so that pgbouncer in transaction mode may stand between.
 */
#ifndef AGENT_REGISTRAR_LINK_H
#define AGENT_REGISTRAR_LINK_H

#include <stdbool.h>

#include "../common/status.h"
#include "ingest_call.h"

#define REGISTRAR_ANSWER_FIELDS (INGEST_ANSWER_REQUEST_UNTIL + 1)

typedef struct RegistrarLink RegistrarLink;

/* Why something did not work; no secret in it. */
typedef struct RegistrarError
{
	char sqlstate[6]; /* "": the server did not answer */
	char reason[400];
} RegistrarError;

/*
 * Makes a link, not yet connected. TMS_INVALID (logged, without the text, which may hold a password): not a connection
 * string. The caller closes it.
 */
extern TMS_CHECKED TmsStatus registrar_link_open(const char *conninfo, RegistrarLink **out);
extern void registrar_link_close(RegistrarLink *link);

extern bool registrar_link_connected(const RegistrarLink *link);

/*
 * Connects to the first place that lets it; but behind the one whose last connection took no call: a pooler lets everybody in,
 * also while its server is away, and so does a standby. stop_fd ends this and every later wait. TMS_AGAIN (error filled),
 * TMS_STOPPED, TMS_MEMORY.
 */
extern TMS_CHECKED TmsStatus registrar_link_connect(RegistrarLink *link, int stop_fd, RegistrarError *error);
extern void registrar_link_disconnect(RegistrarLink *link);

/*
 * Sends a finished call and waits for its answer, on a connected link. TMS_OK: fields[IngestAnswer] are texts or
 * NULL, valid until the next call. TMS_INVALID: the server refused, error says why. TMS_AGAIN: no answer, and the
 * link is disconnected; whether the call had its effect is not known. TMS_STOPPED.
 */
extern TMS_CHECKED TmsStatus registrar_link_call(RegistrarLink *link, const IngestCall *call,
												 const char *fields[REGISTRAR_ANSWER_FIELDS], RegistrarError *error);

#endif
