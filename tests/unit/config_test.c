/*
 * Tests of agent/config.c: every class of mistake with the line that tells it, values of each kind, and that sample file and
 * manual name every key.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/config.h"
#include "agent/config_file.h"
#include "agent/config_value.h"

#define TOP VECTORS "/../.."

static char folder[64], file[96], token[96];

static void write_text(const char *name, const char *text, mode_t mode)
{
	FILE *stream = fopen(name, "w");

	assert_non_null(stream);
	assert_true(fputs(text, stream) >= 0);
	assert_int_equal(fclose(stream), 0);
	assert_int_equal(chmod(name, mode), 0);
}

static int make_folder(void **state)
{
	strcpy(folder, "/tmp/tms_config_XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(file, sizeof file, "%s/agent.conf", folder);
	snprintf(token, sizeof token, "%s/token", folder);
	write_text(token, "  tok-en\r\n", 0600);
	return 0;
}

static int remove_folder(void **state)
{
	unlink(file);
	unlink(token);
	return rmdir(folder);
}

/* Loads a text in which ~ stands for the test's folder; what was logged goes to `log`. */
static TmsStatus load(const char *text, Config **config, char *log, size_t size)
{
	char expanded[8192] = "", name[96];
	size_t len = 0;
	ssize_t got;
	int saved, fd;
	TmsStatus status;

	for (const char *p = text; *p; p++)
		len +=
			(size_t) snprintf(expanded + len, sizeof expanded - len, *p == '~' ? "%s" : "%.1s", *p == '~' ? folder : p);
	write_text(file, expanded, 0600);

	snprintf(name, sizeof name, "%s/log", folder);
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	saved = dup(STDERR_FILENO);
	dup2(fd, STDERR_FILENO);
	status = config_load(file, config);
	dup2(saved, STDERR_FILENO);
	close(saved);
	got = pread(fd, log, size - 1, 0);
	assert_true(got >= 0);
	log[got] = '\0';
	close(fd);
	unlink(name);
	return status;
}

#define AGENT  "[agent]\ndevice = gate-1\ntoken_file = ~/token\ndata_dir = ~/data\n"
#define PATH   "[path_center]\nconninfo = host=a\n"
#define IMAGE  "[image_center]\nurl = http://h/c\n"
#define INTAKE "[intake]\nspool_dir = ~/spool\n"
#define LEAST  AGENT PATH IMAGE INTAKE

static void defaults(void **state)
{
	Config *config;
	char log[4096];

	assert_int_equal(load(LEAST, &config, log, sizeof log), TMS_OK);
	assert_string_equal(log, "");
	assert_string_equal(config->device, "gate-1");
	assert_string_equal(config->token, "tok-en");
	assert_string_equal(config->conninfo, "host=a");
	assert_int_equal(config->batch, 500);
	assert_int_equal(config->interval, 10000000);
	assert_int_equal(config->heartbeat, 30000000);
	assert_int_equal(config->ledger_keep, INT64_C(90) * 86400 * 1000000);
	assert_int_equal(config->max_image_bytes, 32 * 1024 * 1024);
	assert_int_equal(config->upload_concurrency, 8);
	assert_int_equal(config->min_free_percent, 5);
	assert_string_equal(config->cache_listen, "0.0.0.0:8440");
	assert_string_equal(config->store, "http");
	assert_string_equal(config->verify, "digest");
	assert_string_equal(config->intake_listen, "");
	assert_string_equal(config->intake_token, "");
	assert_string_equal(config->password, "");
	config_free(config);
}

static void given_values(void **state)
{
	static const char text[] = "\xef\xbb\xbf; a comment\n"
							   "\t[ agent ]  ; another\r\n"
							   "    device=gate-1;not a comment\n"
							   "[agent]\n"
							   "device = gate-2\t; a code\n";
	static const char good[] = "\xef\xbb\xbf# a comment\n"
							   "\t[ agent ]  ; another\r\n"
							   "    device=gate-2\t; a code\r\n"
							   "token_file = ~/token\n"
							   "data_dir = ~/data///\n"
							   "[path_center]\n"
							   "conninfo = host=a password='x;y' options='-c a=b'\n"
							   "batch=1\n"
							   "interval = 250 ms\n"
							   "heartbeat = 5min\n"
							   "ledger_keep = 36500 d\n"
							   "[image_center]\n"
							   "url = https://[::1]:9000/captures//\n"
							   "username = u\n"
							   "rate_limit = 2MB/s; 22:00-06:00 0 ; at night there is room\n"
							   "password_file = ~/token\n"
							   "[intake]\n"
							   "listen = [::1]:8441\n"
							   "token_file = ~/token\n"
							   "max_image_bytes = 512kB\n"
							   "charset = GBK\n"
							   "[cache]\n"
							   "listen =\n"
							   "min_free = 0%\n"
							   "[agent]\n";
	Config *config;
	char log[4096], *path;

	assert_int_equal(load(text, &config, log, sizeof log), TMS_INVALID);
	assert_non_null(
		strstr(log, "line=3 key=\"agent.device\" error=\"\\\"gate-1;not a comment\\\" is not a device code"));
	assert_int_equal(load(good, &config, log, sizeof log), TMS_OK);
	assert_string_equal(log, "");
	assert_string_equal(config->device, "gate-2");
	path = config->data_dir + strlen(folder);
	assert_string_equal(path, "/data");
	assert_string_equal(config->conninfo, "host=a password='x;y' options='-c a=b'");
	assert_int_equal(config->batch, 1);
	assert_int_equal(config->interval, 250000);
	assert_int_equal(config->heartbeat, 300000000);
	assert_int_equal(config->ledger_keep, INT64_C(36500) * 86400 * 1000000);
	assert_string_equal(config->url, "https://[::1]:9000/captures");
	assert_int_equal(config->rate_limit.rate, 2 * 1024 * 1024);
	assert_int_equal(config->rate_limit.span_count, 1);
	assert_string_equal(config->intake_token, "tok-en");
	assert_string_equal(config->password, "tok-en");
	assert_int_equal(config->max_image_bytes, 512 * 1024);
	assert_string_equal(config->charset, "GBK");
	assert_string_equal(config->cache_listen, "");
	assert_int_equal(config->min_free_percent, 0);
	config_free(config);
}

/* A line of any length is one line. */
static void long_line(void **state)
{
	char text[6000], log[4096], *end;
	Config *config;

	end = text + sprintf(text, "%s%s[path_center]\nconninfo = host=", AGENT INTAKE, IMAGE);
	memset(end, 'h', 4000);
	strcpy(end + 4000, "\nbatch = 7\n");
	assert_int_equal(load(text, &config, log, sizeof log), TMS_OK);
	assert_int_equal(strlen(config->conninfo), 4005);
	assert_int_equal(config->batch, 7);
	config_free(config);
}

typedef struct Mistake
{
	const char *text;
	const char *expected; /* what the log line says behind the file's name */
} Mistake;

static const Mistake mistakes[] = {
	{LEAST "[cach]\n", "line=11 section=\"cach\" error=\"unknown section; did you mean [cache]?\""},
	{LEAST "[weather]\nrain = 1\n", "line=11 section=\"weather\" error=\"unknown section\""},
	{LEAST "lisen = 127.0.0.1:1\n", "line=11 key=\"intake.lisen\" error=\"unknown key; did you mean \\\"listen\\\"?\""},
	{LEAST "batch = 1\n", "line=11 key=\"intake.batch\" error=\"unknown key; it belongs to [path_center]\""},
	{LEAST "charset = Klingon\n", "line=11 key=\"intake.charset\" error=\"\\\"Klingon\\\" is no character set that "
								  "iconv knows; iconv -l lists them\""},
	{LEAST "spool_dir = ~/x\n", "line=11 key=\"intake.spool_dir\" error=\"given twice, first in line 10\""},
	{LEAST "what is this\n", "line=11 error=\"neither [section] nor key = value\""},
	{LEAST "[cache\n", "line=11 error=\"a section is written [name]\""},
	{"a = b\n" LEAST, "line=1 error=\"stands before the first [section]\""},
	{LEAST "= x\n", "line=11 key=\"intake.\" error=\"unknown key\""},

	{PATH IMAGE INTAKE, "key=\"agent.device\" error=\"is missing\""},
	{PATH IMAGE INTAKE, "key=\"agent.token_file\" error=\"is missing\""},
	{PATH IMAGE INTAKE, "key=\"agent.data_dir\" error=\"is missing\""},
	{AGENT IMAGE, "key=\"path_center.conninfo\" error=\"is missing\""},
	{AGENT PATH, "key=\"image_center.url\" error=\"is missing\""},
	{"", "key=\"agent.device\" error=\"is missing\""},
	{AGENT IMAGE "[path_center]\nconninfo =\n", "line=8 key=\"path_center.conninfo\" error=\"must have a value\""},

	{"[agent]\ndevice = -x\n", "line=2 key=\"agent.device\" error=\"\\\"-x\\\" is not a device code"},
	{"[agent]\ndevice = a/b\n", "line=2 key=\"agent.device\" error=\"\\\"a/b\\\" is not a device code"},
	{"[agent]\ntoken_file = token\n",
	 "line=2 key=\"agent.token_file\" error=\"\\\"token\\\" is not an absolute path\""},
	{"[agent]\ntoken_file = ~/absent\n", "/absent\\\": No such file or directory\""},
	{"[agent]\ntoken_file = ~\n", "line=2 key=\"agent.token_file\" error=\"cannot read"},
	{"[agent]\ntoken_file = /dev/null\n", "error=\"\\\"/dev/null\\\" is empty\""},
	{"[agent]\ntoken_file = ~/agent.conf\n", "holds more than one line of text\""},
	{"[agent]\ntoken_file = /dev/zero\n", "error=\"\\\"/dev/zero\\\" is longer than 4096 bytes\""},
	{"[agent]\ndata_dir = var/lib\n",
	 "line=2 key=\"agent.data_dir\" error=\"\\\"var/lib\\\" is not an absolute path\""},
	{AGENT PATH IMAGE "[intake]\nspool_dir = ~/data\n",
	 "line=10 key=\"intake.spool_dir\" error=\"is a folder the agent"},
	{AGENT PATH IMAGE "[intake]\nspool_dir = ~/data/cache/x\n", "line=10 key=\"intake.spool_dir\" error=\"is a folder"},

	{"[path_center]\nbatch = many\n", "line=2 key=\"path_center.batch\" error=\"\\\"many\\\" is not a whole number\""},
	{"[path_center]\nbatch = 5x\n", "line=2 key=\"path_center.batch\" error=\"\\\"5x\\\" is not a whole number\""},
	{"[path_center]\nbatch = -5\n", "line=2 key=\"path_center.batch\" error=\"\\\"-5\\\" is not a whole number\""},
	{"[path_center]\nbatch = 0\n", "line=2 key=\"path_center.batch\" error=\"\\\"0\\\" is outside 1 to 10000\""},
	{"[path_center]\nbatch = 10001\n",
	 "line=2 key=\"path_center.batch\" error=\"\\\"10001\\\" is outside 1 to 10000\""},
	{"[path_center]\nbatch = 99999999999999999999\n", "error=\"\\\"99999999999999999999\\\" is too large\""},
	{"[path_center]\ninterval = 10\n", "error=\"\\\"10\\\" has no unit; units are ms s min h days day d\""},
	{"[path_center]\ninterval = 10 fortnights\n", "error=\"\\\"10 fortnights\\\" has an unknown unit or is too large"},
	{"[path_center]\ninterval = soon\n", "error=\"\\\"soon\\\" is not a whole number with a unit\""},
	{"[path_center]\ninterval = 0\n", "error=\"\\\"0\\\" is outside 10ms to 1h\""},
	{"[path_center]\nledger_keep = 9000000000000000 days\n", "has an unknown unit or is too large"},
	{"[intake]\nmax_image_bytes = 33MB\n", "error=\"\\\"33MB\\\" is outside 1kB to 32MB\""},
	{"[cache]\nmin_free = 91%\n", "line=2 key=\"cache.min_free\" error=\"\\\"91%\\\" is outside 0% to 90%\""},
	{"[cache]\nmin_free = 5\n", "line=2 key=\"cache.min_free\" error=\"\\\"5\\\" has no unit; units are %\""},

	{"[cache]\nlisten = 8440\n", "error=\"\\\"8440\\\" is not host:port or [address]:port\""},
	{"[cache]\nlisten = h:65536\n", "error=\"\\\"h:65536\\\" is not host:port"},
	{"[cache]\nlisten = ::1:80\n", "error=\"\\\"::1:80\\\" is not host:port"},
	{"[cache]\ntls_cert = ~/absent\n", "line=2 key=\"cache.tls_cert\" error=\"cannot read"},
	{LEAST "[cache]\ntls_cert = ~/token\n", "line=12 key=\"cache.tls_cert\" error=\"needs tls_key as well\""},
	{LEAST "[cache]\ntls_key = ~/token\n", "line=12 key=\"cache.tls_key\" error=\"needs tls_cert as well\""},

	{"[image_center]\nurl = ftp://h/\n", "error=\"\\\"ftp://h/\\\" does not begin with http:// or https://\""},
	{"[image_center]\nurl = http://\n", "error=\"\\\"http://\\\" is not a URL of a host and a path\""},
	{"[image_center]\nurl = http://h/?a=b\n", "is not a URL of a host and a path\""},
	{"[image_center]\nurl = http://u:p@h/\n",
	 "error=\"a URL holds no name and password: use username and password_file\""},
	{"[image_center]\nverify = hope\n", "error=\"\\\"hope\\\" is no way to verify an upload; use digest or length\""},
	{"[image_center]\nstore = tape\n", "error=\"\\\"tape\\\" is no kind of store; use http or s3\""},
	{"[image_center]\nregion = us east\n", "line=2 key=\"image_center.region\" error=\"\\\"us east\\\" is no region"},
	{LEAST "[image_center]\nstore = s3\n",
	 "line=12 key=\"image_center.store\" error=\"\\\"s3\\\" needs access_key_id and secret_access_key_file\""},
	{LEAST "[image_center]\nstore = s3\naccess_key_id = k\n",
	 "line=13 key=\"image_center.access_key_id\" error=\"needs secret_access_key_file as well\""},
	{LEAST "[image_center]\naccess_key_id = k\nsecret_access_key_file = ~/token\n",
	 "line=12 key=\"image_center.access_key_id\" error=\"belongs to store = s3\""},
	{LEAST
	 "[image_center]\nstore = s3\naccess_key_id = k\nsecret_access_key_file = ~/token\nusername = u\npassword_file "
	 "= ~/token\n",
	 "line=15 key=\"image_center.username\" error=\"belongs to store = http\""},
	{AGENT PATH INTAKE
	 "[image_center]\nurl = http://h/%zz\nstore = s3\naccess_key_id = k\nsecret_access_key_file = ~/token\n",
	 "line=10 key=\"image_center.url\" error=\"cannot be signed"},
	{"[image_center]\nconcurrency = 129\n", "error=\"\\\"129\\\" is outside 1 to 128\""},
	{"[image_center]\nrate_limit = 2MB\n", "line=2 key=\"image_center.rate_limit\" error=\"\\\"2MB\\\" has an unknown "
										   "unit or is too large; units are B/s kbit/s"},
	{"[image_center]\nrate_limit = 2MB/s ; 22:00-06:00 0\n",
	 "error=\"the timetable is a comment because of the space before its \\\";\\\": write \\\"2MB/s; 22:00-06:00 "
	 "0\\\"\""},
	{AGENT PATH INTAKE IMAGE "username = u\n",
	 "line=11 key=\"image_center.username\" error=\"needs password_file as well\""},
};

static void every_mistake(void **state)
{
	for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++)
	{
		Config *config;
		char log[8192], expected_file[160];
		TmsStatus status = load(mistakes[i].text, &config, log, sizeof log);

		snprintf(expected_file, sizeof expected_file, " level=error event=config file=\"%s\" ", file);
		if (status != TMS_INVALID || config != NULL || !strstr(log, mistakes[i].expected) ||
			!strstr(log, expected_file))
			fail_msg("mistake %zu: status %d, expected %s in:\n%s", i, (int) status, mistakes[i].expected, log);
	}
}

/* A file with several mistakes tells all of them, each once. */
static void all_mistakes(void **state)
{
	Config *config;
	char log[8192];
	int lines = 0;

	assert_int_equal(
		load("[agent]\ndevice = /\nx = 1\n[what]\nevery = line\n[cache]\nmin_free = x\n", &config, log, sizeof log),
		TMS_INVALID);
	for (char *p = log; *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 4 + 4); /* device, x, [what], min_free; four required keys are missing */
}

static void warnings(void **state)
{
	Config *config;
	char log[4096];

	assert_int_equal(chmod(token, 0644), 0);
	assert_int_equal(load(LEAST, &config, log, sizeof log), TMS_OK);
	config_free(config);
	assert_non_null(strstr(log, "level=warning event=config"));
	assert_non_null(strstr(log, "line=3 key=\"agent.token_file\""));
	assert_non_null(strstr(log, "has mode 0644: others than its owner may read or change it"));
	assert_null(strstr(log, "tok-en"));
	assert_int_equal(chmod(token, 0600), 0);

	assert_int_equal(load(LEAST "listen = 0.0.0.0:1\n", &config, log, sizeof log), TMS_OK);
	config_free(config);
	assert_non_null(strstr(log, "line=11 key=\"intake.listen\" error=\"whoever reaches this address"));

	assert_int_equal(load(AGENT PATH IMAGE, &config, log, sizeof log), TMS_OK);
	config_free(config);
	assert_non_null(strstr(log, "no capture can come in"));
}

static void unreadable_file(void **state)
{
	Config *config;

	assert_int_equal(config_load("/absent/agent.conf", &config), TMS_INVALID);
	assert_null(config);
	assert_int_equal(config_load("/tmp", &config), TMS_INVALID);
	assert_null(config);
}

/* What is shown is what would be read again, and no secret. */
static void shown_values(void **state)
{
	Config *config;
	char log[4096], why[CONFIG_WHY_SIZE];

	assert_int_equal(load(LEAST, &config, log, sizeof log), TMS_OK);
	for (int i = 0; i < config_key_count; i++)
	{
		const ConfigKey *key = &config_keys[i];
		char value[256];

		config_show(config, key, value, sizeof value);
		assert_null(strstr(value, "tok-en"));
		if (key->kind == CONFIG_CONNINFO)
			assert_string_equal(value, "(set)");
		else if (!key->required && strcmp(key->name, "spool_dir") != 0)
			assert_string_equal(value, key->fallback);
		else
			assert_true(config_value_set(config, key, value, why));
	}
	config_free(config);
}

static void listen_addresses(void **state)
{
	char host[256];
	int port;

	assert_true(config_split_listen("127.0.0.1:8441", host, &port));
	assert_string_equal(host, "127.0.0.1");
	assert_int_equal(port, 8441);
	assert_true(config_split_listen("[fe80::1]:0", host, &port));
	assert_string_equal(host, "fe80::1");
	assert_int_equal(port, 0);
	assert_true(config_split_listen("gate.example:65535", host, &port));
	assert_false(config_split_listen("", host, &port));
	assert_false(config_split_listen(":80", host, &port));
	assert_false(config_split_listen("[]:80", host, &port));
	assert_false(config_split_listen("h:", host, &port));
	assert_false(config_split_listen("h:80x", host, &port));
	assert_false(config_split_listen("h:-1", host, &port));
	assert_false(config_split_listen("http://h:80", host, &port));
}

static char *read_text(const char *name)
{
	FILE *stream = fopen(name, "r");
	char *text = calloc(1, 65536);

	assert_non_null(stream);
	assert_non_null(text);
	assert_true(fread(text, 1, 65535, stream) > 0);
	fclose(stream);
	return text;
}

/* The manual has one table line a key, with its default. */
static void manual_names_every_key(void **state)
{
	char *manual = read_text(TOP "/docs/agent.md");
	int rows = 0;

	for (int i = 0; i < config_key_count; i++)
	{
		const ConfigKey *key = &config_keys[i];
		const char *tick = *key->fallback ? "`" : "";
		char row[256];

		snprintf(row, sizeof row, "\n| `[%s] %s` | %s%s%s%s| ", key->section, key->name, tick,
				 key->required ? "required" : key->fallback, tick, key->required || *key->fallback ? " " : "");
		if (!strstr(manual, row))
			fail_msg("docs/agent.md has no row beginning %s", row + 1);
	}
	for (const char *p = manual; (p = strstr(p, "\n| `[")); p++)
		rows++;
	assert_int_equal(rows, config_key_count);
	free(manual);
}

static int sample_seen;

static void check_sample_line(void *state, int line, const char *section, const char *name, const char *value,
							  const char *comment)
{
	if (!name)
		return;
	for (int i = 0; i < config_key_count; i++)
	{
		const ConfigKey *key = &config_keys[i];

		if (strcmp(key->section, section) != 0 || strcmp(key->name, name) != 0)
			continue;
		if (*key->fallback)
			assert_string_equal(value, key->fallback);
		assert_true(!key->required || *value);
		sample_seen++;
		return;
	}
	fail_msg("sample line %d: no such key: [%s] %s", line, section, name);
}

static void refuse_sample_line(void *state, int line, const char *why)
{
	fail_msg("sample line %d: %s", line, why);
}

/* The sample file has every key once, with its default where there is one. */
static void sample_has_every_key(void **state)
{
	FILE *stream = fopen(TOP "/agent/tms-agent.conf.sample", "r");

	assert_non_null(stream);
	assert_int_equal(config_file_read(stream, check_sample_line, refuse_sample_line, NULL), 0);
	fclose(stream);
	assert_int_equal(sample_seen, config_key_count);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(given_values),
		cmocka_unit_test(long_line),
		cmocka_unit_test(every_mistake),
		cmocka_unit_test(all_mistakes),
		cmocka_unit_test(warnings),
		cmocka_unit_test(unreadable_file),
		cmocka_unit_test(shown_values),
		cmocka_unit_test(listen_addresses),
		cmocka_unit_test(manual_names_every_key),
		cmocka_unit_test(sample_has_every_key),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
