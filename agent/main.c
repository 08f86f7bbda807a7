/*
 * tms-agent: the program of a front end. This file holds the table of its commands and their options.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "log.h"

enum Option
{
	OPTION_CONFIG = 1 << 0,
	OPTION_JSON = 1 << 1,
	OPTION_DEBUG = 1 << 2,
	OPTION_FIELD = 1 << 3,
	OPTION_HELP = 1 << 4,
};

typedef struct Command
{
	const char *name;
	int (*run)(const CliOptions *options);
	int options; /* those it takes besides --help */
	bool takes_arguments; /* at least one */
	const char *usage;
	const char *summary;
	const char *details;
} Command;

static int print_version(const CliOptions *options);

static const Command commands[] = {
	{"run", cli_run, OPTION_CONFIG | OPTION_DEBUG, false, "[--config FILE] [--debug]",
	 "run the agent in the foreground",
	 "Logs to stderr, one line an event. TERM and INT end it, HUP makes it read its configuration again.\n"},
	{"put", cli_put, OPTION_CONFIG | OPTION_FIELD | OPTION_JSON, true,
	 "[--config FILE] [--field NAME=VALUE]... [--json] PHOTOGRAPH...", "hand photographs to the running agent",
	 "A field is captured_at, plate, plate_class, plate_color, direction, lane, speed_kmh, violation_code, event_id, "
	 "or any\n"
	 "other name, which goes to the attributes. The fields are given to every photograph.\n"
	 "With [intake] listen the photographs are sent there, and what is printed is durable: seq, path, sha256.\n"
	 "Without it they are moved into [intake] spool_dir; the agent has them once they are gone from there.\n"},
	{"status", cli_status, OPTION_CONFIG | OPTION_JSON, false, "[--config FILE] [--json]",
	 "tell how the agent is doing",
	 "Asks the running agent. When none is running, prints what it saw last and says so (exit code 3).\n"},
	{"why", cli_why, OPTION_CONFIG | OPTION_JSON, true, "[--config FILE] [--json] CAPTURE...",
	 "tell what happened to a capture, and why",
	 "CAPTURE is a seq (of every ledger that has it), LEDGER:SEQ with the ledger's UUID or its number in eight hex "
	 "digits,\n"
	 "a capture id, or a storage path. Reads the ledger itself, whether the agent runs or not.\n"
	 "Prints when it was taken in, uploaded, registered and cleaned, with receipts, or what keeps it in the cache.\n"},
	{"check-config", cli_check_config, OPTION_CONFIG, false, "[--config FILE]",
	 "check a configuration and print what is in force", "Defaults are printed as well, secrets are not.\n"},
	{"selftest", cli_selftest, OPTION_CONFIG | OPTION_JSON, false, "[--config FILE] [--json]",
	 "check the disk, the clock and both centers",
	 "Measures the disk for a few seconds and asks both centers. Leaves nothing behind. Exit code 1 when a check "
	 "failed;\n"
	 "warnings do not count.\n"},
	{"version", print_version, 0, false, "", "print the version", ""},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static const struct option long_options[] = {
	{"config", required_argument, NULL, OPTION_CONFIG}, {"json", no_argument, NULL, OPTION_JSON},
	{"debug", no_argument, NULL, OPTION_DEBUG},         {"field", required_argument, NULL, OPTION_FIELD},
	{"help", no_argument, NULL, OPTION_HELP},           {NULL, 0, NULL, 0},
};

static int print_version(const CliOptions *options)
{
	puts("tms-agent " TMS_VERSION);
	return CLI_OK;
}

static void print_commands(FILE *to)
{
	fprintf(to, "usage: tms-agent COMMAND [OPTION]...\n\n");
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(to, "  %-14s %s\n", commands[i].name, commands[i].summary);
	fprintf(to, "\ntms-agent COMMAND --help tells a command's options; without --config they read\n%s\n",
			CLI_CONFIG_DEFAULT);
}

static void print_usage(const Command *command, FILE *to)
{
	fprintf(to, "usage: tms-agent %s %s\n", command->name, command->usage);
}

static int wrong_usage(const Command *command, const char *why, const char *what)
{
	fprintf(stderr, "tms-agent %s: %s%s\n", command->name, why, what);
	print_usage(command, stderr);
	return CLI_USAGE;
}

/* Reads a command's options and runs it; argv[0] is the command. */
static int run_command(const Command *command, int argc, char **argv)
{
	CliOptions options = {.config = CLI_CONFIG_DEFAULT};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
	{
		if (option == OPTION_HELP)
		{
			print_usage(command, stdout);
			printf("\nTo %s.\n%s", command->summary, command->details);
			return CLI_OK;
		}
		if (option == '?' || !(command->options & option))
			return wrong_usage(command, "cannot use option ", argv[optind - 1]);
		if (option == OPTION_CONFIG)
			options.config = optarg;
		options.json |= option == OPTION_JSON;
		options.debug |= option == OPTION_DEBUG;
		if (option != OPTION_FIELD)
			continue;
		if (optarg[0] == '=' || !strchr(optarg, '='))
			return wrong_usage(command, "a field is NAME=VALUE, not ", optarg);
		if (options.field_count == CLI_FIELDS_MAX)
			return wrong_usage(command, "too many fields", "");
		options.fields[options.field_count++] = optarg;
	}
	options.arguments = argv + optind;
	options.argument_count = argc - optind;
	if (command->takes_arguments && options.argument_count == 0)
		return wrong_usage(command, command->run == cli_put ? "no photograph is named" : "no capture is named", "");
	if (!command->takes_arguments && options.argument_count > 0)
		return wrong_usage(command, "does not know what to do with ", options.arguments[0]);
	if (options.debug)
		log_set_level(LOG_LEVEL_DEBUG);
	return command->run(&options);
}

int main(int argc, char **argv)
{
	if (argc < 2)
	{
		print_commands(stderr);
		return CLI_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)
	{
		print_commands(stdout);
		return CLI_OK;
	}
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (strcmp(argv[1], commands[i].name) == 0 ||
			(commands[i].run == print_version && strcmp(argv[1], "--version") == 0))
			return run_command(&commands[i], argc - 1, argv + 1);
	fprintf(stderr, "tms-agent: unknown command %s\n", argv[1]);
	print_commands(stderr);
	return CLI_USAGE;
}
