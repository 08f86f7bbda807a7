/*
 * `tms-agent check-config`: the mistakes of a configuration, or what is in force with it.
 */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "config.h"

int cli_check_config(const CliOptions *options)
{
	Config *config;
	const char *section = "";

	if (config_load(options->config, &config) != TMS_OK)
		return CLI_USAGE;
	for (int i = 0; i < config_key_count; i++)
	{
		const ConfigKey *key = &config_keys[i];
		char value[8192];

		if (strcmp(section, key->section) != 0)
			printf("[%s]\n", key->section);
		section = key->section;
		config_show(config, key, value, sizeof value);
		printf("%s =%s%s\n", key->name, *value ? " " : "", value);
	}
	config_free(config);
	return CLI_OK;
}
