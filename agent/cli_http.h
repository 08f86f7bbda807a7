/*
 * A small HTTP client for the agent's own commands: one request a connection to the intake listener of the same machine.
 */
#ifndef AGENT_CLI_HTTP_H
#define AGENT_CLI_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common/status.h"

typedef struct CliRequest
{
	const char *listen; /* as in the configuration: host:port */
	const char *method;
	const char *target; /* percent-encoded */
	const char *token; /* bearer token, or "" */
	int body; /* file to send from its present place, or -1 */
	int64_t body_bytes;
} CliRequest;

typedef struct CliResponse
{
	int status;
	char *body; /* NUL-terminated; the caller frees */
} CliResponse;

#define CLI_HTTP_WHY_SIZE 256

/*
 * Sends the request and reads the whole answer, whatever its status. TMS_AGAIN with a phrase in why when nobody listens or
 * the connection breaks; TMS_INVALID when what came is no HTTP answer or larger than a megabyte.
 */
extern TMS_CHECKED TmsStatus cli_http(const CliRequest *request, CliResponse *response, char why[CLI_HTTP_WHY_SIZE]);

/* Writes text percent-encoded for a query string; false when it does not fit. */
extern bool cli_http_escape(const char *text, size_t len, char *out, size_t size);

#endif
