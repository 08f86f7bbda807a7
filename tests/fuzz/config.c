/*
 * A configuration file. What is taken shows every key in one line, and no secret.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/config.h"
#include "agent/log.h"

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_shown(const Config *config)
{
	char text[8192];

	for (int i = 0; i < config_key_count; i++)
	{
		config_show(config, &config_keys[i], text, sizeof text);
		if (strchr(text, '\n') || (config_keys[i].kind == CONFIG_CONNINFO && strcmp(text, "(set)") != 0))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int file = -1;
	static char name[32];
	Config *config;

	if (file < 0)
	{
		file = memfd_create("tms-agent.conf", MFD_CLOEXEC);
		snprintf(name, sizeof name, "/proc/self/fd/%d", file);
	}
	if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t) size)
		abort();
	if (config_load(name, &config) == TMS_OK)
	{
		check_shown(config);
		config_free(config);
	}
	else if (config)
		abort();
	return 0;
}
