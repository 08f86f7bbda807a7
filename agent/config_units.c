/*
 * Numbers with units; see config_units.h.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_units.h"

const ConfigUnit config_duration_units[] = {
	{"ms", 1000},
	{"s", 1000000},
	{"min", INT64_C(60000000)},
	{"h", INT64_C(3600000000)},
	{"days", INT64_C(86400000000)},
	{"day", INT64_C(86400000000)},
	{"d", INT64_C(86400000000)},
	{NULL, 0},
};
const ConfigUnit config_size_units[] = {
	{"B", 1}, {"kB", 1024}, {"KB", 1024}, {"MB", 1024 * 1024}, {"GB", 1024 * 1024 * 1024}, {NULL, 0},
};
/* Disks are sold in bytes, links in bits. */
const ConfigUnit config_rate_units[] = {
	{"B/s", 1},
	{"kbit/s", 125},
	{"kB/s", 1024},
	{"Mbit/s", 125000},
	{"MB/s", 1024 * 1024},
	{"Gbit/s", 125000000},
	{"GB/s", 1024 * 1024 * 1024},
	{NULL, 0},
};
const ConfigUnit config_percent_units[] = {{"%", 1}, {NULL, 0}};
const ConfigUnit config_no_units[] = {{"", 1}, {NULL, 0}};

bool config_units_parse(const char *text, const ConfigUnit *units, int64_t *out, char why[CONFIG_WHY_SIZE])
{
	char *end;
	int64_t number;

	errno = 0;
	number = strtoll(text, &end, 10);
	if (end == text || *text < '0' || *text > '9')
	{
		snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" is not a whole number%s", text,
				 units == config_no_units ? "" : " with a unit");
		return false;
	}
	end += strspn(end, " \t");
	for (const ConfigUnit *unit = units; unit->name; unit++)
		if (strcmp(end, unit->name) == 0)
		{
			if (errno == ERANGE || number > INT64_MAX / unit->factor)
				break;
			*out = number * unit->factor;
			return true;
		}
	if (number == 0 && *end == '\0')
	{
		*out = 0; /* nothing of any unit */
		return true;
	}
	if (errno == ERANGE || *end == '\0' || units == config_no_units)
		snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" %s", text,
				 errno == ERANGE            ? "is too large"
				 : units == config_no_units ? "is not a whole number"
											: "has no unit");
	else
		snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" has an unknown unit or is too large", text);
	if (units != config_no_units)
	{
		size_t len = strlen(why);

		len += (size_t) snprintf(why + len, CONFIG_WHY_SIZE - len, "; units are");
		for (const ConfigUnit *unit = units; unit->name && len < CONFIG_WHY_SIZE; unit++)
			len += (size_t) snprintf(why + len, CONFIG_WHY_SIZE - len, " %s", unit->name);
	}
	return false;
}

void config_units_show(int64_t value, const ConfigUnit *units, char *out, size_t size)
{
	const ConfigUnit *best = units;

	for (const ConfigUnit *unit = units; unit->name; unit++)
		if (value % unit->factor == 0 && unit->factor > best->factor)
			best = unit;
	/* A word stands apart from its number, a sign does not. */
	snprintf(out, size, "%" PRId64 "%s%s", value / best->factor, strcmp(best->name, "days") == 0 ? " " : "",
			 best->name);
}
