/*
 * Values of configuration keys: from text to the field of its kind, with the reason when it will not do, and back.
 */
#ifndef AGENT_CONFIG_VALUE_H
#define AGENT_CONFIG_VALUE_H

#include "config.h"
#include "config_units.h"

/*
 * Sets a key's field (freeing what it held) from text. False, with a phrase in `why`, when the text is no value for it. A
 * remark in `why` with true is a warning, such as a secret that others can read.
 */
extern bool config_value_set(Config *config, const ConfigKey *key, const char *text, char why[CONFIG_WHY_SIZE]);

/* Frees what a key's field holds. */
extern void config_value_free(Config *config, const ConfigKey *key);

#endif
