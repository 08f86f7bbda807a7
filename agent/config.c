/*
 * The table of keys, and what reads a file by it: every mistake in the file is told, not only the first.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "charset.h"
#include "config.h"
#include "config_file.h"
#include "config_value.h"
#include "log.h"

#include "../common/capture_record.h"
#include "../common/s3.h"

#define MS  INT64_C(1000)
#define SEC INT64_C(1000000)
#define DAY (86400 * SEC)

#define FIELD(name) .offset = offsetof(Config, name)

const ConfigKey config_keys[] = {
	{"agent", "device", CONFIG_DEVICE, "", true, FIELD(device)},
	{"agent", "token_file", CONFIG_SECRET_FILE, "", true, FIELD(token_file), .secret_offset = offsetof(Config, token)},
	{"agent", "data_dir", CONFIG_FOLDER, "", true, FIELD(data_dir)},

	{"intake", "spool_dir", CONFIG_FOLDER, "", false, FIELD(spool_dir)},
	{"intake", "listen", CONFIG_LISTEN, "", false, FIELD(intake_listen)},
	{"intake", "token_file", CONFIG_SECRET_FILE, "", false, FIELD(intake_token_file),
	 .secret_offset = offsetof(Config, intake_token)},
	{"intake", "max_image_bytes", CONFIG_SIZE, "32MB", false, 1024, TMS_IMAGE_BYTES_MAX, FIELD(max_image_bytes)},
	{"intake", "charset", CONFIG_CHARSET, CHARSET_UTF8, false, FIELD(charset)},

	{"path_center", "conninfo", CONFIG_CONNINFO, "", true, FIELD(conninfo)},
	{"path_center", "batch", CONFIG_INT, "500", false, 1, 10000, FIELD(batch)},
	{"path_center", "interval", CONFIG_DURATION, "10s", false, 10 * MS, 3600 * SEC, FIELD(interval)},
	{"path_center", "heartbeat", CONFIG_DURATION, "30s", false, 100 * MS, 3600 * SEC, FIELD(heartbeat)},
	{"path_center", "ledger_keep", CONFIG_DURATION, "90 days", false, DAY, 36500 * DAY, FIELD(ledger_keep)},

	{"image_center", "url", CONFIG_URL, "", true, FIELD(url)},
	{"image_center", "store", CONFIG_STORE, "http", false, FIELD(store)},
	{"image_center", "verify", CONFIG_VERIFY, "digest", false, FIELD(verify)},
	{"image_center", "region", CONFIG_REGION, TMS_S3_DEFAULT_REGION, false, FIELD(region)},
	{"image_center", "access_key_id", CONFIG_TEXT, "", false, FIELD(access_key_id)},
	{"image_center", "secret_access_key_file", CONFIG_SECRET_FILE, "", false, FIELD(secret_access_key_file),
	 .secret_offset = offsetof(Config, secret_access_key)},
	{"image_center", "concurrency", CONFIG_INT, "8", false, 1, 128, FIELD(upload_concurrency)},
	{"image_center", "rate_limit", CONFIG_RATE, "0", false, FIELD(rate_limit)},
	{"image_center", "ca_file", CONFIG_FILE, "", false, FIELD(ca_file)},
	{"image_center", "username", CONFIG_TEXT, "", false, FIELD(username)},
	{"image_center", "password_file", CONFIG_SECRET_FILE, "", false, FIELD(password_file),
	 .secret_offset = offsetof(Config, password)},

	{"cache", "listen", CONFIG_LISTEN, "0.0.0.0:8440", false, FIELD(cache_listen)},
	{"cache", "tls_cert", CONFIG_FILE, "", false, FIELD(tls_cert)},
	{"cache", "tls_key", CONFIG_FILE, "", false, FIELD(tls_key)},
	{"cache", "min_free", CONFIG_PERCENT, "5%", false, 0, 90, FIELD(min_free_percent)},
};

#define KEY_COUNT ((int) (sizeof config_keys / sizeof config_keys[0]))

const int config_key_count = KEY_COUNT;

typedef struct Reading
{
	const char *file;
	Config *config;
	int seen[KEY_COUNT]; /* line of each key's value; 0: not there */
	bool bad;
} Reading;

/* Logs one mistake or warning; line 0 where the file has no line for it, key NULL where no key is meant. */
static void tell(Reading *reading, LogLevel level, int line, const char *section, const char *key, const char *format,
				 ...) __attribute__((format(printf, 6, 7)));

static void tell(Reading *reading, LogLevel level, int line, const char *section, const char *key, const char *format,
				 ...)
{
	char text[512], file[512], where[160], name[160], error[1024];
	char at[24] = "", of[180] = "";
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (line > 0)
		snprintf(at, sizeof at, "line=%d ", line);
	if (section)
	{
		snprintf(where, sizeof where, "%.60s%s%.60s", section, key ? "." : "", key ? key : "");
		snprintf(of, sizeof of, "%s=%s ", key ? "key" : "section", log_quote(where, name, sizeof name));
	}
	log_event(level, "config", "file=%s %s%serror=%s", log_quote(reading->file, file, sizeof file), at, of,
			  log_quote(text, error, sizeof error));
	if (level == LOG_LEVEL_ERROR)
		reading->bad = true;
}

/* Number of insertions, deletions and changes between two words; words too long to be misspelled keys are far apart. */
static int distance(const char *a, const char *b)
{
	enum
	{
		LONGEST = 40
	};
	size_t a_len = strlen(a), b_len = strlen(b);
	int row[LONGEST + 1];

	if (a_len > LONGEST || b_len > LONGEST)
		return LONGEST;
	for (size_t j = 0; j <= b_len; j++)
		row[j] = (int) j;
	for (size_t i = 1; i <= a_len; i++)
	{
		int diagonal = row[0];

		row[0] = (int) i;
		for (size_t j = 1; j <= b_len; j++)
		{
			int best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[b_len];
}

/* A word that is farther from another than this is no misspelling of it. */
static int misspelled(const char *word)
{
	size_t len = strlen(word);

	return len < 6 ? 1 : len < 12 ? 2 : 3;
}

static bool section_known(const char *section)
{
	for (int i = 0; i < KEY_COUNT; i++)
		if (strcmp(config_keys[i].section, section) == 0)
			return true;
	return false;
}

static void refuse_section(Reading *reading, int line, const char *section)
{
	const char *near = NULL;
	int least = misspelled(section) + 1;

	for (int i = 0; i < KEY_COUNT; i++)
	{
		int d = distance(section, config_keys[i].section);

		if (d < least)
		{
			least = d;
			near = config_keys[i].section;
		}
	}
	if (near)
		tell(reading, LOG_LEVEL_ERROR, line, section, NULL, "unknown section; did you mean [%s]?", near);
	else
		tell(reading, LOG_LEVEL_ERROR, line, section, NULL, "unknown section");
}

static void refuse_key(Reading *reading, int line, const char *section, const char *name)
{
	const ConfigKey *near = NULL;
	int least = misspelled(name) + 1;

	for (int i = 0; i < KEY_COUNT; i++)
	{
		/* The same word in another section is nearer than another word in this one. */
		bool here = strcmp(config_keys[i].section, section) == 0;
		int d = distance(name, config_keys[i].name);

		if (d < least && (here || d == 0))
		{
			least = d;
			near = &config_keys[i];
		}
	}
	if (near && strcmp(near->section, section) == 0)
		tell(reading, LOG_LEVEL_ERROR, line, section, name, "unknown key; did you mean \"%s\"?", near->name);
	else if (near)
		tell(reading, LOG_LEVEL_ERROR, line, section, name, "unknown key; it belongs to [%s]", near->section);
	else
		tell(reading, LOG_LEVEL_ERROR, line, section, name, "unknown key");
}

static void set_key(Reading *reading, int line, const ConfigKey *key, const char *value)
{
	char why[CONFIG_WHY_SIZE];

	if (!config_value_set(reading->config, key, value, why))
		tell(reading, LOG_LEVEL_ERROR, line, key->section, key->name, "%s", why);
	else if (why[0])
		tell(reading, LOG_LEVEL_WARNING, line, key->section, key->name, "%s", why);
}

static void take_line(void *state, int line, const char *section, const char *name, const char *value,
					  const char *comment)
{
	Reading *reading = state;

	if (!section_known(section))
	{
		if (!name) /* told once, at its head */
			refuse_section(reading, line, section);
		return;
	}
	if (!name)
		return;
	for (int i = 0; i < KEY_COUNT; i++)
	{
		const ConfigKey *key = &config_keys[i];

		if (strcmp(key->section, section) != 0 || strcmp(key->name, name) != 0)
			continue;
		if (reading->seen[i])
			tell(reading, LOG_LEVEL_ERROR, line, section, name, "given twice, first in line %d", reading->seen[i]);
		else if (key->required && *value == '\0')
			tell(reading, LOG_LEVEL_ERROR, line, section, name, "must have a value");
		else if (key->kind == CONFIG_RATE && rate_schedule_is_span(comment))
			tell(reading, LOG_LEVEL_ERROR, line, section, name,
				 "the timetable is a comment because of the space before its \";\": write \"%.40s;%.80s\"", value,
				 comment);
		else
			set_key(reading, line, key, value);
		reading->seen[i] = line;
		return;
	}
	refuse_key(reading, line, section, name);
}

static void refuse_line(void *state, int line, const char *why)
{
	tell(state, LOG_LEVEL_ERROR, line, NULL, NULL, "%s", why);
}

static int line_of(const Reading *reading, const char *section, const char *name)
{
	for (int i = 0; i < KEY_COUNT; i++)
		if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
			return reading->seen[i];
	return 0;
}

/* Both of two keys or neither. */
static void check_pair(Reading *reading, const char *section, const char *first, const char *first_value,
					   const char *second, const char *second_value)
{
	const char *given = *first_value ? first : second;
	const char *missing = *first_value ? second : first;

	if ((*first_value == '\0') != (*second_value == '\0'))
		tell(reading, LOG_LEVEL_ERROR, line_of(reading, section, given), section, given, "needs %s as well", missing);
}

/* Can requests below the URL be signed? The longest there is shows it. */
static bool can_sign(const Config *config)
{
	const TmsSigv4Credentials credentials = {
		.access_key_id = config->access_key_id, .secret_access_key = "", .region = config->region};
	char key[TMS_OBJECT_KEY_SIZE];
	const TmsS3Request request = {.method = "GET", .base_url = config->url, .key = key, .payload = TMS_SIGV4_UNSIGNED};
	char url[TMS_S3_URL_SIZE];

	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = '\0';
	return tms_s3_presign(&credentials, &request, 1, url);
}

/* Which of the ways to show who one is goes with which kind of store. */
static void check_store(Reading *reading)
{
	const Config *config = reading->config;
	bool s3 = config_is_s3(config);
	int line = line_of(reading, "image_center", s3 ? "username" : "access_key_id");

	check_pair(reading, "image_center", "username", config->username, "password_file", config->password_file);
	check_pair(reading, "image_center", "access_key_id", config->access_key_id, "secret_access_key_file",
			   config->secret_access_key_file);
	if (s3 && *config->access_key_id == '\0')
		tell(reading, LOG_LEVEL_ERROR, line_of(reading, "image_center", "store"), "image_center", "store",
			 "\"s3\" needs access_key_id and secret_access_key_file");
	if (s3 && *config->username)
		tell(reading, LOG_LEVEL_ERROR, line, "image_center", "username", "belongs to store = http");
	if (!s3 && *config->access_key_id)
		tell(reading, LOG_LEVEL_ERROR, line, "image_center", "access_key_id", "belongs to store = s3");
	if (s3 && !can_sign(config))
		tell(reading, LOG_LEVEL_ERROR, line_of(reading, "image_center", "url"), "image_center", "url",
			 "cannot be signed: it is longer than a URL, or has a bad %%-code");
	if (strlen(config->secret_access_key) > TMS_SIGV4_SECRET_MAX)
		tell(reading, LOG_LEVEL_ERROR, line_of(reading, "image_center", "secret_access_key_file"), "image_center",
			 "secret_access_key_file", "holds a secret of more than %d bytes", TMS_SIGV4_SECRET_MAX);
}

static bool loopback(const char *listen)
{
	return strncmp(listen, "127.", 4) == 0 || strncmp(listen, "localhost:", 10) == 0 ||
		   strncmp(listen, "[::1]:", 6) == 0;
}

/* What no key can say alone. */
static void check_together(Reading *reading)
{
	const Config *config = reading->config;
	size_t len = strlen(config->data_dir);
	const char *below = config->spool_dir + len;

	check_pair(reading, "cache", "tls_cert", config->tls_cert, "tls_key", config->tls_key);
	check_store(reading);
	if (*config->spool_dir && strncmp(config->spool_dir, config->data_dir, len) == 0 &&
		(*below == '\0' || strcmp(below, "/cache") == 0 || strncmp(below, "/cache/", 7) == 0 ||
		 strcmp(below, "/tmp") == 0 || strcmp(below, "/quarantine") == 0))
		tell(reading, LOG_LEVEL_ERROR, line_of(reading, "intake", "spool_dir"), "intake", "spool_dir",
			 "is a folder the agent keeps for itself in data_dir");
	if (*config->intake_listen && !loopback(config->intake_listen) && *config->intake_token == '\0')
		tell(reading, LOG_LEVEL_WARNING, line_of(reading, "intake", "listen"), "intake", "listen",
			 "whoever reaches this address can hand in captures: give token_file, or listen on 127.0.0.1");
	if (*config->intake_listen == '\0' && *config->spool_dir == '\0')
		tell(reading, LOG_LEVEL_WARNING, 0, "intake", NULL,
			 "neither spool_dir nor listen is given: no capture can come in");
}

static Config *make_config(Reading *reading)
{
	Config *config = calloc(1, sizeof *config);

	reading->config = config;
	for (int i = 0; config && i < KEY_COUNT; i++)
	{
		const ConfigKey *key = &config_keys[i];
		char why[CONFIG_WHY_SIZE];

		/* A required key has no default to check: its text stays empty until the file gives it. */
		if (key->required)
			*(char **) ((char *) config + key->offset) = strdup("");
		else if (!config_value_set(config, key, key->fallback, why))
			tell(reading, LOG_LEVEL_ERROR, 0, key->section, key->name, "%s", why);
	}
	return config;
}

TmsStatus config_load(const char *file, Config **out)
{
	Reading reading = {.file = file};
	FILE *stream = fopen(file, "re");
	int error;

	*out = NULL;
	if (!stream)
	{
		tell(&reading, LOG_LEVEL_ERROR, 0, NULL, NULL, "cannot open: %s", strerror(errno));
		return TMS_INVALID;
	}
	if (!make_config(&reading))
	{
		fclose(stream);
		return TMS_MEMORY;
	}
	error = config_file_read(stream, take_line, refuse_line, &reading);
	fclose(stream);
	if (error)
		tell(&reading, LOG_LEVEL_ERROR, 0, NULL, NULL, "cannot read: %s", strerror(error));
	for (int i = 0; i < KEY_COUNT && !error; i++)
		if (config_keys[i].required && !reading.seen[i])
			tell(&reading, LOG_LEVEL_ERROR, 0, config_keys[i].section, config_keys[i].name, "is missing");
	if (!reading.bad)
		check_together(&reading);
	if (reading.bad)
	{
		config_free(reading.config);
		return TMS_INVALID;
	}
	*out = reading.config;
	return TMS_OK;
}

bool config_is_s3(const Config *config)
{
	return strcmp(config->store, "s3") == 0;
}

void config_free(Config *config)
{
	if (!config)
		return;
	for (int i = 0; i < KEY_COUNT; i++)
		config_value_free(config, &config_keys[i]);
	free(config);
}
