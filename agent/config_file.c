/*
 * The INI form, line by line.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config_file.h"

/* Cuts spaces at both ends, in place. */
static char *strip(char *text)
{
	size_t len;

	text += strspn(text, " \t\r\n");
	len = strlen(text);
	while (len > 0 && strchr(" \t\r\n", text[len - 1]))
		text[--len] = '\0';
	return text;
}

/* Cuts a comment behind a value, and returns its text; "": there is none. */
static const char *cut_comment(char *value)
{
	for (char *p = value; *p; p++)
		if (*p == ';' && (p == value || p[-1] == ' ' || p[-1] == '\t'))
		{
			*p = '\0';
			return p + 1;
		}
	return "";
}

/* One line; *section is replaced at a section's head. */
static void read_line(char *text, int line, char **section, ConfigLineFn *take, ConfigBadLineFn *refuse, void *state)
{
	const char *comment;
	char *mark;

	text = strip(text);
	if (*text == '\0' || *text == ';' || *text == '#')
		return;
	if (*text == '[')
	{
		cut_comment(text);
		text = strip(text);
		mark = strchr(text, ']');
		if (!mark || mark[1] != '\0')
		{
			refuse(state, line, "a section is written [name]");
			return;
		}
		*mark = '\0';
		free(*section);
		*section = strdup(strip(text + 1));
		if (*section)
			take(state, line, *section, NULL, NULL, "");
		return;
	}
	mark = strchr(text, '=');
	if (!mark)
		refuse(state, line, "neither [section] nor key = value");
	else if (!*section)
		refuse(state, line, "stands before the first [section]");
	else
	{
		*mark = '\0';
		comment = cut_comment(mark + 1);
		take(state, line, *section, strip(text), strip(mark + 1), comment);
	}
}

int config_file_read(FILE *file, ConfigLineFn *take, ConfigBadLineFn *refuse, void *state)
{
	char *text = NULL, *section = NULL;
	size_t size = 0;
	ssize_t len;
	int line = 0, error;

	errno = 0;
	while ((len = getline(&text, &size, file)) >= 0)
	{
		char *start = text;

		line++;
		if (line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
			start += 3; /* the mark some editors put before UTF-8 */
		if (strlen(text) != (size_t) len)
			refuse(state, line, "has a NUL byte");
		else
			read_line(start, line, &section, take, refuse, state);
		errno = 0;
	}
	error = ferror(file) || !feof(file) ? errno : 0;
	free(text);
	free(section);
	return error;
}
