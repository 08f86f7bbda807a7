/*
 * Golden vectors: reads the TSV files of tests/vectors/ for unit tests.
 *
 * A line starting with # is a comment, every other one is a vector of so many fields. The regression test sql/identity.sql
 * reads the same files.
 */
#ifndef TEST_VECTORS_H
#define TEST_VECTORS_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VECTOR_FIELDS_MAX 8

/* Looks at one vector; false when the program does not do what it says. */
typedef bool (*VectorCheck)(char **field);

/* Splits a line at its tabs, in place; how many fields it has. */
static inline int vector_split(char *line, char *field[VECTOR_FIELDS_MAX])
{
	int count = 0;

	while (line != NULL && count < VECTOR_FIELDS_MAX)
		field[count++] = strsep(&line, "\t");
	return count;
}

/* Checks every vector of a file, names those that failed, and fails the test if there were any, or no vector at all. */
static inline void vectors_check(const char *file, int fields, VectorCheck check)
{
	char name[512];
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int line_no = 0;
	int checked = 0;
	int failed = 0;
	FILE *in;

	snprintf(name, sizeof(name), "%s/%s", VECTORS, file);
	in = fopen(name, "r");
	if (in == NULL)
		fail_msg("%s cannot be opened", name);
	while ((len = getline(&line, &size, in)) > 0)
	{
		char *field[VECTOR_FIELDS_MAX];

		line_no++;
		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		if (line[0] == '#')
			continue;
		checked++;
		if (vector_split(line, field) == fields && check(field))
			continue;
		print_error("%s:%d: failed (%.60s)\n", file, line_no, line);
		failed++;
	}
	free(line);
	fclose(in);
	assert_int_not_equal(checked, 0);
	assert_int_equal(failed, 0);
}

/* The bytes of hexadecimal text, in memory of exactly their size so that reading past them is noticed; free them. */
static inline uint8_t *vector_hex(const char *hex, size_t *len)
{
	uint8_t *bytes;
	size_t i;

	*len = strlen(hex) / 2;
	bytes = malloc(*len);
	for (i = 0; i < *len; i++)
	{
		const char pair[] = {hex[2 * i], hex[2 * i + 1], '\0'};

		bytes[i] = (uint8_t) strtoul(pair, NULL, 16);
	}
	return bytes;
}

/* The bytes of escaped text (\\ and \ooo), in memory of exactly their size; free them. */
static inline char *vector_text(const char *escaped, size_t *len)
{
	char *bytes = malloc(strlen(escaped));
	size_t out = 0;

	while (*escaped != '\0')
	{
		if (escaped[0] != '\\')
			bytes[out++] = *escaped++;
		else if (escaped[1] == '\\')
		{
			bytes[out++] = '\\';
			escaped += 2;
		}
		else
		{
			const char octal[] = {escaped[1], escaped[2], escaped[3], '\0'};

			bytes[out++] = (char) strtoul(octal, NULL, 8);
			escaped += 4;
		}
	}
	*len = out;
	return realloc(bytes, out > 0 ? out : 1);
}

/* The same as a string; free it. */
static inline char *vector_string(const char *escaped)
{
	size_t len;
	char *bytes = vector_text(escaped, &len);
	char *string = strndup(bytes, len);

	free(bytes);
	return string;
}

#endif
