/*
 * Tests of agent/log.c: the form of a line, quoting, and that nothing makes two lines of one.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/log.h"

static int saved_stderr, captured;

/* What is logged goes to a file from here on. */
static int begin_capture(void **state)
{
	char name[] = "/tmp/tms_log_XXXXXX";

	captured = mkostemp(name, O_APPEND);
	unlink(name);
	saved_stderr = dup(STDERR_FILENO);
	return captured < 0 || dup2(captured, STDERR_FILENO) < 0;
}

static int end_capture(void **state)
{
	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(captured);
	return 0;
}

static char *captured_text(void)
{
	off_t len = lseek(captured, 0, SEEK_END);
	char *text = calloc(1, (size_t) len + 1);

	assert_int_equal(pread(captured, text, (size_t) len, 0), len);
	return text;
}

static int count_lines(const char *text)
{
	int lines = 0;

	for (; *text; text++)
		lines += *text == '\n';
	return lines;
}

/* What is cut inside a quoted value is closed, and not by half of an escape. */
static void cut_lines(void **state)
{
	char *before = captured_text(), *text;
	size_t done = strlen(before);

	free(before);
	for (int i = 0; i < 40; i++)
	{
		char value[5000], quoted[5100], *end;
		bool open = false;

		memset(value, 'x', sizeof value);
		for (size_t j = 4000 + (size_t) i; j < sizeof value; j++)
			value[j] = j % 2 ? '"' : '\\';
		value[sizeof value - 1] = '\0';
		log_event(LOG_LEVEL_INFO, "long", "text=%s", log_quote(value, quoted, sizeof quoted));
		text = captured_text();
		end = strchr(text + done, '\n');
		assert_non_null(end);
		assert_int_equal(end[1], '\0');
		for (char *p = text + done; p < end; p++)
			if (open && *p == '\\')
				p++;
			else if (*p == '"')
				open = !open;
		assert_false(open);
		done = strlen(text);
		free(text);
	}
}

static void a_line(void **state)
{
	int year, month, day, hour, minute, second, milli, used = 0;
	char *text;

	log_event(LOG_LEVEL_WARNING, "uploaded", "seq=%d path=%s", 7, "a/b");
	text = captured_text();
	assert_int_equal(sscanf(text, "time=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month, &day, &hour, &minute, &second,
							&milli, &used),
					 7);
	assert_string_equal(text + used, "level=warning event=uploaded seq=7 path=a/b\n");
	free(text);
}

static void one_line_whatever_comes(void **state)
{
	char *text;

	log_event(LOG_LEVEL_ERROR, "x", "value=%s", "one\ntwo\r\x01\x7f\x1b[31m");
	text = captured_text();
	assert_int_equal(count_lines(text), 1);
	assert_non_null(strstr(text, "value=one?two????[31m\n"));
	free(text);
}

static void too_long(void **state)
{
	char *value = malloc(20001), *text;

	memset(value, 'v', 20000);
	value[20000] = '\0';
	log_event(LOG_LEVEL_ERROR, "x", "value=%s", value);
	log_event(LOG_LEVEL_ERROR, "y", "value=%s", "w");
	text = captured_text();
	assert_int_equal(count_lines(text), 2);
	assert_true(strlen(text) < 9000);
	assert_non_null(strstr(text, "vvv\ntime="));
	free(text);
	free(value);
}

static void levels(void **state)
{
	char *text;

	log_event(LOG_LEVEL_DEBUG, "hidden", "a=1");
	log_set_level(LOG_LEVEL_DEBUG);
	log_event(LOG_LEVEL_DEBUG, "shown", "a=1");
	log_set_level(LOG_LEVEL_INFO);
	text = captured_text();
	assert_null(strstr(text, "hidden"));
	assert_non_null(strstr(text, "level=debug event=shown a=1\n"));
	free(text);
}

#define THREADS 8
#define LINES   200

static void *write_lines(void *argument)
{
	for (int i = 0; i < LINES; i++)
		log_event(LOG_LEVEL_INFO, "thread", "who=%d text=%0200d end=%d", *(int *) argument, i, *(int *) argument);
	return NULL;
}

/* Lines of several threads do not mix. */
static void threads(void **state)
{
	pthread_t thread[THREADS];
	int who[THREADS], complete = 0;
	char *text, *line;

	for (int i = 0; i < THREADS; i++)
	{
		who[i] = i;
		assert_int_equal(pthread_create(&thread[i], NULL, write_lines, &who[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	text = captured_text();
	for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
	{
		const char *first = strstr(line, "who="), *last = strstr(line, "end=");

		complete += first && last && atoi(first + 4) == atoi(last + 4) && strlen(last) == 5;
	}
	assert_int_equal(complete, THREADS * LINES);
	free(text);
}

static void quoting(void **state)
{
	char out[64];

	assert_string_equal(log_quote("plain", out, sizeof out), "\"plain\"");
	assert_string_equal(log_quote("", out, sizeof out), "\"\"");
	assert_string_equal(log_quote("a \"b\" \\c", out, sizeof out), "\"a \\\"b\\\" \\\\c\"");
	assert_string_equal(log_quote("\t\n\x7f", out, sizeof out), "\"\\x09\\x0a\\x7f\"");
	assert_string_equal(log_quote("\xe4\xbb\xa4", out, sizeof out), "\"\xe4\xbb\xa4\"");
}

/* Whatever the room, the result ends, and never with half an escape. */
static void quoting_without_room(void **state)
{
	for (unsigned long size = 1; size <= 24; size++)
	{
		char *out = malloc(size);
		size_t len;

		assert_ptr_equal(log_quote("ab\n\"\\cdef\x01ghijklmnop", out, size), out);
		len = strlen(out);
		assert_true(len < size);
		if (len > 0)
		{
			assert_true(len >= 2 && out[0] == '"' && out[len - 1] == '"');
			assert_true(out[len - 2] != '\\' || out[len - 3] == '\\');
		}
		free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_line, begin_capture, end_capture),
		cmocka_unit_test_setup_teardown(one_line_whatever_comes, begin_capture, end_capture),
		cmocka_unit_test_setup_teardown(cut_lines, begin_capture, end_capture),
		cmocka_unit_test_setup_teardown(too_long, begin_capture, end_capture),
		cmocka_unit_test_setup_teardown(levels, begin_capture, end_capture),
		cmocka_unit_test_setup_teardown(threads, begin_capture, end_capture),
		cmocka_unit_test(quoting),
		cmocka_unit_test(quoting_without_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
