/*
 * The commands of tms-agent: main.c holds their table, each is in cli_<command>.c.
 */
#ifndef AGENT_CLI_H
#define AGENT_CLI_H

#include <stdbool.h>

#define CLI_CONFIG_DEFAULT "/etc/tms/tms-agent.conf"
#define CLI_FIELDS_MAX     64

/* Exit codes, the same for all commands; docs/agent.md lists them. */
enum CliExit
{
	CLI_OK = 0,
	CLI_FAILED = 1, /* refused, or failed in a way that trying again will not mend */
	CLI_USAGE = 2, /* wrong options, or a configuration with mistakes */
	CLI_AWAY = 3, /* the agent is not running, or cannot take anything now: try again later */
};

typedef struct CliOptions
{
	const char *config;
	bool json;
	bool debug;
	const char *fields[CLI_FIELDS_MAX]; /* of --field, each "name=value" */
	int field_count;
	char **arguments; /* what is neither option nor value of one */
	int argument_count;
} CliOptions;

/* Each runs one command and returns its exit code; what goes wrong has been told on stderr. */
extern int cli_run(const CliOptions *options);
extern int cli_put(const CliOptions *options);
extern int cli_status(const CliOptions *options);
extern int cli_why(const CliOptions *options);
extern int cli_check_config(const CliOptions *options);
extern int cli_selftest(const CliOptions *options);

#endif
