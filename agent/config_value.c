/*
 * One reader and one writer a kind of value.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "charset.h"
#include "config_value.h"

#define SECRET_MAX 4096
#define REGION_MAX 64

static char **text_field(Config *config, size_t offset)
{
	return (char **) ((char *) config + offset);
}

static bool set_text(Config *config, size_t offset, const char *text, size_t len, char *why)
{
	char **field = text_field(config, offset);
	char *copy = strndup(text, len);

	if (!copy)
	{
		snprintf(why, CONFIG_WHY_SIZE, "out of memory");
		return false;
	}
	free(*field);
	*field = copy;
	return true;
}

static const ConfigUnit *kind_units(ConfigKind kind)
{
	switch (kind)
	{
		case CONFIG_DURATION:
			return config_duration_units;
		case CONFIG_SIZE:
			return config_size_units;
		case CONFIG_PERCENT:
			return config_percent_units;
		default:
			return config_no_units;
	}
}

static bool set_number(Config *config, const ConfigKey *key, const char *text, char *why)
{
	const ConfigUnit *units = kind_units(key->kind);
	void *field = (char *) config + key->offset;
	int64_t value;

	if (!config_units_parse(text, units, &value, why))
		return false;
	if (value < key->min || value > key->max)
	{
		char least[40], most[40];

		config_units_show(key->min, units, least, sizeof least);
		config_units_show(key->max, units, most, sizeof most);
		snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" is outside %s to %s", text, least, most);
		return false;
	}
	if (key->kind == CONFIG_INT || key->kind == CONFIG_PERCENT)
		*(int *) field = (int) value;
	else
		*(int64_t *) field = value;
	return true;
}

static bool set_rate(Config *config, const ConfigKey *key, const char *text, char *why)
{
	return rate_schedule_parse(*text ? text : key->fallback, (RateSchedule *) ((char *) config + key->offset), why);
}

static bool set_any_text(Config *config, const ConfigKey *key, const char *text, char *why)
{
	return set_text(config, key->offset, text, strlen(text), why);
}

static bool set_device(Config *config, const ConfigKey *key, const char *text, char *why)
{
	if (!tms_device_code_valid(text, strlen(text)))
	{
		snprintf(
			why, CONFIG_WHY_SIZE,
			"\"%.80s\" is not a device code: a letter or digit, then letters, digits, \".\", \"_\", \"-\", %d at most",
			text, TMS_DEVICE_CODE_MAX);
		return false;
	}
	return set_any_text(config, key, text, why);
}

/* The program's working folder is nobody's business: names of files are absolute. */
static bool absolute(const char *text, char *why)
{
	if (text[0] == '/')
		return true;
	snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" is not an absolute path", text);
	return false;
}

static bool set_folder(Config *config, const ConfigKey *key, const char *text, char *why)
{
	size_t len = strlen(text);

	while (len > 1 && text[len - 1] == '/')
		len--;
	return (len == 0 || absolute(text, why)) && set_text(config, key->offset, text, len, why);
}

static bool set_file(Config *config, const ConfigKey *key, const char *text, char *why)
{
	if (*text)
	{
		if (!absolute(text, why))
			return false;
		if (access(text, R_OK) != 0)
		{
			snprintf(why, CONFIG_WHY_SIZE, "cannot read \"%.120s\": %s", text, strerror(errno));
			return false;
		}
	}
	return set_any_text(config, key, text, why);
}

/* Reads the one line of a secret's file, without the white space around it, to the secret's field. */
static bool read_secret(Config *config, const ConfigKey *key, int fd, const char *file, char *why)
{
	char secret[SECRET_MAX + 1];
	ssize_t len = read(fd, secret, sizeof secret);
	char *start = secret;
	bool done = false;

	if (len < 0)
		snprintf(why, CONFIG_WHY_SIZE, "cannot read \"%.120s\": %s", file, strerror(errno));
	else if (len > SECRET_MAX)
		snprintf(why, CONFIG_WHY_SIZE, "\"%.120s\" is longer than %d bytes", file, SECRET_MAX);
	else
	{
		while (len > 0 && strchr(" \t\r\n", secret[len - 1]))
			len--;
		while (len > 0 && strchr(" \t\r\n", *start))
		{
			start++;
			len--;
		}
		if (len == 0)
			snprintf(why, CONFIG_WHY_SIZE, "\"%.120s\" is empty", file);
		else
		{
			done = true;
			for (ssize_t i = 0; i < len && done; i++)
				done = (unsigned char) start[i] >= ' ' && start[i] != 0x7f;
			if (!done)
				snprintf(why, CONFIG_WHY_SIZE, "\"%.120s\" holds more than one line of text", file);
			done = done && set_text(config, key->secret_offset, start, (size_t) len, why);
		}
	}
	explicit_bzero(secret, sizeof secret);
	return done;
}

static bool set_secret_file(Config *config, const ConfigKey *key, const char *text, char *why)
{
	struct stat about;
	bool done;
	int fd;

	if (*text == '\0')
		return set_any_text(config, key, text, why) && set_text(config, key->secret_offset, "", 0, why);
	if (!absolute(text, why))
		return false;
	fd = open(text, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &about) != 0)
	{
		snprintf(why, CONFIG_WHY_SIZE, "cannot read \"%.120s\": %s", text, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	done = read_secret(config, key, fd, text, why) && set_any_text(config, key, text, why);
	close(fd);
	if (done && (about.st_mode & 027))
		snprintf(why, CONFIG_WHY_SIZE, "\"%.120s\" has mode %04o: others than its owner may read or change it", text,
				 (unsigned) about.st_mode & 07777);
	return done;
}

static bool set_listen(Config *config, const ConfigKey *key, const char *text, char *why)
{
	char host[256];
	int port;

	if (*text && !config_split_listen(text, host, &port))
	{
		snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" is not host:port or [address]:port", text);
		return false;
	}
	return set_any_text(config, key, text, why);
}

static bool set_url(Config *config, const ConfigKey *key, const char *text, char *why)
{
	size_t len = strlen(text);
	const char *host = strstr(text, "://");
	size_t host_len;

	if (strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0)
	{
		snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" does not begin with http:// or https://", text);
		return false;
	}
	host += 3;
	host_len = strcspn(host, "/");
	if (host_len == 0 || strpbrk(host, " \t\"<>\\^`{|}?#"))
	{
		snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" is not a URL of a host and a path", text);
		return false;
	}
	if (memchr(host, '@', host_len))
	{
		snprintf(why, CONFIG_WHY_SIZE, "a URL holds no name and password: use username and password_file");
		return false;
	}
	while (text[len - 1] == '/')
		len--;
	return set_text(config, key->offset, text, len, why);
}

static bool set_store(Config *config, const ConfigKey *key, const char *text, char *why)
{
	if (strcmp(text, "http") == 0 || strcmp(text, "s3") == 0)
		return set_any_text(config, key, text, why);
	snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" is no kind of store; use http or s3", text);
	return false;
}

static bool set_region(Config *config, const ConfigKey *key, const char *text, char *why)
{
	static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	if (text[strspn(text, characters)] == '\0' && strlen(text) <= REGION_MAX)
		return set_any_text(config, key, *text ? text : key->fallback, why);
	snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" is no region: letters, digits, \"-\", \"_\", %d at most", text,
			 REGION_MAX);
	return false;
}

static bool set_verify(Config *config, const ConfigKey *key, const char *text, char *why)
{
	if (strcmp(text, "digest") == 0 || strcmp(text, "length") == 0)
		return set_any_text(config, key, text, why);
	snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" is no way to verify an upload; use digest or length", text);
	return false;
}

/* UTF-8 has one spelling here, so that it is known for what needs no conversion. */
static bool set_charset(Config *config, const ConfigKey *key, const char *text, char *why)
{
	if (*text == '\0' || strcasecmp(text, "UTF-8") == 0 || strcasecmp(text, "UTF8") == 0)
		text = CHARSET_UTF8;
	if (charset_known(text))
		return set_any_text(config, key, text, why);
	snprintf(why, CONFIG_WHY_SIZE, "\"%.80s\" is no character set that iconv knows; iconv -l lists them", text);
	return false;
}

typedef bool SetValue(Config *config, const ConfigKey *key, const char *text, char *why);

static SetValue *const setters[CONFIG_KIND_COUNT] = {
	[CONFIG_TEXT] = set_any_text,   [CONFIG_CONNINFO] = set_any_text, [CONFIG_DEVICE] = set_device,
	[CONFIG_FOLDER] = set_folder,   [CONFIG_FILE] = set_file,         [CONFIG_SECRET_FILE] = set_secret_file,
	[CONFIG_LISTEN] = set_listen,   [CONFIG_URL] = set_url,           [CONFIG_STORE] = set_store,
	[CONFIG_INT] = set_number,      [CONFIG_PERCENT] = set_number,    [CONFIG_DURATION] = set_number,
	[CONFIG_SIZE] = set_number,     [CONFIG_RATE] = set_rate,         [CONFIG_VERIFY] = set_verify,
	[CONFIG_CHARSET] = set_charset, [CONFIG_REGION] = set_region,
};

bool config_value_set(Config *config, const ConfigKey *key, const char *text, char why[CONFIG_WHY_SIZE])
{
	why[0] = '\0';
	return setters[key->kind](config, key, text, why);
}

static void wipe(char **field)
{
	if (*field)
		explicit_bzero(*field, strlen(*field));
	free(*field);
	*field = NULL;
}

void config_value_free(Config *config, const ConfigKey *key)
{
	if (key->kind >= CONFIG_INT)
		return;
	wipe(text_field(config, key->offset));
	if (key->kind == CONFIG_SECRET_FILE)
		wipe(text_field(config, key->secret_offset));
}

void config_show(const Config *config, const ConfigKey *key, char *out, size_t size)
{
	const void *field = (const char *) config + key->offset;

	if (key->kind == CONFIG_INT || key->kind == CONFIG_PERCENT)
		config_units_show(*(const int *) field, kind_units(key->kind), out, size);
	else if (key->kind == CONFIG_DURATION || key->kind == CONFIG_SIZE)
		config_units_show(*(const int64_t *) field, kind_units(key->kind), out, size);
	else if (key->kind == CONFIG_RATE)
		rate_schedule_show(field, out, size);
	else if (key->kind == CONFIG_CONNINFO)
		snprintf(out, size, "(set)");
	else
		snprintf(out, size, "%s", *(char *const *) field);
}

bool config_verifies_length(const Config *config)
{
	return strcmp(config->verify, "length") == 0;
}

bool config_split_listen(const char *listen, char host[256], int *port)
{
	const char *colon = strrchr(listen, ':');
	const char *start = listen;
	size_t len, digits;

	if (!colon)
		return false;
	len = (size_t) (colon - listen);
	if (*start == '[')
	{
		if (len < 3 || start[len - 1] != ']')
			return false;
		start++;
		len -= 2;
	}
	else if (memchr(start, ':', len))
		return false; /* an IPv6 address without its brackets */
	digits = strspn(colon + 1, "0123456789");
	if (len == 0 || len > 255 || digits == 0 || digits > 5 || colon[1 + digits] != '\0' || atoi(colon + 1) > 65535 ||
		strcspn(start, " \t/\"'") < len)
		return false;
	memcpy(host, start, len);
	host[len] = '\0';
	*port = atoi(colon + 1);
	return true;
}
