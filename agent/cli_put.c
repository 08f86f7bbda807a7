/*
 * `tms-agent put`: photographs to the running agent, through its intake listener, or where it has none through its spool.
 *
 * Through the listener each photograph is durable once its line is printed. The spool takes it by a move, record first, so
 * that the agent never sees half of one; it is durable once it is gone from there.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "charset.h"
#include "cli.h"
#include "cli_http.h"
#include "config.h"
#include "record.h"

#define TARGET_SIZE 65536

/* Splits "name=value"; the name is copied. */
static const char *split_field(const char *field, char *name, size_t size)
{
	const char *value = strchr(field, '=') + 1;

	snprintf(name, size, "%.*s", (int) (value - 1 - field), field);
	return value;
}

/* Reads the fields as the agent will, so that a mistake is told before anything is sent. */
static bool check_fields(const CliOptions *options, Record *record)
{
	char error[RECORD_ERROR_SIZE], name[256];

	record_init(record);
	for (int i = 0; i < options->field_count; i++)
	{
		const char *value = split_field(options->fields[i], name, sizeof name);

		if (record_set(record, name, value, strlen(value), error) != TMS_OK)
		{
			fprintf(stderr, "tms-agent put: %s\n", error);
			return false;
		}
	}
	return true;
}

/* Adds a name or value to a target, in the character set that the agent reads it in; false when it has no place there. */
static bool add_escaped(const char *charset, const char *text, size_t text_len, char *target, size_t *len)
{
	char *converted;
	size_t converted_len;
	bool done;

	if (charset_convert(CHARSET_UTF8, charset, text, text_len, &converted, &converted_len) != TMS_OK)
		return false;
	done = cli_http_escape(converted, converted_len, target + *len, TARGET_SIZE - *len - 2);
	free(converted);
	*len += strlen(target + *len);
	return done;
}

static bool make_target(const Config *config, const CliOptions *options, char *target)
{
	size_t len = (size_t) snprintf(target, TARGET_SIZE, "/v1/captures");

	for (int i = 0; i < options->field_count; i++)
	{
		const char *field = options->fields[i], *equals = strchr(field, '=');

		target[len++] = i == 0 ? '?' : '&';
		if (!add_escaped(config->charset, field, (size_t) (equals - field), target, &len))
			return false;
		target[len++] = '=';
		if (!add_escaped(config->charset, equals + 1, strlen(equals + 1), target, &len))
			return false;
	}
	return true;
}

static int refuse(const char *file, const char *why)
{
	fprintf(stderr, "tms-agent put: %s: %s\n", file, why);
	return CLI_FAILED;
}

/* What the agent says of one photograph, printed; its exit code. */
static int tell_answer(const CliOptions *options, const char *file, const CliResponse *response)
{
	json_t *answer = json_loads(response->body, 0, NULL);
	long long seq;
	const char *path, *sha256, *error;
	int code = CLI_OK;

	if (response->status == 201 &&
		json_unpack(answer, "{s:I, s:s, s:s}", "seq", &seq, "path", &path, "sha256", &sha256) == 0)
	{
		if (options->json)
		{
			json_object_set_new(answer, "file", json_string(file));
			json_dumpf(answer, stdout, JSON_COMPACT);
			putchar('\n');
		}
		else
			printf("%lld %s %s\n", seq, path, sha256);
		fflush(stdout);
	}
	else
	{
		/* 429 and the 500s are about the agent, the other ones about the photograph. */
		code = response->status == 429 || response->status >= 500 ? CLI_AWAY : CLI_FAILED;
		if (json_unpack(answer, "{s:s}", "error", &error) != 0)
			error = "refused";
		fprintf(stderr, "tms-agent put: %s: %s (HTTP %d)\n", file, error, response->status);
	}
	json_decref(answer);
	return code;
}

static int send_one(const Config *config, const CliOptions *options, const char *target, const char *file, int fd,
					int64_t bytes)
{
	CliRequest request = {
		.listen = config->intake_listen,
		.method = "POST",
		.target = target,
		.token = config->intake_token,
		.body = fd,
		.body_bytes = bytes,
	};
	CliResponse response;
	char why[CLI_HTTP_WHY_SIZE];
	TmsStatus status = cli_http(&request, &response, why);
	int code;

	if (status != TMS_OK)
	{
		(void) refuse(file, why);
		return status == TMS_AGAIN ? CLI_AWAY : CLI_FAILED;
	}
	code = tell_answer(options, file, &response);
	free(response.body);
	return code;
}

/* Writes a whole new file and moves it in under `name`; false with errno. */
static bool spool_file(const char *folder, const char *name, int from, const char *text, int64_t bytes)
{
	char temporary[4096], final[4096];
	int fd;
	bool done;

	if (snprintf(temporary, sizeof temporary, "%s/.%s.part", folder, name) >= (int) sizeof temporary)
	{
		errno = ENAMETOOLONG;
		return false;
	}
	snprintf(final, sizeof final, "%s/%s", folder, name);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return false;
	if (text)
		done = write(fd, text, (size_t) bytes) == bytes;
	else
	{
		ssize_t n = 1;

		while (bytes > 0 && (n = sendfile(fd, from, NULL, (size_t) bytes)) > 0)
			bytes -= n;
		done = n > 0 || bytes == 0;
	}
	done = done && fsync(fd) == 0;
	done = close(fd) == 0 && done && rename(temporary, final) == 0;
	if (!done)
	{
		int error = errno;

		unlink(temporary);
		errno = error;
	}
	return done;
}

/* Writes the record beside a photograph that is not there yet, as the agent will read it. */
static bool spool_record(const Config *config, const Record *record, const char *side)
{
	char json[RECORD_JSON_SIZE], *text;
	size_t len;
	bool done;

	errno = EILSEQ;
	if (record_to_json(record, json, sizeof json) != TMS_OK ||
		charset_convert(CHARSET_UTF8, config->charset, json, strlen(json), &text, &len) != TMS_OK)
		return false;
	done = spool_file(config->spool_dir, side, -1, text, (int64_t) len);
	free(text);
	return done;
}

static int spool_one(const Config *config, const CliOptions *options, const Record *record, const char *file, int fd,
					 int64_t bytes)
{
	static int serial;
	char name[128], side[140];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(name, sizeof name, "put-%lld-%09ld-%d-%d.jpg", (long long) now.tv_sec, now.tv_nsec, (int) getpid(),
			 serial++);
	snprintf(side, sizeof side, "%.*s.json", (int) (strlen(name) - 4), name);
	if (options->field_count > 0 && !spool_record(config, record, side))
		return refuse(file, strerror(errno));
	if (!spool_file(config->spool_dir, name, fd, NULL, bytes))
		return refuse(file, strerror(errno));
	if (options->json)
		printf("{\"spooled\":\"%s\"}\n", name);
	else
		printf("spooled %s\n", name);
	return CLI_OK;
}

int cli_put(const CliOptions *options)
{
	static char target[TARGET_SIZE];
	Config *config;
	Record record;
	int code = CLI_OK;

	if (config_load(options->config, &config) != TMS_OK)
		return CLI_USAGE;
	if (!check_fields(options, &record))
		code = CLI_USAGE;
	else if (!make_target(config, options, target))
		code = refuse("--field", "the fields are too long, or not to be written in the agent's charset");
	else if (*config->intake_listen == '\0' && *config->spool_dir == '\0')
		code = refuse(options->config, "[intake] has neither listen nor spool_dir");
	else
		for (int i = 0; i < options->argument_count; i++)
		{
			const char *file = options->arguments[i];
			struct stat about;
			int fd = open(file, O_RDONLY | O_CLOEXEC), one;

			if (fd < 0 || fstat(fd, &about) != 0)
				one = refuse(file, strerror(errno));
			else if (!S_ISREG(about.st_mode))
				one = refuse(file, "not a file");
			else if (*config->intake_listen)
				one = send_one(config, options, target, file, fd, about.st_size);
			else
				one = spool_one(config, options, &record, file, fd, about.st_size);
			if (fd >= 0)
				close(fd);
			code = one > code ? one : code;
		}
	config_free(config);
	return code;
}
