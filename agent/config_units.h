/*
 * Numbers with units in a configuration: "10s", "32MB", "2MB/s".
 */
#ifndef AGENT_CONFIG_UNITS_H
#define AGENT_CONFIG_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_WHY_SIZE 256

typedef struct ConfigUnit
{
	const char *name;
	int64_t factor;
} ConfigUnit;

/* Each ends with a NULL name. The first name of a factor is the one that is written; units stand from small to large. */
extern const ConfigUnit config_duration_units[]; /* microseconds */
extern const ConfigUnit config_size_units[]; /* bytes */
extern const ConfigUnit config_rate_units[]; /* bytes per second */
extern const ConfigUnit config_percent_units[];
extern const ConfigUnit config_no_units[];

/* Reads "<digits> [spaces] <unit>"; a zero needs no unit. False with a phrase in `why`. */
extern bool config_units_parse(const char *text, const ConfigUnit *units, int64_t *out, char why[CONFIG_WHY_SIZE]);

/* Writes a number with the largest unit that divides it. */
extern void config_units_show(int64_t value, const ConfigUnit *units, char *out, size_t size);

#endif
