/*
 * The connection to the path center; see registrar_link.h.
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "log.h"
#include "registrar_link.h"
#include "registrar_lookup.h"
#include "worker.h"

/* For one place, unless connect_timeout says otherwise, and for the look-up of names. */
#define CONNECT_TIMEOUT (10 * CLOCK_SECOND)

/* Longer than the statement timeout of the role: the server is to give up first, because it says why. */
#define CALL_TIMEOUT (90 * CLOCK_SECOND)

#define PARAMETERS_MAX 80 /* libpq knows about 45 */

struct RegistrarLink
{
	int stop_fd;
	PQconninfoOption *options;
	int64_t connect_timeout;
	RegistrarLookup *lookup; /* under way, or NULL */
	PGconn *conn; /* NULL: not connected */
	int place; /* which one it is connected to, or was */
	bool answered; /* it took a call since */
	PGresult *answer; /* of the last call, which its fields point into */
};

static const char *option_value(const RegistrarLink *link, const char *keyword)
{
	for (PQconninfoOption *option = link->options; option->keyword != NULL; option++)
		if (strcmp(option->keyword, keyword) == 0)
			return option->val;
	return NULL;
}

TmsStatus registrar_link_open(const char *conninfo, RegistrarLink **out)
{
	RegistrarLink *link = calloc(1, sizeof(*link));
	const char *timeout;

	if (link == NULL)
		return TMS_MEMORY;
	link->options = PQconninfoParse(conninfo, NULL);
	if (link->options == NULL)
	{
		log_event(LOG_LEVEL_ERROR, "path_center", "error=\"conninfo is not a connection string\"");
		free(link);
		return TMS_INVALID;
	}
	timeout = option_value(link, "connect_timeout");
	link->answered = true;
	link->connect_timeout = timeout != NULL && atoi(timeout) > 0 ? atoi(timeout) * CLOCK_SECOND : CONNECT_TIMEOUT;
	*out = link;
	return TMS_OK;
}

void registrar_link_close(RegistrarLink *link)
{
	if (link == NULL)
		return;
	registrar_link_disconnect(link);
	PQclear(link->answer);
	registrar_lookup_free(link->lookup);
	PQconninfoFree(link->options);
	free(link);
}

bool registrar_link_connected(const RegistrarLink *link)
{
	return link->conn != NULL;
}

void registrar_link_disconnect(RegistrarLink *link)
{
	PQfinish(link->conn);
	link->conn = NULL;
}

/* --- waiting and telling --- */

/*
 * Waits for a descriptor until `deadline`: TMS_OK, TMS_AGAIN (too late), TMS_STOPPED. *ready gets what it is ready
 * for.
 */
static TmsStatus wait_for(const RegistrarLink *link, int fd, short events, int64_t deadline, short *ready)
{
	struct pollfd fds[2] = {{.fd = link->stop_fd, .events = POLLIN}, {.fd = fd, .events = events}};
	int count = poll(fds, 2, worker_poll_timeout(deadline - clock_steady()));

	if (fds[0].revents != 0)
		return TMS_STOPPED;
	*ready = fds[1].revents;
	/* An interrupted wait counts as readiness: libpq looks for itself. */
	return count == 0 ? TMS_AGAIN : TMS_OK;
}

/* One line that fits a log, from a text of possibly several, which libpq also indents. */
static void set_reason(RegistrarError *error, const char *text)
{
	size_t used = 0;

	for (; text != NULL && *text != '\0' && used < sizeof(error->reason) - 2; text++)
		if (*text == '\n')
		{
			error->reason[used++] = ';';
			error->reason[used++] = ' ';
		}
		else if ((unsigned char) *text >= ' ')
			error->reason[used++] = *text;
	while (used > 0 && (error->reason[used - 1] == ' ' || error->reason[used - 1] == ';'))
		used--;
	error->reason[used] = '\0';
}

/* The connection is of no use any more. */
static TmsStatus lost(RegistrarLink *link, RegistrarError *error, TmsStatus status, const char *reason)
{
	if (status != TMS_STOPPED)
	{
		set_reason(error, reason);
		status = TMS_AGAIN;
	}
	registrar_link_disconnect(link);
	return status;
}

/* --- connecting --- */

static void ignore_notice(void *argument, const PGresult *result)
{
}

static PGconn *start_connect(const RegistrarLink *link, const RegistrarPlace *place)
{
	static const char *const own[] = {"host", "hostaddr", "port", "connect_timeout", "client_encoding"};
	const char *keywords[PARAMETERS_MAX + 1];
	const char *values[PARAMETERS_MAX + 1];
	int count = 0;

	keywords[count] = "client_encoding";
	values[count++] = "UTF8";
	keywords[count] = "fallback_application_name";
	values[count++] = "tms-agent";
	keywords[count] = "host";
	values[count++] = place->host;
	keywords[count] = "hostaddr";
	values[count++] = place->address;
	keywords[count] = "port";
	values[count++] = place->port;
	for (PQconninfoOption *option = link->options; option->keyword != NULL && count < PARAMETERS_MAX; option++)
	{
		bool is_own = false;

		for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
			is_own |= strcmp(option->keyword, own[i]) == 0;
		if (is_own || option->val == NULL)
			continue;
		keywords[count] = option->keyword;
		values[count++] = option->val;
	}
	keywords[count] = NULL;
	values[count] = NULL;
	return PQconnectStartParams(keywords, values, 0);
}

static TmsStatus connect_to(RegistrarLink *link, const RegistrarPlace *place, RegistrarError *error)
{
	int64_t deadline = clock_steady() + link->connect_timeout;
	PostgresPollingStatusType state = PGRES_POLLING_WRITING;

	link->conn = start_connect(link, place);
	if (link->conn == NULL)
		return TMS_MEMORY;
	if (PQstatus(link->conn) == CONNECTION_BAD)
		return lost(link, error, TMS_AGAIN, PQerrorMessage(link->conn));
	PQsetNoticeReceiver(link->conn, ignore_notice, NULL);
	while (state != PGRES_POLLING_OK)
	{
		short events = state == PGRES_POLLING_READING ? POLLIN : POLLOUT;
		short ready;
		TmsStatus status = wait_for(link, PQsocket(link->conn), events, deadline, &ready);

		if (status != TMS_OK)
			return lost(link, error, status, "timeout expired while connecting");
		state = PQconnectPoll(link->conn);
		if (state == PGRES_POLLING_FAILED)
			return lost(link, error, TMS_AGAIN, PQerrorMessage(link->conn));
	}
	if (PQsetnonblocking(link->conn, 1) != 0)
		return lost(link, error, TMS_AGAIN, PQerrorMessage(link->conn));
	return TMS_OK;
}

/* One that did not end in time goes on, and the next attempt waits for it again instead of asking twice. */
static TmsStatus look_up(RegistrarLink *link, RegistrarError *error)
{
	short ready;
	TmsStatus status;

	if (link->lookup == NULL)
		link->lookup = registrar_lookup_start(option_value(link, "host"), option_value(link, "hostaddr"),
											  option_value(link, "port"));
	if (link->lookup == NULL)
		return TMS_MEMORY;
	status = wait_for(link, registrar_lookup_fd(link->lookup), POLLIN, clock_steady() + CONNECT_TIMEOUT, &ready);
	if (status == TMS_AGAIN)
		set_reason(error, "timeout expired while looking up the host's address");
	return status;
}

TmsStatus registrar_link_connect(RegistrarLink *link, int stop_fd, RegistrarError *error)
{
	const RegistrarPlace *places;
	TmsStatus status;
	int first;
	int count;

	memset(error, 0, sizeof(*error));
	link->stop_fd = stop_fd;
	status = look_up(link, error);
	if (status != TMS_OK)
		return status;
	count = registrar_lookup_places(link->lookup, &places);
	set_reason(error, "the host's address could not be looked up");
	status = TMS_AGAIN;
	first = link->answered ? 0 : link->place + 1;
	for (int i = 0; i < count && status == TMS_AGAIN; i++)
	{
		link->place = (first + i) % count;
		status = connect_to(link, &places[link->place], error);
	}
	link->answered = false;
	registrar_lookup_free(link->lookup);
	link->lookup = NULL;
	return status;
}

/* --- calling --- */

/* Sends all that is buffered, reading on the way, because the server may want to be heard before it reads on. */
static TmsStatus flush(RegistrarLink *link, int64_t deadline)
{
	int left;

	while ((left = PQflush(link->conn)) > 0)
	{
		short ready;
		TmsStatus status = wait_for(link, PQsocket(link->conn), POLLIN | POLLOUT, deadline, &ready);

		if (status != TMS_OK)
			return status;
		if ((ready & POLLIN) && !PQconsumeInput(link->conn))
			return TMS_IO;
	}
	return left == 0 ? TMS_OK : TMS_IO;
}

/* Waits for the next result; *result is NULL after the last one. */
static TmsStatus next_result(RegistrarLink *link, int64_t deadline, PGresult **result)
{
	while (PQisBusy(link->conn))
	{
		short ready;
		TmsStatus status = wait_for(link, PQsocket(link->conn), POLLIN, deadline, &ready);

		if (status != TMS_OK)
			return status;
		if (!PQconsumeInput(link->conn))
			return TMS_IO;
	}
	*result = PQgetResult(link->conn);
	return TMS_OK;
}

/* Takes all results of the call and keeps the first one. */
static TmsStatus receive(RegistrarLink *link, int64_t deadline)
{
	PGresult *result;
	TmsStatus status;

	PQclear(link->answer);
	link->answer = NULL;
	while ((status = next_result(link, deadline, &result)) == TMS_OK && result != NULL)
		if (link->answer == NULL)
			link->answer = result;
		else
			PQclear(result);
	return status;
}

/* What the server made of the call. Of an error only its first line is told: the others may quote what was sent. */
static TmsStatus judge(RegistrarLink *link, const char *fields[REGISTRAR_ANSWER_FIELDS], RegistrarError *error)
{
	const char *sqlstate;

	if (PQresultStatus(link->answer) == PGRES_TUPLES_OK && PQntuples(link->answer) == 1 &&
		PQnfields(link->answer) == REGISTRAR_ANSWER_FIELDS)
	{
		for (int i = 0; i < REGISTRAR_ANSWER_FIELDS; i++)
			fields[i] = PQgetisnull(link->answer, 0, i) ? NULL : PQgetvalue(link->answer, 0, i);
		link->answered = true;
		return TMS_OK;
	}
	sqlstate = PQresultErrorField(link->answer, PG_DIAG_SQLSTATE);
	if (PQstatus(link->conn) == CONNECTION_BAD || link->answer == NULL || sqlstate == NULL)
		return lost(link, error, TMS_AGAIN, PQerrorMessage(link->conn));
	snprintf(error->sqlstate, sizeof(error->sqlstate), "%s", sqlstate);
	set_reason(error, PQresultErrorField(link->answer, PG_DIAG_MESSAGE_PRIMARY));
	return TMS_INVALID;
}

TmsStatus registrar_link_call(RegistrarLink *link, const IngestCall *call, const char *fields[REGISTRAR_ANSWER_FIELDS],
							  RegistrarError *error)
{
	int64_t deadline = clock_steady() + CALL_TIMEOUT;
	TmsStatus status;

	memset(error, 0, sizeof(*error));
	if (!PQsendQueryParams(link->conn, INGEST_CALL_SQL, INGEST_CALL_PARAMS, NULL, call->values, call->lengths,
						   call->formats, 0))
		return lost(link, error, TMS_AGAIN, PQerrorMessage(link->conn));
	status = flush(link, deadline);
	if (status == TMS_OK)
		status = receive(link, deadline);
	if (status == TMS_IO)
		return lost(link, error, TMS_AGAIN, PQerrorMessage(link->conn));
	if (status != TMS_OK)
		return lost(link, error, status, "no answer in time");
	return judge(link, fields, error);
}
